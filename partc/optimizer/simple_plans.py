"""Plans by simple rules, to compare the optimum with."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping

from partc.optimizer.balancing import balanced_split
from partc.optimizer.codec_choice import best_codecs, fastest_codecs
from partc.optimizer.cutting import minimum_cut, why_not_a_cut
from partc.optimizer.evaluation import evaluate
from partc.optimizer.problem import Constraints, Problem
from partc.optimizer.routes import Routes
from partc.optimizer.solution import Solution, solution_of

_CUTS_TRIED = 12
_RANDOM_CUTS = 20
_CHOSEN_WITH_CODECS = 4
_SEED = 1

Placement = dict[str, str]


class _NotApplicableError(Exception):
    """Why a rule gives no plan here."""


class Baselines(Mapping[str, Solution]):
    """Solutions by name; `absent` says why a rule gave none."""

    def __init__(self, plans: dict[str, Solution], absent: dict[str, str]) -> None:
        self._plans = plans
        self.absent = absent

    def __getitem__(self, name: str) -> Solution:
        return self._plans[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._plans)

    def __len__(self) -> int:
        return len(self._plans)

    def best(self) -> Solution | None:
        """The cheapest plan; None if no rule gave one."""
        return min(self._plans.values(), key=lambda plan: plan.objective or 0.0, default=None)


def baselines(
    problem: Problem, *, names: Iterable[str] | None = None, codecs: bool = True
) -> Baselines:
    """Plans of the usual simple rules; a plan that breaks a constraint is absent with the reason.

    device-only: all where the inputs arise. edge-only: all on the best other host. single-cut:
    the best cut of one tensor (Neurosurgeon, ASPLOS 2017). minimum-cut: DADS (INFOCOM 2019),
    blind to budgets. greedy: each op where it is done first. even-split: equal counts of ops in
    order. random: a random cut of the order. `names` chooses among them, and
    may ask for balanced-split: consecutive parts of the order with the smallest largest load.

    The rules know no codecs, so that a comparison with the optimum is one of placements, each plan
    gets its best codecs, within the limits; `codecs=False` sends all as it is.
    """
    plans: dict[str, Solution] = {}
    absent: dict[str, str] = {}
    for name in _RULES if names is None else names:
        rule = _RULES.get(name, _balanced_split)
        try:
            plans[name] = _checked(problem, name, rule(problem), codecs=codecs)
        except _NotApplicableError as reason:
            absent[name] = str(reason)
    return Baselines(plans, absent)


def device_of(problem: Problem) -> str:
    """The host where the first input arises; without inputs, the first host."""
    return next(iter(problem.inputs.values()), problem.hosts[0].name)


def _checked(problem: Problem, name: str, placements: list[Placement], *, codecs: bool) -> Solution:
    """The cheapest of the placements that break nothing."""
    best: Solution | None = None
    reason = "it has no candidates"
    choose = codecs and bool(problem.codecs)
    for least, placement in (
        _promising(problem, placements) if choose else zip(itertools.repeat(0.0), placements)
    ):
        if best is not None and best.objective is not None and least >= best.objective:
            continue
        chosen = best_codecs(problem, placement) if choose else {}
        evaluation = evaluate(problem, placement, chosen)
        if evaluation.violations:
            reason = evaluation.violations[0]
        elif best is None or best.objective is None or evaluation.objective < best.objective:
            best = solution_of(
                problem, placement, codecs=chosen, solver=name, evaluation=evaluation
            )
    if best is None:
        raise _NotApplicableError(reason)
    return best


def _promising(problem: Problem, placements: list[Placement]) -> list[tuple[float, Placement]]:
    """Placements with what each costs at least; the likeliest first, where that is a guess."""
    if problem.objective == "latency":
        least = [evaluate(problem, p, fastest_codecs(problem, p)).objective for p in placements]
        return [(least[k], placements[k]) for k in sorted(range(len(least)), key=least.__getitem__)]
    guesses = [
        min(
            evaluate(problem, p).objective,
            evaluate(problem, p, fastest_codecs(problem, p)).objective,
        )
        for p in placements
    ]
    order = sorted(range(len(guesses)), key=guesses.__getitem__)
    return [(0.0, placements[k]) for k in order[:_CHOSEN_WITH_CODECS]]


def _device_only(problem: Problem) -> list[Placement]:
    device = device_of(problem)
    return [{op.name: device for op in problem.ops}]


def _others(problem: Problem) -> list[str]:
    device = device_of(problem)
    others = [name for name in problem.host_names if name != device]
    if not others:
        raise _NotApplicableError("there is one host only")
    return others


def _edge_only(problem: Problem) -> list[Placement]:
    return [{op.name: host for op in problem.ops} for host in _others(problem)]


def _prefix(problem: Problem, count: int, other: str) -> Placement:
    device = device_of(problem)
    return {
        op.name: device if position < count else other
        for position, op in enumerate(problem.ordered_ops)
    }


def _single_cut(problem: Problem) -> list[Placement]:
    """Cuts of the order through one tensor, the most promising by compute and size."""
    order = problem.ordered_ops
    position = {op.name: index for index, op in enumerate(order)}
    crossing: list[int] = [0] * (len(order) + 1)
    sent_bytes: list[float] = [0.0] * (len(order) + 1)
    for tensor in problem.tensors:
        producer = problem.producer_of.get(tensor.name)
        if producer is None and tensor.name not in problem.inputs:
            continue
        readers = [position[op.name] for op in problem.consumers_of[tensor.name]]
        first = position[producer.name] + 1 if producer else 0
        for cut in range(max(first, 1), min(max(readers, default=-1) + 1, len(order))):
            crossing[cut] += 1
            sent_bytes[cut] += tensor.size_bytes
    cuts = [cut for cut in range(1, len(order)) if crossing[cut] == 1]
    if not cuts:
        raise _NotApplicableError("no cut sends one tensor only")
    device = device_of(problem)
    placements = []
    for other in _others(problem):
        seconds_per_byte = _first_hop_s_per_byte(problem, device, other)
        done_s = 0.0
        rest_s = sum(op.cost_s.get(other, float("inf")) for op in order if other in op.cost_s)
        estimate_s = [0.0] * (len(order) + 1)
        for index, op in enumerate(order):
            estimate_s[index] = done_s + rest_s + sent_bytes[index] * seconds_per_byte
            done_s += op.cost_s.get(device, 0.0)
            rest_s -= op.cost_s.get(other, 0.0)
        promising = sorted(cuts, key=lambda cut: estimate_s[cut])[:_CUTS_TRIED]
        placements += [_prefix(problem, cut, other) for cut in promising]
    return placements


def _first_hop_s_per_byte(problem: Problem, device: str, other: str) -> float:
    if problem.bus is not None:
        ends = [host for host in problem.hosts if host.name in (device, other)]
        return sum(host.bus_seconds_per_byte or 0.0 for host in ends)
    routes = Routes(problem)
    return sum(routes.cost(a, b)[0] for a, b in routes.path(device, other))


def _minimum_cut(problem: Problem) -> list[Placement]:
    limits = problem.constraints
    plain = problem.without_codecs()
    relaxed = plain.changed(
        objective="latency",
        hosts=tuple(host.model_copy(update={"memory_bytes": None}) for host in plain.hosts),
        constraints=Constraints(
            monotone=limits.monotone,
            pinned=limits.pinned,
            forbidden=limits.forbidden,
            keep_local=limits.keep_local,
            together=limits.together,
        ),
    )
    reason = why_not_a_cut(relaxed)
    if reason is not None:
        raise _NotApplicableError(reason)
    plan = minimum_cut(relaxed)
    if plan.objective is None:
        raise _NotApplicableError(" ".join(plan.conflicts))
    return [plan.placement]


def _greedy(problem: Problem) -> list[Placement]:
    """Each op, in order, where its own cost and the tensors still to be sent are cheapest."""
    limits = problem.constraints
    held: dict[str, set[str]] = {name: {home} for name, home in problem.inputs.items()}
    free_bytes = {
        host.name: float("inf") if host.memory_bytes is None else host.memory_bytes
        for host in problem.hosts
    }
    loaded: set[tuple[str, str]] = set()
    size = {weight.name: weight.size_bytes for weight in problem.weights}
    pair_s = _pair_costs(problem)
    placement: Placement = {}
    for op in problem.ordered_ops:
        best: tuple[float, str] | None = None
        for host in problem.host_names:
            need = sum(size[name] for name in op.weights if (name, host) not in loaded)
            allowed = limits.pinned.get(op.name, host) == host
            allowed = allowed and host not in limits.forbidden.get(op.name, ())
            if host not in op.cost_s or not allowed or need > free_bytes[host]:
                continue
            seconds = op.cost_s[host]
            for name in dict.fromkeys(op.inputs):
                size_bytes = problem.tensor_by_name[name].size_bytes
                if host not in held[name]:
                    seconds += min(pair_s(source, host, size_bytes) for source in held[name])
            if best is None or seconds < best[0]:
                best = (seconds, host)
        if best is None:
            raise _NotApplicableError(f"no host is left for op {op.name!r}")
        host = best[1]
        placement[op.name] = host
        for name in op.weights:
            if (name, host) not in loaded:
                loaded.add((name, host))
                free_bytes[host] -= size[name]
        for name in op.inputs:
            held[name].add(host)
        for name in op.outputs:
            held[name] = {host}
    return [placement]


def _pair_costs(problem: Problem) -> Callable[[str, str, float], float]:
    if problem.bus is not None:
        price = {h.name: (h.bus_seconds_per_byte or 0.0, h.bus_latency_s) for h in problem.hosts}
        hops = {
            (a, b): (price[a][0] + price[b][0], price[a][1] + price[b][1])
            for a in price
            for b in price
        }
    else:
        routes = Routes(problem)
        hops = {}
        for a in problem.host_names:
            for b in problem.host_names:
                costs = [routes.cost(*hop) for hop in routes.path(a, b)]
                hops[a, b] = (sum(c[0] for c in costs), sum(c[1] for c in costs))

    def seconds(source: str, destination: str, size_bytes: float) -> float:
        seconds_per_byte, latency_s = hops[source, destination]
        return size_bytes * seconds_per_byte + latency_s

    return seconds


def _even_split(problem: Problem) -> list[Placement]:
    hosts = [device_of(problem), *_others(problem)]
    order = problem.ordered_ops
    return [
        {
            op.name: hosts[min(position * len(hosts) // max(len(order), 1), len(hosts) - 1)]
            for position, op in enumerate(order)
        }
    ]


def _random(problem: Problem) -> list[Placement]:
    """The first of a few random cuts that breaks nothing."""
    generator = random.Random(_SEED)
    others = _others(problem)
    for _ in range(_RANDOM_CUTS):
        count = generator.randint(0, len(problem.ops))
        placement = _prefix(problem, count, generator.choice(others))
        if not evaluate(problem, placement).violations:
            return [placement]
    raise _NotApplicableError(f"none of {_RANDOM_CUTS} random cuts satisfies the constraints")


def _balanced_split(problem: Problem) -> list[Placement]:
    plan = balanced_split(problem)
    if problem.objective != "throughput" or plan is None:
        raise _NotApplicableError("it balances throughput on few ops")
    return [plan]


_RULES: dict[str, Callable[[Problem], list[Placement]]] = {
    "device-only": _device_only,
    "edge-only": _edge_only,
    "single-cut": _single_cut,
    "minimum-cut": _minimum_cut,
    "greedy": _greedy,
    "even-split": _even_split,
    "random": _random,
}
