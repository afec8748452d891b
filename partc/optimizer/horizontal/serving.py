"""The part of the model that brings every tensor to its readers.

A tensor arises whole on a host, or in the tiles of a tiling. Each reader takes it from there:
whole on a host (by itself, or as the entry of an arc), or in tiles. Per reader this is a transport
between where the tensor arises and where it is taken, so that along a chain of cut tensors the
whole model is one network flow and its relaxation integral.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from partc.optimizer.horizontal.pricing import Pair, gather_seconds
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
class _Way:
    """From an origin to a host: seconds, and bytes between pairs of hosts."""

    seconds: float
    messages: tuple[tuple[Pair, float], ...]


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
                    messages = zip(traffic.pairs, traffic.bytes[row].tolist(), strict=True)
                    sent = tuple((pair, size) for pair, size in messages if size > 0)
                    found[tensor, name, host] = _Way(float(seconds[row]), sent)
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
        prices = {key: way.seconds if len(readers) == 1 else 0.0 for key, way in ways.items()}
        served = [self._transport(origins, whole, tiled, prices) for whole, tiled in wanted]
        for key, way in ways.items():
            columns = [columns[key] for columns in served if key in columns]
            if not way.messages:
                continue
            paid = columns[0]
            if len(readers) > 1:
                paid = self.rows.add_column(way.seconds)
                for column in columns:
                    self.rows.add_row({paid: 1.0, column: -1.0}, 0.0, np.inf)
            whole_tensor = None if key[0] in self.problem.tiling_by_name else tensor.name
            for pair, size_bytes in way.messages:
                self.model.send(pair, np.array([paid]), np.array([size_bytes]), whole_tensor)

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
        elif origin == host:
            way = _Way(0.0, ())
        else:
            seconds = 0.0
            for hop in self.model.routes.path(origin, host):
                per_byte, fixed = self.model.routes.hop_price(hop)
                seconds += tensor.size_bytes * per_byte + tensor.extra_s.get(hop[1], 0.0)
                seconds += 0.0 if tensor.shares_message else fixed
            way = _Way(seconds, (((origin, host), tensor.size_bytes),))
        local = tensor.name in self.problem.constraints.keep_local
        return None if local and way.messages else way

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
