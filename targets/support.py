"""Which ops the backends of a topology can run."""

from __future__ import annotations

from collections.abc import Mapping

from partc.errors import UnsupportedOpError
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.targets.registry import load_backend, load_target


def unsupported_by_host(program: Program, topology: Topology) -> Mapping[str, Mapping[str, str]]:
    """Host -> op -> why the host's backend cannot run it."""
    by_backend: dict[str, Mapping[str, str]] = {}
    result: dict[str, Mapping[str, str]] = {}
    for name, host in topology.hosts.items():
        backend = load_target(host.target).backend
        if backend not in by_backend:
            by_backend[backend] = load_backend(backend).unsupported(program.model)
        result[name] = by_backend[backend]
    return result


def refuse_unknown_ops(program: Program, topology: Topology) -> None:
    """Stop at an op that no host can run.

    Raises:
        UnsupportedOpError: names the op, its type and its domain.
    """
    refusals = list(unsupported_by_host(program, topology).values())
    for op in program.ops:
        reasons = [refused[op.name] for refused in refusals if op.name in refused]
        if len(reasons) == len(refusals):
            kind = f"{op.domain}.{op.op_type}" if op.domain else op.op_type
            raise UnsupportedOpError(
                f"op {op.name!r} ({kind}) is known to no backend of this topology: {reasons[0]}",
                op=op.name,
            )
