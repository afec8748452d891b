"""What a plan costs and which constraints it breaks, from the problem's definition alone.

Nothing here is shared with the models that the solvers see: this is what their plans are checked
against.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from partc.errors import UsageError
from partc.optimizer.problem import MEDIUM, NO_CODEC, Codec, Host, Problem
from partc.optimizer.routes import Routes
from partc.optimizer.violations import Totals, broken_constraints
from partc.suggest import unknown_name

CodecChoice = Mapping[tuple[str, str, str], str]
"""(tensor, from, to) to the codec's name; what is absent travels as it is."""


@dataclass(frozen=True)
class Transfer:
    """One tensor over one link direction; on a bus, to one receiver.

    `seconds` is encoding, sending and decoding together. On a bus the sender's part (`encode_s`,
    `put_s`) is in the first receiver's, and `wire_s` is the receiver's own.
    """

    tensor: str
    source: str
    destination: str
    bytes: float
    codec: str
    wire_s: float
    encode_s: float = 0.0
    decode_s: float = 0.0
    put_s: float = 0.0

    @property
    def seconds(self) -> float:
        """All that the transfer adds to the latency."""
        return self.encode_s + self.put_s + self.wire_s + self.decode_s

    def to_dict(self) -> dict[str, object]:
        """The transfer as JSON data."""
        return {
            "tensor": self.tensor,
            "from": self.source,
            "to": self.destination,
            "bytes": self.bytes,
            "codec": self.codec,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Evaluation:
    """What a plan costs.

    Attributes:
        objective: the problem's objective, in seconds or joules; infinite if an op cannot run.
        latency_s: one request, host after host.
        bottleneck_s: the largest load: the pipeline's seconds per request.
        compute_s: per host, its ops and its encoding and decoding.
        loads: seconds per request of each host, and of each link direction as "a->b" (a bus
            without `serial`: "a:bus"; of a shared one: "shared bus").
        memory_bytes: per host, weights once, and live tensors where the problem counts them.
        energy_j: per host.
        counted_energy_j: of the hosts whose energy the problem counts.
        loss: sum over the transfers.
        violations: one sentence per constraint that the plan breaks.
    """

    objective: float
    latency_s: float
    bottleneck_s: float
    compute_s: dict[str, float]
    transfers: tuple[Transfer, ...]
    loads: dict[str, float]
    memory_bytes: dict[str, float]
    energy_j: dict[str, float]
    counted_energy_j: float
    loss: float
    violations: tuple[str, ...]


def evaluate(
    problem: Problem, placement: Mapping[str, str], codecs: CodecChoice | None = None
) -> Evaluation:
    """The exact cost of a placement, and the constraints it breaks.

    Raises:
        UsageError: an op has no host, or a name is unknown.
    """
    _check_names(problem, placement, codecs or {})
    return _Evaluator(problem, placement, codecs or {}).run()


def _check_names(problem: Problem, placement: Mapping[str, str], codecs: CodecChoice) -> None:
    names = {op.name for op in problem.ops}
    for op in problem.ops:
        if op.name not in placement:
            raise UsageError(f"The placement has no host for op {op.name!r}.", op=op.name)
    for op_name, host in placement.items():
        if op_name not in names:
            raise UsageError(f"In the placement: {unknown_name('op', op_name, names)}")
        if host not in problem.host_names:
            raise UsageError(f"In the placement: {unknown_name('host', host, problem.host_names)}")
    known = [NO_CODEC, *(codec.name for codec in problem.codecs)]
    for codec in codecs.values():
        if codec not in known:
            raise UsageError(f"In the codecs: {unknown_name('codec', codec, known)}")


class _Evaluator:
    def __init__(self, problem: Problem, placement: Mapping[str, str], codecs: CodecChoice) -> None:
        self.problem = problem
        self.placement = placement
        self.codecs = codecs
        self.hosts: dict[str, Host] = {host.name: host for host in problem.hosts}
        self.compute_s = dict.fromkeys(self.hosts, 0.0)
        self.codec_s = dict.fromkeys(self.hosts, 0.0)
        self.sending_s = dict.fromkeys(self.hosts, 0.0)
        self.receiving_s = dict.fromkeys(self.hosts, 0.0)
        self.wire_s: dict[tuple[str, str], float] = {}
        self.transfers: list[Transfer] = []
        self.presence: dict[str, set[str]] = {}
        self.loss = 0.0
        self.violations: list[str] = []

    def run(self) -> Evaluation:
        self._compute()
        self._move_tensors()
        busy_s = {name: self.compute_s[name] + self.codec_s[name] for name in self.hosts}
        if self.problem.bus is None:
            wire_s = sum(self.wire_s.values())
        else:
            wire_s = sum(self.sending_s.values()) + sum(self.receiving_s.values())
        latency_s = sum(busy_s.values()) + wire_s
        loads = self._loads(busy_s)
        bottleneck_s = max(loads.values(), default=0.0)
        energy_j = {name: self._energy_j(name, busy_s, latency_s) for name in self.hosts}
        memory_bytes = {name: self._memory_bytes(name) for name in self.hosts}
        counted = dict.fromkeys(self.problem.energy_hosts or self.problem.host_names)
        counted_energy_j = sum(energy_j[name] for name in counted)
        objective = {
            "latency": latency_s,
            "throughput": bottleneck_s,
            "energy": counted_energy_j,
        }[self.problem.objective]
        totals = Totals(latency_s, loads, memory_bytes, energy_j, self.loss)
        self.violations += broken_constraints(self.problem, self.placement, totals)
        return Evaluation(
            objective=math.inf if math.isinf(latency_s) else objective,
            latency_s=latency_s,
            bottleneck_s=bottleneck_s,
            compute_s=busy_s,
            transfers=tuple(self.transfers),
            loads=loads,
            memory_bytes=memory_bytes,
            energy_j=energy_j,
            counted_energy_j=counted_energy_j,
            loss=self.loss,
            violations=tuple(self.violations),
        )

    def _compute(self) -> None:
        for op in self.problem.ops:
            host = self.placement[op.name]
            if host not in op.cost_s:
                self.violations.append(f"Op {op.name!r} cannot run on host {host!r}.")
            self.compute_s[host] += op.cost_s.get(host, math.inf)

    def _source_of(self, tensor: str) -> str | None:
        if tensor in self.problem.inputs:
            return self.problem.inputs[tensor]
        producer = self.problem.producer_of.get(tensor)
        return self.placement[producer.name] if producer else None

    def _readers_of(self, tensor: str) -> list[str]:
        hosts = [self.placement[op.name] for op in self.problem.consumers_of[tensor]]
        if tensor in self.problem.outputs:
            hosts.append(self.problem.outputs[tensor])
        return list(dict.fromkeys(hosts))

    def _move_tensors(self) -> None:
        routes = Routes(self.problem) if self.problem.bus is None else None
        for tensor in self.problem.tensors:
            source = self._source_of(tensor.name)
            if source is None:
                continue
            self.presence[tensor.name] = {source}
            readers = [host for host in self._readers_of(tensor.name) if host != source]
            if not readers:
                continue
            if tensor.name in self.problem.constraints.keep_local:
                self.violations.append(
                    f"Tensor {tensor.name!r} must stay on its host, but leaves {source!r} for "
                    f"{', '.join(map(repr, readers))}."
                )
            if routes is not None:
                hops: dict[tuple[str, str], None] = {}
                for reader in readers:
                    hops.update(dict.fromkeys(routes.path(source, reader)))
                for sender, receiver in hops:
                    self._send_over_link(routes, tensor.name, sender, receiver)
            else:
                self._send_over_bus(tensor.name, source, readers)

    def _encoding(
        self, tensor: str, source: str, destination: str
    ) -> tuple[str, float, float, float]:
        """Name, bytes sent, and seconds of encoding and of decoding."""
        size_bytes = self.problem.tensor_by_name[tensor].size_bytes
        name = self.codecs.get((tensor, source, destination), NO_CODEC)
        if name == NO_CODEC:
            return name, size_bytes, 0.0, 0.0
        codec = next(codec for codec in self.problem.codecs if codec.name == name)
        ratio, loss = self._measured(tensor, codec)
        self.loss += loss
        return (
            name,
            size_bytes * ratio,
            size_bytes * codec.encode_s_per_byte,
            size_bytes * codec.decode_s_per_byte,
        )

    def _measured(self, tensor: str, codec: Codec) -> tuple[float, float]:
        overrides = self.problem.tensor_by_name[tensor].codecs
        if codec.name not in overrides:
            return codec.ratio, codec.loss
        own = overrides[codec.name]
        if own is None:
            self.violations.append(f"Codec {codec.name!r} is not allowed for tensor {tensor!r}.")
            return codec.ratio, codec.loss
        return (
            codec.ratio if own.ratio is None else own.ratio,
            codec.loss if own.loss is None else own.loss,
        )

    def _send_over_link(self, routes: Routes, tensor: str, source: str, destination: str) -> None:
        codec, sent_bytes, encode_s, decode_s = self._encoding(tensor, source, destination)
        encode_s *= self.hosts[source].encoding_factor(codec)
        decode_s *= self.hosts[destination].decoding_factor(codec)
        seconds_per_byte, latency_s = routes.cost(source, destination)
        wire_s = sent_bytes * seconds_per_byte + self._arrival_s(tensor, destination, latency_s)
        self.wire_s[source, destination] = self.wire_s.get((source, destination), 0.0) + wire_s
        self.sending_s[source] += wire_s
        self.receiving_s[destination] += wire_s
        self.codec_s[source] += encode_s
        self.codec_s[destination] += decode_s
        self.presence[tensor].add(destination)
        self.transfers.append(
            Transfer(tensor, source, destination, sent_bytes, codec, wire_s, encode_s, decode_s)
        )

    def _send_over_bus(self, tensor: str, source: str, readers: list[str]) -> None:
        chosen = {self.codecs.get((tensor, source, reader), NO_CODEC) for reader in readers}
        if len(chosen) > 1:
            raise UsageError(
                f"Tensor {tensor!r} is put on the bus once, so all its receivers share one codec."
            )
        codec, sent_bytes, encode_s, decode_s = self._encoding(tensor, source, readers[0])
        encode_s *= self.hosts[source].encoding_factor(codec)
        alone = not self.problem.tensor_by_name[tensor].shares_message
        put_s = self._bus_s(source, sent_bytes)
        put_s += self.hosts[source].bus_latency_s if alone else 0.0
        self.sending_s[source] += put_s
        self.codec_s[source] += encode_s
        for reader in readers:
            get_s = self._bus_s(reader, sent_bytes)
            get_s += self._arrival_s(tensor, reader, self.hosts[reader].bus_latency_s)
            taken_s = decode_s * self.hosts[reader].decoding_factor(codec)
            self.receiving_s[reader] += get_s
            self.codec_s[reader] += taken_s
            self.presence[tensor].add(reader)
            self.transfers.append(
                Transfer(tensor, source, reader, sent_bytes, codec, get_s, encode_s, taken_s, put_s)
            )
            encode_s = put_s = 0.0

    def _bus_s(self, host: str, sent_bytes: float) -> float:
        machine = self.hosts[host]
        assert machine.bus_seconds_per_byte is not None
        return sent_bytes * machine.bus_seconds_per_byte

    def _arrival_s(self, tensor: str, receiver: str, latency_s: float) -> float:
        """What an arrival costs whatever its size."""
        sent = self.problem.tensor_by_name[tensor]
        return sent.extra_s.get(receiver, 0.0) + (0.0 if sent.shares_message else latency_s)

    def _loads(self, busy_s: dict[str, float]) -> dict[str, float]:
        loads = dict(busy_s)
        if self.problem.bus is None:
            for (source, destination), seconds in self.wire_s.items():
                loads[f"{source}->{destination}"] = seconds
            return loads
        for name in self.hosts:
            seconds = self.sending_s[name] + self.receiving_s[name]
            if self.problem.bus.serial:
                loads[name] += seconds
            else:
                loads[f"{name}:bus"] = seconds
        if self.problem.bus.shared:
            loads[MEDIUM] = sum(self.sending_s.values()) + sum(self.receiving_s.values())
        return loads

    def _energy_j(self, name: str, busy_s: dict[str, float], latency_s: float) -> float:
        host = self.hosts[name]
        sending_s, receiving_s = self.sending_s[name], self.receiving_s[name]
        energy_j = host.power_tx_w * sending_s + host.power_rx_w * receiving_s
        if host.power_active_w > 0:
            energy_j += host.power_active_w * busy_s[name]
        if host.power_idle_w > 0 and math.isfinite(latency_s):
            energy_j += host.power_idle_w * (latency_s - busy_s[name] - sending_s - receiving_s)
        return energy_j

    def _memory_bytes(self, host: str) -> float:
        size = {weight.name: weight.size_bytes for weight in self.problem.weights}
        held = {
            name
            for op in self.problem.ops
            if self.placement[op.name] == host
            for name in op.weights
        }
        weights_bytes = sum(size[name] for name in held)
        if not self.problem.constraints.activations:
            return weights_bytes
        return weights_bytes + self._peak_activation_bytes(host)

    def _peak_activation_bytes(self, host: str) -> float:
        """A tensor on the host is live from the op that makes it to its last reader anywhere."""
        position = {op.name: index for index, op in enumerate(self.problem.ordered_ops)}
        steps = len(self.problem.ops)
        change = [0.0] * (steps + 2)
        for name, hosts in self.presence.items():
            if host not in hosts:
                continue
            producer = self.problem.producer_of.get(name)
            first = position[producer.name] + 1 if producer else 0
            last = max((position[op.name] + 1 for op in self.problem.consumers_of[name]), default=0)
            if name in self.problem.outputs:
                last = steps
            change[first] += self.problem.tensor_by_name[name].size_bytes
            change[max(first, last) + 1] -= self.problem.tensor_by_name[name].size_bytes
        live_bytes = peak_bytes = 0.0
        for step in change:
            live_bytes += step
            peak_bytes = max(peak_bytes, live_bytes)
        return peak_bytes
