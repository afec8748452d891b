"""The placement problem as plain data: what `partc solve` reads and what every solver is given.

Units are SI (seconds, bytes, watts, joules) unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

Objective = Literal["latency", "throughput", "energy"]

LARGEST_NUMBER = 1e30  # products of two stay far from overflow
Name = Annotated[StrictStr, Field(min_length=1)]
Amount = Annotated[float, Field(ge=0, le=LARGEST_NUMBER, strict=True, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, strict=True)]
OneOrMore = Annotated[int, Field(ge=1, strict=True)]

NO_CODEC = "none"
MEDIUM = "shared bus"  # its name among the loads


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CodecFactors(_Data):
    """How many times longer one codec takes on a host than the codec itself says."""

    encode: Amount = 1.0
    decode: Amount = 1.0


class Host(_Data):
    """One machine or processing unit.

    Attributes:
        memory_bytes: capacity for weights (and activations, where they are counted); None is no
            limit.
        power_active_w, power_tx_w, power_rx_w, power_idle_w: power while computing, sending,
            receiving, and in the rest of the request's latency.
        bus_seconds_per_byte, bus_latency_s: cost of one byte and of one message on a shared bus.
        codec_slowdown: factor on what encoding and decoding cost here.
        codec_factors: further factors, of single codecs.
    """

    name: Name
    memory_bytes: Amount | None = None
    power_active_w: Amount = 0.0
    power_tx_w: Amount = 0.0
    power_rx_w: Amount = 0.0
    power_idle_w: Amount = 0.0
    bus_seconds_per_byte: Amount | None = None
    bus_latency_s: Amount = 0.0
    codec_slowdown: Amount = 1.0
    codec_factors: dict[Name, CodecFactors] = Field(default_factory=dict)

    def encoding_factor(self, codec: str) -> float:
        """How many times longer encoding takes here than the codec says."""
        own = self.codec_factors.get(codec)
        return self.codec_slowdown * (1.0 if own is None else own.encode)

    def decoding_factor(self, codec: str) -> float:
        """As `encoding_factor`, of decoding."""
        own = self.codec_factors.get(codec)
        return self.codec_slowdown * (1.0 if own is None else own.decode)


class Link(_Data):
    """A link; each pair holds the value from `between[0]` to `between[1]`, then back."""

    between: tuple[Name, Name]
    seconds_per_byte: tuple[Amount, Amount]
    latency_s: tuple[Amount, Amount] = (0.0, 0.0)


class Bus(_Data):
    """A shared medium: a sender pays once per tensor read elsewhere, a receiver once per tensor.

    With `serial`, these times add to the host's compute load; without, they are a load of their
    own. With `shared`, only one host puts or takes at any time, so that all these times together
    are the load of the medium itself.
    """

    hosts: tuple[Name, ...]
    serial: StrictBool = True
    shared: StrictBool = False


class Op(_Data):
    """A unit of placement; a host that cannot run it is absent from `cost_s`."""

    name: Name
    inputs: tuple[Name, ...] = ()
    outputs: tuple[Name, ...] = ()
    cost_s: dict[Name, Amount]
    weights: tuple[Name, ...] = ()


class TensorCodec(_Data):
    """What a codec does to one tensor, where that was measured and differs from the codec's own."""

    ratio: Amount | None = None
    loss: Amount | None = None


class Tensor(_Data):
    """A value.

    Attributes:
        codecs: overrides a codec's ratio and loss for it, or forbids the codec (null).
        shares_message: it travels in a message with other tensors, so that it pays no latency of
            its own on any link or bus.
        extra_s: host to seconds that it costs on top when it is sent to that host.
    """

    name: Name
    size_bytes: Amount
    shares_message: StrictBool = False
    extra_s: dict[Name, Amount] = Field(default_factory=dict)
    codecs: dict[Name, TensorCodec | None] = Field(default_factory=dict)


class Weight(_Data):
    """A constant that a host must hold once, however many of its ops read it."""

    name: Name
    size_bytes: Amount


class Codec(_Data):
    """A way to encode a tensor on a link.

    Attributes:
        ratio: encoded bytes per byte.
        loss: what one use adds to the loss of the answer.
        encode_s_per_byte, decode_s_per_byte: work at the sender and the receiver per raw byte.
    """

    name: Name
    ratio: Amount
    loss: Amount = 0.0
    encode_s_per_byte: Amount = 0.0
    decode_s_per_byte: Amount = 0.0


