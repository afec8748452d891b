"""Resize and Upsample: which rows a row is mixed of is asked of the kernel itself.

A Resize along one axis is a matrix from input to output rows. Its entries depend on the coordinate
mode, the rounding mode, the cubic coefficient and more; instead of writing all of that down once
more, a Resize of the unit matrix is run, along the tiled axis alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache

import numpy as np
import numpy.typing as npt
import onnx

from partc.errors import TargetError
from partc.ir.program import Array
from partc.passes.tiling.geometry import Geometry, Reads, RuleTable, Site, Tile, TilingError
from partc.targets.reference import open_reference

Matrix = npt.NDArray[np.float32]

_LARGEST_MATRIX = 2**24
_SAME = 1e-6


def resize(site: Site) -> Geometry:
    """Rows of the tiled axis, whatever happens to the others."""
    is_upsample = site.node.op_type == "Upsample" or site.opset < 11
    axes = site.attribute("axes")
    if axes is not None and list(axes) != list(range(site.rank)):
        raise TilingError("names the axes that it resizes")
    if site.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise TilingError("keeps the aspect ratio of its input")
    if site.attribute("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        raise TilingError("crops before it resizes")
    scales = _scales(site, is_upsample)
    size, rows, axis = site.shape(0)[site.axis], site.rows, site.axis
    others = [i for i in range(site.rank) if i != axis and site.shape(0)[i] != site.output_shape[i]]
    keeps_rows = size == rows and (scales is None or scales[axis] == 1.0)
    if keeps_rows:
        reads = Reads.same(axis, rows)
    elif size * rows * max(size, 1) > _LARGEST_MATRIX:
        raise TilingError(f"resizes more rows ({size} to {rows}) than are looked into")
    else:
        reads = _reads(axis, _matrix(_key(site), size, rows, _exact_scale(site, scales)))
    if site.attribute("mode", "nearest") != "nearest":
        if site.dtype(site.input(0)) not in ("float16", "float32", "float64"):
            raise TilingError("mixes rows that are no floating-point numbers")
        if axis < site.rank - 2 and size != rows:
            raise TilingError(f"mixes rows along axis {axis}, which is none of the last two")
    kernel = _Kernel(site, scales, is_upsample, bool(others))
    return Geometry(rows, {0: reads}, kernel.others_only if keeps_rows else kernel.tile)


def _scales(site: Site, is_upsample: bool) -> list[float] | None:
    if is_upsample and site.attribute("scales") is not None:
        return [float(scale) for scale in site.attribute("scales")]
    value = site.constant(1 if is_upsample else 2, "scales")
    if value is not None and value.size:
        return [float(scale) for scale in value.ravel()]
    if is_upsample:
        raise TilingError("has no scales")
    sizes = site.constant(3, "sizes")
    if sizes is None:
        raise TilingError("has neither scales nor sizes")
    return None


def _exact_scale(site: Site, scales: list[float] | None) -> float | None:
    return None if scales is None else scales[site.axis]


def _key(site: Site) -> bytes:
    """What the matrix depends on, as a node: the attributes of the op."""
    node = onnx.NodeProto(op_type=site.node.op_type, domain=site.node.domain)
    node.attribute.extend(a for a in site.node.attribute if a.name not in ("scales", "axes"))
    node.doc_string = str(site.opset)
    return bytes(node.SerializeToString(deterministic=True))


def _reads(axis: int, matrix: Matrix) -> Reads:
    used = matrix != 0
    used[~used.any(axis=1), 0] = True
    first = used.argmax(axis=1)
    last = matrix.shape[1] - used[:, ::-1].argmax(axis=1)
    return Reads.of(axis, matrix.shape[1], first, last)


@cache
def _matrix(key: bytes, size: int, rows: int, scale: float | None) -> Matrix:
    """Row by row, how much of each input row is in it."""
    template = onnx.NodeProto.FromString(key)
    opset = int(template.doc_string)
    template.doc_string = ""
    template.name, inputs = "probe", ["x"]
    weights: list[onnx.TensorProto] = []

    def weight(name: str, value: Array) -> str:
        weights.append(onnx.numpy_helper.from_array(value, name))
        return name

    scales = None if scale is None else np.array([1, 1, scale, 1], np.float32)
    if template.op_type == "Upsample" or opset < 11:
        if opset < 9:
            template.attribute.append(onnx.helper.make_attribute("scales", scales))
        else:
            inputs.append(weight("scales", np.asarray(scales)))
    elif scales is not None:
        inputs += ["", weight("scales", scales)]
    else:
        inputs += ["", "", weight("sizes", np.array([1, 1, rows, size], np.int64))]
    template.input.extend(inputs)
    template.output.append("y")
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [template],
        "probe",
        [info("x", onnx.TensorProto.FLOAT, [1, 1, size, size])],
        [info("y", onnx.TensorProto.FLOAT, [1, 1, rows, size])],
        weights,
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8
    )
    try:
        with open_reference(model) as runner:
            found = runner.run({"x": np.eye(size, dtype=np.float32)[None, None]})["y"]
    except TargetError as error:
        raise TilingError(f"could not be looked into: {error}") from error
    if found.shape != (1, 1, rows, size):
        raise TilingError(f"gives {found.shape[2]} rows instead of {rows}")
    return np.asarray(found[0, 0], np.float32)


class _Kernel:
    """Writes the tiles of one Resize."""

    def __init__(
        self, site: Site, scales: list[float] | None, is_upsample: bool, has_others: bool
    ) -> None:
        self._site = site
        self._axis = site.axis
        self._scales = scales
        self._is_upsample = is_upsample
        self._has_others = has_others
        self._size, self._rows = site.shape(0)[site.axis], site.rows

    def others_only(self, tile: Tile) -> tuple[int, int]:
        """The tiled axis keeps its size."""
        self._write(tile, tile.end - tile.begin, 1.0)
        return tile.begin, tile.end

    def tile(self, tile: Tile) -> tuple[int, int]:
        """The kernel itself where it does the same on the tile as on the whole; otherwise the
        rows of its matrix."""
        low, high = tile.rows[0]
        scale = _exact_scale(self._site, self._scales)
        matrix = _matrix(_key(self._site), self._size, self._rows, scale)
        ratio = Fraction(self._rows, self._size)
        exact = ratio * low
        count = ratio * (high - low)
        if exact.denominator == 1 and count.denominator == 1:
            begin, end = int(exact), int(exact + count)
            if begin <= tile.begin and end >= tile.end and self._agrees(tile, begin, end, matrix):
                self._write(tile, end - begin, scale)
                return begin, end
        self._by_matrix(tile, matrix[tile.begin : tile.end, low:high])
        return tile.begin, tile.end

    def _agrees(self, tile: Tile, begin: int, end: int, matrix: Matrix) -> bool:
        low, high = tile.rows[0]
        scale = _exact_scale(self._site, self._scales)
        try:
            own = _matrix(_key(self._site), high - low, end - begin, scale)
        except TilingError:
            return False
        wanted = matrix[tile.begin : tile.end, low:high]
        given = own[tile.begin - begin : tile.end - begin]
        return bool(np.abs(wanted - given).max() <= _SAME)

    def _by_matrix(self, tile: Tile, matrix: Matrix) -> None:
        source, target = tile.node.input[0], tile.node.output[0]
        low, high = tile.rows[0]
        if self._has_others:
            tile.node.output[0] = source = tile.temporary("columns", high - low)
            self._write(tile, high - low, 1.0)
        ones = (matrix == 1).sum(axis=1) == 1
        if bool(ones.all()) and bool(((matrix == 0) | (matrix == 1)).all()):
            picked = tile.constant(matrix.argmax(axis=1).astype(np.int64), "numbers")
            tile.emit(onnx.helper.make_node("Gather", [source, picked], [target], axis=self._axis))
            return
        mixture = matrix.astype(self._site.dtype(self._site.input(0)))
        if self._axis == self._site.rank - 1:
            operands = [source, tile.constant(np.ascontiguousarray(mixture.T), "mixture")]
        else:
            operands = [tile.constant(mixture, "mixture"), source]
        tile.emit(onnx.helper.make_node("MatMul", operands, [target]))

    def _write(self, tile: Tile, rows: int, scale: float | None) -> None:
        """The node with the size of the tiled axis changed."""
        if self._scales is None:
            sizes = self._site.constant(3, "sizes")
            assert sizes is not None
            own = sizes.ravel().copy()
            own[self._axis] = rows
            tile.replace_input(3, tile.constant(own.astype(np.int64), "sizes"))
        elif scale != self._scales[self._axis]:
            self._write_scales(tile, [*self._scales], 1.0 if scale is None else scale)
        tile.emit(tile.node)

    def _write_scales(self, tile: Tile, scales: Sequence[float], own: float) -> None:
        changed = list(scales)
        changed[self._axis] = own
        if self._is_upsample and self._site.attribute("scales") is not None:
            tile.set(scales=changed)
            return
        index = 1 if self._is_upsample else 2
        tile.replace_input(index, tile.constant(np.array(changed, np.float32), "scales"))


RULES: RuleTable = {("", "Resize"): resize, ("", "Upsample"): resize}
