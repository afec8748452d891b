"""A problem in index form for the models: ops that must share a host become one unit."""

from __future__ import annotations

from dataclasses import dataclass

from partc.optimizer.problem import NO_CODEC, Problem


class NoHostLeftError(Exception):
    """Some ops have no host that all constraints allow; a solve turns this into `infeasible`."""


@dataclass(frozen=True)
class Net:
    """One tensor with everything that may have to be reached from where it arises.

    Attributes:
        source_unit: unit of the op that makes it; None where it arises at `source_host`.
        reader_units, reader_hosts: who wants it.
        fixed_s: for two hosts, seconds from host 0 to host 1 and back in place of what the size
            and the link say; infinite is forbidden.
    """

    tensor: str
    size_bytes: float
    source_unit: int | None
    source_host: int | None
    reader_units: tuple[int, ...]
    reader_hosts: tuple[int, ...]
    fixed_s: tuple[float, float] | None = None


@dataclass(frozen=True)
class CodecOption:
    """One way to send one tensor; seconds of encoding and decoding, bytes on the wire."""

    name: str
    sent_bytes: float
    encode_s: float
    decode_s: float
    loss: float


@dataclass(frozen=True)
class Instance:
    """Units, their costs and the nets between them.

    Attributes:
        unit_of: op name to unit.
        ops_of: unit to op names.
        cost_s: per unit, host index to seconds, for the allowed hosts only.
        nets: tensors that may have to move.
        constant_s: latency of what a reduction has taken out.
    """

    problem: Problem
    unit_of: dict[str, int]
    ops_of: tuple[tuple[str, ...], ...]
    cost_s: tuple[dict[int, float], ...]
    nets: tuple[Net, ...]
    constant_s: float = 0.0

    def placement(self, host_of_unit: list[int]) -> dict[str, str]:
        """Op name to host name."""
        names = self.problem.host_names
        return {op.name: names[host_of_unit[self.unit_of[op.name]]] for op in self.problem.ops}

    def fixed_s(self, tensor_name: str, receiver: int, latency_s: float) -> float:
        """What one arrival of the tensor costs whatever its size, where a message costs this."""
        tensor = self.problem.tensor_by_name[tensor_name]
        own_s = tensor.extra_s.get(self.problem.host_names[receiver], 0.0)
        return own_s if tensor.shares_message else latency_s + own_s

    def codec_options(
        self, tensor_name: str, sender: int | None = None, receiver: int | None = None
    ) -> list[CodecOption]:
        """Every way to send the tensor, plain first; seconds as on these hosts, where given."""
        hosts = self.problem.hosts
        tensor = self.problem.tensor_by_name[tensor_name]
        size_bytes = tensor.size_bytes
        options = [CodecOption(NO_CODEC, size_bytes, 0.0, 0.0, 0.0)]
        for codec in self.problem.codecs:
            ratio, loss = codec.ratio, codec.loss
            if codec.name in tensor.codecs:
                own = tensor.codecs[codec.name]
                if own is None:
                    continue
                ratio = ratio if own.ratio is None else own.ratio
                loss = loss if own.loss is None else own.loss
            encode_s = size_bytes * codec.encode_s_per_byte
            decode_s = size_bytes * codec.decode_s_per_byte
            if sender is not None:
                encode_s *= hosts[sender].encoding_factor(codec.name)
            if receiver is not None:
                decode_s *= hosts[receiver].decoding_factor(codec.name)
            options.append(CodecOption(codec.name, size_bytes * ratio, encode_s, decode_s, loss))
        return options


def build_instance(problem: Problem) -> Instance:
    """The problem in index form.

    Raises:
        NoHostLeftError: ops that must share a host have none that they may all use.
    """
    host_index = {name: index for index, name in enumerate(problem.host_names)}
    allowed = _allowed_hosts(problem, host_index)
    group = _Groups([op.name for op in problem.ops])
    for together in problem.constraints.together:
        for name in together[1:]:
            group.join(together[0], name)
    _keep_tensors_local(problem, host_index, allowed, group)

    unit_of: dict[str, int] = {}
    ops_of: list[list[str]] = []
    for op in problem.ops:
        root = group.root(op.name)
        if root not in unit_of:
            unit_of[root] = len(ops_of)
            ops_of.append([])
        unit_of[op.name] = unit_of[root]
        ops_of[unit_of[op.name]].append(op.name)
    op_by_name = {op.name: op for op in problem.ops}
    costs: list[dict[int, float]] = []
    for names in ops_of:
        hosts = set.intersection(*(allowed[name] for name in names))
        if not hosts:
            raise NoHostLeftError(f"No host is allowed for {', '.join(map(repr, names))}.")
        costs.append(
            {
                host: sum(op_by_name[name].cost_s[problem.host_names[host]] for name in names)
                for host in sorted(hosts)
            }
        )
    return Instance(
        problem,
        unit_of,
        tuple(tuple(names) for names in ops_of),
        tuple(costs),
        tuple(_nets(problem, unit_of, host_index)),
    )


def _allowed_hosts(problem: Problem, host_index: dict[str, int]) -> dict[str, set[int]]:
    limits = problem.constraints
    allowed = {}
    for op in problem.ops:
        hosts = {host_index[name] for name in op.cost_s}
        if op.name in limits.pinned:
            hosts &= {host_index[limits.pinned[op.name]]}
        hosts -= {host_index[name] for name in limits.forbidden.get(op.name, ())}
        allowed[op.name] = hosts
    return allowed


def _keep_tensors_local(
    problem: Problem, host_index: dict[str, int], allowed: dict[str, set[int]], group: _Groups
) -> None:
    for name in problem.constraints.keep_local:
        homes = [
            host_index[where[name]] for where in (problem.inputs, problem.outputs) if name in where
        ]
        if len(set(homes)) > 1:
            raise NoHostLeftError(f"Tensor {name!r} arises on one host and is wanted on another.")
        ops = [op.name for op in problem.consumers_of[name]]
        if name in problem.producer_of:
            ops.append(problem.producer_of[name].name)
        for op in ops:
            group.join(ops[0], op)
            allowed[op] &= set(homes) or allowed[op]


def _nets(problem: Problem, unit_of: dict[str, int], host_index: dict[str, int]) -> list[Net]:
    nets = []
    for tensor in problem.tensors:
        producer = problem.producer_of.get(tensor.name)
        home = problem.inputs.get(tensor.name)
        if producer is None and home is None:
            continue
        source_unit = unit_of[producer.name] if producer else None
        units = dict.fromkeys(unit_of[op.name] for op in problem.consumers_of[tensor.name])
        if source_unit is not None:
            units.pop(source_unit, None)
        wanted_at = problem.outputs.get(tensor.name)
        hosts = () if wanted_at is None else (host_index[wanted_at],)
        if units or hosts:
            source_host = None if home is None else host_index[home]
            nets.append(
                Net(tensor.name, tensor.size_bytes, source_unit, source_host, tuple(units), hosts)
            )
    return nets


class _Groups:
    """Union-find over names."""

    def __init__(self, names: list[str]) -> None:
        self._parent = {name: name for name in names}

    def root(self, name: str) -> str:
        while self._parent[name] != name:
            self._parent[name] = self._parent[self._parent[name]]
            name = self._parent[name]
        return name

    def join(self, a: str, b: str) -> None:
        self._parent[self.root(b)] = self.root(a)
