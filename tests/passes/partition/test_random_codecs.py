"""Random models under a loss budget, over several hosts: every tensor type, every shape."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from partc.ir.topology import Topology
from partc.pipeline import Pipeline
from tests.support.narrowing import costed
from tests.support.placements import CHAIN, STAR, TWO_HOSTS, ingested
from tests.support.random_graphs import RandomModel, onnx_models

SETTINGS = settings(
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.parametrize("topology", [TWO_HOSTS, CHAIN, STAR], ids=["two", "chain", "star"])
@SETTINGS
@given(example=onnx_models(), seed=st.integers(0, 2**16))
def test_a_random_model_keeps_its_budget(
    topology: Topology, example: RandomModel, seed: int
) -> None:
    check(topology, example, seed)


@pytest.mark.slow
@pytest.mark.parametrize("topology", [TWO_HOSTS, CHAIN, STAR], ids=["two", "chain", "star"])
@settings(SETTINGS, max_examples=300)
@given(example=onnx_models(max_ops=25), seed=st.integers(0, 2**16))
def test_a_larger_random_model_keeps_its_budget(
    topology: Topology, example: RandomModel, seed: int
) -> None:
    check(topology, example, seed)


def check(topology: Topology, example: RandomModel, seed: int) -> None:
    """Pinned apart, so that tensors must travel; the budget is generous but real."""
    program = ingested(example.model, topology, sample=example.feeds)
    hosts = list(topology.hosts)
    blocks = program.blocks or ()
    pins: dict[str, list[str]] = {host: [] for host in hosts}
    for index, block in enumerate(blocks):
        if (seed + index) % 2:
            pins[hosts[(seed // 7 + index) % len(hosts)]].append(block.ops[0].replace("[", "[[]"))
    constraints = topology.constraints.model_copy(
        update={"pin": {h: tuple(p) for h, p in pins.items() if p}, "loss_budget": 0.2}
    )
    pinned = topology.model_copy(update={"constraints": constraints})
    program = costed(program, dict.fromkeys(hosts, 0.001), pinned)
    done = Pipeline.parse("measure-codecs,partition,split,verify").run(program, pinned)
    assert done.verification is not None and done.plan is not None
    assert done.verification.loss <= 0.2
    for transfer in done.plan.transfers:
        assert transfer.size_bytes <= max(program.tensor(transfer.tensor).size_bytes, 1)
