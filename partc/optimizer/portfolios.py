"""The few plans that are near the optimum everywhere in a range of conditions.

A plan's latency is linear in the slowdowns of device and servers, in seconds per byte and in the
round-trip time, so the optimum over all plans is the lower envelope of hyperplanes: concave, and
known exactly once no vertex of the envelope of the plans found so far can be improved.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from partc.errors import UsageError
from partc.optimizer.conditions import Conditions, CostVector, Point
from partc.optimizer.evaluation import evaluate
from partc.optimizer.problem import Problem
from partc.optimizer.routes import Routes, routes_are_open
from partc.optimizer.simple_plans import device_of
from partc.optimizer.solving import solve, solve_fast

_SAME = 1e-7
_MOST_CALLS = 2000
_BOXES_PER_RANGE = 8
_MOST_SPLITS = 4

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PortfolioPlan:
    """One plan with its cost vector; `survives` names hosts that it does not use."""

    placement: dict[str, str]
    codecs: dict[tuple[str, str, str], str]
    cost: CostVector
    survives: tuple[str, ...]


@dataclass(frozen=True)
class Portfolio:
    """Plans for a range of conditions.

    Attributes:
        plans: the plans to deploy.
        known_plans: how many plans make up the known optimum over the range.
        certified_fraction: share of the range (logarithmic in bandwidth, linear in the rest) where
            some plan is proven to be within `tolerance` of the optimum; 0 if a proof is missing.
        tolerance: relative excess over the optimum that is allowed.
        solver_calls: problems solved.
    """

    plans: tuple[PortfolioPlan, ...]
    known_plans: int
    certified_fraction: float
    tolerance: float
    solver_calls: int

    def best_at(self, point: Point) -> PortfolioPlan:
        """The cheapest of the plans under a condition."""
        return min(self.plans, key=lambda plan: plan.cost.latency_s(point))


def portfolio(
    problem: Problem,
    conditions: Conditions,
    *,
    tolerance: float = 0.05,
    accuracy: float | None = None,
) -> Portfolio:
    """A small set of plans within `tolerance` of the optimum in the whole range.

    The optimum over the range is found to a relative `accuracy` (a fifth of the tolerance unless
    given; 0 is exact, and may take thousands of solves): where no corner of the known envelope is
    improved by more, none of its inside is, since the optimum is concave. What the accuracy leaves
    open is counted against the plans.

    The plan of the device alone is among them where it is legal, and so is a plan for every single
    host lost, where one exists.

    Raises:
        UsageError: the objective is not latency, a range makes no sense, or the problem has a
            deadline, period or energy budget (then what is legal depends on the condition).
        InfeasibleError: no plan satisfies the problem's constraints.
    """
    _check(problem, conditions, tolerance)
    if accuracy is None:
        accuracy = tolerance / 5
    if not 0 <= accuracy < tolerance:
        raise UsageError(f"The accuracy must be below the tolerance, but it is {accuracy}.")
    return _Search(problem, conditions, tolerance, accuracy).run()


def _check(problem: Problem, conditions: Conditions, tolerance: float) -> None:
    if problem.objective != "latency":
        raise UsageError("A portfolio is for the latency objective.")
    if problem.bus is not None or not problem.links:
        raise UsageError("A portfolio needs hosts that are joined by links.")
    limits = problem.constraints
    if limits.deadline_s is not None or limits.period_s is not None or limits.energy_j:
        raise UsageError(
            "A portfolio cannot have a deadline, a period or an energy budget, since what they "
            "allow changes with the conditions."
        )
    if not 0 < tolerance < 10:
        raise UsageError(f"The tolerance must be above 0 and below 10, but it is {tolerance}.")
    ranges = {
        "bandwidth_mbit_s": conditions.bandwidth_mbit_s,
        "device_slowdown": conditions.device_slowdown,
        "server_slowdown": conditions.server_slowdown,
        "rtt_s": conditions.rtt_s or (0.0, 0.0),
    }
    for name, (low, high) in ranges.items():
        least = 0.0 if name == "rtt_s" else 1e-12
        if not least <= low <= high < math.inf:
            raise UsageError(
                f"The range of {name} must run upwards from above 0, not {low}, {high}."
            )


class _Search:
    """Works on u = (device slowdown, server slowdown, seconds per byte, round trip)."""

    def __init__(
        self, problem: Problem, conditions: Conditions, tolerance: float, accuracy: float
    ) -> None:
        # A plan's cost is linear only while its ways stay what they are.
        fixed = Routes(problem).all() if routes_are_open(problem) else problem.routes
        self.problem = problem.changed(routes=fixed)
        self.tolerance = tolerance
        self.accuracy = accuracy
        self.device = device_of(problem)
        first = problem.links[0]
        base_rtt_s = sum(first.latency_s)
        rtt_s = conditions.rtt_s or (base_rtt_s, base_rtt_s)
        slow, fast = conditions.bandwidth_mbit_s
        self.low = np.array(
            [conditions.device_slowdown[0], conditions.server_slowdown[0], 8e-6 / fast, rtt_s[0]]
        )
        self.high = np.array(
            [conditions.device_slowdown[1], conditions.server_slowdown[1], 8e-6 / slow, rtt_s[1]]
        )
        self.free = [axis for axis in range(4) if self.high[axis] > self.low[axis]]
        self.calls = 0
        self.proven = True
        self._asked: set[tuple[float, ...]] = set()
        self.plans: list[PortfolioPlan] = []
        self.lines: list[Vector] = []

    def run(self) -> Portfolio:
        for corner in itertools.product(*([self.low[a], self.high[a]] for a in self.free)):
            self._ask(self._point(np.array(corner)))
        while True:
            gains = [self._improves(vertex) for vertex in self._vertices()]
            if not any(gains) or self.calls >= _MOST_CALLS:
                break
        optimal = len(self.plans)
        needed = self._needed()
        chosen, fraction = self._cover(needed)
        plans = [self.plans[index] for index in chosen]
        if not self.proven:
            fraction = 0.0
        return Portfolio(tuple(plans), optimal, fraction, self.tolerance, self.calls)

    # Conditions

    def _point(self, free_values: Vector) -> Vector:
        point = self.low.copy()
        point[self.free] = free_values
        return point

    def problem_at(self, point: Vector) -> Problem:
        """The problem under one condition."""
        device, server, s_per_byte, rtt_s = point
        first = self.problem.links[0]
        bytes_factor = _ratio(s_per_byte, first.seconds_per_byte[0])
        rtt_factor = _ratio(rtt_s, sum(first.latency_s))
        links = []
        for link in self.problem.links:
            # A link without a price of its own follows the first as an equal.
            price = [
                s_per_byte if bytes_factor is None else s * bytes_factor
                for s in link.seconds_per_byte
            ]
            wait = [rtt_s / 2 if rtt_factor is None else s * rtt_factor for s in link.latency_s]
            links.append(
                link.model_copy(update={"seconds_per_byte": tuple(price), "latency_s": tuple(wait)})
            )
        ops = tuple(
            op.model_copy(
                update={
                    "cost_s": {
                        host: cost * (device if host == self.device else server)
                        for host, cost in op.cost_s.items()
                    }
                }
            )
            for op in self.problem.ops
        )
        return self.problem.changed(links=tuple(links), ops=ops)

    # The envelope

    def _ask(self, point: Vector) -> float:
        """Solve at a point; keep the plan if it is new. Returns the optimum there."""
        problem = self.problem_at(point)
        self.calls += 1
        answer = solve_fast(problem).require_plan()
        assert answer.objective is not None
        if answer.status != "optimal":
            self.proven = False
        self._keep(answer.placement, answer.codecs)
        return answer.objective

    def _keep(
        self, placement: Mapping[str, str], codecs: Mapping[tuple[str, str, str], str]
    ) -> int:
        cost = self._cost(placement, codecs)
        line = np.array(
            [cost.device_s, cost.server_s, cost.sent_bytes, cost.round_trips, cost.constant_s]
        )
        for index, known in enumerate(self.lines):
            if np.allclose(known, line, rtol=1e-9, atol=0.0):
                return index
        unused = tuple(sorted(set(self.problem.host_names) - set(placement.values())))
        self.plans.append(PortfolioPlan(dict(placement), dict(codecs), cost, unused))
        self.lines.append(line)
        return len(self.plans) - 1

    def _cost(
        self, placement: Mapping[str, str], codecs: Mapping[tuple[str, str, str], str]
    ) -> CostVector:
        """From one evaluation: what is computed where, sent, waited for."""
        first = self.problem.links[0]
        price = first.seconds_per_byte[0]
        rtt_s = sum(first.latency_s)
        routes = {
            pair: (link.seconds_per_byte[k], link.latency_s[k])
            for link in self.problem.links
            for k, pair in enumerate([link.between, link.between[::-1]])
        }
        cost = CostVector(0.0, 0.0, 0.0, 0.0, 0.0)
        for op in self.problem.ops:
            host = placement[op.name]
            if host == self.device:
                cost = replace(cost, device_s=cost.device_s + op.cost_s[host])
            else:
                cost = replace(cost, server_s=cost.server_s + op.cost_s[host])
        for transfer in evaluate(self.problem, placement, codecs).transfers:
            s_per_byte, latency_s = routes[transfer.source, transfer.destination]
            bytes_share = 1.0 if price == 0 else s_per_byte / price
            sent = self.problem.tensor_by_name[transfer.tensor]
            trips = 0.5 if rtt_s == 0 else latency_s / rtt_s
            if sent.shares_message:
                trips = 0.0
            cost = replace(
                cost,
                constant_s=cost.constant_s
                + transfer.encode_s
                + transfer.decode_s
                + sent.extra_s.get(transfer.destination, 0.0),
                sent_bytes=cost.sent_bytes + transfer.bytes * bytes_share,
                round_trips=cost.round_trips + trips,
            )
        return cost

    def _costs_at(self, points: Vector, indices: list[int] | None = None) -> Vector:
        """Plans by points."""
        lines = np.array(self.lines if indices is None else [self.lines[i] for i in indices])
        return np.asarray(lines[:, :4] @ points.T + lines[:, 4:])

    def _improves(self, vertex: Vector) -> bool:
        if self.calls >= _MOST_CALLS:
            self.proven = False
            return False
        known = float(self._costs_at(vertex[None, :]).min())
        return self._ask(vertex) < known * (1 - max(self.accuracy, _SAME))

    def _vertices(self) -> list[Vector]:
        """Points of the range where the envelope of the known plans has a corner, not yet asked."""
        fresh = []
        for vertex in self._envelope_corners():
            key = tuple(np.round(vertex / self.high, 9))
            if key not in self._asked:
                self._asked.add(key)
                fresh.append(vertex)
        return fresh

    def _envelope_corners(self) -> list[Vector]:
        from scipy.spatial import HalfspaceIntersection

        axes = len(self.free)
        if axes == 0:
            return []
        low, width = self.low[self.free], (self.high - self.low)[self.free]
        # Unit cube and costs scaled to 1, for Qhull's sake.
        size = float(self._costs_at(self._point(self.high[self.free])[None, :]).min())
        rows = []
        for line in self.lines:
            slope = line[self.free] * width / size
            start = (line[:4] @ self._point(low) + line[4]) / size
            rows.append([*(-slope), 1.0, -start])  # z - slope u - start <= 0
        for axis in range(axes):
            unit = [0.0] * (axes + 1)
            unit[axis] = 1.0
            rows.append([*unit, -1.0])
            rows.append([*(-value for value in unit), 0.0])
        rows.append([*([0.0] * axes), -1.0, -1.0])  # z >= -1
        inside = np.array([*([0.5] * axes), -0.5])
        cut = HalfspaceIntersection(np.array(rows), inside)
        corners = cut.intersections
        corners = corners[np.isfinite(corners).all(axis=1) & (corners[:, -1] > -0.5)]
        values = low + np.clip(corners[:, :-1], 0.0, 1.0) * width
        return [self._point(value) for value in np.unique(np.round(values, 15), axis=0)]

    # Which plans to deploy

    def _needed(self) -> list[int]:
        """Device alone, and the best plan without each single host."""
        needed = []
        alone = {op.name: self.device for op in self.problem.ops}
        if not evaluate(self.problem, alone).violations:
            needed.append(self._keep(alone, {}))
        middle = np.sqrt(np.maximum(self.low, 1e-30) * np.maximum(self.high, 1e-30))
        for lost in self.problem.host_names:
            if any(lost in self.plans[index].survives for index in needed):
                continue
            if lost in {*self.problem.inputs.values(), *self.problem.outputs.values()}:
                continue  # without it there is no request
            ops = tuple(
                op.model_copy(update={"cost_s": {h: c for h, c in op.cost_s.items() if h != lost}})
                for op in self.problem.ops
            )
            if any(not op.cost_s for op in ops):
                continue
            answer = solve(self.problem_at(middle).changed(ops=ops))
            self.calls += 1
            if answer.objective is not None:
                needed.append(self._keep(answer.placement, answer.codecs))
        return needed

    def _cover(self, needed: list[int]) -> tuple[list[int], float]:
        """Greedily the plans that certify most boxes; boxes without a plan are split."""
        boxes, shares = self._boxes()
        covers = self._covers(boxes)
        for _ in range(_MOST_SPLITS):
            bare = ~covers.any(axis=0)
            if not bare.any() or not self.free:
                break
            halves, half_shares = self._split(boxes[bare], shares[bare])
            boxes = np.concatenate([boxes[~bare], halves])
            shares = np.concatenate([shares[~bare], half_shares])
            covers = np.concatenate([covers[:, ~bare], self._covers(halves)], axis=1)
        chosen = list(dict.fromkeys(needed))
        done = covers[chosen].any(axis=0) if chosen else np.zeros(len(boxes), dtype=bool)
        while True:
            gains = (covers & ~done) @ shares
            best = int(np.argmax(gains))
            if gains[best] <= 1e-12:
                break
            chosen.append(best)
            done |= covers[best]
        return chosen or [0], float(shares[done].sum())

    def _boxes(self) -> tuple[Vector, Vector]:
        """Boxes as (box, 2, axis), with their shares of the range."""
        cuts = [self._cuts(axis) for axis in self.free]
        edges = [list(itertools.pairwise(cut)) for cut in cuts]
        boxes = [
            [self._point(np.array([e[k] for e in box])) for k in (0, 1)]
            for box in itertools.product(*edges)
        ]
        count = len(boxes)
        return np.array(boxes), np.full(count, 1.0 / count)

    def _cuts(self, axis: int) -> Vector:
        low, high = self.low[axis], self.high[axis]
        if axis == 2:
            return np.asarray(np.geomspace(low, high, 2 * _BOXES_PER_RANGE + 1))
        return np.asarray(np.linspace(low, high, _BOXES_PER_RANGE + 1))

    def _split(self, boxes: Vector, shares: Vector) -> tuple[Vector, Vector]:
        """Each box in two along every free axis."""
        for axis in self.free:
            low, high = boxes[:, 0, axis], boxes[:, 1, axis]
            middle = np.sqrt(low * high) if axis == 2 else (low + high) / 2
            lower, upper = boxes.copy(), boxes.copy()
            lower[:, 1, axis] = middle
            upper[:, 0, axis] = middle
            boxes = np.concatenate([lower, upper])
            shares = np.concatenate([shares, shares]) / 2
        return boxes, shares

    def _covers(self, boxes: Vector) -> npt.NDArray[np.bool_]:
        """Plans by boxes: within the tolerance at all corners, and so, by convexity, inside."""
        good = np.ones((len(self.plans), len(boxes)), dtype=bool)
        for sides in itertools.product((0, 1), repeat=len(self.free)):
            corner = boxes[:, 0, :].copy()
            for axis, side in zip(self.free, sides, strict=True):
                corner[:, axis] = boxes[:, side, axis]
            costs = self._costs_at(corner)
            certain = costs.min(axis=0) * (1 - self.accuracy)
            good &= costs <= certain * (1 + self.tolerance)
        return good


def _ratio(value: float, base: float) -> float | None:
    return None if base == 0 else value / base
