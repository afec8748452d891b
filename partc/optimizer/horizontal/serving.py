"""The part of the model that brings every tensor to its readers.

A tensor arises whole on a host, or in the tiles of a tiling. Each reader takes it from there:
whole on a host (by itself, or as the entry of an arc), or in tiles. Per reader this is a transport
between where the tensor arises and where it is taken, so that along a chain of cut tensors the
whole model is one network flow and its relaxation integral.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from partc.optimizer.horizontal.pricing import gather_seconds
from partc.optimizer.horizontal.routes import Leg
from partc.optimizer.horizontal.rows import Integers
from partc.optimizer.problem import Op, Tensor

if TYPE_CHECKING:
    from partc.optimizer.horizontal.model import HorizontalModel


@dataclass
class Mass:
    """A sum of columns and a constant; how much of a tensor is somewhere."""

    columns: list[int] = field(default_factory=list)
    constant: float = 0.0


@dataclass(frozen=True)
class _Part:
    """A part of a way that is paid once, whoever uses it: its seconds, and of each leg."""

    seconds: float
    legs: tuple[tuple[Leg, float], ...]


_Way = dict[Hashable, _Part]


def serve_readers(model: HorizontalModel) -> None:
    """Add what every tensor needs."""
    _Serving(model).run()


class _Serving:
    def __init__(self, model: HorizontalModel) -> None:
        self.model = model
        self.problem = model.problem
        self.rows = model.rows
        arcs = self.problem.arcs
        tilings = list(self.problem.tiling_by_name)
        self.into: dict[tuple[str, str], list[int]] = {}
        self.out_of: dict[tuple[str, str], list[int]] = {}
        where = zip(
            model.y.tolist(),
            model.y_arc.tolist(),
            model.y_source.tolist(),
            model.y_tiling.tolist(),
            strict=True,
        )
        for position, (_, arc, source, tiling) in enumerate(where):
            self.into.setdefault((arcs[arc].exit, tilings[tiling]), []).append(position)
            key = (arcs[arc].entry, model.sources[source])
            self.out_of.setdefault(key, []).append(position)
        self.sums: dict[bytes, int] = {}
        self.gathers = self._gathers(tilings)

    def run(self) -> None:
        for tensor in self.problem.tensors:
            self._serve(tensor)

    def _gathers(self, tilings: list[str]) -> dict[tuple[str, str, str], _Way]:
        """By tensor, tiling and host, what it takes to make the tensor whole there."""
        found = {}
        for name in tilings:
            tensors = list(dict.fromkeys(tensor for tensor, of in self.into if of == name))
            if not tensors:
                continue
            tiling = self.problem.tiling_by_name[name]
            ways = gather_seconds(self.problem, self.model.routes, tensors, tiling)
            for host, (seconds, traffic) in ways.items():
                for row, tensor in enumerate(tensors):
                    sizes = zip(traffic.pairs, traffic.bytes[row].tolist(), strict=True)
                    legs = tuple(
                        (leg, leg.seconds(size))
                        for pair, size in sizes
                        if size > 0
                        for leg in self.model.routes.legs(*pair)
                    )
                    way: _Way = {host: _Part(float(seconds[row]), legs)} if legs else {}
                    found[tensor, name, host] = way
        return found

    def _serve(self, tensor: Tensor) -> None:
        readers: list[Op | str] = list(self.problem.vertical.consumers_of[tensor.name])
        if tensor.name in self.problem.outputs:
            readers.append(self.problem.outputs[tensor.name])
        origins = self._origins(tensor.name)
        if not readers or not origins:
            return
        wanted = [self._wanted(tensor.name, reader) for reader in readers]
        ways = {
            (origin, host): way
            for origin in origins
            for host in dict.fromkeys(host for whole, _ in wanted for host in whole)
            if (way := self._way(tensor, origin, host)) is not None
        }
        # With one reader, what serves it is paid for itself.
        alone = len(readers) == 1
        prices = {
            key: sum(part.seconds for part in way.values()) if alone else 0.0
            for key, way in ways.items()
        }
        served = [self._transport(origins, whole, tiled, prices) for whole, tiled in wanted]
        if alone:
            for key, column in served[0].items():
                for part in ways[key].values():
                    self._note(part, column)
        else:
            for origin in origins:
                self._pay_once(origin, ways, served)

    def _pay_once(
        self,
        origin: str,
        ways: dict[tuple[str, str], _Way],
        served: list[dict[tuple[str, str], int]],
    ) -> None:
        """A column per part of the ways from an origin: 1 where any reader is served over it."""
        parts = {
            key: part
            for (start, _), way in ways.items()
            if start == origin
            for key, part in way.items()
        }
        for key, part in parts.items():
            paid = self.rows.add_column(part.seconds)
            self._note(part, paid)
            for columns in served:
                users = [
                    column
                    for way, column in columns.items()
                    if way[0] == origin and key in ways[way]
                ]
                if users:
                    terms = {paid: 1.0} | dict.fromkeys(users, -1.0)
                    self.rows.add_row(terms, 0.0, np.inf)

    def _note(self, part: _Part, column: int) -> None:
        for leg, seconds in part.legs:
            self.model.send(leg, column, seconds)

    def _origins(self, tensor: str) -> dict[str, Mass]:
        """By host and tiling, how much of the tensor arises there."""
        if tensor in self.problem.inputs:
            return {self.problem.inputs[tensor]: Mass([], 1.0)}
        producer = self.problem.vertical.producer_of.get(tensor)
        if producer is None:
            return {}
        found = {}
        for host in self.problem.host_names:
            if (producer.name, host) in self.model.x:
                found[host] = Mass([self.model.x[producer.name, host]])
        for name in self.problem.tiling_by_name:
            if (tensor, name) in self.into:
                found[name] = Mass([self._sum(self.into[tensor, name])])
        return found

    def _wanted(self, tensor: str, reader: Op | str) -> tuple[dict[str, Mass], dict[str, Mass]]:
        """How much of the tensor the reader takes whole on each host, and tiled in each tiling."""
        whole: dict[str, Mass] = {}
        tiled: dict[str, Mass] = {}
        if isinstance(reader, str):
            return {reader: Mass([], 1.0)}, tiled
        for host in self.problem.host_names:
            if (reader.name, host) in self.model.x:
                whole[host] = Mass([self.model.x[reader.name, host]])
        for source in self.model.sources:
            entered = [
                position
                for position in self.out_of.get((tensor, source), ())
                if self._runs(position, reader.name)
            ]
            if entered:
                places = tiled if source in self.problem.tiling_by_name else whole
                places.setdefault(source, Mass()).columns.append(self._sum(entered))
        return whole, tiled

    def _runs(self, position: int, op: str) -> bool:
        atom = self.model.atom_of.get(op)
        return atom is not None and bool(self.model.inside[atom, self.model.y_range[position]])

    def _sum(self, positions: list[int]) -> int:
        members: Integers = self.model.y[positions]
        key = members.tobytes()
        if key not in self.sums:
            self.sums[key] = self.rows.sum_of(members)
        return self.sums[key]

    def _way(self, tensor: Tensor, origin: str, host: str) -> _Way | None:
        """How the tensor gets from where it arises to a host; None where it must not."""
        if origin in self.problem.tiling_by_name:
            way = self.gathers[tensor.name, origin, host]
        else:
            way = {}
            for leg in self.model.routes.legs(origin, host):
                seconds = leg.seconds(tensor.size_bytes, tensor)
                way[leg] = _Part(seconds, ((leg, seconds),))
        return None if way and tensor.name in self.problem.constraints.keep_local else way

    def _transport(
        self,
        origins: dict[str, Mass],
        whole: dict[str, Mass],
        tiled: dict[str, Mass],
        prices: dict[tuple[str, str], float],
    ) -> dict[tuple[str, str], int]:
        """Columns for one reader: how much of each origin serves each host where it is wanted."""
        keys = [(origin, host) for origin in origins for host in whole if (origin, host) in prices]
        new = self.rows.add_columns(np.array([prices[key] for key in keys]))
        columns = dict(zip(keys, new.tolist(), strict=True))
        for host, mass in whole.items():
            taken = [column for (_, to), column in columns.items() if to == host]
            self._balance(taken, [mass])
        for origin in dict.fromkeys([*origins, *tiled]):
            taken = [column for (start, _), column in columns.items() if start == origin]
            taken += tiled[origin].columns if origin in tiled else []
            self._balance(taken, [origins[origin]] if origin in origins else [])
        return columns

    def _balance(self, columns: list[int], masses: list[Mass]) -> None:
        """The columns add up to the masses."""
        terms = dict.fromkeys(columns, 1.0)
        constant = sum(mass.constant for mass in masses)
        for mass in masses:
            for column in mass.columns:
                terms[column] = terms.get(column, 0.0) - 1.0
        self.rows.add_row(terms, constant, constant)
