"""From constraints in the words of a topology to those of a placement problem."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable

from partc.errors import TopologyError
from partc.ir.program import Block, Program
from partc.ir.topology import Topology
from partc.optimizer import Constraints
from partc.passes.lower.schedule import root_host
from partc.suggest import unknown_name

_TYPE_PREFIX = "type:"


def problem_constraints(program: Program, topology: Topology) -> Constraints:
    """Patterns resolved to blocks and tensors of ``program``.

    Raises:
        TopologyError: a pattern matches nothing, a block is pinned to two hosts, or more blocks
            are private than there are.
    """
    wanted = topology.constraints
    home = root_host(program, topology)
    blocks = program.blocks or ()
    if wanted.private_blocks > len(blocks):
        raise TopologyError(
            f"[constraints] private_blocks is {wanted.private_blocks}, but the model has "
            f"{len(blocks)} blocks; give at most that"
        )
    private = blocks[: wanted.private_blocks]
    pinned = {block.name: home for block in private}
    for host, patterns in wanted.pin.items():
        for block in _blocks(program, patterns, "pin"):
            if pinned.setdefault(block, host) != host:
                raise TopologyError(_pinned_twice(program, block, pinned[block], host))
    forbidden: dict[str, list[str]] = {}
    for host, patterns in wanted.forbid.items():
        for block in _blocks(program, patterns, "forbid"):
            forbidden.setdefault(block, []).append(host)
    together = [tuple(_blocks(program, patterns, "together")) for patterns in wanted.together]
    return Constraints(
        monotone=wanted.monotone,
        contiguous=wanted.contiguous,
        max_segments=dict(wanted.max_segments),
        pinned=pinned,
        forbidden={block: tuple(hosts) for block, hosts in forbidden.items()},
        keep_local=tuple(
            dict.fromkeys(
                (*_tensors(program, wanted.keep_local), *_private(program, private, topology, home))
            )
        ),
        together=tuple(group for group in together if len(group) > 1),
        activations=wanted.count_activations,
        loss_budget=wanted.loss_budget,
        energy_j=dict(wanted.energy_j),
        deadline_s=None if wanted.deadline_ms is None else wanted.deadline_ms * 1e-3,
    )


def check_energy(topology: Topology, objective: str) -> None:
    """Refuse to weigh energy where nobody said what a host draws.

    Raises:
        TopologyError: a host whose energy counts has no power.
    """
    wanted = topology.constraints
    named = set(wanted.energy_j)
    if objective == "energy":
        named.update(wanted.energy_hosts)
    for host in sorted(named):
        if topology.hosts[host].power_active_w is None:
            raise TopologyError(
                f"the energy of host {host!r} is to count, but its power is not known; "
                f"give power_active_w in [hosts.{host}]"
            )
    if objective == "energy" and not any(host.power_active_w for host in topology.hosts.values()):
        raise TopologyError(
            "the objective is energy, but no host has a power_active_w; give it in the hosts' "
            "tables, in watts"
        )


def _pinned_twice(program: Program, name: str, one: str, other: str) -> str:
    block = next(block for block in program.blocks or () if block.name == name)
    together = (
        ""
        if len(block.ops) == 1
        else f" (it holds {', '.join(block.ops[:4])}, which run as one kernel and share a host)"
    )
    return (
        f"[constraints] block {name!r} is pinned to {one!r} and to {other!r}{together}; "
        "leave one of them out"
    )


def _private(
    program: Program, private: Collection[Block], topology: Topology, home: str
) -> list[str]:
    """What went through fewer than all private blocks: all that they read where they run."""
    made = {tensor for block in private for tensor in block.outputs}
    made |= {name for name in program.inputs if topology.input_home(name) == home}
    return [tensor for block in private for tensor in block.inputs if tensor in made]


def _blocks(program: Program, patterns: Iterable[str], where: str) -> list[str]:
    """Blocks with an op that one of the patterns names, in the order of the program."""
    found: dict[str, Block] = {}
    for pattern in patterns:
        ops = [
            op.name
            for op in program.placed_ops
            if (
                op.op_type == pattern.removeprefix(_TYPE_PREFIX)
                if pattern.startswith(_TYPE_PREFIX)
                else _matches(op.name, pattern)
            )
        ]
        if not ops:
            known = (
                {op.op_type for op in program.placed_ops}
                if pattern.startswith(_TYPE_PREFIX)
                else {op.name for op in program.placed_ops}
            )
            raise TopologyError(
                f"[constraints] {where}: {pattern!r} matches no op. "
                + _closest("op", pattern.removeprefix(_TYPE_PREFIX), known)
            )
        found.update({program.block_of[op].name: program.block_of[op] for op in ops})
    order = {block.name: index for index, block in enumerate(program.blocks or ())}
    return sorted(found, key=order.__getitem__)


def _tensors(program: Program, patterns: Iterable[str]) -> list[str]:
    """Tensors between blocks, and inputs, that one of the patterns names."""
    known = dict.fromkeys(program.inputs)
    for block in program.blocks or ():
        known.update(dict.fromkeys(block.outputs))
    found: dict[str, None] = {}
    for pattern in patterns:
        matching = [name for name in known if _matches(name, pattern)]
        if not matching:
            if pattern in program.producer:
                continue  # inside of a block, so it never leaves its host
            raise TopologyError(
                f"[constraints] keep_local: {pattern!r} matches no tensor. "
                + _closest("tensor", pattern, {*known, *program.producer})
            )
        found.update(dict.fromkeys(matching))
    return list(found)


def _matches(name: str, pattern: str) -> bool:
    """Whether a pattern names it; a name with brackets in it is first of all a name."""
    return name == pattern or fnmatch.fnmatchcase(name, pattern)


def _closest(kind: str, name: str, known: set[str]) -> str:
    sentence = unknown_name(kind, name, known)
    return sentence if len(known) <= 12 else sentence.partition(" Known:")[0]
