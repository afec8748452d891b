"""From constraints in the words of a topology to those of a placement problem."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

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
        TopologyError: a pattern matches nothing, or a block is pinned to two hosts.
    """
    wanted = topology.constraints
    pinned: dict[str, str] = {}
    first = [block.name for block in (program.blocks or ())[: wanted.private_blocks]]
    for block in first:
        pinned[block] = root_host(program, topology)
    for host, patterns in wanted.pin.items():
        for block in _blocks(program, patterns, "pin"):
            if pinned.setdefault(block, host) != host:
                raise TopologyError(
                    f"[constraints] block {block!r} is pinned to {pinned[block]!r} and to "
                    f"{host!r}; the ops of a block run as one kernel and share a host"
                )
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
        keep_local=tuple(_tensors(program, wanted.keep_local)),
        together=tuple(group for group in together if len(group) > 1),
        activations=wanted.count_activations,
        loss_budget=wanted.loss_budget,
        energy_j=dict(wanted.energy_j),
        deadline_s=None if wanted.deadline_ms is None else wanted.deadline_ms * 1e-3,
    )


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
                else fnmatch.fnmatchcase(op.name, pattern)
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
        matching = [name for name in known if fnmatch.fnmatchcase(name, pattern)]
        if not matching:
            if pattern in program.producer:
                continue  # inside of a block, so it never leaves its host
            raise TopologyError(
                f"[constraints] keep_local: {pattern!r} matches no tensor. "
                + _closest("tensor", pattern, {*known, *program.producer})
            )
        found.update(dict.fromkeys(matching))
    return list(found)


def _closest(kind: str, name: str, known: set[str]) -> str:
    sentence = unknown_name(kind, name, known)
    return sentence if len(known) <= 12 else sentence.partition(" Known:")[0]
