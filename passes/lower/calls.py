"""From segments to what each host does for a request: calls, and pushes between their hosts.

Calls form a tree that is rooted where requests start, since failures are found and repaired along
it. Hosts that are joined and do not call each other *push* what the other needs. So a host that
waits for its peers alone does all its work of a request in one call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import networkx as nx

from partc.errors import PassError
from partc.ir.plan import Transfer
from partc.ir.program import Program
from partc.ir.segment import Call, Exchange, Segment, Step
from partc.ir.topology import Topology
from partc.ir.waiting import why_stuck
from partc.passes.lower.routes import Hop, HostTree, Routes


def make_calls(
    program: Program,
    segments: Iterable[Segment],
    topology: Topology,
    prefix: str = "c",
    transfers: Iterable[Transfer] = (),
) -> tuple[Call, ...]:
    """The calls of one request, the root's first; their ids begin with ``prefix``.

    Seen from a host, everything behind one of the hosts that it calls is one party; what that
    party does between two things that pass through the host is one call. The same rule then
    applies inside the call. A request brings every input to the root, and its answer is every
    output.

    Args:
        transfers: of the plan, which say over which hosts a tensor travels.
    """
    root = root_host(program, topology)
    tree = HostTree.of(topology, root)
    work = _Work(program, tuple(segments), root, tree, Routes(tree, transfers))
    calls: list[Call] = []
    for stages in (_StagesOfHost(work), _StagesOfAll(work)):
        calls = _CallBuilder(work, prefix, stages).request()
        if not work.has_pushes or why_stuck(calls, work.segment_by_id) is None:
            break
    else:
        raise PassError(
            f"the hosts would wait for each other: {why_stuck(calls, work.segment_by_id)}",
            pass_name="emit-bundle",
        )
    last = {call.host: call.id for call in calls}
    return tuple(replace(call, is_last=last[call.host] == call.id) for call in calls)


def root_host(program: Program, topology: Topology) -> str:
    """The host where requests start: where the first input arises, or outputs are wanted."""
    if program.inputs:
        return topology.input_home(program.inputs[0])
    return topology.output_home(program.outputs[0])


@dataclass(frozen=True, eq=False)
class _Job:
    """A segment, or (``relayed``) passing a tensor on that another host pushes, or is pushed."""

    host: str
    reads: tuple[str, ...]
    segment: Segment | None = None
    relayed: str | None = None


@dataclass(frozen=True)
class _Arrival:
    """How a tensor that a job reads comes to the job's host.

    Attributes:
        source: the last job that had to do with it; None for an input of the model.
        hops: along calls, from the source's host; none when it is pushed, or made there.
        pushed: the source's host pushes it.
    """

    source: _Job | None
    hops: tuple[Hop, ...]
    pushed: bool


class _Work:
    """All jobs of a request, in an order in which they can be done, and what joins them."""

    def __init__(
        self,
        program: Program,
        segments: tuple[Segment, ...],
        root: str,
        tree: HostTree,
        routes: Routes,
    ) -> None:
        self.program = program
        self.root = root
        self.tree = tree
        self.segment_by_id = {segment.id: segment for segment in segments}
        self._writer: dict[str, _Job | None] = dict.fromkeys(program.inputs)
        jobs = [_Job(segment.host, segment.inputs, segment) for segment in segments]
        readers: dict[str, list[str]] = {name: [root] for name in program.outputs}
        for job in jobs:
            assert job.segment is not None
            self._writer.update(dict.fromkeys(job.segment.outputs, job))
            for tensor in job.reads:
                readers.setdefault(tensor, []).append(job.host)
        self._before = {
            tensor: routes.spread(tensor, self._home(tensor), hosts)
            for tensor, hosts in readers.items()
        }
        self._relays = {(relay.relayed, relay.host): relay for relay in self._all_relays()}
        self.has_pushes = any(
            not tree.is_call((sender, host))
            for before in self._before.values()
            for host, sender in before.items()
        )
        every = [*jobs, *self._relays.values()]
        self.arrivals = {
            job: {tensor: self._arrival(tensor, job) for tensor in job.reads} for job in every
        }
        self.jobs = self._in_order(every)

    def _home(self, tensor: str) -> str:
        writer = self._writer[tensor]
        return self.root if writer is None else writer.host

    def _all_relays(self) -> Iterable[_Job]:
        """Wherever a tensor is passed on, and comes or goes by a push."""
        for tensor, before in self._before.items():
            passed_on = {host for host in before.values() if host in before}
            for host in sorted(passed_on):
                hops = [(before[host], host)]
                hops += [(host, other) for other, sender in before.items() if sender == host]
                if not all(self.tree.is_call(hop) for hop in hops):
                    yield _Job(host, (tensor,), relayed=tensor)

    def _arrival(self, tensor: str, job: _Job) -> _Arrival:
        before = self._before[tensor]
        host = job.host
        hops: list[Hop] = []
        while True:
            here = self._relays.get((tensor, host))
            if here is not None and here is not job:
                return _Arrival(here, tuple(reversed(hops)), False)
            if host not in before:
                return _Arrival(self._writer[tensor], tuple(reversed(hops)), False)
            hop = (before[host], host)
            if not self.tree.is_call(hop):
                return _Arrival(self.source(tensor, hop[0]), (), True)
            hops.append(hop)
            host = hop[0]

    def source(self, tensor: str, host: str) -> _Job | None:
        """The last job that had to do with a tensor by when it is at ``host``."""
        before = self._before[tensor]
        while (tensor, host) not in self._relays:
            if host not in before:
                return self._writer[tensor]
            host = before[host]
        return self._relays[tensor, host]

    def receivers(self, tensor: str, host: str) -> list[str]:
        """To whom ``host`` sends a tensor."""
        return [other for other, sender in self._before.get(tensor, {}).items() if sender == host]

    def _in_order(self, every: list[_Job]) -> list[_Job]:
        graph = nx.DiGraph()
        graph.add_nodes_from(every)
        graph.add_edges_from(
            (arrival.source, job)
            for job, arrivals in self.arrivals.items()
            for arrival in arrivals.values()
            if arrival.source is not None
        )
        position = {job: index for index, job in enumerate(every)}
        return list(nx.lexicographical_topological_sort(graph, key=position.__getitem__))

    def handled(self, job: _Job) -> tuple[str, ...]:
        """The tensors that leave a job."""
        return (str(job.relayed),) if job.segment is None else job.segment.outputs


class _StagesOfHost:
    """A host's calls are told apart by how often things have passed through that host."""

    def __init__(self, work: _Work) -> None:
        self._work = work

    def of(self, host: str, members: Sequence[_Job]) -> Mapping[_Job, int]:
        """Job -> the most times that a way from one of ``members`` to it passes ``host``.

        Ways that leave the party by a push and come back count as well, so all jobs are looked
        at.
        """
        inside = set(members)
        tree = self._work.tree

        def passes(arrival: _Arrival) -> int:
            return any(tree.upper(hop) == host for hop in arrival.hops)

        stage: dict[_Job, int] = {}
        for job in self._work.jobs if self._work.has_pushes else members:
            reached = [
                stage[arrival.source] + passes(arrival)
                for arrival in self._work.arrivals[job].values()
                if arrival.source in stage
            ]
            if reached or job in inside:
                stage[job] = max(reached, default=0)
        return stage


