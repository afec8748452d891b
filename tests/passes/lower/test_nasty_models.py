"""Hand-made models with one nasty thing each: every placement gives the whole model's answer."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import partc
from partc.errors import ModelError
from partc.ir.topology import Topology
from partc.verification import verify_bundle
from tests.support.nasty_models import NASTY, made
from tests.support.oracle import assert_same, run_whole
from tests.support.placements import (
    CHAIN,
    QUICK,
    TREE,
    TWO_HOSTS,
    Hosts,
    ingested,
    random_placement,
    run_in_order,
    split,
)

every_nasty_model = pytest.mark.parametrize("name", NASTY)


@every_nasty_model
def test_the_model_is_valid_and_runs(name: str) -> None:
    example = NASTY[name]()
    onnx.checker.check_model(example.model)
    assert run_whole(example.model, example.feeds)


@every_nasty_model
@pytest.mark.parametrize("topology", [TWO_HOSTS, CHAIN, TREE], ids=["two", "chain", "tree"])
def test_every_placement_gives_the_whole_answer(name: str, topology: Topology) -> None:
    example = NASTY[name]()
    whole = run_whole(example.model, example.feeds)
    program = ingested(example.model, topology, sample=example.feeds)
    for seed in range(8):
        cut = split(program, topology, random_placement(program, topology, seed))
        held = run_in_order(cut.segments or (), example.feeds)
        assert_same({output: held[output] for output in whole}, whole)
        assert_same(Hosts(cut, topology, seed).answer(example.feeds), whole)


@every_nasty_model
def test_it_compiles_into_a_bundle_that_verifies(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    example = NASTY[name]()
    bundle = partc.compile(
        example.model, TWO_HOSTS, output=tmp_path / "bundle", sample=example.feeds, pipeline=QUICK
    )
    check = verify_bundle(bundle.path)
    assert check.files == len(bundle.manifest.files)
    assert capfd.readouterr().out == "", "standard output belongs to the result"


def test_an_input_that_arrays_cannot_hold_is_refused_in_a_sentence(tmp_path: Path) -> None:
    kind = (onnx.TensorProto.BFLOAT16, (2, 3))
    cast = onnx.helper.make_node("Cast", ["x"], ["y"], to=onnx.TensorProto.FLOAT)
    example = made([cast], {"x": kind}, {"y": (onnx.TensorProto.FLOAT, (2, 3))}, {})
    with pytest.raises(ModelError, match=r"of type bfloat16.*Cast"):
        partc.compile(example.model, TWO_HOSTS, output=tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []
