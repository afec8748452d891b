"""What codecs do to the tensors of a model: measured on the sample, for those that may travel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from partc.codecs import CODEC_NAMES, LOSSY_CODECS, encode
from partc.errors import TopologyError
from partc.ir.codec_table import CodecFactor
from partc.ir.topology import Topology
from partc.passes.annotate.measure_codecs import MeasureCodecs, allowed_codecs
from partc.passes.contract import Context
from partc.passes.partition.problem import placement_problem
from partc.targets.meter import LocalMeter
from partc.targets.registry import load_backend
from tests.support.narrowing import ONE_BLOCK_AN_OP, image, narrowing, narrowing_model
from tests.support.oracle import run_whole
from tests.support.placements import ingested


def topology(hosts: int = 2, **constraints: Any) -> Topology:
    names = ["camera", "server"][:hosts]
    links = [{"between": names, "bandwidth_mbit_s": 10}] if hosts == 2 else []
    return Topology.parse(
        {"hosts": {name: {} for name in names}, "links": links, "constraints": constraints}
    )


COSTS = {"camera": 0.001, "server": 0.001}


def test_ratios_are_those_of_the_real_activations() -> None:
    described = topology(loss_budget=0.1)
    table = MeasureCodecs().run(narrowing(described, COSTS), Context(described)).program.codecs
    assert table is not None
    names = ["/stem/Relu_out", "/body[0]/Conv_out", "/neck/Relu_out"]
    activations = run_whole(narrowing_model(), image(), names) | image()
    for name, array in activations.items():
        assert set(table.ratios[name]) == set(CODEC_NAMES)
        for codec, ratio in table.ratios[name].items():
            exact = len(encode(array, codec)[0]) / array.nbytes
            assert ratio == pytest.approx(exact, rel=0.02)  # rounding moves a few packed bytes
    assert set(table.costs) == set(CODEC_NAMES)
    for cost in table.costs.values():
        assert 0 < cost.encode_s_per_byte < 1e-5
        assert 0 < cost.decode_s_per_byte < 1e-5


def test_small_tensors_are_left_alone() -> None:
    described = topology(loss_budget=0.1)
    table = MeasureCodecs().run(narrowing(described, COSTS), Context(described)).program.codecs
    assert table is not None
    assert not {"/head/Pool_out", "/head/Gemm_out", "classes"} & set(table.ratios)


@pytest.mark.parametrize(
    "described",
    [topology(), topology(codecs=[]), topology(1, loss_budget=0.1)],
    ids=["nothing said", "none allowed", "one host"],
)
def test_nothing_is_measured_where_nothing_is_encoded(described: Topology) -> None:
    costs = dict.fromkeys(described.hosts, 0.001)
    result = MeasureCodecs().run(narrowing(described, costs), Context(described))
    assert result.program.codecs is None
    assert not result.modified


def test_which_codecs_are_allowed() -> None:
    assert allowed_codecs(topology()) == ()
    assert allowed_codecs(topology(loss_budget=0.0)) == CODEC_NAMES
    assert allowed_codecs(topology(codecs=["zstd", "lz4", "zstd"])) == ("zstd", "lz4")
    assert allowed_codecs(topology(codecs=["int8"], loss_budget=0.1)) == ("int8",)


@pytest.mark.parametrize("codec", LOSSY_CODECS)
def test_what_loses_needs_a_budget(codec: str) -> None:
    with pytest.raises(TopologyError, match=r"loss_budget \(or --loss-budget\)"):
        allowed_codecs(topology(codecs=[codec]))


def test_an_unknown_codec() -> None:
    with pytest.raises(TopologyError, match="Did you mean 'int8-channel'"):
        allowed_codecs(topology(codecs=["int8-chanel"], loss_budget=0.1))


def test_fewer_bits_are_for_floats_only() -> None:
    shape = [4, 128]
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], name="cast", to=TensorProto.INT64),
        helper.make_node("Neg", ["whole"], ["y"], name="neg"),
    ]
    graph = helper.make_graph(
        nodes,
        "whole",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT64, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    described = topology(loss_budget=0.1)
    x = np.arange(512, dtype=np.float32).reshape(shape)
    program = ingested(model, described, sample={"x": x}, pipeline=ONE_BLOCK_AN_OP)
    table = MeasureCodecs().run(program, Context(described)).program.codecs
    assert table is not None
    assert set(table.ratios["whole"]) == {"lz4", "zstd"}
    assert set(table.ratios["x"]) == set(CODEC_NAMES)


def test_random_input_is_said_to_be_random() -> None:
    described = topology(loss_budget=0.1)
    program = ingested(narrowing_model(), described, pipeline=ONE_BLOCK_AN_OP)
    result = MeasureCodecs().run(program, Context(described))
    assert any("random input" in notice for notice in result.program.notices)
    packed = topology(codecs=["lz4"])
    assert not MeasureCodecs().run(program, Context(packed)).program.notices[1:]


class SlowNode(LocalMeter):
    """A node that takes three times as long to encode, and twice as long to decode."""

    where = "a slow node"

    def codec_factors(self, codecs: Sequence[str]) -> Mapping[str, CodecFactor]:
        return {codec: CodecFactor(3.0, 2.0) for codec in codecs if codec != "zstd"}


def test_a_node_encodes_and_decodes_at_its_own_speed() -> None:
    described = topology(codecs=["lz4", "zstd"])
    meter = SlowNode(load_backend("onnxruntime"))
    program = narrowing(described, COSTS)
    context = Context(described, meters={"server": meter})
    found = MeasureCodecs().run(program, context).program
    assert found.codecs is not None
    assert dict(found.codecs.factors) == {"server": {"lz4": CodecFactor(3.0, 2.0)}}
    problem = placement_problem(found, described)
    camera, server = problem.hosts
    assert (server.encoding_factor("lz4"), server.decoding_factor("lz4")) == (3.0, 2.0)
    assert camera.encoding_factor("lz4") == server.encoding_factor("zstd") == 1.0


def test_it_is_said_where_a_node_was_not_asked() -> None:
    described = Topology.parse(
        {
            "hosts": {"camera": {}, "server": {"agent": "127.0.0.1:9"}},
            "links": [{"between": ["camera", "server"], "bandwidth_mbit_s": 10}],
            "constraints": {"codecs": ["lz4"]},
        }
    )
    found = MeasureCodecs().run(narrowing(described, COSTS), Context(described))
    assert any("host 'server' encodes" in said for said in found.program.notices)
