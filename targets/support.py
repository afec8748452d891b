"""Which ops the backends of a topology can run."""

from __future__ import annotations

from collections.abc import Mapping

from partc.errors import UnsupportedOpError
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.targets.here import what_is_known
from partc.targets.meter import Meter
from partc.targets.registry import load_target

_MOST_REASONS = 3


def unsupported_by_host(
    program: Program, topology: Topology, meters: Mapping[str, Meter] | None = None
) -> Mapping[str, Mapping[str, str]]:
    """Host -> op -> why the host's backend cannot run it.

    Args:
        meters: host -> who asks the backend there; hosts that are not named are asked here, or
            their data sheets are.
    """
    known: dict[tuple[str, str], Mapping[str, str]] = {}
    result: dict[str, Mapping[str, str]] = {}
    for name, host in topology.hosts.items():
        meter = (meters or {}).get(name) or what_is_known(load_target(host.target))
        key = (meter.backend_name, meter.where)
        if key not in known:
            known[key] = meter.unsupported(program.model)
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
    program: Program, topology: Topology, meters: Mapping[str, Meter] | None = None
) -> None:
    """Stop at an op that no host can run.

    Raises:
        UnsupportedOpError: names the op, its type and its domain.
    """
    refusals = list(unsupported_by_host(program, topology, meters).values())
    for op in program.ops:
        reasons = [refused[op.name] for refused in refusals if op.name in refused]
        if len(reasons) == len(refusals):
            kind = f"{op.domain}.{op.op_type}" if op.domain else op.op_type
            raise UnsupportedOpError(
                f"op {op.name!r} ({kind}) is known to no backend of this topology: {reasons[0]}",
                op=op.name,
            )
