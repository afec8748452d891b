"""trtexec's profiles and layer information, in the forms of TensorRT 8 to 11."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from partc.errors import UsageError
from partc.imports.attribution import attribute
from partc.imports.reading import read
from partc.ir.program import Program

Write = Callable[..., Path]

# As trtexec writes it: a count, then a layer a line.
TENSORRT_10 = """[
  { "count" : 41400 }
, { "name" : "Reformatting CopyNode for Input Tensor 0 to conv + relu", "timeMs" : 41.4, "averageMs" : 0.001, "medianMs" : 0.001, "percentage" : 4 }
, { "name" : "conv + relu", "timeMs" : 414, "averageMs" : 0.010, "medianMs" : 0.009, "percentage" : 50 }
, { "name" : "PWN(pool)", "timeMs" : 82.8, "averageMs" : 0.002, "medianMs" : 0.002, "percentage" : 10 }
, { "name" : "{ForeignNode[flat...fc]}", "timeMs" : 248.4, "averageMs" : 0.006, "medianMs" : 0.005, "percentage" : 30 }
, { "name" : "[HostToDeviceCopy 0]", "timeMs" : 41.4, "averageMs" : 0.001, "medianMs" : 0.001, "percentage" : 4 }
]
"""  # noqa: E501
TENSORRT_8 = """[
  { "count" : 100 }
, { "name" : "conv + relu", "timeMs" : 100, "averageMs" : 1, "percentage" : 50 }
, { "name" : "pool", "timeMs" : 50, "averageMs" : 0.5, "percentage" : 25 }
, { "name" : "fc", "timeMs" : 50, "averageMs" : 0.5, "percentage" : 25 }
]
"""
LAYERS_10 = """{"Layers": ["Reformatting CopyNode for Input Tensor 0 to conv + relu"
,"conv + relu"
,"PWN(pool)"
,"{ForeignNode[flat...fc]}"
],
"Bindings": ["x"
,"y"
]}
"""
KERNELS_11 = [
    {"count": 10},
    {"name": "__myl_ConvRelu_myl0_1", "timeMs": 10.0, "averageMs": 1.0, "medianMs": 1.0},
    {"name": "__myl_MeaRes_myl0_2", "timeMs": 5.0, "averageMs": 0.5, "medianMs": 0.5},
    {"name": "fc_myl0_3", "timeMs": 5.0, "averageMs": 0.5, "medianMs": 0.5},
]
LAYERS_11 = {
    "Layers": [
        {"Name": "__myl_ConvRelu_myl0_1", "LayerType": "kgen",
         "Metadata": "[ONNX Layer: conv]\x1e[ONNX Layer: relu]"},
        {"Name": "__myl_MeaRes_myl0_2", "LayerType": "kgen",
         "Metadata": "[ONNX Layer: pool]\x1e[ONNX Layer: flat]"},
        {"Name": "fc_myl0_3", "LayerType": "gemm", "Metadata": "[ONNX Layer: fc]"},
    ],
    "I/O Tensors": [{"Name": "x"}, {"Name": "y"}],
}  # fmt: skip


def block_times(program: Program, costs: Any) -> dict[str, float]:
    return {op: costs[program.block_of[op].name].median_s for op in ("conv", "pool", "fc")}


def test_a_profile_of_fused_layers(program: Program, write: Write) -> None:
    imported = read(write(TENSORRT_10))
    assert (imported.kind, imported.runs, len(imported.kernels)) == ("trtexec", 41400, 5)
    found = attribute(imported, program)
    assert found.whole.median_s == pytest.approx(18e-6)
    assert sum(c.median_s for c in found.costs.values()) == pytest.approx(18e-6)
    times = block_times(program, found.costs)
    # The copy to the device is nobody's and is spread; reformats work for the layer they feed.
    assert times["conv"] == pytest.approx(10e-6 * 18 / 17)
    assert times["pool"] + times["fc"] == pytest.approx(7e-6 * 18 / 17)
    assert [each.name for each in found.unattributed] == ["[HostToDeviceCopy 0]"]
    assert found.unattributed[0].seconds == pytest.approx(1e-6)
    assert any("[HostToDeviceCopy 0]" in notice for notice in found.notices)
    assert found.costs[program.block_of["conv"].name].spread_s > 0
    assert {cost.samples for cost in found.costs.values()} == {41400}
    assert {cost.provenance for cost in found.costs.values()} == {"imported"}


def test_an_older_profile_has_means_alone_and_says_so(program: Program, write: Write) -> None:
    found = attribute(read(write(TENSORRT_8)), program)
    assert found.whole.median_s == pytest.approx(2e-3)
    assert any("no medians" in notice for notice in found.notices)


def test_layer_information_names_the_ops_of_kernels(program: Program, write: Write) -> None:
    profile, layers = write(KERNELS_11, "p.json"), write(LAYERS_11, "l.json")
    for order in ([profile, layers], [layers, profile]):
        found = attribute(read(order), program)
        times = block_times(program, found.costs)
        assert times["conv"] == pytest.approx(1e-3)
        assert times["fc"] == pytest.approx(0.5e-3)
        assert found.unattributed == ()
    imported = read([profile, layers])
    assert imported.kernels[0].type == "kgen"


def test_names_alone_are_said_to_be_names_alone(program: Program, write: Write) -> None:
    imported = read([write(TENSORRT_10, "p.json"), write(LAYERS_10, "l.json")])
    assert any("--profilingVerbosity=detailed" in notice for notice in imported.notices)
    attribute(imported, program)


def test_one_region_that_swallowed_the_model_is_shared_by_work(
    program: Program, write: Write
) -> None:
    data = [{"count": 5}, {"name": "{ForeignNode[conv...fc]}", "timeMs": 5, "averageMs": 1.0}]
    found = attribute(read(write(data)), program)
    times = block_times(program, found.costs)
    assert times["conv"] > 0.5e-3
    assert sum(c.median_s for c in found.costs.values()) == pytest.approx(1e-3)


def test_layer_information_has_no_times(write: Write) -> None:
    with pytest.raises(UsageError, match=r"has no times.*--exportProfile"):
        read(write(LAYERS_11))


def test_information_of_another_engine_is_refused(write: Write) -> None:
    with pytest.raises(UsageError, match=r"knows 0 of the 3 layers.*same engine"):
        read([write(KERNELS_11, "p.json"), write({"Layers": ["a", "b"]}, "l.json")])
    with pytest.raises(UsageError, match="both profiles"):
        read([write(KERNELS_11, "p.json"), write(TENSORRT_8, "q.json")])


@pytest.mark.parametrize(
    ("data", "part"),
    [
        ([{"count": 0}, *KERNELS_11[1:]], "not a number of runs"),
        ([{"count": True}, *KERNELS_11[1:]], "not a number of runs"),
        ([{"count": 9}, {"name": 7, "averageMs": 1}], "not a name"),
        ([{"count": 9}, {"name": "x" * 30_000, "averageMs": 1}], "not a name"),
        ([{"count": 9}, {"name": "conv", "averageMs": -1}], "no time that a kernel takes"),
        ([{"count": 9}, {"name": "conv", "averageMs": 1}, 7], "no layer"),
        ([{"count": 9}, {"name": "conv", "averageMs": 1}, {"name": "fc"}], "has no time"),
        ([{"name": "conv", "averageMs": 0.0}], "are zero"),
        ([{"name": "k", "averageMs": 1.0}] * 20_002, "more than 20,000 kernels"),
        ({"Layers": []}, "no kernel"),
        ({"Layers": [{"LayerType": "x"}]}, "not a name"),
        ([{"latencyMs": 1.0, "startComputeMs": 0}], "--exportTimes"),
        ([{"name": "other", "averageMs": 1.0}], "another model"),
    ],
)
def test_what_makes_no_sense_is_refused(
    program: Program, write: Write, data: object, part: str
) -> None:
    with pytest.raises(UsageError, match=part) as caught:
        attribute(read(write(data)), program)
    assert "profile.json" in caught.value.message
    assert len(caught.value.message) < 600


NAMES = st.text(max_size=12) | st.sampled_from(
    ["conv", "conv + relu", "{ForeignNode[conv...fc]}", "PWN(pool)", "fc_myl0_1", "pool + ("]
)
LAYER = st.fixed_dictionaries(
    {"name": NAMES},
    optional={key: st.floats(0, 10) for key in ("timeMs", "averageMs", "medianMs")},
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(LAYER, max_size=8), st.integers(1, 100))
def test_time_is_never_lost(
    program: Program, write: Write, layers: list[dict[str, Any]], count: int
) -> None:
    try:
        imported = read(write([{"count": count}, *layers]))
        found = attribute(imported, program)
    except UsageError:
        return
    total = sum(cost.median_s for cost in found.costs.values())
    assert total == pytest.approx(imported.kernels_s)
    assert sum(each.seconds for each in found.unattributed) <= total * 0.51
    json.dumps([cost.median_s for cost in found.costs.values()], allow_nan=False)
