"""Arcs and gathers from tables of geometry: arrays over (first cut, last cut, tile)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from partc.errors import UsageError
from partc.optimizer.horizontal.problem import Arc, Gather, Tiling

Floats = npt.NDArray[np.float64]


def arcs_from_tables(
    cuts: Sequence[str],
    tiling: Tiling,
    tile_s: Floats,
    entry_bytes: Floats,
    halo_bytes: Floats,
) -> tuple[Arc, ...]:
    """Arcs of one tiling between cut tensors; what is NaN anywhere is not possible.

    Args:
        cuts: the cut tensors in order.
        tiling: whose tiles the last axis counts.
        tile_s: seconds; shape (cuts, cuts, tiles). A range without seconds is no arc; only entries
            above the diagonal (first cut before last) are read.
        entry_bytes: bytes of the first cut that each tile needs, where that is whole; same shape.
        halo_bytes: bytes that each tile (third axis) sends to each tile (fourth axis) where the
            first cut is tiled as this; shape (cuts, cuts, tiles, tiles).

    Raises:
        UsageError: a shape does not fit.
    """
    count, tiles = len(cuts), len(tiling.hosts)
    for name, table, shape in (
        ("tile_s", tile_s, (count, count, tiles)),
        ("entry_bytes", entry_bytes, (count, count, tiles)),
        ("halo_bytes", halo_bytes, (count, count, tiles, tiles)),
    ):
        if table.shape != shape:
            raise UsageError(
                f"{name} for tiling {tiling.name!r} has the shape {table.shape}, but needs {shape}."
            )
    runs = np.triu(~np.isnan(tile_s).any(axis=2), k=1)
    whole = runs & ~np.isnan(entry_bytes).any(axis=2)
    tiled = runs & ~np.isnan(halo_bytes).any(axis=(2, 3))
    firsts, lasts = np.nonzero(whole | tiled)
    columns = zip(
        firsts.tolist(),
        lasts.tolist(),
        tile_s[firsts, lasts].tolist(),
        entry_bytes[firsts, lasts].tolist(),
        halo_bytes[firsts, lasts].tolist(),
        whole[firsts, lasts].tolist(),
        tiled[firsts, lasts].tolist(),
        strict=True,
    )
    return tuple(
        Arc(
            entry=cuts[first],
            exit=cuts[last],
            tiling=tiling.name,
            tile_s=tuple(seconds),
            entry_bytes=tuple(needed) if from_whole else None,
            halo_bytes={tiling.name: tuple(map(tuple, halos))} if from_tiles else {},
        )
        for first, last, seconds, needed, halos, from_whole, from_tiles in columns
    )


def gathers_from_table(
    cuts: Sequence[str], tiling: Tiling, tile_bytes: Floats
) -> tuple[Gather, ...]:
    """Gathers of one tiling; `tile_bytes` has the shape (cuts, tiles), rows with NaN are left out.

    Raises:
        UsageError: the shape does not fit.
    """
    shape = (len(cuts), len(tiling.hosts))
    if tile_bytes.shape != shape:
        raise UsageError(
            f"tile_bytes for tiling {tiling.name!r} has the shape {tile_bytes.shape}, but needs "
            f"{shape}."
        )
    return tuple(
        Gather(tensor=tensor, tiling=tiling.name, tile_bytes=tuple(row))
        for tensor, row in zip(cuts, tile_bytes.tolist(), strict=True)
        if not np.isnan(row).any()
    )