class Constraints(_Data):
    """What a plan must respect; all are absent by default.

    Attributes:
        monotone: what left the root's side of a link does not come back (except as an answer).
        contiguous: no path of ops leaves a host and comes back to it.
        max_segments: host to the most times that a path of ops may enter it.
        pinned, forbidden: op to the host it must run on, to hosts it must not run on.
        keep_local: tensors that may not leave the host where they arise.
        together: groups of ops that share a host.
        activations: count live tensors, not only weights, against `memory_bytes`.
        loss_budget: most loss that all transfers together may add.
        energy_j: host to the most energy it may use for one request.
        deadline_s: longest latency of one request.
        period_s: most that one host or link direction may be busy for one request; its inverse is
            the least throughput.
    """

    monotone: StrictBool = False
    contiguous: StrictBool = False
    max_segments: dict[Name, OneOrMore] = Field(default_factory=dict)
    pinned: dict[Name, Name] = Field(default_factory=dict)
    forbidden: dict[Name, tuple[Name, ...]] = Field(default_factory=dict)
    keep_local: tuple[Name, ...] = ()
    together: tuple[tuple[Name, ...], ...] = ()
    activations: StrictBool = False
    loss_budget: Amount | None = None
    energy_j: dict[Name, Amount] = Field(default_factory=dict)
    deadline_s: Amount | None = None
    period_s: Amount | None = None


class Problem(_Data):
    """A placement problem.

    Attributes:
        objective: what is minimised: "latency" (one request, host after host), "throughput" (the
            largest load of a host or link direction), "energy" (of `energy_hosts`; all when empty).
        links, bus: how the hosts are joined: links of any shape, or one bus.
        routes: where links close rings, ways that tensors must take, first host to last; each
            settles the ways from its first host to those between, too.
        inputs, outputs: tensor to the host where it arises, or is wanted.
    """

    objective: Objective = "latency"
    hosts: tuple[Host, ...] = Field(min_length=1)
    links: tuple[Link, ...] = ()
    bus: Bus | None = None
    routes: tuple[tuple[Name, ...], ...] = ()
    ops: tuple[Op, ...]
    tensors: tuple[Tensor, ...] = ()
    weights: tuple[Weight, ...] = ()
    inputs: dict[Name, Name] = Field(default_factory=dict)
    outputs: dict[Name, Name] = Field(default_factory=dict)
    codecs: tuple[Codec, ...] = ()
    constraints: Constraints = Field(default_factory=Constraints)
    energy_hosts: tuple[Name, ...] = ()

    def model_post_init(self, _context: Any) -> None:
        """Check what types cannot: names, links, producers, cycles.

        Raises:
            UsageError: with the first thing that is wrong.
        """
        from partc.optimizer.checking import check_problem

        check_problem(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Problem:
        """A problem from decoded JSON.

        Raises:
            UsageError: with one sentence on the first thing that is wrong.
        """
        from partc.optimizer.reading import problem_from_dict

        return problem_from_dict(data)

    @classmethod
    def from_json(cls, path: str | Path) -> Problem:
        """A problem from a JSON file.

        Raises:
            UsageError: the file cannot be read, is no JSON, or is no placement problem.
        """
        from partc.optimizer.reading import problem_from_json

        return problem_from_json(path)

    def to_dict(self) -> dict[str, Any]:
        """The problem as JSON data; `from_dict` gives an equal problem back."""
        data = self.model_dump(mode="json", exclude_defaults=True)
        return {"objective": self.objective} | data

    def changed(self, **fields: Any) -> Problem:
        """A checked copy with some fields replaced."""
        return type(self)(
            **({name: getattr(self, name) for name in type(self).model_fields} | fields)
        )

    def without_codecs(self) -> Problem:
        """A copy in which all tensors travel as they are."""
        return self.changed(
            codecs=(),
            tensors=tuple(each.model_copy(update={"codecs": {}}) for each in self.tensors),
            hosts=tuple(each.model_copy(update={"codec_factors": {}}) for each in self.hosts),
        )

    def constrained(self, **fields: Any) -> Problem:
        """A checked copy with some constraints replaced."""
        old = {name: getattr(self.constraints, name) for name in Constraints.model_fields}
        return self.changed(constraints=Constraints(**(old | fields)))

    @cached_property
    def host_names(self) -> tuple[str, ...]:
        """Names of the hosts, in order."""
        return tuple(host.name for host in self.hosts)

    @cached_property
    def tensor_by_name(self) -> dict[str, Tensor]:
        """Tensors by name."""
        return {tensor.name: tensor for tensor in self.tensors}

    @cached_property
    def producer_of(self) -> dict[str, Op]:
        """The op that makes each tensor; inputs have none."""
        return {name: op for op in self.ops for name in op.outputs}

    @cached_property
    def consumers_of(self) -> dict[str, tuple[Op, ...]]:
        """The ops that read each tensor, each once, in the order of `ops`."""
        readers: dict[str, list[Op]] = {tensor.name: [] for tensor in self.tensors}
        for op in self.ops:
            for name in dict.fromkeys(op.inputs):
                readers[name].append(op)
        return {name: tuple(ops) for name, ops in readers.items()}

    @cached_property
    def ordered_ops(self) -> tuple[Op, ...]:
        """The ops, each after what it reads; the given order where that is possible."""
        from partc.optimizer.checking import ordered_ops

        return ordered_ops(self.ops)
