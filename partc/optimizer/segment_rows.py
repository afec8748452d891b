"""The rows that limit how often a path of ops enters a host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from partc.optimizer.linear import ZERO, Affine, Sum

if TYPE_CHECKING:
    from partc.optimizer.placement_model import PlacementModel


def add_segment_rows(model: PlacementModel) -> None:
    """At most one visit of each host for `contiguous`, as many as allowed for `max_segments`."""
    limits = model.problem.constraints
    most = dict(limits.max_segments)
    if limits.contiguous:
        most = dict.fromkeys(model.problem.host_names, 1)
    for name, visits in most.items():
        _limit_visits(model, model.problem.host_names.index(name), visits)


def _limit_visits(model: PlacementModel, host: int, visits: int) -> None:
    """An op is on the host when it was entered one more time than it was left.

    `entered` and `left` never fall along a path, so a path enters at most `visits` times. For one
    visit these rows are totally unimodular, so that the variables need not be whole.
    """
    linear, problem = model.linear, model.problem
    entered: dict[str, list[Affine]] = {}
    left: dict[str, list[Affine]] = {}
    whole = visits > 1
    for op in problem.ordered_ops:
        entered[op.name] = [linear.variable("d", integer=whole) for _ in range(visits)]
        left[op.name] = [linear.variable("w", integer=whole) for _ in range(visits)]
        here = Sum()
        here.add(model.at[model.instance.unit_of[op.name]].get(host, ZERO), -1.0)
        for k in range(visits):
            here.add(entered[op.name][k])
            here.add(left[op.name][k], -1.0)
            linear.at_least(entered[op.name][k].minus(left[op.name][k]))
            if k > 0:
                linear.at_least(left[op.name][k - 1].minus(entered[op.name][k]))
        linear.equal(here.expression(), 0.0)
        makers = [problem.producer_of.get(tensor) for tensor in op.inputs]
        for before in dict.fromkeys(maker.name for maker in makers if maker is not None):
            for k in range(visits):
                linear.at_least(entered[op.name][k].minus(entered[before][k]))
                linear.at_least(left[op.name][k].minus(left[before][k]))
