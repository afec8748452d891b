"""Small hand-made models, each with one thing that partitioners tend to get wrong.

All pass the checker and run in ONNX Runtime; those that partc must refuse are elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
from onnx import TensorProto, helper, numpy_helper

from tests.support.oracle import Array

OPSET = 17
IR_VERSION = 8


@dataclass(frozen=True)
class NastyModel:
    """A model and a sample input for it."""

    model: onnx.ModelProto
    feeds: dict[str, Array]


Type = tuple[int, Sequence[int | str]]
"""Element type and shape."""

Builder = Callable[[], NastyModel]
NASTY: dict[str, Builder] = {}


def nasty(build: Builder) -> Builder:
    """Add a builder to the collection, under its name."""
    NASTY[build.__name__.replace("_", " ")] = build
    return build


def floats(*shape: int, seed: int = 0) -> Array:
    """Random float32 values between -1 and 1."""
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def parsed(
    graph: str, feeds: dict[str, Array], *, opset: int = OPSET, **domains: int
) -> NastyModel:
    """From ONNX's own text format; ``domains`` are further domains and their versions."""
    imports = [f'"" : {opset}', *(f'"{name}" : {number}' for name, number in domains.items())]
    header = f"<ir_version: {IR_VERSION}, opset_import: [{', '.join(imports)}]>\n"
    return NastyModel(onnx.parser.parse_model(header + graph), feeds)


def made(
    nodes: list[onnx.NodeProto],
    inputs: Mapping[str, Type],
    outputs: Mapping[str, Type],
    feeds: dict[str, Array],
    *,
    weights: Mapping[str, Array] | None = None,
    opsets: Mapping[str, int] | None = None,
    ir_version: int = IR_VERSION,
) -> NastyModel:
    """From nodes; inputs and outputs are name -> (element type, shape)."""
    graph = helper.make_graph(
        nodes,
        "nasty",
        [helper.make_tensor_value_info(n, t, list(s)) for n, (t, s) in inputs.items()],
        [helper.make_tensor_value_info(n, t, list(s)) for n, (t, s) in outputs.items()],
        initializer=[numpy_helper.from_array(a, n) for n, a in (weights or {}).items()],
    )
    imports = [helper.make_opsetid(d, v) for d, v in (opsets or {"": OPSET}).items()]
    model = helper.make_model(graph, opset_imports=imports, ir_version=ir_version)
    return NastyModel(model, feeds)


X = {"x": floats(2, 3)}


@nasty
def repeated_and_missing_node_names() -> NastyModel:
    example = parsed(
        """g (float[2,3] x, bool c) => (float[2,3] y) {
             a = Relu(x) b = Neg(x) d = Add(a, b)
             y = If (c) <
               then_branch = t () => (float[2,3] u) { u = Mul(d, a) },
               else_branch = e () => (float[2,3] v) { v = Sub(d, b) }>
           }""",
        {**X, "c": np.array(True)},
    )
    for node in example.model.graph.node:
        node.name = "again"
    for attribute in example.model.graph.node[-1].attribute:
        attribute.g.node[0].name = "again"
    example.model.graph.node[1].name = ""
    return example


@nasty
def tensor_named_like_a_node() -> NastyModel:
    example = parsed("g (float[2,3] x) => (float[2,3] y) {a = Relu(x) b = Neg(a) y = Add(a, b)}", X)
    for node, name in zip(example.model.graph.node, ("b", "y", "a"), strict=True):
        node.name = name
    return example


@nasty
def names_with_odd_characters() -> NastyModel:
    names = {"x": "image: 0/α", "a": "a b{c},d", "y": "../../y\\z"}
    nodes = [
        helper.make_node("Relu", [names["x"]], [names["a"]], name="../n/../../1 ü"),
        helper.make_node("Neg", [names["a"]], [names["y"]], name="{,}"),
    ]
    kind: Type = (TensorProto.FLOAT, (2, 3))
    return made(nodes, {names["x"]: kind}, {names["y"]: kind}, {names["x"]: floats(2, 3)})


