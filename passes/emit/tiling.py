"""From a tiled program to what its manifest says of tiles."""

from __future__ import annotations

from collections.abc import Iterator

from partc.bundle.tiling import (
    RowUnit,
    SentRowsEntry,
    TiledBlockEntry,
    TileGroupEntry,
    TilingEntry,
    done_twice,
    halos,
    rows_twice,
)
from partc.ir.plan import Transfer
from partc.ir.program import Program
from partc.ir.tiling import TensorPart, Tiled, TileGroup

_IMAGE_RANK = 4
_IMAGE_UNITS: dict[int, RowUnit] = {1: "channels", 2: "rows", 3: "columns"}
_MOST_STEPS_BACK = 8


def tiling_entry(program: Program) -> TilingEntry | None:
    """Who computes which rows, and what is sent for it; None without tiles."""
    tiled, plan = program.tiled, program.plan
    if tiled is None or plan is None or not tiled.groups:
        return None
    receives: list[list[SentRowsEntry]] = [[] for _ in tiled.groups]
    gives: list[list[SentRowsEntry]] = [[] for _ in tiled.groups]
    for transfer in plan.transfers:
        part = _part(program, tiled, transfer.tensor)
        if part is None:
            continue
        sent = _sent(tiled, transfer, part)
        if sent is None:
            continue
        for position, group in enumerate(tiled.groups):
            if part.tensor == group.entry and transfer.receiver in group.hosts:
                receives[position].append(sent)
                break
        else:
            for position, group in enumerate(tiled.groups):
                if part.tensor == group.exit:
                    gives[position].append(sent)
    groups = [
        TileGroupEntry(
            entry=group.entry,
            exit=group.exit,
            axis=group.axis,
            kind=group.kind,
            unit=_unit(tiled, group),
            hosts=list(group.hosts),
            bounds=list(group.bounds),
            owners=list(group.owners),
            blocks=list(_blocks(tiled, position, group)),
            receives=receives[position],
            gives=gives[position],
        )
        for position, group in enumerate(tiled.groups)
    ]
    return TilingEntry(
        groups=groups,
        done_twice=done_twice(groups),
        halo_bytes=sum(each.bytes for each in halos(groups)),
    )


def _blocks(tiled: Tiled, position: int, group: TileGroup) -> Iterator[TiledBlockEntry]:
    for name in group.blocks:
        best: tuple[float, TiledBlockEntry] | None = None
        for op in tiled.blocks.get(name, ()):
            spans = [tiled.rows.get((position, op, host)) for host in group.hosts]
            rows = tiled.sizes.get(op, 0)
            known = [span for span in spans if span is not None]
            if len(known) < len(spans) or rows < 1:
                continue  # with input channels, ops after the first run whole
            computed = [(begin, max(begin, end)) for begin, end in known]
            twice = rows_twice(computed) / rows
            if best is None or twice >= best[0]:
                whole_s = tiled.seconds.get(name, 0.0)
                entry = TiledBlockEntry(name=name, rows=rows, computed=computed, whole_s=whole_s)
                best = (twice, entry)
        if best is not None:
            yield best[1]


def _part(program: Program, tiled: Tiled, tensor: str) -> TensorPart | None:
    """What a tensor that is sent holds of one of the model as it was."""
    for _ in range(_MOST_STEPS_BACK):
        if tensor in tiled.parts:
            return tiled.parts[tensor]
        info = tiled.tensors.get(tensor)
        if info is not None:
            axis = _axis_of(tiled, tensor)
            shape = info.planned_shape
            if axis is None or shape is None or axis >= len(shape):
                return None
            return TensorPart(tensor, axis, 0, shape[axis])
        producer = program.producer.get(tensor)  # a Slice of a part, along another axis
        if producer is None or not producer.inputs:
            return None
        tensor = producer.inputs[0]
    return None


def _axis_of(tiled: Tiled, tensor: str) -> int | None:
    for group in tiled.groups:
        if tensor in (group.entry, group.exit):
            return group.axis
    return None


def _sent(tiled: Tiled, transfer: Transfer, part: TensorPart) -> SentRowsEntry | None:
    shape = tiled.tensors[part.tensor].planned_shape
    if shape is None or part.begin >= part.end:
        return None
    return SentRowsEntry(
        tensor=transfer.tensor,
        of=part.tensor,
        sender=transfer.sender,
        receiver=transfer.receiver,
        begin=part.begin,
        end=part.end,
        rows=shape[part.axis],
        bytes=transfer.size_bytes,
    )


def _unit(tiled: Tiled, group: TileGroup) -> RowUnit:
    if group.kind == "branches":
        return "branches"
    cut = group.entry if group.kind == "input-channels" else group.exit
    shape = tiled.tensors[cut].planned_shape
    if shape is not None and len(shape) == _IMAGE_RANK:
        return _IMAGE_UNITS.get(group.axis, "rows")
    if group.kind == "input-channels":
        return "channels"
    return "positions" if shape is not None and len(shape) == _IMAGE_RANK - 1 else "rows"
