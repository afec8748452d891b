"""From an annotated program to a placement problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from partc.errors import PassError
from partc.ir.cost import Cost
from partc.ir.program import Block, Program
from partc.ir.topology import Bus, Link, Topology
from partc.optimizer import Bus as SharedMedium
from partc.optimizer import Codec, Host, Op, Problem, Tensor, TensorCodec, Weight
from partc.optimizer import Link as LinkCost
from partc.optimizer.problem import CodecFactors
from partc.passes.lower.schedule import root_host
from partc.passes.partition.constraints import check_energy, problem_constraints
from partc.passes.partition.losses import LossMeter
from partc.targets.power import powered

_BYTES_PER_S_OF_ONE_MBIT_S = 1e6 / 8


def placement_problem(
    program: Program,
    topology: Topology,
    *,
    objective: str = "latency",
    bandwidth_factor: float = 1.0,
    losses: LossMeter | None = None,
) -> Problem:
    """Blocks as ops, with their costs.

    Args:
        bandwidth_factor: multiplies the bandwidth of every link, or of the bus.
        losses: what encoding a tensor was found to cost the answer; what it does not know yet
            is taken as 0, so that a bound holds whatever is found later.

    Raises:
        PassError: blocks or costs are missing.
        TopologyError: a constraint makes no sense for this program, or a power is missing.
    """
    topology = powered(topology)
    check_energy(topology, objective)
    if program.blocks is None or program.costs is None:
        raise PassError("a placement problem needs blocks and costs")
    costs = program.costs.costs
    tensors = dict.fromkeys((*program.inputs, *program.outputs))
    weights: dict[str, None] = {}
    for block in program.blocks:
        tensors.update(dict.fromkeys((*block.inputs, *block.outputs)))
        weights.update(dict.fromkeys(block.weights))
    return Problem(
        objective=objective,
        hosts=tuple(
            Host(
                name=name,
                memory_bytes=None if host.memory_mib is None else host.memory_mib * 2**20,
                power_active_w=host.power_active_w or 0.0,
                power_idle_w=host.power_idle_w or 0.0,
                power_tx_w=host.power_tx_w or 0.0,
                codec_slowdown=host.slowdown,
                codec_factors=_codec_factors(program, name),
                power_rx_w=host.power_rx_w or 0.0,
                **_bus_costs(program, topology, name, bandwidth_factor),
            )
            for name, host in topology.hosts.items()
        ),
        links=tuple(_link(program, topology, link, bandwidth_factor) for link in topology.links),
        bus=next(
            (
                SharedMedium(hosts=bus.hosts, serial=bus.serial, shared=bus.shared)
                for bus in topology.bus
            ),
            None,
        ),
        ops=tuple(
            Op(
                name=block.name,
                inputs=block.inputs,
                outputs=block.outputs,
                cost_s=_cost_s(program, topology, block, costs[block.name], objective),
                weights=block.weights,
            )
            for block in program.blocks
        ),
        tensors=tuple(_tensor(program, topology, name, losses) for name in tensors),
        weights=tuple(Weight(name=name, size_bytes=program.weights[name]) for name in weights),
        inputs={name: topology.input_home(name) for name in program.inputs},
        outputs={name: topology.output_home(name) for name in program.outputs},
        codecs=_codecs(program),
        energy_hosts=topology.constraints.energy_hosts,
        constraints=problem_constraints(program, topology),
    )


def _cost_s(
    program: Program, topology: Topology, block: Block, row: Mapping[str, Cost], objective: str
) -> dict[str, float]:
    """Seconds on each host; the first block, at home, also starts the first segment.

    Wherever the first block runs it pays for the request as well, once in every plan; a pipeline
    has caches warm, and does not.
    """
    assert program.blocks is not None and program.costs is not None
    seconds = {host: cost.median_s for host, cost in row.items()}
    home = root_host(program, topology)
    if block is not program.blocks[0]:
        return seconds
    if home in seconds:
        seconds[home] += program.costs.segment_fixed_s[home]
    request_s = 0.0 if objective == "throughput" else program.costs.message.request_fixed_s
    return {host: own_s + request_s for host, own_s in seconds.items()}


def _tensor(program: Program, topology: Topology, name: str, losses: LossMeter | None) -> Tensor:
    size_bytes = program.tensor(name).size_bytes
    fixed = _message_of(program, topology, name)
    if program.codecs is None:
        return Tensor(name=name, size_bytes=size_bytes, **fixed)
    ratios = program.codecs.ratios.get(name, {})
    codecs: dict[str, TensorCodec | None] = {}
    for codec in program.codecs.costs:
        if codec not in ratios:
            codecs[codec] = None  # too small to be worth it, or of another type
            continue
        loss = losses.known(name, codec) if losses is not None else None
        codecs[codec] = TensorCodec(ratio=ratios[codec], loss=loss or 0.0)
    return Tensor(name=name, size_bytes=size_bytes, codecs=codecs, **fixed)


def _message_of(program: Program, topology: Topology, name: str) -> dict[str, Any]:
    """What the arrival of a tensor costs where that is not simply a message of its own.

    Inputs that arise on one host go with the first of them, and outputs that are wanted on one
    host with the first of those. What measured plans showed replaces either.
    """
    assert program.costs is not None
    as_input = _rides_along(name, program.inputs, topology.input_home)
    as_output = _rides_along(name, program.outputs, topology.output_home)
    shares = as_input or as_output
    known = program.costs.corrections.get(name)
    if known is None:
        alone = _lone_arrivals(program, topology, name) if as_output else {}
        return {"shares_message": True, "extra_s": alone} if shares else {}
    if len(topology.hosts) > 2 or topology.bus:
        return {"extra_s": dict(known), "shares_message": shares}
    one, other = topology.hosts
    link = topology.link_between(one, other)
    extra_s = {host: _latency_s(program, topology, link, host) for host in (one, other)}
    return {"shares_message": True, "extra_s": extra_s | dict(known)}


def _lone_arrivals(program: Program, topology: Topology, output: str) -> dict[str, float]:
    """An output shares a message where it is wanted, and pays for its own to other hosts."""
    home = topology.output_home(output)
    return {
        host: _latency_s(program, topology, topology.link_between(home, host), host)
        for host in topology.hosts
        if host != home and topology.are_joined(home, host)
    }


def _rides_along(name: str, group: Sequence[str], home: Callable[[str], str]) -> bool:
    return name in group and name != next(each for each in group if home(each) == home(name))


def _codec_factors(program: Program, host: str) -> dict[str, CodecFactors]:
    """Of a host whose node was asked."""
    if program.codecs is None:
        return {}
    return {
        codec: CodecFactors(encode=factor.encode, decode=factor.decode)
        for codec, factor in program.codecs.factors.get(host, {}).items()
        if codec in program.codecs.costs
    }


def _codecs(program: Program) -> tuple[Codec, ...]:
    if program.codecs is None:
        return ()
    return tuple(
        Codec(
            name=name,
            ratio=1.0,
            encode_s_per_byte=cost.encode_s_per_byte,
            decode_s_per_byte=cost.decode_s_per_byte,
        )
        for name, cost in program.codecs.costs.items()
    )


def _link(program: Program, topology: Topology, link: Link, bandwidth_factor: float) -> LinkCost:
    one, other = link.between
    return LinkCost(
        between=link.between,
        seconds_per_byte=(
            _seconds_per_byte(program, link, one, bandwidth_factor),
            _seconds_per_byte(program, link, other, bandwidth_factor),
        ),
        latency_s=(
            _latency_s(program, topology, link, other),
            _latency_s(program, topology, link, one),
        ),
    )


def _bus_costs(
    program: Program, topology: Topology, host: str, bandwidth_factor: float
) -> dict[str, float]:
    """One end's half of a message: putting it on the bus, or taking it."""
    assert program.costs is not None
    if not topology.bus:
        return {}
    bus = topology.bus[0]
    bytes_per_s = bus.bandwidth_mbit_s * bandwidth_factor * _BYTES_PER_S_OF_ONE_MBIT_S
    return {
        "bus_seconds_per_byte": 1.0 / bytes_per_s + program.costs.message.s_per_byte / 2,
        "bus_latency_s": _latency_s(program, topology, bus, host) / 2,
    }


def _seconds_per_byte(program: Program, link: Link, sender: str, factor: float) -> float:
    assert program.costs is not None
    bytes_per_s = link.mbit_s(sender) * factor * _BYTES_PER_S_OF_ONE_MBIT_S
    return 1.0 / bytes_per_s + program.costs.message.s_per_byte


def _latency_s(program: Program, topology: Topology, way: Link | Bus, receiver: str) -> float:
    """Half a round trip, the message's fixed cost, and one more segment at the receiver.

    What comes back to where outputs are wanted is mostly an answer, which starts no segment.
    """
    assert program.costs is not None
    fixed_s = program.costs.message.fixed_s if way.fixed_ms is None else way.fixed_ms * 1e-3
    if receiver not in {topology.output_home(name) for name in program.outputs}:
        fixed_s += program.costs.segment_fixed_s[receiver]
    return way.rtt_ms * 0.5e-3 + fixed_s