class _StagesOfAll:
    """Calls are told apart by how often anything has passed along a call.

    More calls than necessary, and never a circle: what a stage waits for is either of an earlier
    stage, or pushed within it.
    """

    def __init__(self, work: _Work) -> None:
        self._stage: dict[_Job, int] = {}
        for job in work.jobs:
            self._stage[job] = max(
                (
                    self._stage[arrival.source] + bool(arrival.hops)
                    for arrival in work.arrivals[job].values()
                    if arrival.source is not None
                ),
                default=0,
            )

    def of(self, host: str, members: Sequence[_Job]) -> Mapping[_Job, int]:
        """Job -> its stage."""
        return self._stage


class _CallBuilder:
    def __init__(self, work: _Work, prefix: str, stages: _StagesOfHost | _StagesOfAll) -> None:
        self._work = work
        self._prefix = prefix
        self._stages = stages
        self._count = 0
        # Over the whole request: a host is called again and again, and holds what it was sent.
        self._sent: dict[Hop, set[str]] = {}
        self._exchanges = self._all_exchanges()
        self._awaited: set[tuple[_Job, str]] = set()

    def request(self) -> list[Call]:
        """The call that is the request, then all others."""
        return self._build(self._work.root, None, self._work.jobs, self._work.program.inputs)

    def _build(
        self, host: str, caller: str | None, members: Sequence[_Job], inputs: tuple[str, ...]
    ) -> list[Call]:
        """The call that does ``members`` at ``host`` and behind it, then the calls it makes."""
        index = self._count
        self._count += 1
        steps: list[Step] = []
        made: list[Call] = []
        for party, group in self._groups(host, members):
            if party == host:
                steps.extend(step for job in group for step in self._steps(job))
                continue
            sent = self._sent.setdefault((host, party), set())
            fresh = tuple(t for t in self._brought((host, party), group) if t not in sent)
            sent.update(fresh)
            calls = self._build(party, host, group, fresh)
            steps.append(Step(call=calls[0].id))
            made.extend(calls)
        call = Call(
            id=f"{self._prefix}{index}",
            host=host,
            caller=caller,
            inputs=inputs,
            outputs=self._outputs((host, caller), members),
            steps=tuple(steps),
        )
        return [call, *made]

    def _groups(self, host: str, members: Sequence[_Job]) -> list[tuple[str, list[_Job]]]:
        """Jobs by the party (the host itself, or one of its branches) and stage, in order."""
        stage = self._stages.of(host, members)
        groups: dict[tuple[int, str], list[_Job]] = {}
        for job in members:
            party = self._work.tree.branch(host, job.host)
            groups.setdefault((stage[job], party), []).append(job)
        # Calls come before the host's own work of the same stage: both then go on side by side.
        ordered = sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] == host))
        return [(name, group) for (_, name), group in ordered]

    def _brought(self, hop: Hop, group: Sequence[_Job]) -> dict[str, None]:
        """The tensors that come over ``hop`` to jobs behind it."""
        return dict.fromkeys(
            tensor
            for job in group
            for tensor, arrival in self._work.arrivals[job].items()
            if hop in arrival.hops
        )

    def _outputs(self, hop: tuple[str, str | None], members: Sequence[_Job]) -> tuple[str, ...]:
        host, caller = hop
        if caller is None:
            return self._work.program.outputs
        work = self._work
        return tuple(
            dict.fromkeys(
                tensor
                for job in members
                for tensor in work.handled(job)
                if caller in work.receivers(tensor, host) and work.source(tensor, host) is job
            )
        )

    def _all_exchanges(self) -> dict[tuple[_Job, str], tuple[str, tuple[str, ...]]]:
        """(job, receiver) -> id and tensors of the message that the job's host then pushes."""
        work = self._work
        found: dict[tuple[_Job, str], list[str]] = {}
        for job in work.jobs:
            for tensor in work.handled(job):
                for receiver in work.receivers(tensor, job.host):
                    if not work.tree.is_call((job.host, receiver)):
                        found.setdefault((job, receiver), []).append(tensor)
        prefix = self._prefix.removesuffix("c") + "x"
        return {
            key: (f"{prefix}{number}", tuple(tensors))
            for number, (key, tensors) in enumerate(found.items())
        }

    def _steps(self, job: _Job) -> Iterable[Step]:
        """What it awaits if nothing before did, the segment, and what is pushed then."""
        for arrival in self._work.arrivals[job].values():
            if not arrival.pushed or arrival.source is None:
                continue
            key = (arrival.source, job.host)
            if key not in self._awaited:
                self._awaited.add(key)
                name, tensors = self._exchanges[key]
                yield Step(awaits=Exchange(name, arrival.source.host, tensors))
        if job.segment is not None:
            yield Step(run=job.segment.id)
        for receiver in self._peers_of(job):
            name, tensors = self._exchanges[job, receiver]
            yield Step(push=Exchange(name, receiver, tensors))

    def _peers_of(self, job: _Job) -> Iterable[str]:
        return [
            receiver for receiver in self._work.tree.parent if (job, receiver) in self._exchanges
        ]
