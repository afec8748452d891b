"""Exact reduction of two hosts without budgets: chains of ops are minimised out.

An op with one input that only it reads, and one output that is read once, need not be a variable:
for each of the four places of its neighbours its own best place is known. What remains is a tensor
between the neighbours with prices of its own.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

from partc.optimizer.instance import Instance, Net
from partc.optimizer.prices import cheapest_codecs, pair_prices

Codecs = dict[tuple[str, str, str], str]


@dataclass(frozen=True)
class _Removed:
    """An op that was minimised out: its best host for each pair of its neighbours' hosts."""

    unit: int
    before: int | None
    before_host: int
    after: int | None
    after_host: int
    best: tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Reduction:
    """A smaller instance with the same optimum.

    Attributes:
        instance: what is left; its costs include what was removed.
        codecs: the cheapest codec of every tensor and direction.
    """

    instance: Instance
    codecs: Codecs
    _kept: tuple[int, ...]
    _removed: tuple[_Removed, ...]

    def expand(self, host_of_unit: list[int]) -> list[int]:
        """Hosts of all units of the original from those of the reduced instance."""
        hosts = [-1] * (len(self._kept) + len(self._removed))
        for unit, host in zip(self._kept, host_of_unit, strict=True):
            hosts[unit] = host
        for step in reversed(self._removed):
            before = step.before_host if step.before is None else hosts[step.before]
            after = step.after_host if step.after is None else hosts[step.after]
            hosts[step.unit] = step.best[before][after]
        return hosts


def reduce_pair(instance: Instance) -> Reduction:
    """Minimise out what can be; the problem must be a minimum cut (`why_not_a_cut`)."""
    return _Reducer(instance).run()


class _Reducer:
    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.cost_s = [dict(costs) for costs in instance.cost_s]
        self.constant_s = 0.0
        self.nets: dict[int, Net] = {}
        self.into: list[set[int]] = [set() for _ in self.cost_s]
        self.out_of: list[set[int]] = [set() for _ in self.cost_s]
        self.removed: list[_Removed] = []
        self._keys = itertools.count()
        prices = pair_prices(instance)
        for net in instance.nets:
            self._add(replace(net, fixed_s=prices[net.tensor]))

    def run(self) -> Reduction:
        for unit in range(len(self.cost_s)):
            self._try(unit)
        gone = {step.unit for step in self.removed}
        kept = tuple(unit for unit in range(len(self.cost_s)) if unit not in gone)
        index = {unit: position for position, unit in enumerate(kept)}
        nets = tuple(
            replace(
                net,
                source_unit=None if net.source_unit is None else index[net.source_unit],
                reader_units=tuple(index[unit] for unit in net.reader_units),
            )
            for net in self.nets.values()
        )
        smaller = replace(
            self.instance,
            unit_of={},
            ops_of=tuple(self.instance.ops_of[unit] for unit in kept),
            cost_s=tuple(self.cost_s[unit] for unit in kept),
            nets=nets,
            constant_s=self.constant_s,
        )
        return Reduction(smaller, cheapest_codecs(self.instance), kept, tuple(self.removed))

    def _add(self, net: Net) -> None:
        key = next(self._keys)
        self.nets[key] = net
        if net.source_unit is not None:
            self.out_of[net.source_unit].add(key)
        for unit in net.reader_units:
            self.into[unit].add(key)

    def _drop(self, key: int) -> Net:
        net = self.nets.pop(key)
        if net.source_unit is not None:
            self.out_of[net.source_unit].discard(key)
        for unit in net.reader_units:
            self.into[unit].discard(key)
        return net

    def _try(self, unit: int) -> None:
        if len(self.into[unit]) != 1 or len(self.out_of[unit]) != 1:
            return
        (inward,), (outward,) = self.into[unit], self.out_of[unit]
        first, second = self.nets[inward], self.nets[outward]
        if len(first.reader_units) + len(first.reader_hosts) != 1:
            return
        if len(second.reader_units) + len(second.reader_hosts) != 1:
            return
        cost, best = self._minimised(unit, first, second)
        (f00, f01), (f10, f11) = cost
        if not (math.isfinite(f00) and math.isfinite(f01) and math.isfinite(f11)):
            return
        self._drop(inward)
        self._drop(outward)
        after = second.reader_units[0] if second.reader_units else None
        after_host = second.reader_hosts[0] if second.reader_hosts else -1
        before, before_host = first.source_unit, -1
        if first.source_host is not None:
            before_host = first.source_host
        self.removed.append(_Removed(unit, before, before_host, after, after_host, best))
        if before is not None and before == after:
            self._charge(before, -1, 0, f00)
            self._charge(before, -1, 1, f11)
            return
        # cost = f00 + a [before on 1] + b [after on 1] + out [0 to 1] + back [1 to 0]; out and back
        # are at least 0 for any a between these two, since the cost is submodular.
        a = max(min(0.0, f10 - f00), f11 - f01)
        b = f11 - f00 - a
        self.constant_s += f00
        self._tilt(before, before_host, a)
        self._tilt(after, after_host, b)
        # The name is free: the tensor itself is gone from the instance.
        self._add(
            replace(
                second,
                source_unit=before,
                source_host=first.source_host,
                fixed_s=(max(f01 - f00 - b, 0.0), max(f10 - f00 - a, 0.0)),
            )
        )

    def _tilt(self, unit: int | None, fixed_host: int, seconds: float) -> None:
        """Make host 1 dearer for a neighbour, or host 0 where the difference is negative."""
        if seconds < 0:
            self.constant_s += seconds
        self._charge(unit, fixed_host, 1 if seconds > 0 else 0, abs(seconds))

    def _charge(self, unit: int | None, fixed_host: int, host: int, seconds: float) -> None:
        """Add to the cost of a neighbour on a host."""
        if unit is None:
            if fixed_host == host:
                self.constant_s += seconds
        elif host in self.cost_s[unit]:
            self.cost_s[unit][host] += seconds

    def _minimised(
        self, unit: int, first: Net, second: Net
    ) -> tuple[
        tuple[tuple[float, float], tuple[float, float]],
        tuple[tuple[int, int], tuple[int, int]],
    ]:
        """Cost and host of the op for each pair of its neighbours' hosts."""
        assert first.fixed_s is not None and second.fixed_s is not None
        own = self.cost_s[unit]

        def price(prices: tuple[float, float], source: int, reader: int) -> float:
            return 0.0 if source == reader else prices[source]

        def least(before: int, after: int) -> tuple[float, int]:
            assert first.fixed_s is not None and second.fixed_s is not None
            return min(
                (
                    own.get(host, math.inf)
                    + price(first.fixed_s, before, host)
                    + price(second.fixed_s, host, after),
                    host,
                )
                for host in (0, 1)
            )

        found = [[least(before, after) for after in (0, 1)] for before in (0, 1)]
        cost = ((found[0][0][0], found[0][1][0]), (found[1][0][0], found[1][1][0]))
        best = ((found[0][0][1], found[0][1][1]), (found[1][0][1], found[1][1][1]))
        return cost, best
