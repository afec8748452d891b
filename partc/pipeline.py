"""The pass manager: pipelines as text, and passes run, checked, timed and dumped."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, get_type_hints

from partc.errors import ContractError, PartcError, UsageError
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.passes.contract import Context, Pass, PassResult
from partc.passes.invariants import INVARIANTS
from partc.suggest import unknown_name

GROUP = "partc.passes"
DEFAULT_PIPELINE = (
    "infer-shapes,fold-constants,group-blocks,annotate-costs,measure-codecs,partition,split,verify"
)

_TOKEN = re.compile(r"\s*([a-z][a-z0-9-]*)\s*(?:\{([^{}]*)\})?\s*(,|$)")
_OPTION_SEPARATOR = re.compile(r"[,\s]+")

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


@cache
def registered_passes() -> dict[str, type[Pass]]:
    """Name -> class, of built-in passes and plug-ins alike.

    Raises:
        UsageError: two packages register the same name, or one registers what is no pass.
    """
    found: dict[str, type[Pass]] = {}
    for point in entry_points(group=GROUP):
        if point.name in found:
            raise UsageError(
                f"pass {point.name!r} is registered twice under {GROUP!r}; uninstall one of them"
            )
        try:
            loaded = point.load()
        except ImportError as error:
            raise UsageError(
                f"pass {point.name!r} cannot be imported: {error}; install what it needs"
            ) from error
        if not (isinstance(loaded, type) and issubclass(loaded, Pass)):
            raise UsageError(f"entry point {point.value!r} is not a pass")
        if loaded.name != point.name:
            raise UsageError(
                f"pass {loaded.name!r} is registered under another name, {point.name!r}"
            )
        found[point.name] = loaded
    return found


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
        passes: list[Pass] = []
        position = 0
        while position < len(text) or not passes:
            match = _TOKEN.match(text, position)
            if match is None:
                raise UsageError(
                    f"the pipeline cannot be read at {text[position : position + 20]!r}; "
                    "write it as name,name{option=value}"
                )
            name, options, separator = match.groups()
            passes.append(_build(name, options or ""))
            position = match.end()
            if not separator:
                break
            if position >= len(text):
                raise UsageError("the pipeline ends with a comma; write it as name,name")
        return cls(tuple(passes))

    def __str__(self) -> str:
        return ",".join(_text(each) for each in self.passes)

    def with_option(self, name: str, **options: Any) -> Pipeline:
        """The pipeline with options of one pass changed, where it has that pass."""
        return Pipeline(
            tuple(
                dataclasses.replace(each, **options) if each.name == name else each
                for each in self.passes
            )
        )

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
        for position, each in enumerate(self.passes):
            if check:
                _check(each, each.requires, program, topology, "requires")
            started = time.perf_counter()
            try:
                result = each.run(program, context)
            except PartcError as error:
                error.pass_name = error.pass_name or each.name
                raise
            duration_s = time.perf_counter() - started
            if check:
                _check_kind(each, program, result)
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
        if name != "all" and name not in registered_passes():
            raise UsageError(unknown_name("pass", name, [*registered_passes(), "all"]))
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


def _check_kind(each: Pass, before: Program, result: PassResult) -> None:
    if each.kind == "analysis" and result.program.model is not before.model:
        raise ContractError(
            f"pass {each.name!r} is an analysis but rewrote the graph", pass_name=each.name
        )
    if not result.modified and result.program is not before:
        raise ContractError(
            f"pass {each.name!r} says that it changed nothing but gave another program",
            pass_name=each.name,
        )


def _build(name: str, options: str) -> Pass:
    passes = registered_passes()
    if name not in passes:
        raise UsageError(unknown_name("pass", name, passes))
    kind = passes[name]
    types = get_type_hints(kind)
    fields = {field.name: types[field.name] for field in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    for item in filter(None, _OPTION_SEPARATOR.split(options.strip())):
        key, equals, value = item.partition("=")
        key = key.replace("-", "_")
        if key not in fields:
            raise UsageError(unknown_name(f"option of pass {name!r}", key, fields))
        if not equals:
            raise UsageError(f"option {key!r} of pass {name!r} needs a value: {key}=...")
        if key in values:
            raise UsageError(f"option {key!r} of pass {name!r} is given twice")
        values[key] = _value(name, key, value, fields[key])
    return kind(**values)


def _value(name: str, key: str, text: str, kind: Any) -> Any:
    if text == "none" and type(None) in getattr(kind, "__args__", ()):
        return None
    wanted = next((t for t in getattr(kind, "__args__", (kind,)) if t is not type(None)), kind)
    try:
        if wanted is bool:
            return {"true": True, "false": False}[text]
        if wanted in (int, float, str):
            return wanted(text)
    except (ValueError, KeyError):
        raise UsageError(
            f"option {key!r} of pass {name!r} is {text!r}; it must be "
            f"{'true or false' if wanted is bool else f'of type {wanted.__name__}'}"
        ) from None
    choices = [str(choice) for choice in getattr(kind, "__args__", ())]
    if text not in choices:
        raise UsageError(unknown_name(f"value of option {key!r} of pass {name!r}", text, choices))
    return text


def _text(each: Pass) -> str:
    options = []
    for field in dataclasses.fields(each):
        value = getattr(each, field.name)
        if value != field.default:
            shown = (
                {True: "true", False: "false", None: "none"}.get(value, value)
                if (isinstance(value, bool) or value is None)
                else value
            )
            options.append(f"{field.name}={shown}")
    return each.name + (f"{{{','.join(options)}}}" if options else "")
