"""What a manifest says of tiles: which rows of which block each host computes, and what is sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from partc.suggest import unknown_name

if TYPE_CHECKING:
    from partc.bundle.manifest import Manifest

RowUnit = Literal["rows", "columns", "channels", "positions", "branches"]
Span = tuple[int, int]

_MOST_ROWS = 2**40
_SAME = 1e-6

Row = Annotated[int, Field(ge=0, le=_MOST_ROWS)]
Rows = Annotated[int, Field(ge=1, le=_MOST_ROWS)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class TiledBlockEntry(_Strict):
    """One block of the model as it was, and who computes which of its rows.

    Attributes:
        rows: of the whole block; with ``input-channels`` the channels that it reads, with
            ``branches`` one.
        computed: for each host of the group the rows from the first up to, without, the second;
            of the op of the block that is computed furthest.
        whole_s: what the whole block takes on the fastest host: its part of the work.
    """

    name: str
    rows: Rows
    computed: list[tuple[Row, Row]]
    whole_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


class SentRowsEntry(_Strict):
    """Rows ``begin`` to ``end`` of a tensor, sent from host to host; a transfer of the plan.

    Attributes:
        tensor: as the transfer names it.
        of: the tensor of the model whose rows they are.
        rows: how many that one has.
    """

    tensor: str
    of: str
    sender: str = Field(alias="from")
    receiver: str = Field(alias="to")
    begin: Row
    end: Row
    rows: Rows
    bytes: Annotated[int, Field(ge=0)]


class TileGroupEntry(_Strict):
    """Blocks that several hosts compute side by side; see `partc.ir.tiling.TileGroup`.

    Attributes:
        bounds: as many as hosts and one more; with ``branches`` as many as owners and one more.
        owners: with ``branches``, who makes each part of ``exit``.
        unit: what a row is.
        receives: what the group's hosts are sent of ``entry``: from another group, halos.
        gives: what is sent of ``exit`` to hosts that put it together.
    """

    entry: str
    exit: str
    axis: Annotated[int, Field(ge=0, le=15)]
    kind: Literal["tiles", "input-channels", "branches"] = "tiles"
    unit: RowUnit = "rows"
    hosts: list[str]
    bounds: list[Row]
    owners: list[str] = []
    blocks: list[TiledBlockEntry]
    receives: list[SentRowsEntry] = []
    gives: list[SentRowsEntry] = []


class TilingEntry(_Strict):
    """Every group of tiles of the plan.

    Attributes:
        done_twice: what hosts compute more than once, as a share of the work of the tiled blocks.
        halo_bytes: what tiles of one group are sent of the tiles of another, for each request.
    """

    groups: list[TileGroupEntry]
    done_twice: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    halo_bytes: Annotated[int, Field(ge=0)]


def rows_twice(spans: Sequence[Span]) -> int:
    """How many rows are computed beyond once, by all hosts together."""
    return sum(end - begin for begin, end in spans) - _covered(spans)


def overlaps(spans: Sequence[Span]) -> list[Span]:
    """The ranges that more than one host computes, from the first to the last."""
    edges = sorted({edge for span in spans for edge in span})
    found: list[Span] = []
    for begin, end in pairwise(edges):
        if sum(low <= begin and end <= high for low, high in spans) < 2:
            continue
        if found and found[-1][1] == begin:
            found[-1] = (found[-1][0], end)
        else:
            found.append((begin, end))
    return found


def done_twice(groups: Iterable[TileGroupEntry]) -> float:
    """The share of the work of tiled blocks that is done more than once, weighted by its time."""
    blocks = [block for group in groups for block in group.blocks]
    timed = any(block.whole_s > 0 for block in blocks)
    work = twice = 0.0
    for block in blocks:
        weight = block.whole_s if timed else 1.0
        work += weight
        twice += weight * rows_twice(block.computed) / block.rows
    return twice / work if work else 0.0


def halos(groups: Sequence[TileGroupEntry]) -> Iterator[SentRowsEntry]:
    """Rows that the tiles of one group are sent of the tiles of another."""
    tiled = {group.exit for group in groups}
    for group in groups:
        if group.entry in tiled:
            yield from group.receives


def check_tiling(manifest: Manifest) -> None:
    """Check what types cannot.

    Raises:
        ValueError: with the first thing that is wrong.
    """
    tiling = manifest.tiling
    if tiling is None:
        return
    if not tiling.groups:
        raise ValueError("there are tiles, but no group of them")
    sent = {(t.tensor, t.sender, t.receiver): t.bytes for t in manifest.plan.transfers}
    seen: set[str] = set()
    for number, group in enumerate(tiling.groups, start=1):
        where = f"group {number} of tiles"
        _check_hosts(group, where, manifest)
        if not group.blocks:
            raise ValueError(f"{where} has no blocks")
        for block in group.blocks:
            _check_block(block, len(group.hosts), where)
            if block.name in seen:
                raise ValueError(f"block {block.name!r} is tiled twice")
            seen.add(block.name)
        for of, rows in ((group.entry, group.receives), (group.exit, group.gives)):
            for each in rows:
                _check_sent(each, of, where, sent)
    if abs(tiling.done_twice - done_twice(tiling.groups)) > _SAME:
        raise ValueError("the share of work done twice does not follow from the rows")
    if tiling.halo_bytes != sum(each.bytes for each in halos(tiling.groups)):
        raise ValueError("the bytes of halos are not those of the rows that are sent")


def _check_hosts(group: TileGroupEntry, where: str, manifest: Manifest) -> None:
    if not group.hosts:
        raise ValueError(f"{where} has no hosts")
    for host in group.hosts:
        if host not in manifest.hosts:
            raise ValueError(f"{where}: {unknown_name('host', host, manifest.hosts)}")
    if len(set(group.hosts)) != len(group.hosts):
        raise ValueError(f"{where} names a host twice")
    has_owners = group.kind == "branches"
    if has_owners != bool(group.owners) or not set(group.owners) <= set(group.hosts):
        raise ValueError(f"the owners of branches of {where} are not its hosts")
    what, parts = ("branches", group.owners) if has_owners else ("hosts", group.hosts)
    if len(group.bounds) != len(parts) + 1:
        raise ValueError(f"{where} has {len(group.bounds)} bounds for {len(parts)} {what}")
    if group.bounds[0] != 0 or any(low >= high for low, high in pairwise(group.bounds)):
        raise ValueError(f"the bounds of {where} do not rise from 0")


def _check_block(block: TiledBlockEntry, hosts: int, where: str) -> None:
    if len(block.computed) != hosts:
        raise ValueError(
            f"{where}: block {block.name!r} has rows for {len(block.computed)} of {hosts} hosts"
        )
    for begin, end in block.computed:
        if not begin <= end <= block.rows:
            raise ValueError(
                f"{where}: block {block.name!r} has {block.rows} rows, and not {begin} to {end}"
            )


def _check_sent(
    each: SentRowsEntry, of: str, where: str, sent: dict[tuple[str, str, str], int]
) -> None:
    if each.of != of:
        raise ValueError(f"{where} sends rows of {each.of!r}, which it neither reads nor makes")
    if not each.begin < each.end <= each.rows:
        raise ValueError(
            f"{where}: {of!r} has {each.rows} rows, and not {each.begin} to {each.end}"
        )
    way = (each.tensor, each.sender, each.receiver)
    if way not in sent:
        raise ValueError(f"{where} sends {each.tensor!r} in no transfer of the plan")
    if sent[way] != each.bytes:
        raise ValueError(f"{where} sends {each.tensor!r} with other bytes than its transfer")


def _covered(spans: Sequence[Span]) -> int:
    total = reached = 0
    for begin, end in sorted(spans):
        total += max(0, end - max(begin, reached))
        reached = max(reached, end)
    return total
