"""Constraints on the command line: each overrides or adds to what the topology file says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from partc.errors import UsageError

if TYPE_CHECKING:
    from partc.ir.topology import Topology

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--pin", multiple=True, metavar="HOST=OPS", help="Ops that must run there: a "
                 "name, a glob or type:Softmax; may be repeated."),
    click.option("--forbid", multiple=True, metavar="HOST=OPS",
                 help="Ops that must not run there."),
    click.option("--together", multiple=True, metavar="OPS,OPS",
                 help="Ops that share a host."),
    click.option("--keep-local", multiple=True, metavar="TENSOR",
                 help="A tensor that may not leave the host where it arises."),
    click.option("--private-blocks", type=click.IntRange(min=0), metavar="COUNT",
                 help="So many first blocks, and what they read, stay where the inputs arise."),
    click.option("--monotone", is_flag=True,
                 help="What left the device comes back as an answer only."),
    click.option("--contiguous", is_flag=True,
                 help="No path of ops leaves a host and comes back to it."),
    click.option("--max-segments", multiple=True, metavar="HOST=COUNT",
                 help="Most times that a path of ops may enter a host."),
    click.option("--memory", multiple=True, metavar="HOST=MIB", help="Memory of a host."),
    click.option("--count-activations", is_flag=True,
                 help="Live tensors count against the memory too, not only weights."),
    click.option("--deadline-ms", type=float, help="Longest latency of one request."),
    click.option("--energy-budget", multiple=True, metavar="HOST=JOULES",
                 help="Most energy of a host for one request."),
    click.option("--energy-of", multiple=True, metavar="HOST",
                 help="Whose energy --objective energy minimises; all by default."),
    click.option("--loss-budget", type=float, metavar="LOSS",
                 help="Most relative loss of the output; lets transfers use fewer bits."),
    click.option("--codecs", metavar="NAME,NAME",
                 help='How transfers may be encoded; "" for not at all.'),
)  # fmt: skip


def constraint_options(command: Command) -> Command:
    """Adds all options; the command receives them as ``**constraints``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def constrained(topology: Topology, given: dict[str, Any]) -> Topology:
    """``topology`` with the constraints of the command line.

    Raises:
        UsageError: an option is malformed.
        TopologyError: a host or value makes no sense.
    """
    from partc.ir.topology import Topology

    data = topology.model_dump(mode="json", exclude_unset=True)
    table: dict[str, Any] = data.setdefault("constraints", {})
    for name in ("pin", "forbid"):
        for host, pattern in _pairs(f"--{name}", given[name]):
            table.setdefault(name, {}).setdefault(host, []).append(pattern)
    table.setdefault("keep_local", []).extend(given["keep_local"])
    table.setdefault("together", []).extend(_names(text) for text in given["together"])
    for host, count in _pairs("--max-segments", given["max_segments"]):
        table.setdefault("max_segments", {})[host] = _whole_number("--max-segments", count)
    for host, joules in _pairs("--energy-budget", given["energy_budget"]):
        table.setdefault("energy_j", {})[host] = _number("--energy-budget", joules)
    for host, mib in _pairs("--memory", given["memory"]):
        if host not in data["hosts"]:
            from partc.suggest import unknown_name

            raise UsageError(f"--memory: {unknown_name('host', host, data['hosts'])}")
        data["hosts"][host]["memory_mib"] = _number("--memory", mib)
    for name in ("monotone", "contiguous", "count_activations"):
        if given[name]:
            table[name] = True
    for name in ("private_blocks", "deadline_ms", "loss_budget"):
        if given[name] is not None:
            table[name] = given[name]
    if given["energy_of"]:
        table["energy_hosts"] = list(given["energy_of"])
    if given["codecs"] is not None:
        table["codecs"] = _names(given["codecs"])
    return Topology.parse(data, "command line and topology")


def _pairs(option: str, texts: tuple[str, ...]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for text in texts:
        host, equals, value = text.partition("=")
        if not (host and equals and value):
            raise UsageError(f"{option} {text!r} is not of the form HOST=VALUE")
        pairs.append((host, value))
    return pairs


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _whole_number(option: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{option}: {text!r} is not a whole number") from None


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{option}: {text!r} is not a number") from None
