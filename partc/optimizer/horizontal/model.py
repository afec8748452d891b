"""The integer program of a horizontal problem, as arrays; docs/horizontal_problem.md has it.

Columns: `x` op on host, `y` one way to enter one arc, `f` which origin of a tensor serves which
place where a reader wants it whole, `r` what is paid once for several readers, `m` weight on host,
and sums of them that keep the rows short.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from partc.optimizer.horizontal.budgets import limit_and_price
from partc.optimizer.horizontal.holding import hold_weights
from partc.optimizer.horizontal.pricing import Options, arc_options
from partc.optimizer.horizontal.problem import HorizontalProblem
from partc.optimizer.horizontal.routes import HorizontalRoutes, Leg
from partc.optimizer.horizontal.rows import Floats, Integers, Rows
from partc.optimizer.horizontal.serving import serve_readers


@dataclass(frozen=True)
class Sent:
    """Columns that put messages on one leg, and the seconds of each."""

    leg: Leg
    columns: Integers
    seconds: Floats


class HorizontalModel:
    """Builds the model; `arrays` is what the solvers get.

    Args:
        problem: what to model.
        scale: model units per second (or joule).
        tiles: at least one arc must be used.
    """

    def __init__(self, problem: HorizontalProblem, scale: float, *, tiles: bool = False) -> None:
        self.problem = problem
        self.scale = scale
        self.routes = HorizontalRoutes(problem)
        self.rows = Rows()
        self.compute: list[tuple[str, Integers, Floats]] = []
        self.sent: list[Sent] = []
        self._ranges()
        self._places()
        self._enter_arcs()
        self._cover()
        serve_readers(self)
        self._share_hosts()
        hold_weights(self)
        if tiles:
            row = self.rows.add_row({}, 1.0, np.inf)
            self.rows.add_terms(row, self.y, 1.0)
        self.arrays = self.rows.arrays(limit_and_price(self))

    def latency_s(self) -> Floats:
        """Seconds that each column adds to the latency."""
        return np.concatenate(self.rows.cost_s) if self.rows.cost_s else np.zeros(0)

    # Reading a solution

    def placement(self, values: Floats) -> dict[str, str]:
        """Op name to host name, of the ops that run whole."""
        return {op: host for (op, host), column in self.x.items() if values[column] > 0.5}

    def entered(self, values: Floats) -> list[tuple[int, str]]:
        """Position of each arc that is used, and from where it is entered."""
        chosen = np.flatnonzero(values[self.y] > 0.5)
        return [(int(self.y_arc[n]), self.sources[self.y_source[n]]) for n in chosen]

    def is_integral(self, values: Floats, tolerance: float = 1e-6) -> bool:
        """Whether all integer columns are whole."""
        whole = values[self.arrays.integer]
        return bool(np.all(np.abs(whole - np.round(whole)) <= tolerance))

    # Columns

    def _ranges(self) -> None:
        """Ranges by number; which ops each contains; which ops are alike in that (an atom)."""
        self.range_of = {key: number for number, key in enumerate(self.problem.range_ops)}
        self.range_names = list(self.range_of)
        order = [op.name for op in self.problem.vertical.ordered_ops]
        position = {name: index for index, name in enumerate(order)}
        inside = np.zeros((len(order), len(self.range_of)), dtype=bool)
        for key, names in self.problem.range_ops.items():
            inside[[position[name] for name in names], self.range_of[key]] = True
        self.atom_of: dict[str, int] = {}
        known: dict[bytes, int] = {}
        first: list[int] = []
        for name, row in zip(order, inside, strict=True):
            if not row.any():
                continue
            atom = known.setdefault(row.tobytes(), len(known))
            if atom == len(first):
                first.append(position[name])
            self.atom_of[name] = atom
        self.inside = inside[first] if first else np.zeros((0, len(self.range_of)), dtype=bool)

    def _places(self) -> None:
        limits = self.problem.constraints
        self.x: dict[tuple[str, str], int] = {}
        for op in self.problem.ops:
            for host in self.problem.host_names:
                if host not in op.cost_s or host in limits.forbidden.get(op.name, ()):
                    continue
                if limits.pinned.get(op.name, host) != host:
                    continue
                column = self.rows.add_column(op.cost_s[host], integer=True)
                self.x[op.name, host] = column
                self.compute.append((host, np.array([column]), np.array([op.cost_s[host]])))

    def _enter_arcs(self) -> None:
        """One column per way to enter an arc that the constraints allow."""
        problem = self.problem
        arcs = problem.arcs
        arc_range = np.array([self.range_of[arc.entry, arc.exit] for arc in arcs], dtype=int)
        banned = self._banned()
        local = np.array([arc.entry in problem.constraints.keep_local for arc in arcs], dtype=bool)
        self.sources = [*problem.host_names, *problem.tiling_by_name]
        source_of = {name: number for number, name in enumerate(self.sources)}
        columns: list[Integers] = []
        numbers: list[Integers] = []
        sources: list[Integers] = []
        for options in arc_options(problem, self.routes):
            kept = np.array(
                [not banned[arc_range[arc]] & set(options.tiling.hosts) for arc in options.arcs]
            )
            kept &= ~(local[options.arcs] & (options.traffic.bytes > 0).any(axis=1))
            seconds = (options.exchange_s + options.slowest_s)[kept]
            new = self.rows.add_columns(seconds, integer=True)
            columns.append(new)
            numbers.append(options.arcs[kept])
            sources.append(np.full(len(new), source_of[options.source]))
            self._note(options, kept, new)
        self.y, self.y_arc, self.y_source = (
            np.concatenate([np.zeros(0, dtype=int), *parts])
            for parts in (columns, numbers, sources)
        )
        self.y_range = arc_range[self.y_arc] if len(arcs) else self.y_arc
        tiling_of = {name: number for number, name in enumerate(problem.tiling_by_name)}
        arc_tiling = np.array([tiling_of[arc.tiling] for arc in arcs], dtype=int)
        self.y_tiling = arc_tiling[self.y_arc] if len(arcs) else self.y_arc

    def _note(self, options: Options, kept: npt.NDArray[np.bool_], columns: Integers) -> None:
        for tile, host in enumerate(options.tiling.hosts):
            self.compute.append((host, columns, options.tile_s[kept, tile]))
        for number, pair in enumerate(options.traffic.pairs):
            sent_bytes = options.traffic.bytes[kept, number]
            real = sent_bytes > 0
            for leg in self.routes.legs(*pair) if real.any() else ():
                seconds = sent_bytes[real] * leg.seconds_per_byte + leg.fixed_s
                self.sent.append(Sent(leg, columns[real], seconds))

    def send(self, leg: Leg, column: int, seconds: float) -> None:
        """Note one message of one column, for loads and energy."""
        self.sent.append(Sent(leg, np.array([column]), np.array([seconds])))

    def _banned(self) -> list[set[str]]:
        """For each range, hosts that must have no tile of it."""
        limits = self.problem.constraints
        everywhere = set(self.problem.host_names)
        answer = []
        for names in self.problem.range_ops.values():
            banned: set[str] = set()
            for name in names:
                banned |= set(limits.forbidden.get(name, ()))
                if name in limits.pinned:
                    banned = everywhere
            if any(0 < len(names & set(group)) < len(set(group)) for group in limits.together):
                banned = everywhere
            answer.append(banned)
        return answer

    # Rows

    def _cover(self) -> None:
        """Each op runs whole on one host or in one arc."""
        self.tiled = self.tiled_share(np.ones(len(self.y), dtype=bool))
        for op in self.problem.ops:
            terms = {
                self.x[op.name, host]: 1.0
                for host in self.problem.host_names
                if (op.name, host) in self.x
            }
            if op.name in self.atom_of:
                terms[int(self.tiled[self.atom_of[op.name]])] = 1.0
            self.rows.add_row(terms, 1.0, 1.0)

    def tiled_share(self, counted: npt.NDArray[np.bool_]) -> Integers:
        """Per atom, a column: 1 when one of the counted ways into arcs runs it.

        Each atom's sum is written as its difference from the atom before, so that an arc appears
        where it begins and where it ends, not at every op in between.
        """
        columns = self.y[counted]
        members = grouped(self.y_range[counted])
        ranges = {number: self.rows.sum_of(columns[who]) for number, who in members.items()}
        shares = self.rows.add_columns(np.zeros(len(self.inside)))
        before = np.zeros(len(self.range_of), dtype=int)
        for atom, inside in enumerate(self.inside.astype(int)):
            terms = {int(shares[atom]): 1.0}
            if atom > 0:
                terms[int(shares[atom - 1])] = -1.0
            for number in np.flatnonzero(inside - before).tolist():
                if number in ranges:
                    column = ranges[number]
                    terms[column] = terms.get(column, 0.0) - float(inside[number] - before[number])
            self.rows.add_row(terms, 0.0, 0.0)
            before = inside
        return shares

    def _share_hosts(self) -> None:
        """Ops of one group that run whole are on one host; arcs with a part of a group are out."""
        for group in self.problem.constraints.together:
            for name in group[1:]:
                for host in self.problem.host_names:
                    terms = {}
                    for op, sign in ((group[0], 1.0), (name, -1.0)):
                        if (op, host) in self.x and name != group[0]:
                            terms[self.x[op, host]] = sign
                    if terms:
                        self.rows.add_row(terms, 0.0, 0.0)


def grouped(keys: Integers) -> dict[int, Integers]:
    """Key to the positions where it stands."""
    order = np.argsort(keys, kind="stable")
    values, starts = np.unique(keys[order], return_index=True)
    return dict(zip(values.tolist(), np.split(order, starts[1:]), strict=True)) if len(keys) else {}


def _joined(parts: list[Integers]) -> Integers:
    return np.concatenate([np.zeros(0, dtype=int), *parts])
