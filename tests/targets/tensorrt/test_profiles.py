"""The inspector's JSON of 10 and of 11, and times of layers as times of ops."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from partc.errors import TargetError
from partc.targets.tensorrt.inspector import read_layers
from partc.targets.tensorrt.profiler import op_samples

LAYERS = [
    {"Name": "Conv_0 + Relu_1", "LayerType": "CaskConvolution", "Metadata": ""},
    {
        "Name": "__myl_AddSof_myl2_1",
        "LayerType": "kgen",
        "Metadata": "[ONNX Layer: Add_3]\x1e[ONNX Layer: Softmax_4]",
    },
]


@pytest.mark.parametrize("key", ["Bindings", "I/O Tensors"])
def test_both_versions(key: str) -> None:
    found = read_layers(json.dumps({"Layers": LAYERS, key: ["x", "y"]}))
    assert found.names == ("Conv_0 + Relu_1", "__myl_AddSof_myl2_1")
    assert found.tensors == ("x", "y")
    assert list(found.metadata) == ["__myl_AddSof_myl2_1"]


def test_names_alone_and_tensors_with_more_to_them() -> None:
    found = read_layers(json.dumps({"Layers": ["Conv_0"], "I/O Tensors": [{"Name": "x"}]}))
    assert (found.names, found.tensors, found.metadata) == (("Conv_0",), ("x",), {})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"Layers": 3}', '{"Layers": [{}]}', "[" * 9999])
def test_what_is_no_inspection(text: str) -> None:
    with pytest.raises(TargetError, match=r"layer information|layer of the engine"):
        read_layers(text)


def test_each_layers_time_is_shared_among_its_ops_and_none_is_lost() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1,3,8,8] x) => (float[1,4,8,8] y) {
            c = Conv <pads = [1,1,1,1]> (x, w) r = Relu(c) m = Mul(r, r)
            a = Add(m, r) y = Softmax(a) }"""
    )
    weights = np.ones((4, 3, 3, 3), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    for name, node in zip(
        ("Conv_0", "Relu_1", "Mul_2", "Add_3", "Softmax_4"), model.graph.node, strict=True
    ):
        node.name = name
    layers = read_layers(json.dumps({"Layers": LAYERS, "Bindings": []}))
    run = [
        ("Reformatting CopyNode for Input Tensor 0 to Conv_0 + Relu_1", 1.0),
        ("Conv_0 + Relu_1", 4.0),
        ("Mul_2", 2.0),
        ("__myl_AddSof_myl2_1", 2.0),
        ("[HostToDeviceCopy 0]", 1.0),
    ]
    samples = op_samples(model, layers, [run, run])
    totals = {op: row[0] for op, row in samples.items()}
    assert sum(totals.values()) == pytest.approx(10.0)
    assert samples["Conv_0"][0] > samples["Relu_1"][0]
    assert all(len(row) == 2 and row[0] == row[1] for row in samples.values())
    assert set(totals) == {"Conv_0", "Relu_1", "Mul_2", "Add_3", "Softmax_4"}
