"""Which ops an arc runs: all that its exit needs and that its entry does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import networkx as nx

from partc.errors import UsageError

if TYPE_CHECKING:
    from partc.optimizer.horizontal.problem import HorizontalProblem


def range_ops(problem: HorizontalProblem) -> dict[tuple[str, str], frozenset[str]]:
    """By (entry, exit), the names of the ops in between.

    Raises:
        UsageError: a range is empty, or something else comes in or goes out.
    """
    needed_for = _Ancestors(problem)
    found: dict[tuple[str, str], frozenset[str]] = {}
    for arc in problem.arcs:
        key = (arc.entry, arc.exit)
        if key not in found:
            found[key] = needed_for.exit(arc.exit) - needed_for.exit(arc.entry)
            _check(problem, *key, found[key])
    return found


class _Ancestors:
    def __init__(self, problem: HorizontalProblem) -> None:
        self.producer_of = problem.vertical.producer_of
        self.graph = nx.DiGraph()
        for op in problem.ops:
            self.graph.add_node(op.name)
            for name in op.inputs:
                if name in self.producer_of:
                    self.graph.add_edge(self.producer_of[name].name, op.name)
        self.known: dict[str, frozenset[str]] = {}

    def exit(self, tensor: str) -> frozenset[str]:
        """The op that makes the tensor and all that are needed for it."""
        if tensor not in self.known:
            op = self.producer_of.get(tensor)
            names = set() if op is None else {op.name, *nx.ancestors(self.graph, op.name)}
            self.known[tensor] = frozenset(names)
        return self.known[tensor]


def _check(problem: HorizontalProblem, entry: str, exit_: str, inside: frozenset[str]) -> None:
    where = f"The arc from {entry!r} to {exit_!r}"
    vertical = problem.vertical
    if not inside:
        raise UsageError(f"{where} has no op in between; its exit must be made from its entry.")
    entered = False
    for op in problem.ops:
        if op.name not in inside:
            continue
        for name in op.inputs:
            producer = vertical.producer_of.get(name)
            entered = entered or name == entry
            if name != entry and (producer is None or producer.name not in inside):
                raise UsageError(
                    f"{where} contains op {op.name!r}, which reads {name!r} from outside; only the "
                    "entry may come in."
                )
        for name in op.outputs:
            if name == exit_:
                continue
            if name in problem.outputs:
                raise UsageError(
                    f"{where} makes the output {name!r}, which nobody could fetch from its tiles; "
                    "end the arc there."
                )
            for reader in vertical.consumers_of[name]:
                if reader.name not in inside:
                    raise UsageError(
                        f"{where} makes {name!r}, which op {reader.name!r} reads outside; only the "
                        "exit may be read there."
                    )
    if not entered:
        raise UsageError(f"{where} has an exit that is not made from its entry.")