@nasty
def inputs_named_like_python_arguments() -> NastyModel:
    return parsed(
        """g (float[2,3] file, float[2,3] allow_pickle, float[2,3] self) => (float[2,3] args) {
             a = Add(file, allow_pickle) b = Neg(a) args = Mul(b, self)
           }""",
        {name: floats(2, 3, seed=i) for i, name in enumerate(("file", "allow_pickle", "self"))},
    )


@nasty
def output_that_is_an_input() -> NastyModel:
    return parsed("g (float[2,3] x) => (float[2,3] x, float[2,3] y) {y = Relu(x)}", X)


@nasty
def output_listed_twice() -> NastyModel:
    example = parsed("g (float[2,3] x) => (float[2,3] y) {a = Relu(x) y = Neg(a)}", X)
    example.model.graph.output.append(example.model.graph.output[0])
    return example


@nasty
def outputs_that_are_constants_and_read_on() -> NastyModel:
    return parsed(
        """g (float[2,3] x) => (float[3] w, float[3] n, float[2,3] y)
           <float[3] w = {1, 2, 3}> {
             n = Neg(w) m = Exp(n) a = Mul(x, m) b = Add(a, w) y = Add(b, n)
           }""",
        X,
    )


@nasty
def no_inputs_at_all() -> NastyModel:
    return parsed(
        """g () => (float[3] y, float[3] z) <float[3] w = {1, 2, 3}> {
             a = Neg(w) y = Exp(a) z = Abs(a)
           }""",
        {},
    )


@nasty
def inputs_that_nothing_reads() -> NastyModel:
    return parsed(
        """g (float[2,3] unread, float[2,3] x, int64 also) => (float[2,3] y) {
             a = Relu(x) y = Neg(a)
           }""",
        {**X, "unread": floats(2, 3, seed=1), "also": np.array(3)},
    )


@nasty
def tensors_without_elements() -> NastyModel:
    return parsed(
        """g (float[0,3] e, float[2,3] x) => (float[2,3] y, float[0,3] z) {
             z = Relu(e) both = Concat <axis=0> (z, x) y = Neg(both)
           }""",
        {**X, "e": floats(0, 3)},
    )


@nasty
def scalars() -> NastyModel:
    return parsed(
        """g (float[2,3] x, float s) => (float m, float[2,3] y) {
             m = ReduceMean <keepdims=0> (x) t = Add(m, s) y = Mul(x, t)
           }""",
        {**X, "s": np.array(0.5, np.float32)},
    )


@nasty
def strings() -> NastyModel:
    text = np.array(["a", "bc", "ü"], dtype=object)
    string: Type = (TensorProto.STRING, (3,))
    nodes = [
        helper.make_node("Identity", ["x"], ["a"]),
        helper.make_node("StringConcat", ["a", "suffix"], ["y"]),
        helper.make_node("Concat", ["y", "x"], ["z"], axis=0),
        helper.make_node("Equal", ["x", "a"], ["same"]),
    ]
    weights: dict[str, Array] = {"suffix": np.array(["!"], dtype=object)}
    outputs: dict[str, Type] = {
        "y": string,
        "z": (TensorProto.STRING, (6,)),
        "same": (TensorProto.BOOL, (3,)),
    }
    feeds: dict[str, Array] = {"x": text}
    return made(nodes, {"x": string}, outputs, feeds, weights=weights, opsets={"": 20})


@nasty
def float16_and_bfloat16() -> NastyModel:
    example = parsed(
        """g (float16[2,3] x) => (float16[2,3] y, float[2,3] z) {
             a = Cast <to=1> (x) b = Cast <to=16> (a) w = Cast <to=16> (k) c = Cast <to=1> (b)
             e = Cast <to=1> (b) d = Add(a, c) y = Cast <to=10> (d) v = Cast <to=1> (w)
             z0 = Add(e, v) z = Neg(z0)
           }""",
        {"x": floats(2, 3).astype(np.float16)},
    )
    weight = floats(2, 3, seed=2).astype(ml_dtypes.bfloat16)
    example.model.graph.initializer.append(numpy_helper.from_array(weight, "k"))
    return example


