"""Ops that move, cut and put together."""

from __future__ import annotations

import math

import numpy as np
import onnx

from partc.ir.program import Array
from partc.passes.tiling.geometry import (
    Geometry,
    Reads,
    Rows,
    RuleTable,
    Site,
    Tile,
    TilingError,
)


def concat(site: Site) -> Geometry:
    """Concat along another axis, such as that of channels."""
    if int(site.attribute("axis", 1)) % site.rank == site.axis:
        raise TilingError(f"puts tensors together along axis {site.axis}")
    inputs = range(len(site.node.input))
    return Geometry(site.rows, {index: Reads.same(site.axis, site.rows) for index in inputs})


def split(site: Site) -> Geometry:
    """Split along another axis."""
    if int(site.attribute("axis", 0)) % site.rank == site.axis:
        raise TilingError(f"splits axis {site.axis}")
    return Geometry(site.rows, {0: Reads.same(site.axis, site.rows)})


def slicing(site: Site) -> Geometry:
    """Slice along other axes, or forwards along the tiled one."""
    rank = len(site.shape(0))
    starts, ends, axes, steps = _slice_parameters(site)
    if site.axis not in axes:
        return Geometry(site.rows, {0: Reads.same(site.axis, site.rows)})
    position = axes.index(site.axis)
    size, step = site.shape(0)[site.axis], steps[position]
    if step < 0:
        raise TilingError("reverses the rows")
    start = starts[position]
    start = min(max(start + size if start < 0 else start, 0), size)
    first = start + np.arange(site.rows) * step

    def rewrite(tile: Tile) -> tuple[int, int]:
        low, high = tile.rows[0]
        own_starts, own_ends = list(starts), list(ends)
        own_starts[position], own_ends[position] = 0, high - low
        write_slice(tile, site.opset, own_starts, own_ends, axes, steps)
        return tile.begin, tile.end

    if rank == 0 or site.rows == 0:
        raise TilingError("gives nothing")
    return Geometry(site.rows, {0: Reads.of(site.axis, size, first, first + 1)}, rewrite)


def _slice_parameters(site: Site) -> tuple[list[int], list[int], list[int], list[int]]:
    rank = len(site.shape(0))
    if site.opset < 10:
        starts, ends = list(site.attribute("starts")), list(site.attribute("ends"))
        axes = list(site.attribute("axes") or range(len(starts)))
        return starts, ends, [axis % rank for axis in axes], [1] * len(starts)
    found = [site.constant(index, what) for index, what in enumerate(_SLICE_INPUTS) if index]
    begin, end, given, stride = (None if v is None else v.ravel().tolist() for v in found)
    if begin is None or end is None:
        raise TilingError("has no bounds")
    axes = [int(a) % rank for a in given] if given is not None else list(range(len(begin)))
    return begin, end, axes, stride if stride is not None else [1] * len(begin)


_SLICE_INPUTS = ("data", "starts", "ends", "axes", "steps")


def write_slice(
    tile: Tile,
    opset: int,
    starts: list[int],
    ends: list[int],
    axes: list[int],
    steps: list[int],
) -> None:
    """Emit the tile's Slice with these bounds."""
    if opset < 10:
        tile.set(starts=starts, ends=ends, axes=axes)
    else:
        for index, values in enumerate((starts, ends, axes, steps), 1):
            tile.replace_input(index, tile.constant(_int64(values), _SLICE_INPUTS[index]))
    tile.emit(tile.node)


def _int64(values: list[int]) -> Array:
    return np.array(values, np.int64)


def pad(site: Site) -> Geometry:
    """Pad: at the true borders only. Other modes than ``constant`` pick rows by number."""
    rank = len(site.shape(0))
    flat, axes = _pad_widths(site, rank)
    widths = {axis: (flat[i], flat[len(axes) + i]) for i, axis in enumerate(axes)}
    before, after = widths.get(site.axis, (0, 0))
    if (before, after) == (0, 0):
        return Geometry(site.rows, {0: Reads.same(site.axis, site.rows)})
    size, rows = site.shape(0)[site.axis], site.rows
    mode = site.attribute("mode", "constant")
    numbers = np.arange(rows) - before
    if mode == "constant":
        last_inside = min(rows, max(size - 1 + before, 0) + 1) - 1
        first = np.minimum(numbers, last_inside - before)
        reads = Reads.of(site.axis, size, first, numbers + 1)
    else:
        numbers = _mirrored(numbers, size, mode)
        reads = Reads.of(site.axis, size, numbers, numbers + 1)

    def write(tile: Tile, front: int, back: int) -> None:
        own = dict(widths)
        own[site.axis] = (front, back)
        values = [own[a][0] if a in own else 0 for a in range(rank)]
        values += [own[a][1] if a in own else 0 for a in range(rank)]
        if site.opset < 11:
            tile.set(pads=values)
        else:
            tile.replace_input(1, tile.constant(_int64(values), "pads"))
            del tile.node.input[3:]
        tile.emit(tile.node)

    def constant(tile: Tile) -> tuple[int, int]:
        low, high = tile.rows[0]
        begin = min(tile.begin, low + before)
        end = max(tile.end, high + before)
        write(tile, low - (begin - before), end - before - high)
        return begin, end

    def picked(tile: Tile) -> tuple[int, int]:
        low, _ = tile.rows[0]
        wanted = numbers[tile.begin : tile.end] - low
        source = tile.node.input[0]
        rows_name = tile.temporary("rows", tile.end - tile.begin, like_input=0)
        tile.emit(
            onnx.helper.make_node(
                "Gather",
                [source, tile.constant(wanted.astype(np.int64), "numbers")],
                [rows_name],
                axis=site.axis,
            )
        )
        tile.replace_input(0, rows_name)
        write(tile, 0, 0)
        return tile.begin, tile.end

    return Geometry(rows, {0: reads}, constant if mode == "constant" else picked)


