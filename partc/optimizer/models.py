"""Which integer program a problem gets."""

from __future__ import annotations

from partc.optimizer.bus_model import BusModel
from partc.optimizer.instance import Instance
from partc.optimizer.mesh_model import MeshModel
from partc.optimizer.placement_model import PlacementModel
from partc.optimizer.routes import Routes
from partc.optimizer.tree_model import TreeModel


def build_model(instance: Instance, seconds_scale: float) -> PlacementModel:
    """The integer program of an instance; costs are multiplied by `seconds_scale`."""
    if instance.problem.bus is not None:
        return BusModel(instance, seconds_scale)
    if Routes(instance.problem).is_tree:
        return TreeModel(instance, seconds_scale)
    return MeshModel(instance, seconds_scale)
