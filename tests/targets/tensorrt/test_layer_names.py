"""Names as engines of TensorRT 8 to 11 have them, back to ops."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partc.targets.tensorrt.layer_names import Kind, NameReader, metadata_ops, op_times

OPS = (
    "Conv_0", "Relu_1", "Conv_2", "Sigmoid_3", "Mul_4", "MatMul_5", "Add_6", "Softmax_7", "Gemm_8",
)  # fmt: skip
READER = NameReader(OPS, {"input": "Conv_0", "fc.weight": "Gemm_8"})


@pytest.mark.parametrize(
    ("text", "kind", "ops"),
    [
        ("Conv_0", "ops", ("Conv_0",)),
        ("Conv_0 + Relu_1", "ops", ("Conv_0", "Relu_1")),
        ("Conv_0 + PWN(Relu_1)", "ops", ("Conv_0", "Relu_1")),
        ("Conv_0 || Conv_2", "ops", ("Conv_0", "Conv_2")),
        ("PWN(Sigmoid_3, Mul_4)", "ops", ("Sigmoid_3", "Mul_4")),
        ("PWN(PWN(Sigmoid_3), PWN(Mul_4))", "ops", ("Sigmoid_3", "Mul_4")),
        ("PWN(PWN(PWN(Relu_1, Sigmoid_3)), Mul_4)", "ops", ("Relu_1", "Sigmoid_3", "Mul_4")),
        ("Conv_0 + Relu_1 [profile 1]", "ops", ("Conv_0", "Relu_1")),
        ("Gemm_8 + (Unnamed Layer* 4) [ElementWise] + Relu_1", "ops", ("Gemm_8", "Relu_1")),
        ("squeeze_after_Conv_0 + MatMul_5", "ops", ("Conv_0", "MatMul_5")),
        ("reshape_before_Gemm_8", "ops", ("Gemm_8",)),
        ("shuffle_between_Relu_1_and_Gemm_8", "ops", ("Relu_1", "Gemm_8")),
        ("fc.weight [Constant]", "ops", ("Gemm_8",)),
        ("Gemm_8_12", "ops", ("Gemm_8",)),
        ("Reformatting CopyNode for Input Tensor 0 to Conv_0 + Relu_1", "reformat",
         ("Conv_0", "Relu_1")),
        ("Reformatting CopyNode for Output Tensor 0 to Softmax_7", "reformat", ("Softmax_7",)),
        ("Reformatting CopyNode for Network Input input", "reformat", ("Conv_0",)),
        ("MatMul_5_myl3_7", "ops", ("MatMul_5",)),
        ("__myl_MulMaxSubExpSum_myl109_3", "kernel", ()),
        ("[HostToDeviceCopy 0]", "unknown", ()),
        ("(Unnamed Layer* 12) [Shuffle]", "unknown", ()),
        ("", "unknown", ()),
    ],
)  # fmt: skip
def test_each_form_of_a_name(text: str, kind: Kind, ops: tuple[str, ...]) -> None:
    name = READER.read(text)
    assert (name.kind, name.ops) == (kind, ops)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("{ForeignNode[MatMul_5...Softmax_7]}", ("MatMul_5", "Softmax_7")),
        ("{ForeignNode[MatMul_5]}", ("MatMul_5", "MatMul_5")),
        ("{ForeignNode[onnx::MatMul_77...Softmax_7]}", (None, "Softmax_7")),
        ("{ForeignNode[MatMul_5...(Unnamed Layer* 418) [Shuffle]]}", ("MatMul_5", None)),
        ("{ForeignNode[fc.weight...Softmax_7]}", ("Gemm_8", "Softmax_7")),
    ],
)
def test_regions_name_their_ends(text: str, span: tuple[str | None, str | None]) -> None:
    name = READER.read(text)
    assert name.kind == "region"
    assert name.spans == (span,)


def test_names_with_dots_colons_and_slashes() -> None:
    ops = ("/model.10/m.0/attn/Split", "/model.10/m.0/attn/MatMul", "a...b", "net/Conv2D:0")
    reader = NameReader(ops)
    text = "{ForeignNode[/model.10/m.0/attn/Split.../model.10/m.0/attn/MatMul]}"
    assert reader.read(text).spans == ((ops[0], ops[1]),)
    assert reader.read("{ForeignNode[a...b...net/Conv2D:0]}").spans == (("a...b", "net/Conv2D:0"),)
    # Kernels of a region are named with the dots gone.
    assert reader.read("/model_10/m_0/attn/MatMul_myl109_2").ops == (ops[1],)


def test_a_name_that_is_an_op_is_that_op_whatever_it_looks_like() -> None:
    ops = ("A + B", "PWN(x)", "{ForeignNode[a...b]}", "Conv_1_2", "Conv_1")
    reader = NameReader(ops)
    for op in ops:
        assert reader.read(op).ops == (op,)
        assert reader.read(f"Reformatting CopyNode for Input Tensor 3 to {op}").ops == (op,)


def test_every_op_of_an_engine_finds_its_layer() -> None:
    layers = [
        "Reformatting CopyNode for Input Tensor 0 to Conv_0 + Relu_1",
        "Conv_0 + Relu_1",
        "Conv_2",
        "PWN(PWN(Sigmoid_3), PWN(Mul_4))",
        "{ForeignNode[MatMul_5...Softmax_7]}",
        "Gemm_8",
    ]
    assert READER.attribute(layers) == [
        ("Conv_0", "Relu_1"),
        ("Conv_0", "Relu_1"),
        ("Conv_2",),
        ("Sigmoid_3", "Mul_4"),
        ("MatMul_5", "Add_6", "Softmax_7"),
        ("Gemm_8",),
    ]


def test_unnamed_kernels_stand_for_what_lies_between_their_neighbours() -> None:
    layers = ["Conv_0 + Relu_1", "Conv_2", "__myl_SigMul_myl3_1", "MatMul_5_myl3_2",
              "__myl_AddMaxSub_myl3_3", "__myl_DivMul_myl3_4", "Gemm_8"]  # fmt: skip
    found = READER.attribute(layers)
    assert found[2] == ("Sigmoid_3", "Mul_4")
    assert found[3] == ("MatMul_5",)
    assert found[4] == found[5] == ("Add_6", "Softmax_7")


def test_one_region_that_swallowed_everything() -> None:
    assert READER.attribute(["{ForeignNode[Conv_0...Gemm_8]}"]) == [OPS]
    assert READER.attribute(["{ForeignNode[w...v]}"]) == [OPS]  # neither end is known


def test_the_inspectors_metadata_names_ops_outright() -> None:
    metadata = "[ONNX Layer: Add_6]\x1e[ONNX Layer: Softmax_7]\x1e[ONNX Layer: gone]"
    assert metadata_ops(metadata) == ("Add_6", "Softmax_7", "gone")
    assert metadata_ops("[ONNX Layer: a[0]]\x1e[ONNX Layer: b]") == ("a[0]", "b")
    layers = ["__myl_AddMaxSub_myl3_3"]
    assert READER.attribute(layers, {layers[0]: metadata}) == [("Add_6", "Softmax_7")]


def test_times_are_shared_by_work_and_none_is_lost() -> None:
    layers = [("Conv_0 + Relu_1", 3.0), ("{ForeignNode[MatMul_5...Softmax_7]}", 6.0)]
    ops_of = [*READER.attribute([name for name, _ in layers]), ()]
    work = {"MatMul_5": 4.0, "Add_6": 1.0, "Softmax_7": 1.0, "Conv_0": 1.0}
    times, nobody_s = op_times(
        [*layers, ("[HostToDeviceCopy 0]", 0.5)], ops_of, lambda op: work.get(op, 0.0)
    )
    assert times == {
        "Conv_0": 3.0, "Relu_1": 0.0, "MatMul_5": 4.0, "Add_6": 1.0, "Softmax_7": 1.0,
    }  # fmt: skip
    assert nobody_s == 0.5


def test_ops_without_work_share_alike() -> None:
    assert op_times([("A + B", 2.0)], [("A", "B")], lambda op: 0.0)[0] == {"A": 1.0, "B": 1.0}


PARTS = st.sampled_from([*OPS, "x", "(Unnamed Layer* 3) [Shuffle]", "PWN(", ")", "...", " + ", ", ",
                         "{ForeignNode[", "]}", "_myl1_2", "squeeze_after_", "_1"])  # fmt: skip


@given(st.lists(st.lists(PARTS, max_size=8).map("".join), max_size=6))
def test_any_text_is_read_and_no_time_is_lost(layers: list[str]) -> None:
    ops_of = READER.attribute(layers)
    assert all(set(ops) <= set(OPS) for ops in ops_of)
    times, nobody_s = op_times([(name, 1.0) for name in layers], ops_of)
    assert sum(times.values()) + nobody_s == pytest.approx(len(layers))
