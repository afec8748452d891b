"""The pass manager: contracts are checked, observers are called, programs stay as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from partc.errors import ContractError, PassError, UsageError
from partc.ir.program import Program
from partc.passes.contract import Pass
from partc.passes.ingest.read_model import read_model
from partc.pipeline import Dump, PassEvent, Pipeline, Timing
from tests.pipeline import toy_passes as toy
from tests.support.nasty_models import parsed
from tests.support.placements import TWO_HOSTS

GRAPH = "g (float[N,3] x) => (float[N,3] y) {a = Relu(x) b = Neg(a) y = Add(a, b)}"


@pytest.fixture
def program() -> Program:
    return read_model(parsed(GRAPH, {}).model)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (toy.RewritesAsAnalysis(), "is an analysis but rewrote the graph"),
        (toy.ChangesInPlace(), "changed the program that it was given"),
        (toy.HidesAChange(), "says that it changed nothing but gave another program"),
        (toy.ClaimsAChange(), "says that it changed something but gave the program as it was"),
        (toy.RequiresCosts(), "requires that the program is costed, but no costs were annotated"),
        (toy.PromisesBlocks(), "ensures that the program is blocked, but op"),
        (toy.BreaksTheGraph(), "before anything writes it"),
        (toy.GivesSomethingElse(), "gave a Program instead of a PassResult"),
    ],
)
def test_a_broken_promise_is_caught(program: Program, broken: Pass, says: str) -> None:
    with pytest.raises(ContractError, match="pass 'toy'") as caught:
        Pipeline((broken,)).run(program, TWO_HOSTS)
    assert says in caught.value.message
    assert caught.value.pass_name == "toy"


def test_what_an_earlier_pass_ensured_is_checked_after_later_ones(program: Program) -> None:
    (infer,) = Pipeline.parse("infer-shapes").passes
    with pytest.raises(ContractError, match="ensures that the program is typed"):
        Pipeline((infer, toy.BreaksWhatHeld())).run(program, TWO_HOSTS)


def test_checks_can_be_switched_off(program: Program) -> None:
    assert Pipeline((toy.ClaimsAChange(),)).run(program, TWO_HOSTS, check=False) is program


def test_a_crash_becomes_one_sentence(program: Program) -> None:
    with pytest.raises(
        PassError, match="pass 'toy' failed with KeyError: 'missing thing'"
    ) as caught:
        Pipeline((toy.Crashes(),)).run(program, TWO_HOSTS)
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_error_carries_the_pass(program: Program) -> None:
    with pytest.raises(PassError) as caught:
        Pipeline((toy.GivesUp(),)).run(program, TWO_HOSTS)
    assert caught.value.pass_name == "toy"


def test_observers_see_every_pass_in_order(program: Program, tmp_path: Path) -> None:
    seen: list[PassEvent] = []
    timing, dump = Timing(), Dump("all", tmp_path / "dumps")
    result = Pipeline.parse("infer-shapes,group-blocks").run(
        program, TWO_HOSTS, observers=[seen.append, timing, dump]
    )
    assert [event.applied.name for event in seen] == ["infer-shapes", "group-blocks"]
    assert [name for name, _ in timing.rows] == ["infer-shapes", "group-blocks"]
    assert all(seconds >= 0 for _, seconds in timing.rows)
    assert seen[-1].result.program is result
    dumps = sorted(path.name for path in (tmp_path / "dumps").iterdir())
    assert dumps == ["00-infer-shapes.txt", "01-group-blocks.txt"]


def test_a_dump_after_one_pass_is_of_that_pass_alone(program: Program, tmp_path: Path) -> None:
    dump = Dump("infer-shapes", tmp_path)
    Pipeline.parse("infer-shapes,group-blocks").run(program, TWO_HOSTS, observers=[dump])
    assert [path.name for path in tmp_path.iterdir()] == ["00-infer-shapes.txt"]


def test_a_dump_after_an_unknown_pass_is_answered(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'infer-shapes'"):
        Dump("infer-shape", tmp_path)


def test_the_program_given_is_not_changed(program: Program) -> None:
    before = program.model.SerializeToString(deterministic=True)
    Pipeline.parse("infer-shapes,fold-constants,group-blocks").run(program, TWO_HOSTS)
    assert program.model.SerializeToString(deterministic=True) == before
    assert not program.tensors
    assert program.blocks is None