@nasty
def quantised_convolution() -> NastyModel:
    rng = np.random.default_rng(0)
    weights: dict[str, Array] = {
        "w": rng.integers(-127, 128, (8, 3, 3, 3)).astype(np.int8),
        "w_scale": np.full(8, 0.01, np.float32),
        "w_zero": np.zeros(8, np.int8),
        "scale": np.array(0.02, np.float32),
        "zero": np.array(0, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["wd"], axis=0),
        helper.make_node("Conv", ["xd", "wd"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "scale", "zero"], ["rq"]),
        helper.make_node("DequantizeLinear", ["rq", "scale", "zero"], ["rd"]),
        helper.make_node("GlobalAveragePool", ["rd"], ["y"]),
    ]
    inputs: dict[str, Type] = {"x": (TensorProto.FLOAT, ("N", 3, 8, 8))}
    outputs: dict[str, Type] = {"y": (TensorProto.FLOAT, ("N", 8, 1, 1))}
    return made(nodes, inputs, outputs, {"x": floats(1, 3, 8, 8)}, weights=weights)


@nasty
def four_bit_weights() -> NastyModel:
    weight = helper.make_tensor("w", TensorProto.INT4, [3, 4], np.arange(12) % 7 - 3)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale"], ["wd"]),
        helper.make_node("MatMul", ["x", "wd"], ["m"]),
        helper.make_node("Relu", ["m"], ["y"]),
    ]
    example = made(
        nodes,
        {"x": (TensorProto.FLOAT, (2, 3))},
        {"y": (TensorProto.FLOAT, (2, 4))},
        X,
        weights={"scale": np.array(0.1, np.float32)},
        opsets={"": 21},
        ir_version=10,
    )
    example.model.graph.initializer.append(weight)
    return example


@nasty
def tensor_with_twenty_readers() -> NastyModel:
    readers = "\n".join(f"r{i} = Add(a, c{i % 3})" for i in range(20))
    every = ", ".join(f"r{i}" for i in range(20))
    return parsed(
        f"""g (float[2,3] x) => (float[2,3] y, float[2,3] a)
            <float c0 = {{1}}, float c1 = {{2}}, float c2 = {{3}}> {{
              a = Relu(x) {readers} y = Sum({every})
            }}""",
        X,
    )


@nasty
def op_of_com_microsoft() -> NastyModel:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Gelu", ["a"], ["b"], domain="com.microsoft"),
        helper.make_node("Neg", ["b"], ["y"]),
    ]
    kind: Type = (TensorProto.FLOAT, (2, 3))
    return made(nodes, {"x": kind}, {"y": kind}, X, opsets={"": OPSET, "com.microsoft": 1})


@nasty
def op_of_classic_machine_learning() -> NastyModel:
    nodes = [
        helper.make_node(
            "Scaler", ["x"], ["a"], domain="ai.onnx.ml", offset=[0.5] * 3, scale=[2.0] * 3
        ),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    kind: Type = (TensorProto.FLOAT, ("N", 3))
    return made(nodes, {"x": kind}, {"y": kind}, X, opsets={"": OPSET, "ai.onnx.ml": 3})


FUNCTION = """
<domain: "local", opset_import: ["" : {opset}]>
shifted (a, b) => (c) {{ s = Add(a, b)  c = Relu(s) }}
"""


def _with_function(opset: int) -> NastyModel:
    return parsed(
        """g (float[2,3] x) => (float[2,3] y) {
             a = Neg(x) b = local.shifted(a, x) y = local.shifted(b, a)
           }"""
        + FUNCTION.format(opset=opset),
        X,
        local=1,
    )


@nasty
def function() -> NastyModel:
    return _with_function(OPSET)


@nasty
def function_of_another_opset() -> NastyModel:
    return _with_function(OPSET - 1)


@nasty
def sparse_weight() -> NastyModel:
    example = parsed(
        "g (float[2,3] x) => (float[2,4] y) {a = Relu(x) b = MatMul(a, w) y = Neg(b)}", X
    )
    values = helper.make_tensor("w", TensorProto.FLOAT, [2], [0.5, -1.5])
    indices = helper.make_tensor("w_indices", TensorProto.INT64, [2], [1, 7])
    example.model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, indices, [3, 4])
    )
    return example


