"""The latency of a plan from the times of its segments and the messages that really travel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from partc.ir.cost import CostTable
from partc.ir.program import Program
from partc.ir.segment import Call, Segment
from partc.ir.topology import Topology
from partc.optimizer import Op, Problem, Tensor, evaluate, simulate
from partc.optimizer.evaluation import CodecChoice


@dataclass(frozen=True)
class Message:
    """Tensors that one host sends another at once."""

    sender: str
    receiver: str
    tensors: tuple[str, ...]
    is_push: bool = False


@dataclass(frozen=True)
class Forecast:
    """What one request takes.

    Attributes:
        latency_s: everything one after the other.
        simulated_s: hosts and links side by side.
        arrival_s: (tensor, receiver) -> what its arrival costs whatever its size: the message,
            for the first tensor in it, and nothing for those that ride along.
        lone_s: the same if each tensor were a message of its own that starts a segment, which is
            what the placement problem supposes.
    """

    latency_s: float
    simulated_s: float
    arrival_s: Mapping[tuple[str, str], float]
    lone_s: Mapping[tuple[str, str], float]


def messages_of(calls: Iterable[Call]) -> list[Message]:
    """Every message of a request that carries tensors."""
    found: list[Message] = []
    for call in calls:
        if call.caller is not None:
            found.append(Message(call.caller, call.host, call.inputs))
            found.append(Message(call.host, call.caller, call.outputs))
        for step in call.steps:
            if step.push is not None:
                push = step.push
                found.append(Message(call.host, push.peer, push.tensors, is_push=True))
    return [message for message in found if message.tensors]


def forecast(
    problem: Problem,
    program: Program,
    topology: Topology,
    segments: Iterable[Segment],
    calls: Iterable[Call],
    seconds: Mapping[str, float],
    codecs: CodecChoice,
) -> Forecast:
    """The latency of a plan.

    Args:
        problem: the placement problem that the plan solves; its links and codecs are used.
        seconds: segment id -> what the segment takes on its host, with all that it takes to begin.
        codecs: how tensors travel.
    """
    assert program.costs is not None
    arrival_s: dict[tuple[str, str], float] = {}
    lone_s: dict[tuple[str, str], float] = {}
    homes = {topology.output_home(name) for name in program.outputs}
    for message in messages_of(calls):
        ends = message.sender, message.receiver
        fixed_s = message_fixed_s(program.costs, topology, *ends, is_push=message.is_push)
        for position, tensor in enumerate(message.tensors):
            key = (tensor, message.receiver)
            arrival_s.setdefault(key, 0.0 if position else fixed_s)
            starts_s = program.costs.segment_fixed_s[message.receiver]
            lone_s[key] = fixed_s + (0.0 if message.receiver in homes else starts_s)
    sizes = {tensor.name: tensor for tensor in problem.tensors}
    read = {tensor for segment in segments for tensor in segment.inputs}
    written = {tensor for segment in segments for tensor in segment.outputs}
    names = dict.fromkeys((*program.inputs, *program.outputs, *sorted(read | written)))
    plan = Problem(
        hosts=problem.hosts,
        links=problem.links,
        bus=problem.bus,
        routes=problem.routes,
        codecs=problem.codecs,
        ops=tuple(
            Op(
                name=segment.id,
                inputs=segment.inputs,
                outputs=segment.outputs,
                cost_s={segment.host: seconds[segment.id]},
            )
            for segment in segments
        ),
        tensors=tuple(
            Tensor(
                name=name,
                size_bytes=program.tensor(name).size_bytes,
                codecs=sizes[name].codecs if name in sizes else {},
                shares_message=True,
                extra_s={
                    host: arrival_s[name, host]
                    for host in topology.hosts
                    if (name, host) in arrival_s
                },
            )
            for name in names
        ),
        inputs=problem.inputs,
        outputs=problem.outputs,
    )
    placement = {segment.id: segment.host for segment in segments}
    request_s = program.costs.message.request_fixed_s
    return Forecast(
        latency_s=evaluate(plan, placement, codecs).latency_s + request_s,
        simulated_s=simulate(plan, placement, codecs).latency_s + request_s,
        arrival_s=arrival_s,
        lone_s=lone_s,
    )


def message_fixed_s(
    costs: CostTable, topology: Topology, sender: str, receiver: str, *, is_push: bool = False
) -> float:
    """Seconds of a message without tensors: half a round trip, and the runtime's own work."""
    way = topology.link_between(sender, receiver)
    if way.fixed_ms is not None:
        fixed_s = way.fixed_ms * 1e-3
    elif is_push and costs.message.exchange_fixed_s is not None:
        fixed_s = costs.message.exchange_fixed_s
    else:
        fixed_s = costs.message.fixed_s
    return way.rtt_ms * 0.5e-3 + fixed_s
