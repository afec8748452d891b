"""What a horizontal problem must satisfy beyond its types."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from partc.errors import UsageError
from partc.suggest import unknown_name

if TYPE_CHECKING:
    from partc.optimizer.horizontal.problem import Arc, HorizontalProblem, Tiling

_SHARES_ROOM = 1e-6
_REFUSED = {
    "monotone": "a tile runs on several hosts at once",
    "contiguous": "a tile runs on several hosts at once",
    "max_segments": "a tile runs on several hosts at once",
    "activations": "live tensors of tiles are not counted",
    "loss_budget": "tiles are sent as they are, without codecs",
}


def check_horizontal(problem: HorizontalProblem) -> None:
    """Raise UsageError for the first inconsistency, in one sentence that names it."""
    vertical = problem.vertical  # made here, it checks everything that is no arc
    for name, reason in _REFUSED.items():
        if getattr(problem.constraints, name) not in (None, False, {}):
            raise UsageError(f"The constraint {name!r} cannot be kept with arcs: {reason}.")
    for name in problem.shared_ports:
        if name not in vertical.host_names:
            raise UsageError(f"In shared_ports: {unknown_name('host', name, vertical.host_names)}")
    if problem.shared_ports and problem.bus is not None:
        raise UsageError("On a bus all messages share one medium; leave out shared_ports.")
    seen: set[str] = set()
    for tiling in problem.tilings:
        if tiling.name in seen:
            raise UsageError(f"Two tilings are named {tiling.name!r}; names must differ.")
        if tiling.name in vertical.host_names:
            raise UsageError(f"The tiling {tiling.name!r} has the name of a host; rename it.")
        seen.add(tiling.name)
        _check_tiling(problem, tiling)
    for number, arc in enumerate(problem.arcs):
        _check_arc(problem, arc, f"arcs[{number}]")
    _check_gathers(problem)
    _ = problem.range_ops  # refuses ranges that are not closed


def _check_tiling(problem: HorizontalProblem, tiling: Tiling) -> None:
    where = f"tiling {tiling.name!r}"
    for name in tiling.hosts:
        if name not in problem.host_names:
            raise UsageError(f"In {where}: {unknown_name('host', name, problem.host_names)}")
    if len(set(tiling.hosts)) < len(tiling.hosts):
        raise UsageError(f"In {where}: a host has two tiles; give it one larger share.")
    if len(tiling.shares) != len(tiling.hosts):
        raise UsageError(
            f"In {where}: there are {len(tiling.hosts)} hosts but {len(tiling.shares)} shares."
        )
    if abs(math.fsum(tiling.shares) - 1.0) > _SHARES_ROOM:
        raise UsageError(
            f"In {where}: the shares add up to {math.fsum(tiling.shares):.6g}; they must be 1."
        )


def _check_arc(problem: HorizontalProblem, arc: Arc, where: str) -> None:
    tensors = problem.vertical.tensor_by_name
    for name in (arc.entry, arc.exit):
        if name not in tensors:
            raise UsageError(f"In {where}: {unknown_name('tensor', name, tensors)}")
    tiling = _tiling(problem, arc.tiling, where)
    tiles = len(tiling.hosts)
    _check_length(where, "tile_s", len(arc.tile_s), tiling)
    if arc.entry_bytes is None and not arc.halo_bytes:
        raise UsageError(
            f"In {where}: neither entry_bytes nor halo_bytes says how the arc is entered."
        )
    if arc.entry_bytes is not None:
        _check_length(where, "entry_bytes", len(arc.entry_bytes), tiling)
    for source, matrix in arc.halo_bytes.items():
        senders = len(_tiling(problem, source, f"halo_bytes of {where}").hosts)
        if len(matrix) != senders or any(len(row) != tiles for row in matrix):
            raise UsageError(
                f"In {where}: halo_bytes from {source!r} needs {senders} rows of {tiles} values, "
                f"one row per tile of {source!r}."
            )
    for host, names in arc.weights.items():
        if host not in tiling.hosts:
            raise UsageError(f"In weights of {where}: {unknown_name('host', host, tiling.hosts)}")
        for name in names:
            if name not in problem.weight_bytes:
                known = problem.weight_bytes
                raise UsageError(f"In weights of {where}: {unknown_name('weight', name, known)}")


def _check_gathers(problem: HorizontalProblem) -> None:
    seen: set[tuple[str, str]] = set()
    tensors = problem.vertical.tensor_by_name
    for number, gather in enumerate(problem.gathers):
        where = f"gathers[{number}]"
        if gather.tensor not in tensors:
            raise UsageError(f"In {where}: {unknown_name('tensor', gather.tensor, tensors)}")
        tiling = _tiling(problem, gather.tiling, where)
        _check_length(where, "tile_bytes", len(gather.tile_bytes), tiling)
        if (gather.tensor, gather.tiling) in seen:
            raise UsageError(
                f"In {where}: tensor {gather.tensor!r} has two gathers from {gather.tiling!r}."
            )
        seen.add((gather.tensor, gather.tiling))


def _tiling(problem: HorizontalProblem, name: str, where: str) -> Tiling:
    if name not in problem.tiling_by_name:
        raise UsageError(f"In {where}: {unknown_name('tiling', name, problem.tiling_by_name)}")
    return problem.tiling_by_name[name]


def _check_length(where: str, key: str, length: int, tiling: Tiling) -> None:
    if length != len(tiling.hosts):
        raise UsageError(
            f"In {where}: {key} has {length} values, but tiling {tiling.name!r} has "
            f"{len(tiling.hosts)} hosts."
        )
