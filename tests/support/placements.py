"""Placing a program by hand, and carrying out its plan as the hosts of a bundle would."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace

import onnx

from partc.ir.plan import Certificate, Plan
from partc.ir.program import Program
from partc.ir.segment import Call, Segment, Step
from partc.ir.topology import Topology
from partc.passes.contract import Context
from partc.passes.ingest.read_model import read_model
from partc.passes.lower.schedule import make_calls
from partc.passes.lower.split import Split
from partc.pipeline import DEFAULT_PIPELINE, Pipeline
from tests.support.oracle import Array, run_whole

INGEST = "infer-shapes,fold-constants,group-blocks"
QUICK = DEFAULT_PIPELINE.replace(
    "annotate-costs", "annotate-costs{repeats=3,pause_ms=0.0}"
).replace("refine-costs,", "")
"""The whole default pipeline, with measurements too short to be of use."""


def topology_of(*pairs: tuple[str, str], **changes: object) -> Topology:
    """Hosts named in ``pairs``, each pair with a link of 20 Mbit/s and 10 ms."""
    names = dict.fromkeys(name for pair in pairs for name in pair)
    return Topology.parse(
        {
            "hosts": {name: {} for name in names},
            "links": [
                {"between": list(pair), "bandwidth_mbit_s": 20, "rtt_ms": 10} for pair in pairs
            ],
            **changes,
        }
    )


TWO_HOSTS = topology_of(("camera", "server"))
CHAIN = topology_of(("camera", "gateway"), ("gateway", "server"))
STAR = topology_of(("hub", "left"), ("hub", "right"))
TREE = topology_of(("camera", "gateway"), ("gateway", "near"), ("gateway", "far"))
TRIANGLE = topology_of(("hub", "left"), ("hub", "right"), ("left", "right"))
MESH = topology_of(
    ("camera", "gateway"), ("gateway", "near"), ("camera", "other"), ("other", "near"),
    ("other", "gateway"), ("near", "far"), ("other", "far"),
)  # fmt: skip
CELL = Topology.parse(
    {
        "hosts": {"phone": {}, "robot": {}, "server": {}, "spare": {}},
        "bus": [{"hosts": ["phone", "robot", "server", "spare"], "bandwidth_mbit_s": 20}],
    }
)


def ingested(
    model: onnx.ModelProto,
    topology: Topology = TWO_HOSTS,
    *,
    sample: Mapping[str, Array] | None = None,
    pipeline: str = INGEST,
) -> Program:
    """The program after the passes of ``pipeline``."""
    program = read_model(model, sample=sample)
    return Pipeline.parse(pipeline).run(program, topology)


def placed(program: Program, placement: Mapping[str, str]) -> Program:
    """The program with a plan that nobody solved for."""
    certificate = Certificate("latency", 0.0, 0.0, 0.0, "optimal", "by hand", 0.0)
    plan = Plan(dict(placement), (), (), certificate, None, (), {})
    return replace(program, plan=plan)


def random_placement(program: Program, topology: Topology, seed: int) -> dict[str, str]:
    """A host for every op; one seed in three favours long runs on one host.

    Where blocks are known, every second seed draws a host for each block, as a plan does; the
    others draw one for each op, as long as nothing in the model must stay within its block.
    """
    draw = random.Random(seed)
    hosts = list(topology.hosts)
    current = draw.choice(hosts)
    placement: dict[str, str] = {}
    for ops in _units(program, seed):
        if seed % 3 or draw.random() < 0.3:
            current = draw.choice(hosts)
        placement.update(dict.fromkeys(ops, current))
    return placement


def _units(program: Program, seed: int) -> list[tuple[str, ...]]:
    all_cross = all(info.can_cross for info in program.tensors.values())
    if program.blocks is None or (all_cross and seed % 2):
        return [(op.name,) for op in program.placed_ops]
    return [block.ops for block in program.blocks]


def split(program: Program, topology: Topology, placement: Mapping[str, str]) -> Program:
    """The program with its segments, each checked by the ONNX checker.

    A tensor whose rank may differ from request to request has no shape, which ONNX Runtime
    accepts at a boundary and the checker does not.
    """
    result = Split().run(placed(program, placement), Context(topology)).program
    for segment in result.segments or ():
        assert segment.model is not None
        boundary = (*segment.inputs, *segment.outputs)
        if all(program.tensor(name).shape is not None for name in boundary):
            # Inference, which the full check does, knows no sparse weights.
            full = not program.model.graph.sparse_initializer
            onnx.checker.check_model(segment.model, full_check=full)
    return result


def run_in_order(segments: tuple[Segment, ...], feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Every tensor after the segments ran one after the other, each given its inputs alone."""
    held = dict(feeds)
    for segment in segments:
        held.update(run_segment(segment, held))
    return held


