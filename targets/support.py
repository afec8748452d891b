"""Which ops the backends of a topology can run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import onnx

from partc.errors import UnsupportedOpError
from partc.ir.program import Op, Program
from partc.ir.topology import Topology
from partc.targets.here import what_is_known
from partc.targets.meter import Meter
from partc.targets.registry import load_target

_MOST_REASONS = 3


class AskedModel(Protocol):
    """A program's model as a host would run it, whose nodes need not be the program's ops."""

    @property
    def model(self) -> onnx.ModelProto:
        """What the backend is asked about."""

    def blamed(self, reasons: Mapping[str, str]) -> Mapping[str, str]:
        """What a backend said of nodes of ``model``, by op of the program."""


AskedOf = Callable[[str, Meter], AskedModel]
"""Host, and who asks its backend -> what the backend is to be asked about."""


def unsupported_by_host(
    program: Program,
    topology: Topology,
    meters: Mapping[str, Meter] | None = None,
    asked: AskedOf | None = None,
) -> Mapping[str, Mapping[str, str]]:
    """Host -> op -> why the host's backend cannot run it.

    Args:
        meters: host -> who asks the backend there; hosts that are not named are asked here, or
            their data sheets are.
        asked: the model as each host would run it, alike for hosts of one target and precision;
            the program's own if None.
    """
    known: dict[tuple[str, str, str], Mapping[str, str]] = {}
    result: dict[str, Mapping[str, str]] = {}
    for name, host in topology.hosts.items():
        meter = (meters or {}).get(name) or what_is_known(load_target(host.target))
        key = (meter.backend_name, meter.where, host.precision)
        if key not in known:
            if asked is None:
                known[key] = meter.unsupported(program.model)
            else:
                about = asked(name, meter)
                known[key] = about.blamed(meter.unsupported(about.model))
        result[name] = known[key]
    return result


def refusals_said(refused: Mapping[str, Mapping[str, str]]) -> list[str]:
    """For each host that cannot run some op: how many, and for each reason the first of them."""
    said: list[str] = []
    for host, reasons in refused.items():
        firsts: dict[str, str] = {}
        for op, reason in reasons.items():
            firsts.setdefault(reason, op)
        told = [f"{op!r}: {reason}" for reason, op in list(firsts.items())[:_MOST_REASONS]]
        if told:
            count = f"{len(reasons)} op{'s' if len(reasons) > 1 else ''}"
            more = "; ..." if len(firsts) > _MOST_REASONS else ""
            said.append(f"host {host!r} cannot run {count} ({'; '.join(told)}{more})")
    return said


def refuse_unknown_ops(
    program: Program,
    topology: Topology,
    meters: Mapping[str, Meter] | None = None,
    asked: AskedOf | None = None,
) -> None:
    """Stop at an op that no host can run.

    Args:
        asked: as `unsupported_by_host`; made only where some op of the program's own model is
            refused everywhere.

    Raises:
        UnsupportedOpError: names the op, its type and its domain.
    """
    each_alone = [(op.name,) for op in program.ops]
    refused = unsupported_by_host(program, topology, meters)
    if asked is not None and any(_without_host(each_alone, refused)):
        refused = unsupported_by_host(program, topology, meters, asked)
    for (op,) in _without_host(each_alone, refused):
        reason = next(iter(refused.values()))[op]
        raise UnsupportedOpError(
            f"op {op!r} ({_kind(program.op_by_name[op])}) is known to no backend of this topology: "
            f"{reason}",
            op=op,
        )


def refuse_without_host(
    program: Program,
    groups: Iterable[tuple[str, ...]],
    refused: Mapping[str, Mapping[str, str]],
) -> None:
    """Stop at ops that have to run together, and can on no host.

    Args:
        refused: as `unsupported_by_host` gives it.

    Raises:
        UnsupportedOpError: names an op, and what keeps it off each host.
    """
    for group in _without_host(groups, refused):
        culprits = {
            host: next(op for op in group if op in reasons) for host, reasons in refused.items()
        }
        op = next(iter(culprits.values()))
        said = "; ".join(
            f"not on {host!r}, since {refused[host][culprit]}"
            + (f" ({culprit!r}, which runs in one block with it)" if culprit != op else "")
            for host, culprit in culprits.items()
        )
        raise UnsupportedOpError(
            f"op {op!r} ({_kind(program.op_by_name[op])}) runs on no host of this topology: "
            f"{said}; add a host that runs it, or give one another target or precision",
            op=op,
        )


def _without_host(
    groups: Iterable[tuple[str, ...]], refused: Mapping[str, Mapping[str, str]]
) -> Iterator[tuple[str, ...]]:
    """Groups with an op that the host refuses, for every host."""
    return (
        group
        for group in groups
        if refused and all(any(op in reasons for op in group) for reasons in refused.values())
    )


def _kind(op: Op) -> str:
    return f"{op.domain}.{op.op_type}" if op.domain else op.op_type
