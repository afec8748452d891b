"""Whose time it was: from the kernels of a profile to the blocks of a program.

Blocks get the whole model's time, as when partc measures itself: what belongs to no op is shown,
and spread over all blocks in proportion, since it was spent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from partc.errors import UsageError
from partc.imports.imported import ImportedCosts, Kernel
from partc.imports.naming import counters_reader, session_reader
from partc.ir.cost import Cost
from partc.ir.program import Program
from partc.measure.statistics import is_settled, median_interval
from partc.targets.op_work import work_by_op
from partc.targets.tensorrt.layer_names import NameReader
from partc.targets.tensorrt.profiler import layer_tensors

_LEAST_ATTRIBUTED = 0.5  # of the time; below, it is a profile of another model
_NAMED = 3
_COPY = re.compile(r"\[?(?:Shape)?(?:HostToDevice|DeviceToHost|DeviceToShapeHost)Copy")


@dataclass(frozen=True)
class Unattributed:
    """A kernel that belongs to no op, and its time in seconds."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Attribution:
    """A profile as costs.

    Attributes:
        costs: block -> cost; every block has one.
        whole: of the model.
        unattributed: kernels that belong to no op, the longest first.
        silent: blocks that no kernel works for, and which cost nothing therefore.
        notices: sentences for the user.
    """

    costs: Mapping[str, Cost]
    whole: Cost
    unattributed: tuple[Unattributed, ...]
    silent: tuple[str, ...]
    notices: tuple[str, ...]


def attribute(imported: ImportedCosts, program: Program, fingerprint: str = "") -> Attribution:
    """Give a profile's times to the blocks of ``program``, which must have blocks.

    Args:
        fingerprint: of the hardware that the user says the profile is of.

    Raises:
        UsageError: it is a profile of another model.
    """
    shares = _shares(imported, program)
    placed = {op.name for op in program.placed_ops}
    runs = max((len(kernel.samples_s) for kernel in imported.kernels), default=1)
    rows = {block.name: np.zeros(runs) for block in program.blocks or ()}
    spreads = dict.fromkeys(rows, 0.0)
    nobody: dict[str, float] = {}
    for kernel, ops in zip(imported.kernels, shares, strict=True):
        samples = np.asarray(kernel.samples_s)
        mine = {op: part for op, part in ops.items() if op in placed and op in program.block_of}
        for op, part in mine.items():
            block = program.block_of[op].name
            rows[block] += samples * part
            spreads[block] += kernel.spread_s * part
        if not mine:
            nobody[kernel.name] = nobody.get(kernel.name, 0.0) + kernel.median_s
    _refuse_another_model(imported, program, sum(nobody.values()))
    whole = _whole(imported)
    together_s = sum(float(np.median(row)) for row in rows.values())
    scale = whole.median_s / together_s if together_s > 0 else 1.0
    costs = {
        name: _cost(imported, row * scale, spreads[name] * scale, fingerprint)
        for name, row in rows.items()
    }
    longest = sorted(nobody.items(), key=lambda each: -each[1])
    unattributed = tuple(Unattributed(name, seconds) for name, seconds in longest)
    silent = tuple(name for name, row in rows.items() if not row.any())
    return Attribution(
        costs,
        replace(whole, fingerprint=fingerprint),
        unattributed,
        silent,
        (*imported.notices, *_notices(imported, program, unattributed, silent)),
    )


Shares = Sequence[Mapping[str, float]]
"""For each kernel its ops, and the part of its time that is theirs; together 1, or none."""


def _shares(imported: ImportedCosts, program: Program) -> Shares:
    if imported.kind == "trtexec":
        return _engine_shares(imported.kernels, program)
    reader: Callable[[Kernel], str | None]
    reader = session_reader(program) if imported.kind == "onnxruntime" else counters_reader(program)
    owners = (reader(kernel) for kernel in imported.kernels)
    return [{owner: 1.0} if owner is not None else {} for owner in owners]


