"""Arcs for branches that hosts share: who makes which, and what that takes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from partc.ir.program import Program
from partc.ir.tiling import TileGroup
from partc.optimizer.horizontal import Arc, Gather, Tiling
from partc.passes.tiling.branches import Branching
from partc.passes.tiling.planning.hosts import Sharing

_MOST_ASSIGNMENTS = 4096


@dataclass(frozen=True)
class SharedStage:
    """The branches of one stage with who makes each.

    Attributes:
        entry_bytes: of the whole entry, which every host needs.
        exit_bytes: by host, what it makes of the exit.
        seconds: by host, in its order in the candidate.
    """

    found: Branching
    owners: tuple[str, ...]
    entry_bytes: float
    exit_bytes: tuple[float, ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class BranchCandidate:
    """Every stage of branches, shared by one set of hosts."""

    sharing: Sharing
    stages: tuple[SharedStage, ...]

    @property
    def name(self) -> str:
        """Unique among the candidates of one problem."""
        return f"branches|{'+'.join(self.sharing.hosts)}"

    @property
    def priced_as(self) -> str:
        """Candidates of one name are corrected together."""
        return self.name

    def group(self, entry: str, exit: str) -> TileGroup:
        """The blocks of one stage, shared."""
        stage = next(s for s in self.stages if (s.found.entry, s.found.exit) == (entry, exit))
        return TileGroup(
            blocks=stage.found.blocks,
            entry=entry,
            exit=exit,
            hosts=self.sharing.hosts,
            bounds=stage.found.bounds,
            axis=stage.found.axis,
            kind="branches",
            owners=stage.owners,
        )

    def arcs(self, factor: float) -> list[Arc]:
        """One for each stage; ``factor`` is by how much longer they were found to take."""
        return [
            Arc(
                entry=stage.found.entry,
                exit=stage.found.exit,
                tiling=self.name,
                tile_s=tuple(seconds * factor for seconds in stage.seconds),
                entry_bytes=(stage.entry_bytes,) * len(self.sharing.hosts),
            )
            for stage in self.stages
        ]

    def gathers(self) -> list[Gather]:
        """What each host sends of what a stage gives."""
        return [
            Gather(tensor=stage.found.exit, tiling=self.name, tile_bytes=stage.exit_bytes)
            for stage in self.stages
        ]


def branch_candidates(
    program: Program, found: Iterable[Branching], groups: Sequence[tuple[str, ...]]
) -> tuple[BranchCandidate, ...]:
    """The best way to share each stage, for each set of hosts that can run it."""
    stages = tuple(found)
    made: list[BranchCandidate] = []
    for hosts in groups:
        shared = [each for each in (_shared(program, s, hosts) for s in stages) if each is not None]
        if shared:
            even = (1.0 / len(hosts),) * len(hosts)
            made.append(BranchCandidate(Sharing(hosts, even), tuple(shared)))
    return tuple(made)


def with_mixed_halos(
    arcs: Sequence[Arc],
    gathers: Sequence[Gather],
    tilings: Mapping[str, Tiling],
    branching: frozenset[str],
) -> list[Arc]:
    """The same arcs, those of branches after any tiles and any tiles after branches.

    Args:
        branching: names of the tilings that share branches.
    """
    made: dict[str, list[Gather]] = {}
    for gather in gathers:
        made.setdefault(gather.tensor, []).append(gather)
    found: list[Arc] = []
    for arc in arcs:
        halos = dict(arc.halo_bytes)
        for before in made.get(arc.entry, ()):
            if arc.entry_bytes is None or not {before.tiling, arc.tiling} & branching:
                continue
            senders, readers = tilings[before.tiling].hosts, tilings[arc.tiling].hosts
            total = sum(before.tile_bytes)
            halos[before.tiling] = tuple(
                tuple(
                    0.0 if sender == reader else needed * own / total
                    for reader, needed in zip(readers, arc.entry_bytes, strict=True)
                )
                for sender, own in zip(senders, before.tile_bytes, strict=True)
            )
        found.append(arc.model_copy(update={"halo_bytes": halos}))
    return found


def _shared(program: Program, found: Branching, hosts: tuple[str, ...]) -> SharedStage | None:
    """None where a host cannot run a block, or there are fewer branches than hosts."""
    costs = program.costs
    assert costs is not None
    if any(not costs.supports(block, host) for block in found.blocks for host in hosts):
        return None
    block_of = {op.name: program.block_of[op.name].name for op in (*found.ops, found.join)}
    seconds = {h: {b: costs.of(b, h).median_s for b in found.blocks} for h in hosts}

    def taken_s(owners: tuple[str, ...]) -> tuple[float, ...]:
        times = []
        for host in hosts:  # each puts the parts together that it reads
            ran = {block_of[op] for op in found.needed(owners, host)} | {block_of[found.join.name]}
            times.append(sum(seconds[host][block] for block in ran))
        return tuple(times)

    best = min(
        (owners for owners in _assignments(found, hosts) if set(owners) == set(hosts)),
        key=lambda owners: max(taken_s(owners)),
        default=None,
    )
    if best is None:
        return None
    exit_bytes = program.tensor(found.exit).size_bytes
    part = [
        exit_bytes * sum(s for s, o in zip(found.sizes, best, strict=True) if o == host)
        / found.bounds[-1]
        for host in hosts
    ]  # fmt: skip
    entry_bytes = float(program.tensor(found.entry).size_bytes)
    return SharedStage(found, best, entry_bytes, tuple(part), taken_s(best))


def _assignments(found: Branching, hosts: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
    """All ways to give branches to hosts, or those in sequence where there are too many."""
    count = len(found.branches)
    if len(hosts) ** count <= _MOST_ASSIGNMENTS:
        return itertools.product(hosts, repeat=count)
    cuts = itertools.combinations(range(1, count), len(hosts) - 1)
    return (
        tuple(
            host
            for host, (begin, end) in zip(hosts, itertools.pairwise((0, *cut, count)), strict=True)
            for _ in range(end - begin)
        )
        for cut in itertools.islice(cuts, _MOST_ASSIGNMENTS)
    )