@nasty
def weights_listed_as_inputs() -> NastyModel:
    example = parsed(
        """g (float[2,3] x) => (float[2,4] y) <float[3,4] w> {
             a = Relu(x) b = MatMul(a, w) y = Neg(b)
           }""",
        X,
    )
    weight = numpy_helper.from_array(floats(3, 4), "w")
    del example.model.graph.initializer[:], example.model.graph.value_info[:]
    example.model.graph.initializer.append(weight)
    example.model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 4]))
    example.model.ir_version = 3
    return example


@nasty
def bodies_that_capture_at_every_depth() -> NastyModel:
    return parsed(
        """g (float[2,3] x, bool c) => (float[2,3] y, float[4,2,3] rows)
           <float k = {0.5}, int64 n = {4}> {
             a = Relu(x) b = Neg(x)
             y = If (c) <
               then_branch = t () => (float[2,3] u) {
                 i = Add(a, k)
                 u = If (c) <
                   then_branch = tt () => (float[2,3] uu) { uu = Mul(i, b) },
                   else_branch = te () => (float[2,3] ue) { ue = Mul(x, k) }>
               },
               else_branch = e () => (float[2,3] v) { v = Sub(b, a) }>
             last, rows = Loop (n, , y) <
               body = l (int64 j, bool go, float[2,3] s)
                 => (bool on, float[2,3] next, float[2,3] row)
               { on = Identity(go) m = Mul(s, k) next = Add(m, a) row = Sub(next, b) }>
             unread = Neg(last)
           }""",
        {**X, "c": np.array(True)},
    )


@nasty
def scan() -> NastyModel:
    return parsed(
        """g (float[5,3] x, float[3] s) => (float[3] end, float[5,3] rows) {
             a = Relu(x) b = Neg(s)
             f, r = Scan <num_scan_inputs=1,
               body = l (float[3] before, float[3] row) => (float[3] after, float[3] out)
               { after = Add(before, row) out = Mul(after, b) }> (s, a)
             end = Neg(f) rows = Abs(r)
           }""",
        {"x": floats(5, 3), "s": floats(3, seed=1)},
    )


@nasty
def sequences_between_ops() -> NastyModel:
    return parsed(
        """g (float[6,3] x) => (float[2,3] y, float[6,3] z)
           <int64 one = {1}, int64[3] sizes = {2, 2, 2}> {
             a = Relu(x) parts = SplitToSequence <axis=0> (a, sizes)
             p = SequenceAt(parts, one) y = Neg(p)
             more = SequenceInsert(parts, y) b = Neg(a)
             z0 = ConcatFromSequence <axis=0> (parts) z = Add(z0, b)
             n = SequenceLength(more)
           }""",
        {"x": floats(6, 3)},
    )


@nasty
def optional_between_ops() -> NastyModel:
    return parsed(
        """g (float[2,3] x) => (float[2,3] y, bool[1] has)
           <int64[1] one = {1}> {
             a = Relu(x) o = Optional(a) b = OptionalGetElement(o) h = OptionalHasElement(o)
             has = Reshape(h, one) y = Neg(b)
           }""",
        X,
        opset=18,
    )


@nasty
def shape_that_depends_on_data() -> NastyModel:
    return parsed(
        """g (float[2,3] x) => (int64[2,K] where, float[K] picked) {
             zero = Sub(x, x) big = Greater(x, zero) where = NonZero(big)
             back = Transpose <perm=[1,0]> (where) found = GatherND(x, back) picked = Exp(found)
           }""",
        X,
    )


