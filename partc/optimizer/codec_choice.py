"""The best codecs for a plan whose placement is given."""

from __future__ import annotations

from collections.abc import Mapping

from partc.optimizer.evaluation import evaluate
from partc.optimizer.problem import NO_CODEC, Problem

Codecs = dict[tuple[str, str, str], str]

_TIME_LIMIT_S = 10.0


def fastest_codecs(problem: Problem, placement: Mapping[str, str]) -> Codecs:
    """The codec in which each tensor of the plan arrives first, whatever it loses.

    On a bus all receivers of a tensor share one codec.
    """
    best_s: dict[tuple[str, ...], float] = {}
    best: dict[tuple[str, ...], str] = {}
    hops = [(t.tensor, t.source, t.destination) for t in evaluate(problem, placement).transfers]
    if not problem.codecs:
        return {}
    for name in (NO_CODEC, *(codec.name for codec in problem.codecs)):
        total_s: dict[tuple[str, ...], float] = {}
        allowed = {
            hop: name
            for hop in hops
            if problem.tensor_by_name[hop[0]].codecs.get(name, name) is not None
        }
        for transfer in evaluate(problem, placement, allowed).transfers:
            hop = (transfer.tensor, transfer.source, transfer.destination)
            if hop in allowed:
                key: tuple[str, ...] = hop if problem.bus is None else hop[:1]
                total_s[key] = total_s.get(key, 0.0) + transfer.seconds
        for key, seconds in total_s.items():
            if seconds < best_s.get(key, float("inf")):
                best_s[key], best[key] = seconds, name
    chosen = {hop: best[hop if problem.bus is None else hop[:1]] for hop in hops}
    return {hop: name for hop, name in chosen.items() if name != NO_CODEC}


def best_codecs(problem: Problem, placement: Mapping[str, str]) -> Codecs | None:
    """The codecs with which this placement is best and legal; None where it never is.

    Where the fastest codecs keep all limits they are best for latency. Otherwise which transfers
    share a loss budget is a knapsack, which the integer program solves with every op pinned.
    """
    if not problem.codecs:
        return None if evaluate(problem, placement).violations else {}
    if problem.objective == "latency":
        fastest = fastest_codecs(problem, placement)
        if not evaluate(problem, placement, fastest).violations:
            return fastest
    from partc.optimizer.solving import solve_pinned

    plan = solve_pinned(problem, placement, time_limit_s=_TIME_LIMIT_S)
    return None if plan.objective is None else plan.codecs
