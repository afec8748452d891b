"""A Hypothesis strategy for convolutional graphs from one image to one image, and for tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx.printer
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from partc.ir.tiling import Margins

Draw = Callable[[st.SearchStrategy[Any]], Any]
Shape = tuple[int, int, int, int]

MOST_ELEMENTS = 6000


@dataclass
class Image:
    """A graph that grows, with the shape of every tensor."""

    draw: Draw
    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    turned_at: int = 0

    def weight(self, *shape: int, scale: float = 1.0) -> str:
        name = f"w{len(self.weights)}"
        value = (self.rng.standard_normal(shape) * scale).astype(np.float32)
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def constant(self, values: Sequence[float], dtype: Any = np.int64) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def integer(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def choose(self, options: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(list(options)))

    def add(self, op: str, inputs: Sequence[str], shape: Shape, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(op, list(inputs), [name], f"n{len(self.nodes)}", **attributes)
        )
        self.shapes[name] = shape
        return name

    def model(self, output: str) -> onnx.ModelProto:
        """All of it, with ``output`` as the only output."""
        info = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            "image",
            [info("x", TensorProto.FLOAT, ["N", *self.shapes["x"][1:]])],
            [info(output, TensorProto.FLOAT, ["N", *self.shapes[output][1:]])],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _window(image: Image, size: int, *, dilated: bool = True) -> tuple[int, int, int, int, int]:
    """Kernel, stride, dilation and two pads of which at least one window comes out."""
    kernel, stride = image.integer(1, 4), image.integer(1, 3)
    dilation = image.integer(1, 2) if dilated else 1
    before, after = image.integer(0, kernel - 1), image.integer(0, kernel - 1)
    if size + before + after < (kernel - 1) * dilation + 1:
        kernel = dilation = 1
        before = after = 0
    return kernel, stride, dilation, before, after


def _length(size: int, window: tuple[int, int, int, int, int], ceil: bool = False) -> int:
    kernel, stride, dilation, before, after = window
    free = size + before + after - (kernel - 1) * dilation - 1
    return (-(-free // stride) if ceil else free // stride) + 1


def conv(image: Image, name: str) -> str:
    n, c, h, w = image.shapes[name]
    rows, columns = _window(image, h), _window(image, w)
    group = image.choose([g for g in (1, 2, c) if c % g == 0])
    out = group * image.integer(1, 3)
    inputs = [name, image.weight(out, c // group, rows[0], columns[0], scale=0.4)]
    if image.choose([True, False]):
        inputs.append(image.weight(out))
    attributes: dict[str, Any] = {
        "strides": [rows[1], columns[1]],
        "dilations": [rows[2], columns[2]],
        "group": group,
    }
    auto = image.choose(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])
    if auto.startswith("SAME") and rows[2] == columns[2] == 1:
        shape = (n, out, -(-h // rows[1]), -(-w // columns[1]))
        return image.add("Conv", inputs, shape, auto_pad=auto, **attributes)
    attributes["pads"] = [rows[3], columns[3], rows[4], columns[4]]
    return image.add("Conv", inputs, (n, out, _length(h, rows), _length(w, columns)), **attributes)


def conv_with_wide_pads(image: Image, name: str) -> str:
    """Some windows lie in the padding alone."""
    n, c, h, w = image.shapes[name]
    before, after, kernel = image.integer(0, 4), image.integer(0, 4), image.integer(1, 2)
    window = (kernel, image.integer(1, 2), 1, before, after)
    if h + before + after < kernel:
        return conv(image, name)
    weights = [image.weight(2, c, kernel, 1), image.weight(2)]
    return image.add(
        "Conv",
        [name, *weights],
        (n, 2, _length(h, window), w),
        strides=[window[1], 1],
        pads=[before, 0, after, 0],
    )


def conv_transpose(image: Image, name: str) -> str:
    n, c, h, w = image.shapes[name]
    strides = [image.integer(1, 3), image.integer(1, 2)]
    kernel = [image.integer(1, 4), image.integer(1, 3)]
    dilations = [image.integer(1, 2), 1]
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = [image.integer(0, extent[0] - 1), 0, image.integer(0, extent[0] - 1), 0]
    extra = [image.integer(0, strides[0] - 1), 0]
    rows = (h - 1) * strides[0] + extra[0] + extent[0] - pads[0] - pads[2]
    columns = (w - 1) * strides[1] + extent[1]
    if rows < 1 or rows * columns * 2 > MOST_ELEMENTS:
        return activation(image, name)
    weights = [image.weight(c, 2, *kernel, scale=0.4), image.weight(2)]
    return image.add(
        "ConvTranspose",
        [name, *weights],
        (n, 2, rows, columns),
        strides=strides,
        dilations=dilations,
        pads=pads,
        output_padding=extra,
    )


def pool(image: Image, name: str) -> str:
    n, c, h, w = image.shapes[name]
    kind = image.choose(["MaxPool", "AveragePool", "LpPool"])
    rows = _window(image, h, dilated=kind == "MaxPool")
    columns = _window(image, w, dilated=False)
    ceil = bool(image.choose([False, True])) and kind != "LpPool"
    attributes: dict[str, Any] = {
        "kernel_shape": [rows[0], columns[0]],
        "strides": [rows[1], columns[1]],
        "pads": [rows[3], columns[3], rows[4], columns[4]],
    }
    if kind == "MaxPool":
        attributes["dilations"] = [rows[2], 1]
    if kind == "AveragePool":
        attributes["count_include_pad"] = image.integer(0, 1)
    if kind == "LpPool":
        attributes["p"] = 2
    # Where a window would begin after the input, ONNX's inference before opset 22 counts it.
    ceil = ceil and all(
        (_length(size, window, ceil=True) - 1) * window[1] < size + window[3]
        for size, window in ((h, rows), (w, columns))
    )
    if ceil:
        attributes["ceil_mode"] = 1
    shape = (n, c, _length(h, rows, ceil), _length(w, columns, ceil))
    return image.add(kind, [name], shape, **attributes)


def pad(image: Image, name: str) -> str:
    n, c, h, w = image.shapes[name]
    mode = image.choose(["constant", "reflect", "edge"])
    most = min(h - 1, 3) if mode == "reflect" else 4
    before, after = image.integer(-1 if h > 3 else 0, most), image.integer(0, most)
    if mode != "constant":
        before = max(before, 0)
    pads = [0, 0, before, 1 if w > 1 else 0, 0, 0, after, 0]
    inputs = [name, image.constant(pads)]
    if mode == "constant":
        inputs.append(image.constant(0.5, np.float32))  # type: ignore[arg-type]
    return image.add("Pad", inputs, (n, c, h + before + after, w + pads[3]), mode=mode)


def resize(image: Image, name: str) -> str:
    n, c, h, w = image.shapes[name]
    mode = image.choose(["nearest", "linear", "cubic"])
    coordinates = image.choose(["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        attributes["nearest_mode"] = image.choose(
            ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]
        )
    by_two = image.choose([True, True, False])
    rows, columns = (2 * h, 2 * w) if by_two else (image.integer(2, 2 * h + 1), w)
    if rows * columns * c > MOST_ELEMENTS:
        return activation(image, name)
    if by_two and image.choose([True, False]):
        inputs = [name, "", image.constant([1, 1, 2, 2], np.float32)]
    else:
        inputs = [name, "", "", image.constant([n, c, rows, columns])]
    return image.add("Resize", inputs, (n, c, rows, columns), **attributes)


def activation(image: Image, name: str) -> str:
    op = image.choose(["Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSwish", "Abs"])
    return image.add(op, [name], image.shapes[name])


def along_channels(image: Image, name: str) -> str:
    n, c, h, w = image.shapes[name]
    kind = image.choose(["BatchNormalization", "Softmax", "LRN", "ReduceMean", "PRelu", "scale"])
    if kind == "BatchNormalization":
        variance = f"w{len(image.weights)}"
        value = image.rng.uniform(0.5, 2, c).astype(np.float32)
        image.weights.append(numpy_helper.from_array(value, variance))
        inputs = [name, image.weight(c), image.weight(c), image.weight(c), variance]
        return image.add(kind, inputs, (n, c, h, w))
    if kind == "Softmax":
        return image.add(kind, [name], (n, c, h, w), axis=1)
    if kind == "LRN":
        return image.add(kind, [name], (n, c, h, w), size=3)
    if kind == "ReduceMean":
        return image.add(kind, [name, image.constant([1])], (n, 1, h, w))
    if kind == "PRelu":
        return image.add(kind, [name, image.weight(c, 1, 1)], (n, c, h, w))
    # A weight that has rows of its own is cut with its op.
    return image.add("Mul", [name, image.weight(1, 1, h, w)], (n, c, h, w))


def move(image: Image, name: str) -> str:
    n, c, h, w = image.shapes[name]
    kind = image.choose(["Slice", "Transpose", "DepthToSpace", "SpaceToDepth", "Reshape"])
    if kind == "Slice" and h > 2:
        step = image.integer(1, 2)
        start, end = image.integer(0, h // 2), image.integer(h // 2 + 1, h)
        bounds = [image.constant([v]) for v in (start, end, 2, step)]
        return image.add("Slice", [name, *bounds], (n, c, -(-(end - start) // step), w))
    if kind == "Transpose":
        turned = image.add(kind, [name], (n, c, w, h), perm=[0, 1, 3, 2])
        image.turned_at = len(image.shapes) - 1  # what came before has its rows along another axis
        return turned
    if kind == "DepthToSpace" and c % 4 == 0:
        return image.add(kind, [name], (n, c // 4, 2 * h, 2 * w), blocksize=2)
    if kind == "SpaceToDepth" and h % 2 == 0 and w % 2 == 0:
        return image.add(kind, [name], (n, 4 * c, h // 2, w // 2), blocksize=2)
    if kind == "Reshape" and c % 2 == 0:
        # The channel shuffle of ShuffleNet.
        split = image.add("Reshape", [name, image.constant([0, 2, c // 2, h, w])], (n, c, h, w))
        turned = image.add("Transpose", [split], (n, c, h, w), perm=[0, 2, 1, 3, 4])
        return image.add("Reshape", [turned, image.constant([-1, c, h, w])], (n, c, h, w))
    return activation(image, name)


def join(image: Image, name: str) -> str:
    """A residual Add, or a Concat of channels, with any earlier tensor that fits."""
    n, c, h, w = image.shapes[name]
    skipped = {node.output[0] for node in image.nodes if node.op_type == "Reshape"}
    skipped |= {node.output[0] for node in image.nodes if node.op_type == "Transpose"}
    others = [
        other
        for other, shape in list(image.shapes.items())[image.turned_at :]
        if shape[2:] == (h, w) and other != name and other not in skipped
    ]
    if not others:
        return activation(image, name)
    other = image.choose(others)
    if image.shapes[other][1] == c and image.choose([True, False]):
        return image.add("Add", [other, name], (n, c, h, w))
    if image.shapes[other][1] + c > 12:
        return activation(image, name)
    return image.add("Concat", [name, other], (n, c + image.shapes[other][1], h, w), axis=1)


RECIPES = [
    conv, conv, conv, conv_with_wide_pads, conv_transpose, pool, pool, pad, resize, activation,
    along_channels, move, join, join, join,
]  # fmt: skip


@dataclass(frozen=True)
class TiledImage:
    """A graph from ``x`` to ``output``, and bounds of the rows of its output."""

    model: onnx.ModelProto
    output: str
    axis: int
    bounds: tuple[int, ...]
    margins: Margins

    def __repr__(self) -> str:
        text = onnx.printer.to_text(self.model)
        return f"axis {self.axis}, {self.margins}, {self.bounds} of {self.output}:\n{text}"


@st.composite
def tiled_images(draw: Any) -> TiledImage:
    """Graphs of up to eight ops, cut into two to four uneven tiles."""
    image = Image(draw, np.random.default_rng(draw(st.integers(0, 2**16))))
    image.shapes["x"] = (
        1,
        draw(st.integers(1, 4)),
        draw(st.integers(3, 17)),
        draw(st.integers(3, 9)),
    )
    name = "x"
    for _ in range(draw(st.integers(1, 8))):
        following = draw(st.sampled_from(RECIPES))(image, name)
        if np.prod(image.shapes[following]) <= MOST_ELEMENTS and min(image.shapes[following]) > 0:
            name = following
        else:
            image.nodes.pop()
            del image.shapes[following]
    if name == "x":
        name = activation(image, name)
    axis = draw(st.sampled_from([2, 2, 3]))
    rows = image.shapes[name][axis]
    if rows < 2:
        name = image.add(
            "Resize",
            [name, "", "", image.constant([*image.shapes[name][:2], 4, 4])],
            (*image.shapes[name][:2], 4, 4),
        )
        rows = 4
    count = draw(st.integers(2, min(4, rows)))
    cuts = draw(
        st.lists(st.integers(1, rows - 1), min_size=count - 1, max_size=count - 1, unique=True)
    )
    margins = draw(st.sampled_from(["auto", "cut", "kept"]))
    return TiledImage(image.model(name), name, axis, (0, *sorted(cuts), rows), margins)
