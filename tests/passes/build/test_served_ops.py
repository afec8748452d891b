"""For which op each node of a rewritten model is there."""

from __future__ import annotations

from collections import Counter

import onnx
import pytest
from hypothesis import given, settings

from partc.ir.engine import Precision
from partc.passes.build.lowering import lowered
from partc.passes.build.rewriting import rewritten
from partc.passes.build.served_ops import served_ops
from partc.passes.ingest.read_model import read_model
from tests.passes.build.test_lowering import model_of
from tests.support.nasty_models import floats
from tests.support.random_graphs import RandomModel, onnx_models

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,8,8] x) => (float[1,4] y) {
    c = Conv <pads = [1,1,1,1]> (x, w)
    r = Relu(c)
    p = MaxPool <kernel_shape = [2,2]> (r)
    d = Conv <pads = [1,1,1,1]> (p, v)
    a = GlobalAveragePool(d)
    f = Flatten(a)
    y = Softmax(f)
}"""


def model() -> onnx.ModelProto:
    found = model_of(TEXT, w=floats(4, 3, 3, 3), v=floats(4, 4, 3, 3, seed=1))
    for node in found.graph.node:
        node.name = f"make_{node.output[0]}"
    return found


def test_quantisation_is_there_for_the_convolution_beside_it() -> None:
    changed = rewritten(model(), "int8", [{"x": floats(1, 3, 8, 8)}])
    served = served_ops(model(), changed)
    of = {node.output[0]: (node.op_type, served[node.name]) for node in changed.graph.node}
    assert of["x_QuantizeLinear_Output"] == ("QuantizeLinear", "make_c")
    assert of["w_DequantizeLinear_Output"] == ("DequantizeLinear", "make_c")
    assert of["c_QuantizeLinear_Output"] == ("QuantizeLinear", "make_c")
    assert of["c_DequantizeLinear_Output"] == ("DequantizeLinear", "make_c")
    assert of["p_QuantizeLinear_Output"] == ("QuantizeLinear", "make_d")
    assert of["p_DequantizeLinear_Output"] == ("DequantizeLinear", "make_d")
    assert of["d_DequantizeLinear_Output"] == ("DequantizeLinear", "make_d")
    for node in model().graph.node:
        assert of[node.output[0]] == (node.op_type, node.name)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_cast_is_there_for_its_reader_and_the_last_for_what_it_reads(
    precision: Precision,
) -> None:
    changed = rewritten(model(), precision, ())
    served = served_ops(model(), changed)
    casts = [served[node.name] for node in changed.graph.node if node.op_type == "Cast"]
    assert casts == ["make_c", "make_y"]


@given(onnx_models())
@settings(max_examples=40, deadline=None)
def test_every_node_of_random_models_is_there_for_an_op(drawn: RandomModel) -> None:
    original = read_model(drawn.model).model
    changed = lowered(original, "fp16").model
    served = served_ops(original, changed)
    names = Counter(node.name for node in changed.graph.node)
    assert set(served) == set(names) and max(names.values()) == 1
    assert set(served.values()) <= {node.name for node in original.graph.node}
