"""One op of each kind that has a rule, at sizes that are awkward to cut."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser

HEAD = '<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]>'

# name -> (opset, body, axes along which every cut must work)
OPS: dict[str, tuple[int, str, tuple[int, ...]]] = {
    "conv": (18, """g (float[N,3,11,7] x) => (float[N,4,6,7] y) <float[4,3,3,3] w, float[4] b>
        { y = Conv<strides=[2,1], pads=[1,1,1,1]>(x, w, b) }""", (1, 2, 3)),
    "conv uneven": (18, """g (float[N,3,11,7] x) => (float[N,4,12,6] y) <float[4,3,2,4] w>
        { y = Conv<dilations=[3,1], pads=[3,0,1,2]>(x, w) }""", (1, 2, 3)),
    "conv same lower": (18, """g (float[N,2,10,7] x) => (float[N,4,5,4] y) <float[4,2,3,3] w>
        { y = Conv<auto_pad="SAME_LOWER", strides=[2,2]>(x, w) }""", (1, 2, 3)),
    "conv depthwise": (18, """g (float[N,6,8,8] x) => (float[N,6,8,8] y) <float[6,1,3,3] w>
        { y = Conv<group=6, pads=[1,1,1,1]>(x, w) }""", (1, 2, 3)),
    "conv grouped": (18, """g
        (float[N,4,8,8] x) => (float[N,6,6,6] y) <float[6,2,3,3] w, float[6] b>
        { y = Conv<group=2>(x, w, b) }""", (1, 2, 3)),
    "conv of a sequence": (18, """g (float[N,4,16] x) => (float[N,6,8] y) <float[6,4,3] w>
        { y = Conv<strides=[2], pads=[1,1]>(x, w) }""", (1, 2)),
    "conv of a volume": (18, """g (float[N,2,5,6,4] x) => (float[N,3,5,6,4] y) <float[3,2,3,3,3] w>
        { y = Conv<pads=[1,1,1,1,1,1]>(x, w) }""", (1, 2, 3, 4)),
    "conv transpose": (18, """g
        (float[N,3,5,4] x) => (float[N,2,11,8] y) <float[3,2,3,2] w, float[2] b>
        { y = ConvTranspose<strides=[2,2], output_padding=[1,0], pads=[0,0,1,0]>(x, w, b) }""",
        (1, 2, 3)),
    "conv transpose with gaps": (18, """g
        (float[N,2,5,4] x) => (float[N,2,14,4] y) <float[2,2,2,1] w, float[2] b>
        { y = ConvTranspose<strides=[3,1]>(x, w, b) }""", (1, 2, 3)),
    "conv transpose to a shape": (18, """g
        (float[N,2,5,4] x) => (float[N,2,10,8] y) <float[2,2,3,3] w>
        { y = ConvTranspose<strides=[2,2], output_shape=[10,8]>(x, w) }""", (1, 2, 3)),
    "max pool ceil": (18, """g (float[N,3,12,10] x) => (float[N,3,6,5] y)
        { y = MaxPool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x) }""", (1, 2, 3)),
    "max pool dilated": (18, """g (float[N,3,12,9] x) => (float[N,3,10,7] y)
        { y = MaxPool<kernel_shape=[3,3], dilations=[2,2], pads=[1,1,1,1]>(x) }""", (1, 2, 3)),
    "average pool": (18, """g (float[N,3,12,9] x) => (float[N,3,12,9] y)
        { y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(x) }""", (1, 2, 3)),
    "average pool with pads": (19, """g (float[N,3,12,9] x) => (float[N,3,6,5] y)
        { y = AveragePool<kernel_shape=[4,3], strides=[2,2], pads=[1,1,1,1],
                            count_include_pad=1>(x) }""", (1, 2, 3)),
    "average pool ceil": (22, """g (float[N,3,12,10] x) => (float[N,3,6,5] y)
        { y = AveragePool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x) }""", (1, 2, 3)),
    "lp pool": (18, """g (float[N,3,12,9] x) => (float[N,3,6,4] y)
        { y = LpPool<kernel_shape=[2,2], strides=[2,2], p=3>(x) }""", (1, 2, 3)),
    "pad": (18, """g (float[N,2,6,4] x) => (float[N,2,13,5] y)
        <int64[8] p = {0,0,3,1,0,0,4,0}, float v = {2.5}> { y = Pad(x, p, v) }""", (1, 2, 3)),
    "pad reflect": (18, """g (float[N,2,6,4] x) => (float[N,2,13,5] y)
        <int64[8] p = {0,0,3,1,0,0,4,0}> { y = Pad<mode="reflect">(x, p) }""", (1, 2, 3)),
    "pad edge": (18, """g (float[N,2,6,4] x) => (float[N,2,13,5] y)
        <int64[8] p = {0,0,3,1,0,0,4,0}> { y = Pad<mode="edge">(x, p) }""", (1, 2, 3)),
    "pad wrap": (19, """g (float[N,2,6,4] x) => (float[N,2,10,5] y)
        <int64[8] p = {0,0,2,1,0,0,2,0}> { y = Pad<mode="wrap">(x, p) }""", (1, 2, 3)),
    "pad axes": (18, """g (float[N,2,6,4] x) => (float[N,2,9,4] y)
        <int64[2] p = {1,2}, float v = {1}, int64[1] a = {-2}> { y = Pad(x, p, v, a) }""",
        (1, 2, 3)),
    "pad crop": (18, """g (float[N,2,9,4] x) => (float[N,2,6,4] y)
        <int64[8] p = {0,0,-2,0,0,0,-1,0}> { y = Pad(x, p) }""", (1, 2, 3)),
    "pad opset 9": (9, """g (float[N,2,6,4] x) => (float[N,2,9,4] y)
        { y = Pad<pads=[0,0,1,0,0,0,2,0]>(x) }""", (1, 2, 3)),
    "resize nearest": (18, """g (float[N,2,6,4] x) => (float[N,2,12,8] y)
        <float[4] s = {1,1,2,2}> { y = Resize(x, , s) }""", (1, 2, 3)),
    "resize linear": (18, """g (float[N,2,6,4] x) => (float[N,2,12,8] y)
        <float[4] s = {1,1,2,2}> { y = Resize<mode="linear">(x, , s) }""", (1, 2, 3)),
    "resize linear to sizes": (18, """g (float[1,2,6,4] x) => (float[1,2,11,7] y)
        <int64[4] s = {1,2,11,7}> { y = Resize<mode="linear">(x, , , s) }""", (1, 2, 3)),
    "resize corners": (13, """g (float[1,2,5,5] x) => (float[1,2,17,17] y)
        <int64[4] s = {1,2,17,17}>
        { y = Resize<mode="linear", coordinate_transformation_mode="align_corners">(x, , , s) }""",
        (1, 2, 3)),
    "resize cubic": (18, """g (float[N,2,6,4] x) => (float[N,2,12,8] y)
        <float[4] s = {1,1,2,2}> { y = Resize<mode="cubic">(x, , s) }""", (1, 2, 3)),
    "resize down": (18, """g (float[1,2,12,8] x) => (float[1,2,5,3] y)
        <int64[4] s = {1,2,5,3}> { y = Resize<mode="linear", antialias=1>(x, , , s) }""",
        (1, 2, 3)),
    "upsample": (9, """g (float[N,2,6,4] x) => (float[N,2,12,8] y)
        <float[4] s = {1,1,2,2}> { y = Upsample(x, s) }""", (1, 2, 3)),
    "slice": (18, """g (float[N,4,12,5] x) => (float[N,4,3,4] y)
        <int64[2] s = {2,-4}, int64[2] e = {-1,9}, int64[2] a = {2,3}, int64[2] t = {3,1}>
        { z = Slice(x, s, e, a, t) y = Relu(z) }""", (1, 2, 3)),
    "slice opset 9": (9, """g (float[N,4,12,5] x) => (float[N,4,9,5] y)
        { y = Slice<starts=[2], ends=[11], axes=[2]>(x) }""", (1, 2, 3)),
    "broadcast": (18, """g (float[N,4,6,5] x) => (float[N,4,6,5] y)
        <float[6,1] r, float[4,1,1] c, float[1,1,6,5] p, float s = {2}>
        { a = Add(x, r) b = Mul(c, a) d = Sub(b, p) e = Div(d, s) y = Max(e, x, r) }""", (1, 2, 3)),
    "prelu and clip": (18, """g (float[N,4,6,5] x) => (float[N,4,6,5] y)
        <float[4,1,1] s, float lo = {-1}, float hi = {1}>
        { a = PRelu(x, s) y = Clip(a, lo, hi) }""", (1, 2, 3)),
    "where": (18, """g (float[N,4,6,5] x) => (float[N,4,6,5] y) <float z = {0}, float[6,5] o>
        { c = Greater(x, z) y = Where(c, x, o) }""", (1, 2, 3)),
    "quantised": (18, """g (float[N,4,6,5] x) => (float[N,4,6,5] y)
        <float s = {0.05}, uint8 z = {128}, float[4] cs = {0.1,0.2,0.3,0.4}, int8[4] cz = {0,1,2,3}>
        { q = QuantizeLinear(x, s, z) a = DequantizeLinear(q, s, z)
          r = QuantizeLinear<axis=1>(a, cs, cz) y = DequantizeLinear<axis=1>(r, cs, cz) }""",
        (1, 2, 3)),
    "cast and erf": (18, """g (float[N,4,6,5] x) => (float16[N,4,6,5] y)
        { a = Erf(x) y = Cast<to=10>(a) }""", (1, 2, 3)),
    "softmax of channels": (18, """g (float[N,4,6,5] x) => (float[N,4,6,5] y)
        { y = Softmax<axis=1>(x) }""", (2, 3)),
    "softmax opset 11": (11, """g (float[N,4,6,5] x) => (float[N,4,6,5] y)
        { y = Softmax<axis=3>(x) }""", (1, 2)),
    "lrn": (18, """g (float[N,4,6,5] x) => (float[N,4,6,5] y) { y = LRN<size=3>(x) }""", (2, 3)),
    "reduce": (18, """g (float[N,4,6,5] x) => (float[N,6,5] y)
        <int64[1] a = {1}> { y = ReduceMean<keepdims=0>(x, a) }""", (1, 2)),
    "argmax": (18, """g (float[N,4,6,5] x) => (int64[N,6,5] y)
        { y = ArgMax<axis=1, keepdims=0>(x) }""", (1, 2)),
    "cumsum": (18, """g (float[N,4,6] x) => (float[N,4,6] y)
        <int64 a = {2}> { y = CumSum(x, a) }""", (1,)),
    "layer norm": (18, """g (float[N,8,6] x) => (float[N,8,6] y) <float[6] s, float[6] b>
        { y = LayerNormalization<axis=-1>(x, s, b) }""", (1,)),
    "mean variance": (18, """g (float[N,4,6,5] x) => (float[N,4,6,5] y)
        { y = MeanVarianceNormalization<axes=[1]>(x) }""", (2, 3)),
    "concat": (18, """g (float[N,4,6,5] x) => (float[N,8,6,5] y)
        { a = Relu(x) y = Concat<axis=1>(a, x) }""", (2, 3)),
    "split": (18, """g (float[N,4,6,5] x) => (float[N,2,6,5] y)
        { a, b = Split<axis=1, num_outputs=2>(x) y = Mul(a, b) }""", (2, 3)),
    "transpose": (18, """g (float[N,4,6,5] x) => (float[N,6,5,4] y)
        { y = Transpose<perm=[0,2,3,1]>(x) }""", (1, 2, 3)),
    "shuffle": (18, """g (float[N,4,6,5] x) => (float[N,4,6,5] y)
        <int64[5] s = {0,2,2,6,5}, int64[4] t = {-1,4,6,5}>
        { a = Reshape(x, s) b = Transpose<perm=[0,2,1,3,4]>(a) y = Reshape(b, t) }""", (2, 3)),
    "squeeze": (18, """g (float[N,1,6,5] x) => (float[N,6,1,5] y)
        <int64[1] a = {1}, int64[1] b = {2}> { s = Squeeze(x, a) y = Unsqueeze(s, b) }""", (1, 3)),
    "depth to space": (18, """g (float[N,8,3,4] x) => (float[N,2,6,8] y)
        { y = DepthToSpace<blocksize=2>(x) }""", (2, 3)),
    "space to depth": (18, """g (float[N,2,6,8] x) => (float[N,8,3,4] y)
        { y = SpaceToDepth<blocksize=2>(x) }""", (2, 3)),
    "matmul": (18, """g (float[N,8,6] x) => (float[N,8,5] y) <float[6,5] w, float[5] b>
        { a = MatMul(x, w) y = Add(a, b) }""", (1, 2)),
    "matmul from the left": (18, """g (float[N,8,6] x) => (float[N,5,6] y) <float[5,8] w>
        { y = MatMul(w, x) }""", (2,)),
    "matmul of heads": (18, """g (float[N,3,8,6] x) => (float[N,3,8,8] y)
        { t = Transpose<perm=[0,1,3,2]>(x) y = MatMul(x, t) }""", (1,)),
    "gemm": (18, """g (float[8,6] x) => (float[8,5] y) <float[5,6] w, float[5] b>
        { y = Gemm<transB=1, alpha=0.5>(x, w, b) }""", (0, 1)),
    "gemm transposed": (18, """g (float[6,8] x) => (float[8,5] y) <float[6,5] w, float[8,1] b>
        { y = Gemm<transA=1>(x, w, b) }""", (0, 1)),
    "einsum": (18, """g (float[N,8,6] x) => (float[N,5,8] y) <float[6,5] w>
        { y = Einsum<equation="nsd,de->nes">(x, w) }""", (2,)),
    "gather of weights": (18, """g (int64[N,8] x) => (float[N,8,4] y) <float[10,4] w>
        { y = Gather(w, x) }""", (1,)),
    "gather along another axis": (18, """g
        (float[N,6,8] x) => (float[N,6,3] y) <int64[3] i = {5,0,2}>
        { y = Gather<axis=2>(x, i) }""", (1,)),
    "batch norm": (18, """g (float[N,4,6,5] x) => (float[N,4,6,5] y)
        <float[4] s, float[4] b, float[4] m, float[4] v = {1,2,3,4}>
        { y = BatchNormalization(x, s, b, m, v) }""", (1, 2, 3)),
    "batch": (18, """g (float[6,3,5,5] x) => (float[6,2,5,5] y) <float[2,3,3,3] w>
        { a = Conv<pads=[1,1,1,1]>(x, w) y = Relu(a) }""", (0, 1, 2, 3)),
    "gelu": (20, """g (float[N,8,6] x) => (float[N,8,6] y) { y = Gelu(x) }""", (1, 2)),
    "global pool of channels": (18, """g (float[N,6,4,4] x) => (float[N,6,1,1] y)
        { y = GlobalAveragePool(x) }""", (1,)),
}  # fmt: skip


def single_op(name: str) -> onnx.ModelProto:
    """The model; weights without values are drawn."""
    opset, body, _ = OPS[name]
    return draw_weights(onnx.parser.parse_model(HEAD.format(opset=opset) + body))


def draw_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with values for the weights that its text only declares."""
    draw = np.random.default_rng(3)
    made = {output for node in model.graph.node for output in node.output}
    known = {weight.name for weight in model.graph.initializer}
    for info in [each for each in model.graph.value_info if each.name not in made | known]:
        shape = [side.dim_value for side in info.type.tensor_type.shape.dim]
        value = draw.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, info.name))
    del model.graph.value_info[:]
    return model
