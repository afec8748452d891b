"""Passes that keep or break their promises, one promise each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from partc.errors import PassError
from partc.ir.program import Program
from partc.passes.contract import Context, Pass, PassResult
from partc.passes.surgery import with_outputs


@dataclass(frozen=True)
class Options(Pass):
    """Does nothing, with an option of every kind."""

    name: ClassVar[str] = "options"
    kind: ClassVar[Literal["analysis", "transformation"]] = "analysis"

    number: float = 1.5
    count: int = 3
    flag: bool = False
    text: str = "plain"
    choice: Literal["one", "two", "two words"] = "one"
    limit: float | None = None
    label: str | None = None
    level: Literal[1, 2, 3] | None = None

    def __post_init__(self) -> None:
        if self.count == -1:
            raise ValueError("count must not be -1")

    def run(self, program: Program, context: Context) -> PassResult:
        """Nothing."""
        return PassResult(program, False)


@dataclass(frozen=True)
class NeedsAValue(Pass):
    """An option without a default."""

    name: ClassVar[str] = "needs-a-value"
    kind: ClassVar[Literal["analysis", "transformation"]] = "analysis"

    number: float

    def run(self, program: Program, context: Context) -> PassResult:
        """Nothing."""
        return PassResult(program, False)


class _Toy(Pass):
    name: ClassVar[str] = "toy"
    kind: ClassVar[Literal["analysis", "transformation"]] = "analysis"


class RewritesAsAnalysis(_Toy):
    def run(self, program: Program, context: Context) -> PassResult:
        model = with_outputs(program.model, program.model.graph.value_info)
        model.graph.node[0].name += "_changed"
        return PassResult(replace(program, model=model), True)


class ChangesInPlace(_Toy):
    def run(self, program: Program, context: Context) -> PassResult:
        program.model.graph.node[0].name += "_changed"
        return PassResult(program, False)


class HidesAChange(_Toy):
    def run(self, program: Program, context: Context) -> PassResult:
        return PassResult(replace(program, notices=("new",)), False)


class ClaimsAChange(_Toy):
    def run(self, program: Program, context: Context) -> PassResult:
        return PassResult(program, True)


class RequiresCosts(_Toy):
    requires: ClassVar[tuple[str, ...]] = ("costed",)

    def run(self, program: Program, context: Context) -> PassResult:
        return PassResult(program, False)


class PromisesBlocks(_Toy):
    ensures: ClassVar[tuple[str, ...]] = ("blocked",)

    def run(self, program: Program, context: Context) -> PassResult:
        return PassResult(program, False)


class BreaksWhatHeld(_Toy):
    """An earlier pass ensured that types are known."""

    def run(self, program: Program, context: Context) -> PassResult:
        first = next(iter(program.producer))
        tensors = {name: info for name, info in program.tensors.items() if name != first}
        return PassResult(replace(program, tensors=tensors), True)


class BreaksTheGraph(_Toy):
    kind: ClassVar[Literal["analysis", "transformation"]] = "transformation"
    ensures: ClassVar[tuple[str, ...]] = ("well-formed",)

    def run(self, program: Program, context: Context) -> PassResult:
        model = with_outputs(program.model, ())
        model.graph.node.insert(0, model.graph.node.pop())
        return PassResult(replace(program, model=model), True)


class Crashes(_Toy):
    def run(self, program: Program, context: Context) -> PassResult:
        raise KeyError("missing thing")


class GivesUp(_Toy):
    def run(self, program: Program, context: Context) -> PassResult:
        raise PassError("the work cannot be done; try another way")


class GivesSomethingElse(_Toy):
    def run(self, program: Program, context: Context) -> Any:
        return program
