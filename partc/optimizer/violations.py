"""One sentence for each constraint that a plan breaks, from the problem's definition alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from partc.optimizer.problem import Problem
from partc.optimizer.routes import Routes

_SLACK = 1e-6


@dataclass(frozen=True)
class Totals:
    """What a plan uses; loads, memory and energy by name."""

    latency_s: float
    loads: dict[str, float]
    memory_bytes: dict[str, float]
    energy_j: dict[str, float]
    loss: float


def broken_constraints(problem: Problem, placement: Mapping[str, str], totals: Totals) -> list[str]:
    """A sentence for each broken constraint, except for tensors that had to stay on a host."""
    check = _Check(problem, placement, totals)
    check.check_placement()
    check.check_segments()
    check.check_budgets()
    return check.found


class _Check:
    def __init__(self, problem: Problem, placement: Mapping[str, str], totals: Totals) -> None:
        self.problem = problem
        self.placement = placement
        self.totals = totals
        self.found: list[str] = []

    def check_placement(self) -> None:
        """Pins, bans, groups and the direction of tensors."""
        limits = self.problem.constraints
        for op, host in limits.pinned.items():
            if self.placement[op] != host:
                self.found.append(
                    f"Op {op!r} is pinned to host {host!r} but placed on {self.placement[op]!r}."
                )
        for op, hosts in limits.forbidden.items():
            if self.placement[op] in hosts:
                self.found.append(f"Op {op!r} is forbidden on host {self.placement[op]!r}.")
        for group in limits.together:
            used = list(dict.fromkeys(self.placement[op] for op in group))
            if len(used) > 1:
                self.found.append(
                    f"Ops {', '.join(map(repr, group))} must share a host but are on "
                    f"{', '.join(map(repr, used))}."
                )
        if limits.monotone:
            self._check_monotone()

    def _check_monotone(self) -> None:
        """No hop between ops may lead nearer to the root; a bus has its hosts' order."""
        if self.problem.bus is not None:
            rank = {name: {name} for name in self.problem.host_names}
            for name in self.problem.host_names:
                earlier = self.problem.host_names[: self.problem.host_names.index(name)]
                rank[name] |= set(earlier)
        else:
            routes = Routes(self.problem)
            rank = {
                after: {
                    before
                    for before in self.problem.host_names
                    if routes.stays_or_leaves(before, after)
                }
                for after in self.problem.host_names
            }
        for tensor in self.problem.tensors:
            producer = self.problem.producer_of.get(tensor.name)
            if producer is None:
                continue
            before = self.placement[producer.name]
            for op in self.problem.consumers_of[tensor.name]:
                after = self.placement[op.name]
                if before not in rank[after]:
                    self.found.append(
                        f"The plan must be monotone, but tensor {tensor.name!r} goes back from "
                        f"{before!r} to op {op.name!r} on {after!r}."
                    )
                    break

    def check_segments(self) -> None:
        """How often a path of ops enters a host."""
        limits = self.problem.constraints
        most = dict(limits.max_segments)
        if limits.contiguous:
            most = dict.fromkeys(self.problem.host_names, 1)
        for host, allowed in most.items():
            visits = self._visits(host)
            if visits > allowed:
                reason = (
                    "the plan must be contiguous"
                    if limits.contiguous
                    else f"max_segments allows {allowed}"
                )
                self.found.append(f"A path of ops enters host {host!r} {visits} times; {reason}.")

    def _visits(self, host: str) -> int:
        """Most times that one path of ops enters the host."""
        visits: dict[str, int] = {}
        for op in self.problem.ordered_ops:
            here = self.placement[op.name] == host
            most = 1 if here else 0
            for tensor in op.inputs:
                producer = self.problem.producer_of.get(tensor)
                if producer is not None:
                    entering = here and self.placement[producer.name] != host
                    most = max(most, visits[producer.name] + (1 if entering else 0))
            visits[op.name] = most
        return max(visits.values(), default=0)

    def check_budgets(self) -> None:
        """Memory, energy, deadline, period and loss."""
        memory_bytes, energy_j = self.totals.memory_bytes, self.totals.energy_j
        latency_s, loads, loss = self.totals.latency_s, self.totals.loads, self.totals.loss
        limits = self.problem.constraints
        for host in self.problem.hosts:
            if host.memory_bytes is not None and _over(memory_bytes[host.name], host.memory_bytes):
                self.found.append(
                    f"Host {host.name!r} needs {memory_bytes[host.name]:.6g} bytes but has "
                    f"{host.memory_bytes:.6g}."
                )
        for name, budget_j in limits.energy_j.items():
            if _over(energy_j[name], budget_j):
                self.found.append(
                    f"Host {name!r} uses {energy_j[name]:.6g} J but may use {budget_j:.6g} J."
                )
        if limits.deadline_s is not None and _over(latency_s, limits.deadline_s):
            self.found.append(
                f"The latency is {latency_s:.6g} s but the deadline is {limits.deadline_s:.6g} s."
            )
        if limits.period_s is not None:
            for name, load_s in loads.items():
                if _over(load_s, limits.period_s):
                    self.found.append(
                        f"{name!r} is busy for {load_s:.6g} s of each request but the period is "
                        f"{limits.period_s:.6g} s."
                    )
        if limits.loss_budget is not None and _over(loss, limits.loss_budget):
            self.found.append(
                f"The codecs lose {loss:.6g} but the budget is {limits.loss_budget:.6g}."
            )


def _over(value: float, limit: float) -> bool:
    """Above the limit by more than the solvers' rounding."""
    return value > limit * (1 + _SLACK) + 1e-12