@nasty
def branches_of_different_rank() -> NastyModel:
    return parsed(
        """g (float[N,1,3] x, bool c) => (float[M,3] y)
           <int64[2] flat = {-1, 3}, int64[1] axis = {1}> {
             a = Relu(x)
             b = If (c) <
               then_branch = t () => (float[N,3] u) { u = Squeeze(a, axis) },
               else_branch = e () => (float[N,1,3] v) { v = Identity(a) }>
             d = Neg(b) y = Reshape(d, flat)
           }""",
        {"x": floats(2, 1, 3), "c": np.array(True)},
    )


@nasty
def shape_computed_from_the_batch() -> NastyModel:
    return parsed(
        """g (float[N,3,4] x) => (float[N,12] y)
           <int64 zero = {0}, int64[1] rest = {-1}, int64[1] front = {0}> {
             a = Relu(x) s = Shape(a) n = Gather <axis=0> (s, zero) m = Unsqueeze(n, front)
             to = Concat <axis=0> (m, rest) b = Reshape(a, to) y = Neg(b)
           }""",
        {"x": floats(2, 3, 4)},
    )


@nasty
def large_constant_that_hosts_compute_anew() -> NastyModel:
    return parsed(
        """g (float[2,3] x) => (float[2,3] y, float z) <int64[2] big = {2300, 2000}> {
             c = ConstantOfShape <value = float[1] {0.25}> (big) d = Neg(c)
             m = ReduceMean <keepdims=0> (d) a = Relu(x) y = Add(a, m)
             most = ReduceMax <keepdims=0> (d) s = ReduceSum <keepdims=0> (y) z = Add(s, most)
           }""",
        X,
    )


@nasty
def outputs_left_out() -> NastyModel:
    rng = np.random.default_rng(0)
    weights: dict[str, Array] = {
        "W": rng.uniform(-1, 1, (1, 8, 3)).astype(np.float32),
        "R": rng.uniform(-1, 1, (1, 8, 2)).astype(np.float32),
        "sizes": np.array([1, 1], np.int64),
    }
    nodes = [
        helper.make_node("LSTM", ["x", "W", "R"], ["", "", "cell"], hidden_size=2),
        helper.make_node("Squeeze", ["cell"], ["row"]),
        helper.make_node("Split", ["row", "sizes"], ["left", "unread"], axis=-1),
        helper.make_node("Dropout", ["left"], ["y", "mask"]),
    ]
    inputs: dict[str, Type] = {"x": (TensorProto.FLOAT, (4, 2, 3))}
    outputs: dict[str, Type] = {"y": (TensorProto.FLOAT, (2, 1))}
    return made(nodes, inputs, outputs, {"x": floats(4, 2, 3)}, weights=weights)


@nasty
def constants_of_every_kind() -> NastyModel:
    nodes = [
        helper.make_node("Constant", [], ["f"], value_float=0.5),
        helper.make_node("Constant", [], ["fs"], value_floats=[1.0, 2.0, 3.0]),
        helper.make_node("Constant", [], ["i"], value_int=2),
        helper.make_node("Constant", [], ["is"], value_ints=[3, 2]),
        helper.make_node(
            "Constant", [], ["empty"], value=numpy_helper.from_array(np.zeros((0, 3), np.float32))
        ),
        helper.make_node("Cast", ["i"], ["fi"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "fs"], ["a"]),
        helper.make_node("Mul", ["a", "fi"], ["b"]),
        helper.make_node("Concat", ["b", "empty"], ["c"], axis=0),
        helper.make_node("Reshape", ["c", "is"], ["d"]),
        helper.make_node("Add", ["d", "f"], ["y"]),
    ]
    inputs: dict[str, Type] = {"x": (TensorProto.FLOAT, (2, 3))}
    outputs: dict[str, Type] = {"y": (TensorProto.FLOAT, (3, 2))}
    return made(nodes, inputs, outputs, X)


@nasty
def nothing_but_an_identity() -> NastyModel:
    return parsed("g (float[2,3] x) => (float[2,3] y) {y = Identity(x)}", X)


@nasty
def no_op_at_all() -> NastyModel:
    return parsed("g (float[2,3] x) => (float[2,3] x) {}", X)
