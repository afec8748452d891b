"""What must hold of a group in a plan; one sentence each where it does not."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx

from partc.errors import PassError, UsageError
from partc.ir.program import Op, Program
from partc.ir.tiling import TileGroup, check_shares
from partc.ir.topology import Topology
from partc.passes.tiling.bound import Binder, BoundGroup
from partc.passes.tiling.branches import Branching, branching
from partc.passes.tiling.channels import InputChannels, input_channels
from partc.passes.tiling.geometry import TilingError
from partc.suggest import unknown_name


def check_group(
    program: Program, topology: Topology, binder: Binder, group: TileGroup
) -> BoundGroup | InputChannels | Branching:
    """Check one group and bind its ops.

    Raises:
        PassError, UsageError: names what is wrong, and what to do.
    """
    where = f"the tiles between {group.entry!r} and {group.exit!r}"
    ops = _ops(program, group)
    _check_hosts(program, topology, group, where)
    _check_closed_off(program, group, ops, where)
    try:
        if group.kind == "input-channels":
            layer = input_channels(program, binder, ops, group.entry)
            _check_bounds(group, layer.channels, where)
            return layer
        if group.kind == "branches":
            found = branching(program, binder, ops, group.entry, group.exit, group.blocks)
            _check_owners(group, found, where)
            return found
        bound = binder.bind(ops, group.entry, group.exit, group.axis)
    except TilingError as error:
        raise PassError(
            f"{where} cannot be made: {error.message}; end the group before it",
            pass_name="tile",
            op=error.op,
        ) from error
    _check_bounds(group, bound.rows[group.exit], where)
    return bound


def _ops(program: Program, group: TileGroup) -> list[Op]:
    blocks = {block.name: block for block in program.blocks or ()}
    names: set[str] = set()
    for name in group.blocks:
        if name not in blocks:
            raise PassError(unknown_name("block", name, blocks), pass_name="tile")
        names.update(blocks[name].ops)
    return [op for op in program.placed_ops if op.name in names]


def _check_hosts(program: Program, topology: Topology, group: TileGroup, where: str) -> None:
    for host in (*group.hosts, *((group.sum_at,) if group.sum_at else ())):
        if host not in topology.hosts:
            raise UsageError(f"{where}: {unknown_name('host', host, topology.hosts)}")
    if len(set(group.hosts)) != len(group.hosts):
        raise UsageError(f"{where} name a host twice; give it one larger share instead")
    for block in group.blocks:
        for host in group.hosts:
            if program.costs is not None and not program.costs.supports(block, host):
                raise PassError(
                    f"{where}: host {host!r} cannot run block {block!r}; leave it out",
                    pass_name="tile",
                    host=host,
                )
    first, *others = group.hosts or ("",)
    for other in others:
        if not can_reach(topology, first, other):
            raise PassError(
                f"{where} are on {first!r} and {other!r}, which cannot reach each other; join "
                "them by [[links]], directly or through another host",
                pass_name="tile",
                host=other,
            )


def _check_bounds(group: TileGroup, rows: int, where: str) -> None:
    if len(group.bounds) != len(group.hosts) + 1:
        raise UsageError(
            f"{where} need {len(group.hosts) + 1} bounds for {len(group.hosts)} hosts, not "
            f"{len(group.bounds)}"
        )
    sizes = [end - begin for begin, end in zip(group.bounds, group.bounds[1:], strict=False)]
    check_shares(rows, sizes)
    if group.bounds[0] != 0 or group.bounds[-1] != rows:
        raise UsageError(
            f"{where} cover {group.bounds[0]} to {group.bounds[-1]} of {rows} rows; bounds begin "
            "at 0 and end with the last row"
        )


def _check_owners(group: TileGroup, found: Branching, where: str) -> None:
    if (group.axis, group.bounds) != (found.axis, found.bounds):
        raise UsageError(
            f"{where} are branches that op {found.join.name!r} joins along axis {found.axis} at "
            f"{list(found.bounds)}, and not along axis {group.axis} at {list(group.bounds)}"
        )
    if len(group.owners) != len(found.branches):
        raise UsageError(
            f"{where} are {len(found.branches)} branches, and {len(group.owners)} owners are "
            "named; name one host for each"
        )
    if set(group.owners) != set(group.hosts):
        raise UsageError(
            f"{where}: the owners of branches are {', '.join(sorted(set(group.owners)))}, and the "
            f"hosts {', '.join(group.hosts)}; each host needs a branch, and each branch a host"
        )


def _check_closed_off(program: Program, group: TileGroup, ops: Sequence[Op], where: str) -> None:
    names = {op.name for op in ops}
    made = {tensor for op in ops for tensor in op.outputs}
    if group.exit not in made:
        raise PassError(f"{where}: no block of the group makes {group.exit!r}", pass_name="tile")
    for op in ops:
        for tensor in op.inputs:
            enters = tensor not in made and tensor not in program.constant_tensors
            if enters and tensor != group.entry:
                raise PassError(
                    f"{where}: op {op.name!r} also reads {tensor!r}, which enters from outside; "
                    "begin the group after it",
                    pass_name="tile",
                    op=op.name,
                )
        for tensor in op.outputs:
            leaves = tensor in program.outputs or any(
                reader.name not in names for reader in program.consumers.get(tensor, ())
            )
            if leaves and tensor != group.exit:
                raise PassError(
                    f"{where}: {tensor!r} also leaves the group; end the group at it",
                    pass_name="tile",
                    op=op.name,
                )


def in_order(program: Program, groups: Sequence[TileGroup]) -> list[TileGroup]:
    """Groups in the order in which they run.

    Raises:
        UsageError: two have a block in common.
    """
    owner: dict[str, TileGroup] = {}
    for group in groups:
        for block in group.blocks:
            if owner.setdefault(block, group) is not group:
                raise UsageError(f"block {block!r} is in two groups of tiles; take it out of one")
    position = {block.name: i for i, block in enumerate(program.blocks or ())}
    return sorted(groups, key=lambda g: max((position.get(b, 0) for b in g.blocks), default=0))


def can_reach(topology: Topology, one: str, other: str) -> bool:
    """Whether links or the bus lead from one host to the other."""
    graph = nx.Graph(topology.joined_pairs)
    graph.add_nodes_from(topology.hosts)
    return bool(nx.has_path(graph, one, other))
