"""Which integer program a problem gets."""

from __future__ import annotations

from partc.optimizer.bus_model import BusModel
from partc.optimizer.instance import Instance
from partc.optimizer.placement_model import PlacementModel
from partc.optimizer.tree_model import TreeModel


def build_model(instance: Instance, seconds_scale: float) -> PlacementModel:
    """The integer program of an instance; costs are multiplied by `seconds_scale`."""
    kind = TreeModel if instance.problem.bus is None else BusModel
    return kind(instance, seconds_scale)
