"""What can be said of a program between two passes, each as a check that really looks.

Every check gives None when the program keeps it, and otherwise a sentence on what breaks it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import networkx as nx

from partc.ir.program import Program
from partc.ir.topology import Topology

Check = Callable[[Program, Topology], str | None]


def _well_formed(program: Program, topology: Topology) -> str | None:
    names = [op.name for op in program.ops]
    if "" in names:
        return "an op has no name"
    if len(set(names)) != len(names):
        return "two ops have the same name"
    present = set(program.inputs)
    for op in program.ops:
        for tensor in op.inputs:
            if tensor not in present:
                return f"op {op.name!r} reads {tensor!r} before anything writes it"
        for tensor in op.outputs:
            if tensor in present:
                return f"tensor {tensor!r} is written twice"
            present.add(tensor)
    for output in program.outputs:
        if output not in present:
            return f"output {output!r} is written by no op"
    return None


def _typed(program: Program, topology: Topology) -> str | None:
    for name in (*program.inputs, *program.producer):
        info = program.tensors.get(name)
        if info is None or (info.kind == "tensor" and not info.dtype):
            return f"the type of tensor {name!r} is unknown"
        if info.kind == "tensor" and info.planned_shape is None:
            return f"the size of tensor {name!r} is unknown"
    return None


def _folded(program: Program, topology: Topology) -> str | None:
    for op in program.ops:
        if op.is_constant and not op.inputs and op.op_type == "Constant":
            return f"op {op.name!r} is a constant that was not folded"
    return None


def _blocked(program: Program, topology: Topology) -> str | None:
    members = [op for block in program.blocks or () for op in block.ops]
    placed = {op.name for op in program.placed_ops}
    if len(members) != len(set(members)):
        return "an op is in two blocks"
    if missing := placed - set(members):
        return f"op {sorted(missing)[0]!r} is in no block"
    if extra := set(members) - placed:
        return f"op {sorted(extra)[0]!r} is in a block but needs no host"
    graph = nx.DiGraph()
    for op in program.placed_ops:
        block = program.block_of[op.name]
        for tensor in op.inputs:
            producer = program.producer.get(tensor)
            if producer is not None and not producer.is_constant:
                source = program.block_of[producer.name]
                if source is not block:
                    graph.add_edge(source.name, block.name)
    if not nx.is_directed_acyclic_graph(graph):
        return "blocks wait for each other in a circle"
    return None


def _costed(program: Program, topology: Topology) -> str | None:
    if program.costs is None:
        return "no costs were annotated"
    for block in program.blocks or ():
        hosts = [host for host in topology.hosts if program.costs.supports(block.name, host)]
        if not hosts:
            return f"block {block.name!r} has a cost on no host"
        for host in hosts:
            if not program.costs.of(block.name, host).median_s >= 0:
                return f"block {block.name!r} has no usable cost on host {host!r}"
    return None


def _placed(program: Program, topology: Topology) -> str | None:
    if program.plan is None:
        return "no plan was made"
    placement = program.plan.placement
    for op in program.placed_ops:
        host = placement.get(op.name)
        if host is None:
            return f"op {op.name!r} has no host"
        if host not in topology.hosts:
            return f"op {op.name!r} is on host {host!r}, which the topology does not have"
    return None


def _split(program: Program, topology: Topology) -> str | None:
    if program.segments is None or program.plan is None:
        return "no segments were made"
    owner = {op: segment for segment in program.segments for op in segment.ops}
    for op in program.placed_ops:
        if op.name not in owner:
            return f"op {op.name!r} is in no segment"
        if owner[op.name].host != program.plan.placement[op.name]:
            return f"op {op.name!r} is in a segment of another host than the plan says"
    ready = set(program.inputs)
    for segment in program.segments:
        for tensor in segment.inputs:
            if tensor not in ready:
                return f"segment {segment.id!r} needs {tensor!r} before anything writes it"
        ready.update(segment.outputs)
    for output in program.outputs:
        if output not in ready:
            return f"output {output!r} leaves no segment"
    return None


def _verified(program: Program, topology: Topology) -> str | None:
    if program.verification is None:
        return "the partitioned program was not compared with the whole model"
    return None


INVARIANTS: Mapping[str, Check] = {
    "well-formed": _well_formed,
    "typed": _typed,
    "folded": _folded,
    "blocked": _blocked,
    "costed": _costed,
    "placed": _placed,
    "split": _split,
    "verified": _verified,
}
"""Name -> check, in the order in which a pipeline establishes them."""
