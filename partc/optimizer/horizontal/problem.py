"""The horizontal partition problem as plain data: a placement problem, and arcs that tile ranges.

Units are SI (seconds, bytes, watts) unless a name says otherwise. A list per tile is in the order
of the tiling's hosts.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from partc.optimizer.problem import (
    Amount,
    Bus,
    Constraints,
    Host,
    Link,
    Name,
    Objective,
    Op,
    Problem,
    Tensor,
    Weight,
)

Share = Annotated[float, Field(gt=0, le=1, strict=True, allow_inf_nan=False)]
Bytes = tuple[Amount, ...]
Matrix = tuple[Bytes, ...]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tiling(_Data):
    """A way to cut tensors into tiles: which hosts, and what share each has.

    Attributes:
        hosts: one per tile, in the order of the tiles.
        shares: each tile's part of the whole; together 1.
    """

    name: Name
    hosts: tuple[Name, ...] = Field(min_length=2)
    shares: tuple[Share, ...]


class Arc(_Data):
    """All ops between two tensors, run in tiles.

    Attributes:
        entry, exit: the tensor that comes in, and the one that is made. Nothing else may come in
            or be read outside.
        tile_s: seconds of each tile on its host.
        entry_bytes: what each tile needs of the entry where that is whole on one host; None where
            it must not begin so.
        halo_bytes: by the tiling in which the entry may already be, bytes that each of that
            tiling's tiles (row) sends to each tile (column). Its own name is an exchange of halos.
        weights: by host, what a tile there holds; a host that is absent holds the weights of all
            the ops in between.
    """

    entry: Name
    exit: Name
    tiling: Name
    tile_s: tuple[Amount, ...]
    entry_bytes: Bytes | None = None
    halo_bytes: dict[Name, Matrix] = Field(default_factory=dict)
    weights: dict[Name, tuple[Name, ...]] = Field(default_factory=dict)


class Gather(_Data):
    """What each tile sends when a tensor is made whole on a host.

    Without one for a tensor and a tiling, each tile sends its share of the tensor's size.
    """

    tensor: Name
    tiling: Name
    tile_bytes: Bytes


class HorizontalProblem(_Data):
    """A placement problem in which ranges of ops may be tiled over several hosts.

    Hosts, links, routes, ops, tensors, weights, inputs, outputs and constraints are those of
    `Problem`; there are no codecs. Parts of tensors take the same ways as whole ones.

    Attributes:
        shared_ports: hosts that send one message at a time and receive one at a time over all
            their links: one radio, one network card. Otherwise each link is by itself.
        tilings: the ways to tile.
        arcs: which ranges may be tiled, and what that costs.
        gathers: what it takes to make a tiled tensor whole.
    """

    objective: Objective = "latency"
    hosts: tuple[Host, ...] = Field(min_length=1)
    links: tuple[Link, ...] = ()
    bus: Bus | None = None
    routes: tuple[tuple[Name, ...], ...] = ()
    ops: tuple[Op, ...]
    tensors: tuple[Tensor, ...] = ()
    weights: tuple[Weight, ...] = ()
    inputs: dict[Name, Name] = Field(default_factory=dict)
    outputs: dict[Name, Name] = Field(default_factory=dict)
    constraints: Constraints = Field(default_factory=Constraints)
    energy_hosts: tuple[Name, ...] = ()
    shared_ports: tuple[Name, ...] = ()
    tilings: tuple[Tiling, ...] = ()
    arcs: tuple[Arc, ...] = ()
    gathers: tuple[Gather, ...] = ()

    def model_post_init(self, _context: Any) -> None:
        """Check what types cannot: names, links, ranges, lengths of lists.

        Raises:
            UsageError: with the first thing that is wrong.
        """
        from partc.optimizer.horizontal.checking import check_horizontal

        check_horizontal(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HorizontalProblem:
        """A problem from decoded JSON.

        Raises:
            UsageError: with one sentence on the first thing that is wrong.
        """
        from partc.optimizer.horizontal.reading import horizontal_from_dict

        return horizontal_from_dict(data)

    @classmethod
    def from_json(cls, path: str | Path) -> HorizontalProblem:
        """A problem from a JSON file.

        Raises:
            UsageError: the file cannot be read, is no JSON, or is no horizontal problem.
        """
        from partc.optimizer.horizontal.reading import horizontal_from_json

        return horizontal_from_json(path)

    def to_dict(self) -> dict[str, Any]:
        """The problem as JSON data; `from_dict` gives an equal problem back."""
        data = self.model_dump(mode="json", exclude_defaults=True)
        return {"objective": self.objective, "arcs": []} | data

    def changed(self, **fields: Any) -> HorizontalProblem:
        """A checked copy with some fields replaced."""
        return type(self)(
            **({name: getattr(self, name) for name in type(self).model_fields} | fields)
        )

    def constrained(self, **fields: Any) -> HorizontalProblem:
        """A checked copy with some constraints replaced."""
        old = {name: getattr(self.constraints, name) for name in Constraints.model_fields}
        return self.changed(constraints=Constraints(**(old | fields)))

    def untiled(self) -> HorizontalProblem:
        """The same problem without arcs: every op runs whole."""
        return self.changed(tilings=(), arcs=(), gathers=())

    @cached_property
    def vertical(self) -> Problem:
        """The placement problem that is left without arcs."""
        return Problem(
            objective=self.objective,
            hosts=self.hosts,
            links=self.links,
            bus=self.bus,
            routes=self.routes,
            ops=self.ops,
            tensors=self.tensors,
            weights=self.weights,
            inputs=self.inputs,
            outputs=self.outputs,
            constraints=self.constraints,
            energy_hosts=self.energy_hosts,
        )

    @property
    def host_names(self) -> tuple[str, ...]:
        """Names of the hosts, in order."""
        return self.vertical.host_names

    @cached_property
    def tiling_by_name(self) -> dict[str, Tiling]:
        """Tilings by name."""
        return {tiling.name: tiling for tiling in self.tilings}

    @cached_property
    def weight_bytes(self) -> dict[str, float]:
        """Sizes of the weights by name."""
        return {weight.name: weight.size_bytes for weight in self.weights}

    @cached_property
    def range_ops(self) -> dict[tuple[str, str], frozenset[str]]:
        """By (entry, exit) of an arc, the names of the ops in between."""
        from partc.optimizer.horizontal.ranges import range_ops

        return range_ops(self)

    def gather_bytes(self, tensor: str, tiling: str) -> tuple[float, ...]:
        """What each tile sends when the tensor is made whole."""
        given = self._gathers.get((tensor, tiling))
        if given is not None:
            return given
        size_bytes = self.vertical.tensor_by_name[tensor].size_bytes
        return tuple(size_bytes * share for share in self.tiling_by_name[tiling].shares)

    @cached_property
    def _gathers(self) -> dict[tuple[str, str], tuple[float, ...]]:
        return {(gather.tensor, gather.tiling): gather.tile_bytes for gather in self.gathers}