def _engine_shares(kernels: Sequence[Kernel], program: Program) -> Shares:
    """An engine's layer works for several ops; each has its part by what it computes."""
    placed = [op.name for op in program.placed_ops]
    reader = NameReader(placed, layer_tensors(program.model))
    metadata = {kernel.name: kernel.metadata for kernel in kernels if kernel.metadata}
    # A copy between host and device does the work of no op, whatever no other layer names.
    works = [_COPY.match(kernel.name) is None for kernel in kernels]
    names = [kernel.name for kernel, is_work in zip(kernels, works, strict=True) if is_work]
    of_work = iter(reader.attribute(names, metadata))
    attributed = [next(of_work) if is_work else () for is_work in works]
    unknown = [reader.read(k.name).kind == "unknown" and not k.metadata for k in kernels]
    unknown_s = sum(
        k.median_s for k, is_unknown in zip(kernels, unknown, strict=True) if is_unknown
    )
    if unknown_s > (1 - _LEAST_ATTRIBUTED) * sum(kernel.median_s for kernel in kernels):
        # So little is known by name that what is left over tells nothing of the rest.
        attributed = [
            () if is_unknown else ops for ops, is_unknown in zip(attributed, unknown, strict=True)
        ]
    work = work_by_op(program)
    found: list[dict[str, float]] = []
    for ops in attributed:
        computed = {op: work[op].flops for op in ops if op in work}
        total = sum(computed.values())
        found.append(
            {
                op: flops / total if total > 0 else 1 / len(computed)
                for op, flops in computed.items()
            }
        )
    return found


def _refuse_another_model(imported: ImportedCosts, program: Program, nobody_s: float) -> None:
    total_s = imported.kernels_s
    if total_s <= 0:
        raise UsageError(f"all times in {imported.origin} are zero")
    if nobody_s > (1 - _LEAST_ATTRIBUTED) * total_s:
        names = ", ".join(repr(k.name[:40]) for k in imported.kernels[:_NAMED])
        ops = ", ".join(repr(op.name[:40]) for op in program.placed_ops[:_NAMED])
        raise UsageError(
            f"{imported.origin} looks like a profile of another model: "
            f"{100 * nobody_s / total_s:.0f} % of its time is of kernels that name no op of "
            f"{program.name} ({names}; the model has {ops}); profile this model, and keep the "
            "names of its nodes"
        )


def _whole(imported: ImportedCosts) -> Cost:
    if imported.whole_s:
        return _cost(imported, np.asarray(imported.whole_s), 0.0, "")
    spread_s = sum(kernel.spread_s for kernel in imported.kernels)
    runs = max(len(kernel.samples_s) for kernel in imported.kernels)
    together = np.zeros(runs)
    for kernel in imported.kernels:
        together += np.asarray(kernel.samples_s)
    return _cost(imported, together, spread_s, "")


def _cost(
    imported: ImportedCosts,
    row: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    spread_s: float,
    fingerprint: str,
) -> Cost:
    samples = row.tolist()
    low, median, high = np.percentile(row, [25, 50, 75])
    has_runs = len(samples) > 1
    return Cost(
        median_s=float(median),
        spread_s=float(high - low) / 2 if has_runs else spread_s,
        samples=imported.runs,
        provenance="imported",
        interval_s=median_interval(samples).half_width if has_runs else 0.0,
        settled=is_settled(samples) if has_runs else True,
        fingerprint=fingerprint,
        source=imported.title,
    )


def _notices(
    imported: ImportedCosts,
    program: Program,
    unattributed: Sequence[Unattributed],
    silent: Sequence[str],
) -> list[str]:
    said: list[str] = []
    if unattributed:
        seconds = sum(each.seconds for each in unattributed)
        names = ", ".join(repr(each.name[:60]) for each in unattributed[:_NAMED])
        more = f" and {len(unattributed) - _NAMED} more" if len(unattributed) > _NAMED else ""
        said.append(
            f"{imported.origin}: {100 * seconds / imported.kernels_s:.1f} % of the time belongs to "
            f"no op and is spread over all blocks: {names}{more}"
        )
    total = len(program.blocks or ())
    if silent and total:
        names = ", ".join(repr(name[:60]) for name in silent[:_NAMED])
        more = f" and {len(silent) - _NAMED} more" if len(silent) > _NAMED else ""
        said.append(
            f"{imported.origin}: {len(silent)} of {total} blocks have no kernel there and cost "
            f"nothing: {names}{more}"
        )
    return said
