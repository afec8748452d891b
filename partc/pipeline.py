"""The pass manager: pipelines as text, and passes run, checked, timed and dumped."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partc.errors import ContractError, PartcError, PassError, UsageError
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.passes.contract import Context, Pass, PassResult
from partc.passes.invariants import INVARIANTS
from partc.passes.registry import pass_names
from partc.passes.registry import registered_passes as registered_passes
from partc.pipeline_text import read_passes, written
from partc.suggest import unknown_name

DEFAULT_PIPELINE = (
    "infer-shapes,fold-constants,group-blocks,annotate-costs,measure-codecs,refine-costs,"
    "partition,plan-tiles,tile,split,verify"
)

Observer = Callable[["PassEvent"], None]


@dataclass(frozen=True)
class PassEvent:
    """A pass has run.

    Attributes:
        duration_s: of the pass itself, without checks.
    """

    position: int
    applied: Pass
    result: PassResult
    duration_s: float


@dataclass(frozen=True)
class Pipeline:
    """Passes in the order in which they run. ``str`` of it parses back to the same."""

    passes: tuple[Pass, ...]

    @classmethod
    def parse(cls, text: str) -> Pipeline:
        """Read ``name,name{option=value,option=value}``.

        Raises:
            UsageError: the text is malformed, or names an unknown pass or option.
        """
        return cls(read_passes(text))

    def __str__(self) -> str:
        return written(self.passes)

    def with_option(self, name: str, **options: Any) -> Pipeline:
        """The pipeline with options of one pass changed, where it has that pass."""
        return Pipeline(
            tuple(
                dataclasses.replace(each, **options) if each.name == name else each
                for each in self.passes
            )
        )

    def with_precision(self, topology: Topology) -> Pipeline:
        """The pipeline with set-precision after split, where a host asks for another precision."""
        names = [each.name for each in self.passes]
        wanted = any(host.precision != "fp32" for host in topology.hosts.values())
        if not wanted or "split" not in names or "set-precision" in names:
            return self
        place = names.index("split") + 1
        (added,) = read_passes("set-precision")
        return Pipeline((*self.passes[:place], added, *self.passes[place:]))

    def run(
        self,
        program: Program,
        topology: Topology,
        *,
        context: Context | None = None,
        check: bool = True,
        observers: Sequence[Observer] = (),
    ) -> Program:
        """Run all passes on ``program``, which itself stays as it is.

        Args:
            context: what passes see besides the program; made of ``topology`` if not given.
            check: verify before and after each pass what it requires and ensures, and what
                earlier passes ensured.
            observers: called after each pass: for timing, dumps and reports.

        Raises:
            ContractError: a requirement is not met or a promise is broken.
            PartcError: a pass could not do its work.
        """
        context = context or Context(topology)
        held: set[str] = set()
        before = _fingerprint(program) if check else b""
        for position, each in enumerate(self.passes):
            if check:
                _check(each, each.requires, program, topology, "requires")
            started = time.perf_counter()
            result = _run(each, program, context)
            duration_s = time.perf_counter() - started
            if check:
                after = _fingerprint(result.program)
                _check_kind(each, program, result, before, after)
                before = after
                held = {name for name in held if _still_applies(name, result.program)}
                held.update(each.ensures)
                ordered = [name for name in INVARIANTS if name in held]
                _check(each, ordered, result.program, topology, "ensures")
            program = result.program
            event = PassEvent(position, each, result, duration_s)
            for observer in observers:
                observer(event)
        return program


class Timing:
    """An observer that keeps the time of each pass; ``rows`` are (name, seconds)."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float]] = []

    def __call__(self, event: PassEvent) -> None:
        """Keep one row."""
        self.rows.append((event.applied.name, event.duration_s))


class Dump:
    """An observer that writes the program as text after each pass of a name (or ``all``)."""

    def __init__(self, name: str, folder: Path) -> None:
        if name != "all" and name not in pass_names():
            raise UsageError(unknown_name("pass", name, [*pass_names(), "all"]))
        self._name = name
        self._folder = folder

    def __call__(self, event: PassEvent) -> None:
        """Write ``<position>-<pass>.txt``."""
        from partc.ir.text import program_text

        if self._name in ("all", event.applied.name):
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{event.position:02d}-{event.applied.name}.txt"
            path.write_text(program_text(event.result.program), encoding="utf-8")


# Annotations that an invariant speaks of; where one was dropped, it holds no longer.
_ABOUT = {
    "blocked": "blocks",
    "costed": "costs",
    "placed": "plan",
    "split": "segments",
    "verified": "verification",
}


def _still_applies(invariant: str, program: Program) -> bool:
    about = _ABOUT.get(invariant)
    return about is None or getattr(program, about) is not None


def _check(
    each: Pass, names: Sequence[str], program: Program, topology: Topology, what: str
) -> None:
    for name in names:
        broken = INVARIANTS[name](program, topology)
        if broken is not None:
            hint = "; put the pass that ensures it before this one" if what == "requires" else ""
            raise ContractError(
                f"pass {each.name!r} {what} that the program is {name}, but {broken}{hint}",
                pass_name=each.name,
            )


def _run(each: Pass, program: Program, context: Context) -> PassResult:
    try:
        result = each.run(program, context)
    except PartcError as error:
        error.pass_name = error.pass_name or each.name
        raise
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise PassError(
            f"pass {each.name!r} could not read or write a file{where}: {error.strerror or error}",
            pass_name=each.name,
        ) from error
    except Exception as error:  # a plug-in's defect, which the user has to be told about
        raise PassError(
            f"pass {each.name!r} failed with {type(error).__name__}: {error}; this is a defect of "
            "the pass, --debug shows where",
            pass_name=each.name,
        ) from error
    if not isinstance(result, PassResult):
        raise ContractError(
            f"pass {each.name!r} gave a {type(result).__name__} instead of a PassResult",
            pass_name=each.name,
        )
    return result


def _check_kind(
    each: Pass, program: Program, result: PassResult, before: bytes, after: bytes
) -> None:
    broken = ""
    if _fingerprint(program) != before:
        broken = "changed the program that it was given; it must give a new one"
    elif each.kind == "analysis" and after != before:
        broken = "is an analysis but rewrote the graph"
    elif not result.modified and result.program is not program:
        broken = "says that it changed nothing but gave another program"
    elif result.modified and result.program is program:
        broken = "says that it changed something but gave the program as it was"
    if broken:
        raise ContractError(f"pass {each.name!r} {broken}", pass_name=each.name)


def _fingerprint(program: Program) -> bytes:
    """Of the graph: every node, and what names, types and sizes tell of inputs and weights."""
    digest = hashlib.blake2b()
    graph = program.model.graph
    for message in (*graph.node, *graph.input, *graph.output, *program.model.opset_import):
        digest.update(message.SerializeToString(deterministic=True))
    for weight in graph.initializer:
        digest.update(f"{weight.name}{weight.data_type}{list(weight.dims)}".encode())
    return digest.digest()