def run_segment(segment: Segment, held: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of a segment; fails where an input is missing."""
    assert segment.model is not None
    return run_whole(segment.model, {name: held[name] for name in segment.inputs})


class Hosts:
    """The hosts of a topology while they carry out the calls of one request.

    Keeps count of what crosses each link, and forgets what a host may forget. Of everything that
    could happen next anywhere, ``seed`` decides what does.
    """

    def __init__(self, program: Program, topology: Topology, seed: int = 0) -> None:
        transfers = program.plan.transfers if program.plan is not None else ()
        segments = program.segments or ()
        self.calls = make_calls(program, segments, topology, transfers=transfers)
        self.crossings: list[tuple[str, str, str]] = []
        self._call = {call.id: call for call in self.calls}
        self._segment = {segment.id: segment for segment in program.segments or ()}
        self._held: dict[str, dict[str, Array]] = {}
        self._left: dict[str, list[Step]] = {}
        self._under_way: set[str] = set()
        self._ended: set[str] = set()
        self._ran: list[str] = []
        self._draw = random.Random(seed)

    def answer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """What the root call gives back.

        Raises:
            AssertionError: a step lacks an input, a tensor crosses a link twice in one
                direction, or a segment does not run exactly once.
        """
        root = self.calls[0]
        self._begin(root, {name: feeds[name] for name in root.inputs})
        answer: dict[str, Array] = {}
        while self._under_way:
            ready = [(call, step) for call in self._running() for step in self._ready(call)]
            assert ready, f"nothing can go on of {[c.id for c in self._running()]}: {self._left}"
            call, step = self._draw.choice(ready)
            if step is None:
                answer = self._end(call)
            else:
                self._take(call, step)
        assert sorted(self._ran) == sorted(self._segment), "every segment runs exactly once"
        assert len(set(self.crossings)) == len(self.crossings), "a tensor was sent twice"
        assert not self._held, "a host was never told that it may forget the request"
        return answer

    def _running(self) -> list[Call]:
        return [call for call in self.calls if call.id in self._under_way]

    def _begin(self, call: Call, received: Mapping[str, Array]) -> None:
        self._held.setdefault(call.host, {}).update(received)
        self._under_way.add(call.id)
        self._left[call.id] = list(call.steps)

    def _end(self, call: Call) -> dict[str, Array]:
        held = self._held[call.host]
        outputs = {name: held[name] for name in call.outputs}
        self._under_way.remove(call.id)
        self._ended.add(call.id)
        if call.is_last:
            del self._held[call.host]
        if call.caller is not None:
            self._send(call.host, call.caller, outputs)
        return outputs

    def _ready(self, call: Call) -> Iterator[Step | None]:
        """Steps that can be taken; None to end the call."""
        left, held = self._left[call.id], self._held[call.host]
        made = [self._call[step.call] for step in call.steps if step.call is not None]
        if not left:
            if all(each.id in self._ended for each in made):
                yield None
            return
        for step in left:
            if step.call is not None:
                # Calls to one host keep their order, and wait for each other.
                host = self._call[step.call].host
                before = [c for c in made[: made.index(self._call[step.call])] if c.host == host]
                if any(each.id not in self._ended for each in before):
                    continue
            if self._inputs(step) <= set(held):
                yield step

    def _inputs(self, step: Step) -> set[str]:
        if step.run is not None:
            return set(self._segment[step.run].inputs)
        exchange = step.push or step.awaits
        return set(self._call[str(step.call)].inputs if exchange is None else exchange.tensors)

    def _take(self, call: Call, step: Step) -> None:
        self._left[call.id].remove(step)
        held = self._held[call.host]
        if step.run is not None:
            segment = self._segment[step.run]
            assert segment.host == call.host
            self._ran.append(segment.id)
            held.update(run_segment(segment, held))
        elif step.call is not None:
            made = self._call[step.call]
            assert made.caller == call.host
            given = {name: held[name] for name in made.inputs}
            self._send(call.host, made.host, given)
            self._begin(made, given)
        elif step.push is not None:
            given = {name: held[name] for name in step.push.tensors}
            self._send(call.host, step.push.peer, given)

    def _send(self, sender: str, receiver: str, tensors: Mapping[str, Array]) -> None:
        self.crossings += [(sender, receiver, name) for name in tensors]
        self._held.setdefault(receiver, {}).update(tensors)