def _pad_widths(site: Site, rank: int) -> tuple[list[int], list[int]]:
    if site.opset < 11:
        return list(site.attribute("pads") or site.attribute("paddings")), list(range(rank))
    flat = site.constant(1, "pads")
    axes = site.constant(3, "axes")
    if flat is None:
        raise TilingError("has no pads")
    which = [int(a) % rank for a in axes.ravel()] if axes is not None else list(range(rank))
    return [int(width) for width in flat.ravel()], which


def _mirrored(numbers: Rows, size: int, mode: str) -> Rows:
    if mode == "edge":
        return np.clip(numbers, 0, size - 1)
    if mode == "wrap":
        return numbers % size
    if mode == "reflect":
        period = max(2 * (size - 1), 1)
        folded = np.abs(numbers) % period
        return np.minimum(folded, period - folded) if size > 1 else np.zeros_like(numbers)
    raise TilingError(f"pads in mode {mode!r}")


def transpose(site: Site) -> Geometry:
    """Rows move with their axis."""
    order = site.attribute("perm") or list(reversed(range(site.rank)))
    return Geometry(site.rows, {0: Reads.same(int(order[site.axis]), site.rows)})


def reshape(site: Site) -> Geometry:
    """A shape in which the tiled axis is an axis before and after."""
    target = site.constant(1, "shape")
    if target is not None and site.attribute("allowzero", 0) and (target == 0).any():
        raise TilingError("gives a tensor with nothing in it")
    before, after, axis = site.shape(0), site.output_shape, site.axis
    outer, inner = math.prod(after[:axis]), math.prod(after[axis + 1 :])
    source = [
        index
        for index, side in enumerate(before)
        if side == site.rows
        and math.prod(before[:index]) == outer
        and math.prod(before[index + 1 :]) == inner
    ]
    if target is None or not source:
        raise TilingError(f"mixes the rows of axis {axis} with other axes")
    values = [int(value) for value in target.ravel()]
    # Where several sizes are 1 any of them would do; what a 0 copies decides.
    own = axis if axis in source and values[axis] == 0 else source[0]
    if values[axis] == 0 and own != axis:
        raise TilingError(f"mixes the rows of axis {axis} with other axes")
    if any(value == 0 for i, value in enumerate(values) if i != axis and i == own):
        raise TilingError(f"copies the size of axis {own}, which a tile changes")

    def rewrite(tile: Tile) -> tuple[int, int]:
        if values[axis] > 0:
            tile_shape = list(values)
            tile_shape[axis] = tile.end - tile.begin
            tile.replace_input(1, tile.constant(_int64(tile_shape), "shape"))
        tile.emit(tile.node)
        return tile.begin, tile.end

    return Geometry(site.rows, {0: Reads.same(own, site.rows)}, rewrite)


def squeeze(site: Site) -> Geometry:
    """Squeeze: axes of size one go away."""
    rank = len(site.shape(0))
    axes = _axes(site)
    gone = [i for i in range(rank) if site.shape(0)[i] == 1] if axes is None else axes
    kept = [i for i in range(rank) if i not in {axis % rank for axis in gone}]
    return Geometry(site.rows, {0: Reads.same(kept[site.axis], site.rows)})


def unsqueeze(site: Site) -> Geometry:
    """Unsqueeze: axes of size one come in."""
    axes = {axis % site.rank for axis in _axes(site) or ()}
    if site.axis in axes:
        raise TilingError(f"makes axis {site.axis}")
    kept = [i for i in range(site.rank) if i not in axes]
    return Geometry(site.rows, {0: Reads.same(kept.index(site.axis), site.rows)})


def _axes(site: Site) -> list[int] | None:
    given = site.attribute("axes")
    if given is not None:
        return list(given)
    value = site.constant(1, "axes")
    return None if value is None else [int(axis) for axis in value.ravel()]


def depth_to_space(site: Site) -> Geometry:
    """A row becomes a block of rows; a tile computes whole blocks."""
    block = int(site.attribute("blocksize"))
    if site.axis == 1:
        raise TilingError("moves channels into rows")
    if site.axis == 0:
        return Geometry(site.rows, {0: Reads.same(0, site.rows)})
    source = np.arange(site.rows) // block

    def rewrite(tile: Tile) -> tuple[int, int]:
        tile.emit(tile.node)
        low, high = tile.rows[0]
        return low * block, high * block

    reads = Reads.of(site.axis, site.rows // block, source, source + 1)
    return Geometry(site.rows, {0: reads}, rewrite)


def space_to_depth(site: Site) -> Geometry:
    """A block of rows becomes one."""
    block = int(site.attribute("blocksize"))
    if site.axis == 1:
        raise TilingError("moves rows into channels")
    if site.axis == 0:
        return Geometry(site.rows, {0: Reads.same(0, site.rows)})
    first = np.arange(site.rows) * block
    reads = Reads.of(site.axis, site.rows * block, first, first + block)
    return Geometry(site.rows, {0: reads})


RULES: RuleTable = {
    ("", "Concat"): concat,
    ("", "DepthToSpace"): depth_to_space,
    ("", "Pad"): pad,
    ("", "Reshape"): reshape,
    ("", "Slice"): slicing,
    ("", "SpaceToDepth"): space_to_depth,
    ("", "Split"): split,
    ("", "Squeeze"): squeeze,
    ("", "Transpose"): transpose,
    ("", "Unsqueeze"): unsqueeze,
}
