"""Hosts, links between them, and where inputs arise and outputs are wanted."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from partc.errors import TopologyError
from partc.ir.address import checked_address
from partc.ir.conditions import Conditions
from partc.ir.constraints import Constraints
from partc.ir.engine import EngineOptions, Precision
from partc.suggest import unknown_name

_HOST_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")

# Wide enough for any real thing, and narrow enough that no product of two overflows.
Bandwidth = Annotated[float, Field(ge=1e-6, le=1e9)]
Mebibytes = Annotated[float, Field(gt=0, le=1e12)]
Slowdown = Annotated[float, Field(ge=1, le=1e6)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Address = Annotated[str, AfterValidator(checked_address)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Host(_Strict):
    """One machine, or one processing unit of a machine.

    Attributes:
        target: a preset's name, or the path of a target file.
        threads: threads of a segment's execution.
        slowdown: emulation: this machine's own measured time is multiplied by this, and the
            runtime really waits the difference.
        power_active_w, power_idle_w, power_tx_w, power_rx_w: watts while it computes, waits for
            the rest of a request, sends and receives.
        address: ``host:port`` where ``partc serve`` listens; not needed for the device.
        agent: ``host:port`` where ``partc agent`` listens, which measures there, takes its part
            of a bundle and serves it, unless ``address`` says that something else does.
        power_mode: of the machine, such as a Jetson's ``MAXN``, in which its costs are to be
            measured; whichever it is in if not given.
        precision: in which its segments compute; it is written into their ONNX.
        engine: how engines are built for it, where its target has any.
    """

    target: str = "onnxruntime-cpu"
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    slowdown: Slowdown = 1.0
    memory_mib: Mebibytes | None = None
    power_active_w: NonNegative | None = None
    power_idle_w: NonNegative | None = None
    power_tx_w: NonNegative | None = None
    power_rx_w: NonNegative | None = None
    address: Address | None = None
    agent: Address | None = None
    power_mode: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    precision: Precision = "fp32"
    engine: EngineOptions = EngineOptions()

    @property
    def served_at(self) -> str | None:
        """Where its segments are called."""
        return self.address or self.agent


class Link(_Strict):
    """A connection of two hosts; the uplink goes from ``between[0]`` to ``between[1]``.

    Attributes:
        bandwidth_mbit_s: both directions, 10^6 bits per second.
        rtt_ms: round-trip time of an empty message, milliseconds.
        fixed_ms: what one message costs on top of half a round trip; measured here if not given.
    """

    between: tuple[str, str]
    bandwidth_mbit_s: Bandwidth | None = None
    uplink_mbit_s: Bandwidth | None = None
    downlink_mbit_s: Bandwidth | None = None
    rtt_ms: NonNegative = 0.0
    fixed_ms: NonNegative | None = None

    @model_validator(mode="after")
    def _has_bandwidth(self) -> Self:
        one = self.bandwidth_mbit_s is not None
        both = self.uplink_mbit_s is not None and self.downlink_mbit_s is not None
        neither = self.uplink_mbit_s is None and self.downlink_mbit_s is None
        if not ((one and neither) or (both and not one)):
            raise ValueError(
                "give either bandwidth_mbit_s or both uplink_mbit_s and downlink_mbit_s"
            )
        if self.between[0] == self.between[1]:
            raise ValueError("a link joins two different hosts")
        return self

    def mbit_s(self, sender: str) -> float:
        """Bandwidth from ``sender`` to the other end, 10^6 bits per second."""
        if self.bandwidth_mbit_s is not None:
            return self.bandwidth_mbit_s
        value = self.uplink_mbit_s if sender == self.between[0] else self.downlink_mbit_s
        assert value is not None
        return value


class Bus(_Strict):
    """A medium that its hosts share, such as a Wi-Fi cell: who sends pays, and who receives pays.

    Attributes:
        hosts: who is on it.
        bandwidth_mbit_s: with which one host puts data on the medium, or takes them from it.
        rtt_ms: round-trip time of an empty message between two hosts, milliseconds.
        fixed_ms: what one message costs on top of half a round trip; measured here if not given.
        serial: a host does not compute while it sends or receives; counts for throughput.
        shared: only one host sends or receives at any time, as in a Wi-Fi cell; counts for
            throughput and for requests whose hosts work in parallel.
    """

    hosts: tuple[str, ...]
    bandwidth_mbit_s: Bandwidth
    rtt_ms: NonNegative = 0.0
    fixed_ms: NonNegative | None = None
    serial: bool = False
    shared: bool = True


class Io(_Strict):
    """Where inputs arise and where outputs are wanted: one host for all, or a host per tensor."""

    inputs: str | dict[str, str] | None = None
    outputs: str | dict[str, str] | None = None


class Tiles(_Strict):
    """Which hosts may compute parts of the same layers side by side.

    Attributes:
        use: ``auto`` tiles where that is predicted to be faster, ``always`` wherever it is
            possible, ``never`` not at all.
        hosts: who may share; all servers that are joined with each other if None.
        shares: host -> its part of the rows, in any unit; chosen by speed if None.
    """

    use: Literal["auto", "always", "never"] = "auto"
    hosts: Annotated[tuple[str, ...], Field(max_length=8)] | None = None
    shares: dict[str, Annotated[float, Field(allow_inf_nan=False)]] | None = None

    @model_validator(mode="after")
    def _is_sensible(self) -> Self:
        if self.hosts is not None and len(set(self.hosts)) != len(self.hosts):
            raise ValueError("hosts names a host twice")
        if self.hosts is not None and len(self.hosts) < 2:
            raise ValueError("it takes two hosts to share; name another, or leave hosts out")
        for host, share in (self.shares or {}).items():
            if share <= 0:
                raise ValueError(
                    f"a share of {share:g} for host {host!r} is no share: every host that takes "
                    "part needs one above zero; leave the host out instead"
                )
        return self


class Topology(_Strict):
    """The machines that may run the model.

    Raises:
        TopologyError: from `load` and `parse`, in one sentence that names the key.
    """

    hosts: dict[str, Host]
    links: tuple[Link, ...] = ()
    bus: Annotated[tuple[Bus, ...], Field(max_length=1)] = ()
    io: Io = Io()
    constraints: Constraints = Constraints()
    tiles: Tiles = Tiles()
    conditions: Conditions | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if not self.hosts:
            raise ValueError("a topology needs at least one host")
        for name in self.hosts:
            if not _HOST_NAME.match(name):
                raise ValueError(
                    f"host name {name!r} is not usable: letters, digits, '.', '_' and '-' only"
                )
        seen: set[frozenset[str]] = set()
        for link in self.links:
            for end in link.between:
                self._known_host(end, "a link")
            pair = frozenset(link.between)
            if pair in seen:
                raise ValueError(f"hosts {' and '.join(link.between)} are linked twice")
            seen.add(pair)
        for what, homes in (("inputs", self.io.inputs), ("outputs", self.io.outputs)):
            for host in [homes] if isinstance(homes, str) else (homes or {}).values():
                self._known_host(host, f"[io] {what}")
        for host in sorted(self.constraints.hosts()):
            self._known_host(host, "[constraints]")
        for host in (*(self.tiles.hosts or ()), *(self.tiles.shares or {})):
            self._known_host(host, "[tiles]")
        if self.bus:
            self._check_bus(self.bus[0])
            return self
        unreached = set(self.hosts) - self._reachable(next(iter(self.hosts)))
        if unreached:
            raise ValueError(
                f"no link joins host {sorted(unreached)[0]!r} to {next(iter(self.hosts))!r}; "
                "add a [[links]] entry with between, bandwidth_mbit_s and rtt_ms"
            )
        return self

    def _check_bus(self, bus: Bus) -> None:
        if self.links:
            raise ValueError("the hosts are joined by [[links]] or by one [[bus]], not by both")
        for host in bus.hosts:
            self._known_host(host, "[[bus]]")
        if len(set(bus.hosts)) != len(bus.hosts):
            raise ValueError("[[bus]] names a host twice")
        for host in self.hosts:
            if host not in bus.hosts:
                raise ValueError(f"host {host!r} is not on the [[bus]]; add it to its hosts")

    def _known_host(self, name: str, where: str) -> None:
        if name not in self.hosts:
            raise ValueError(
                f"{where} names a host that is not there. " + unknown_name("host", name, self.hosts)
            )

    def _reachable(self, start: str) -> set[str]:
        reached, stack = {start}, [start]
        while stack:
            host = stack.pop()
            for link in self.links:
                if host in link.between:
                    other = link.between[1] if host == link.between[0] else link.between[0]
                    if other not in reached:
                        reached.add(other)
                        stack.append(other)
        return reached

    @classmethod
    def load(cls, path: str | Path) -> Topology:
        """Read a TOML file.

        Raises:
            TopologyError: the file is missing, is not TOML, or does not describe a topology.
        """
        path = Path(path)
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise TopologyError(f"topology {path} does not exist") from None
        except IsADirectoryError:
            raise TopologyError(f"topology {path} is a folder; give a TOML file") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise TopologyError(f"topology {path} is not valid TOML: {error}") from error
        except OSError as error:
            raise TopologyError(
                f"topology {path} cannot be read: {error.strerror or error}"
            ) from error
        return cls.parse(data, str(path))

    @classmethod
    def parse(cls, data: dict[str, Any], origin: str = "topology") -> Topology:
        """Check plain data, as TOML or JSON gives it."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise TopologyError(f"{origin}: {_first_sentence(error)}") from error

    @property
    def first_host(self) -> str:
        """The host named first: the device when ``[io]`` does not say otherwise."""
        return next(iter(self.hosts))

    def input_home(self, tensor: str) -> str:
        """The host where input ``tensor`` arises."""
        return self._home(self.io.inputs, tensor)

    def output_home(self, tensor: str) -> str:
        """The host where output ``tensor`` is wanted."""
        return self._home(self.io.outputs, tensor)

    def _home(self, homes: str | dict[str, str] | None, tensor: str) -> str:
        if isinstance(homes, str):
            return homes
        if homes is None:
            return self.first_host
        return homes.get(tensor, self.first_host)

    @property
    def joined_pairs(self) -> tuple[tuple[str, str], ...]:
        """Pairs of hosts that talk to each other directly: by a link, or on the bus."""
        on_bus = (pair for bus in self.bus for pair in itertools.combinations(bus.hosts, 2))
        return (*(link.between for link in self.links), *on_bus)

    def are_joined(self, one: str, other: str) -> bool:
        """Whether two hosts talk to each other directly."""
        return any({one, other} == set(pair) for pair in self.joined_pairs)

    def link_between(self, one: str, other: str) -> Link:
        """The link that joins two hosts; for a bus one that takes as long as both its ends do.

        Raises:
            TopologyError: there is none.
        """
        for bus in self.bus:
            if {one, other} <= set(bus.hosts):
                return Link(
                    between=(one, other),
                    bandwidth_mbit_s=bus.bandwidth_mbit_s / 2,
                    rtt_ms=bus.rtt_ms,
                    fixed_ms=bus.fixed_ms,
                )
        for link in self.links:
            if set(link.between) == {one, other}:
                return link
        raise TopologyError(f"hosts {one!r} and {other!r} have no link between them")


def _first_sentence(error: ValidationError) -> str:
    detail = error.errors()[0]
    where = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        key = str(detail["loc"][-1])
        return f"{where}: " + unknown_name("key", key, _known_keys(detail["loc"]))
    message = detail["msg"].removeprefix("Value error, ")
    given = (
        f" (given: {detail['input']!r})" if detail["type"] not in ("value_error", "missing") else ""
    )
    return f"{where}: {message}{given}" if where else f"{message}{given}"


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    sections: dict[str, type[BaseModel]] = {
        "hosts": Host,
        "links": Link,
        "bus": Bus,
        "io": Io,
        "constraints": Constraints,
        "tiles": Tiles,
        "conditions": Conditions,
    }
    section = sections[str(location[0])] if len(location) > 1 else Topology
    if section is Host and "engine" in location[2:-1]:
        section = EngineOptions
    return list(section.model_fields)
