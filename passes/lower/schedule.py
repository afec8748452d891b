"""From a host for every op to segments, and from segments to the calls between hosts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import networkx as nx

from partc.errors import TopologyError
from partc.ir.program import Op, Program
from partc.ir.segment import Call, Segment, Step
from partc.ir.topology import Topology


def make_segments(program: Program, placement: Mapping[str, str]) -> tuple[Segment, ...]:
    """Segments in an order in which they can run; their models are not made yet.

    The stage of an op is the number of changes of host on the longest way to it. Ops of one
    host and one stage wait for nobody in between, so the graph of segments has no cycle; ops of
    a segment are connected, by an edge or by a tensor that both read. A block that is on one
    host has one stage, that of its last input, and so stays in one segment.
    """
    units = _units(program, placement)
    stage = _stages(program, placement, units)
    members = nx.Graph()
    for op in program.placed_ops:
        members.add_edge(op.name, ("unit", units[op.name]))
        for tensor in op.inputs:
            if tensor not in program.constant_tensors:
                # Readers of one tensor on one host and stage meet in this node.
                members.add_edge(op.name, ("reads", tensor, placement[op.name], stage[op.name]))
        for tensor in op.outputs:
            members.add_edge(op.name, ("reads", tensor, placement[op.name], stage[op.name]))
    position = {op.name: index for index, op in enumerate(program.placed_ops)}
    groups = [
        sorted((n for n in component if isinstance(n, str)), key=position.__getitem__)
        for component in nx.connected_components(members)
    ]
    groups = [group for group in groups if group]
    groups.sort(key=lambda group: (stage[group[0]], position[group[0]]))
    return tuple(
        _segment(program, f"s{index}", placement[group[0]], group)
        for index, group in enumerate(groups)
    )


def _units(program: Program, placement: Mapping[str, str]) -> dict[str, str]:
    """Op -> what it shares a stage with: its block, or itself where the block has two hosts."""
    units = {op.name: op.name for op in program.placed_ops}
    for block in program.blocks or ():
        if len({placement[op] for op in block.ops}) == 1:
            units.update(dict.fromkeys(block.ops, block.name))
    return units


def _stages(
    program: Program, placement: Mapping[str, str], units: Mapping[str, str]
) -> dict[str, int]:
    host_of = {units[op.name]: placement[op.name] for op in program.placed_ops}
    graph = nx.DiGraph()
    graph.add_nodes_from(host_of)
    for op in program.placed_ops:
        for producer in _producers(program, op):
            if units[producer.name] != units[op.name]:
                graph.add_edge(units[producer.name], units[op.name])
    stage: dict[str, int] = {}
    for unit in nx.topological_sort(graph):
        stage[unit] = max(
            (stage[p] + (host_of[p] != host_of[unit]) for p in graph.predecessors(unit)),
            default=0,
        )
    return {op.name: stage[units[op.name]] for op in program.placed_ops}


def _producers(program: Program, op: Op) -> Iterable[Op]:
    for tensor in op.inputs:
        producer = program.producer.get(tensor)
        if producer is not None and not producer.is_constant:
            yield producer


def _segment(program: Program, segment_id: str, host: str, ops: list[str]) -> Segment:
    inside = set(ops)
    members = [program.op_by_name[name] for name in ops]
    written = {tensor for op in members for tensor in op.outputs}
    inputs = dict.fromkeys(
        tensor
        for op in members
        for tensor in op.inputs
        if tensor not in written and tensor not in program.constant_tensors
    )
    outputs = [
        tensor
        for op in members
        for tensor in op.outputs
        if tensor in program.outputs
        or any(reader.name not in inside for reader in program.consumers.get(tensor, ()))
    ]
    return Segment(segment_id, host, tuple(ops), tuple(inputs), tuple(outputs))


@dataclass(frozen=True)
class _Tree:
    """The hosts as seen from the root: who calls whom."""

    parent: Mapping[str, str | None]

    def branch(self, host: str, below: str) -> str:
        """The child of ``host`` through which ``below`` is reached, or ``host`` itself."""
        while below != host:
            above = self.parent[below]
            if above == host:
                return below
            if above is None:
                raise TopologyError(f"host {below!r} cannot be reached from {host!r}")
            below = above
        return host

    def is_below(self, host: str, top: str) -> bool:
        """Whether ``host`` is ``top`` or is reached through it."""
        current: str | None = host
        while current is not None:
            if current == top:
                return True
            current = self.parent[current]
        return False


def make_calls(
    program: Program, segments: Iterable[Segment], topology: Topology, prefix: str = "c"
) -> tuple[Call, ...]:
    """The calls of one request, the root's first; their ids begin with ``prefix``.

    Seen from a host, everything behind one of its links is one other party; what that party
    does between two changes of party is one call. The same rule then applies inside the call.
    A request brings every input to the root, and its answer is every output.
    """
    root = root_host(program, topology)
    builder = _CallBuilder(program, root, _tree(root, topology), prefix)
    calls = builder.build(root, None, list(segments), program.inputs)
    last = {call.host: call.id for call in calls}
    return tuple(replace(call, is_last=last[call.host] == call.id) for call in calls)


def root_host(program: Program, topology: Topology) -> str:
    """The host where requests start: where the first input arises, or outputs are wanted."""
    if program.inputs:
        return topology.input_home(program.inputs[0])
    return topology.output_home(program.outputs[0])


def _tree(root: str, topology: Topology) -> _Tree:
    graph = nx.Graph()
    graph.add_nodes_from(topology.hosts)
    graph.add_edges_from(topology.joined_by(root))
    parent: dict[str, str | None] = {root: None}
    for above, below in nx.bfs_edges(graph, root):
        parent[below] = above
    return _Tree(parent)


class _CallBuilder:
    def __init__(self, program: Program, root: str, tree: _Tree, prefix: str) -> None:
        self._program = program
        self._prefix = prefix
        self._tree = tree
        self._count = 0
        self._writer: dict[str, str] = dict.fromkeys(program.inputs, root)
        self._wanted_at: dict[str, set[str]] = {name: {root} for name in program.outputs}
        # Over the whole request: a host is called again and again, and holds what it was sent.
        self._sent: dict[tuple[str, str], set[str]] = {}

    def build(
        self, host: str, caller: str | None, segments: list[Segment], inputs: tuple[str, ...]
    ) -> list[Call]:
        """The call that runs ``segments`` at ``host`` and behind it, then the calls it makes."""
        if caller is None:
            self._note_tensors(segments)
        index = self._count
        self._count += 1
        steps: list[Step] = []
        made: list[Call] = []
        for party, members in _groups_by_party(segments, self._tree, host):
            if party == host:
                steps.extend(Step(run=segment.id) for segment in members)
                continue
            sent = self._sent.setdefault((host, party), set())
            needed = self._needed_from_outside(party, members)
            fresh = tuple(tensor for tensor in needed if tensor not in sent)
            sent.update(fresh)
            calls = self.build(party, host, members, fresh)
            steps.append(Step(call=calls[0].id))
            made.extend(calls)
        call = Call(
            id=f"{self._prefix}{index}",
            host=host,
            caller=caller,
            inputs=inputs,
            outputs=self._outputs(host, caller, segments),
            steps=tuple(steps),
        )
        return [call, *made]

    def _note_tensors(self, segments: list[Segment]) -> None:
        for segment in segments:
            for tensor in segment.outputs:
                self._writer[tensor] = segment.host
            for tensor in segment.inputs:
                self._wanted_at.setdefault(tensor, set()).add(segment.host)

    def _needed_from_outside(self, party: str, members: list[Segment]) -> list[str]:
        read = dict.fromkeys(tensor for segment in members for tensor in segment.inputs)
        return [t for t in read if not self._tree.is_below(self._writer[t], party)]

    def _outputs(self, host: str, caller: str | None, segments: list[Segment]) -> tuple[str, ...]:
        if caller is None:
            return self._program.outputs
        written = dict.fromkeys(t for segment in segments for t in segment.outputs)
        return tuple(
            tensor
            for tensor in written
            if any(
                not self._tree.is_below(reader, host) for reader in self._wanted_at.get(tensor, ())
            )
        )


def _groups_by_party(
    segments: list[Segment], tree: _Tree, host: str
) -> list[tuple[str, list[Segment]]]:
    """Segments by the party (the host itself, or one of its branches) and stage, in order."""
    party = {segment.id: tree.branch(host, segment.host) for segment in segments}
    writer = {tensor: segment for segment in segments for tensor in segment.outputs}
    stage: dict[str, int] = {}
    for segment in segments:
        stage[segment.id] = max(
            (
                stage[writer[t].id] + (party[writer[t].id] != party[segment.id])
                for t in segment.inputs
                if t in writer and writer[t].id != segment.id
            ),
            default=0,
        )
    groups: dict[tuple[int, str], list[Segment]] = {}
    for segment in segments:
        groups.setdefault((stage[segment.id], party[segment.id]), []).append(segment)
    # Calls come before the host's own work of the same stage: both then go on side by side.
    ordered = sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] == host))
    return [(name, members) for (_, name), members in ordered]
