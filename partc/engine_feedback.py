"""Solves again without what a builder refused: the parser said yes, and the builder said no.

A builder finds out what a parser cannot know, such as that a GPU has no product of float32
matrices. What it refuses counts as an op that the host does not know, and the program goes back to
where its costs were first known: to be placed, cut, verified and built again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from partc.errors import BundleError, PartcError
from partc.ir.program import Block, Program
from partc.ir.refusal import Refusal
from partc.passes.contract import Context
from partc.passes.emit.engines import UnbuildableSegmentError
from partc.passes.emit.trial_builds import blamed_ops
from partc.passes.emit.workshop import Workshop
from partc.pipeline import Observer, PassEvent, Pipeline
from partc.targets.support import refusals_said

MOST_ROUNDS = 8
"""Times that the placement is solved again; each has builds of its own, which may take minutes."""

T = TypeVar("T")


class Restart:
    """An observer that keeps the program as it was when its costs were first known."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.program: Program | None = None
        self.rest = Pipeline(())

    def __call__(self, event: PassEvent) -> None:
        """Keep the program, once."""
        if self.program is None and event.result.program.costs is not None:
            self.program = event.result.program
            self.rest = Pipeline(self._pipeline.passes[event.position + 1 :])


def built(
    program: Program,
    emit: Callable[[Program], T],
    restart: Restart,
    context: Context,
    workshop: Workshop,
    *,
    check: bool = True,
    observers: Sequence[Observer] = (),
) -> T:
    """What ``emit`` makes of the program, or of one that avoids what no builder builds.

    Args:
        emit: writes the bundle, its engines included.

    Raises:
        BundleError: nothing is left to try; the sentence names op, host and the builder's reason.
        PartcError: as ``emit``.
    """
    for number in range(1, MOST_ROUNDS + 2):
        try:
            return emit(program)
        except UnbuildableSegmentError as error:
            kept = restart.program
            if kept is None or number > MOST_ROUNDS:
                raise
            blamed = [
                Refusal(error.segment.host, op, culprit.reason, "builder")
                for culprit in blamed_ops(program, context, workshop, error)
                for op in _before_tiling(kept, culprit.ops)
            ]
            kept, said = _without(kept, blamed, number)
            if kept is restart.program:
                raise
            context.progress(f"{said}; solving again", None)
            restart.program = kept
            program = _again(kept, said, restart.rest, context, check, observers)
    raise AssertionError("the last round returns or raises")


def _again(
    kept: Program,
    said: str,
    rest: Pipeline,
    context: Context,
    check: bool,
    observers: Sequence[Observer],
) -> Program:
    try:
        return rest.run(kept, context.topology, context=context, check=check, observers=observers)
    except PartcError as error:
        raise BundleError(f"{said}, and without that there is no plan: {error}") from error


def _without(program: Program, refused: Iterable[Refusal], number: int) -> tuple[Program, str]:
    """The program with what was refused kept off its host; itself where that changes nothing.

    Raises:
        BundleError: an op is left without a host.
    """
    assert program.costs is not None
    costs = {block: dict(row) for block, row in program.costs.costs.items()}
    news: list[Refusal] = []
    for each in refused:
        block = program.block_of.get(each.op)
        if block is None or each.host not in costs[block.name]:
            continue
        news.append(each)
    for each in news:
        block = program.block_of[each.op]
        costs[block.name].pop(each.host, None)
        if not costs[block.name]:
            raise BundleError(_nowhere(program, block, each), host=each.host, op=each.op)
    if not news:
        return program, ""
    host = news[0].host
    (said,) = refusals_said({host: {each.op: each.reason for each in news}})
    notice = f"{said}, as its builder found; the placement was solved again (round {number})"
    table = replace(program.costs, costs=costs)
    return (
        replace(
            program,
            costs=table,
            refusals=(*program.refusals, *news),
            notices=(*program.notices, notice),
        ),
        said,
    )


def _nowhere(program: Program, block: Block, last: Refusal) -> str:
    others = {
        each.host: each.reason
        for each in program.refusals
        if each.op in block.ops and each.host != last.host
    }
    also = "".join(f", nor on {host!r} ({reason})" for host, reason in others.items())
    return (
        f"op {last.op!r} runs on no host of this topology: {last.host!r} cannot build it "
        f"({last.reason}){also}; add a host that runs it, or give {last.host!r} another precision "
        "or target"
    )


def _before_tiling(kept: Program, ops: Iterable[str]) -> tuple[str, ...]:
    """The ops of the untiled program that some ops are, or are tiles of."""
    known = kept.block_of
    names = (op if op in known else op.rpartition("@")[0] for op in ops)
    return tuple(dict.fromkeys(name for name in names if name in known))
