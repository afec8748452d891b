"""From measured segments to corrected costs of the tensors that go into them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from partc.ir.program import Program
from partc.ir.segment import Segment
from partc.ir.topology import Topology
from partc.passes.refine.forecast import Forecast

Arrivals = dict[str, dict[str, float]]
"""Tensor -> receiving host -> seconds of its arrival whatever its size."""


def corrections(
    program: Program,
    topology: Topology,
    segments: Iterable[Segment],
    found_s: Forecast,
    seconds: Mapping[str, float],
) -> Arrivals:
    """What each transfer of a plan really costs beyond its bytes.

    On two hosts all of it; with more, what comes on top of a message of its own, since a tensor
    may come to a host over more than one link.

    A segment that takes longer than its blocks together does so because of where it was cut: the
    difference belongs to the tensors that come in over the cut, or, where nothing comes in, to
    those that go out. A host starts no segment without them, so they pay for that too.

    Args:
        found_s: the plan's messages.
        seconds: segment id -> its measured time.
    """
    segments = tuple(segments)
    arrival_s = found_s.arrival_s
    found = dict(arrival_s)
    for segment in segments:
        if segment.id not in seconds:
            continue
        more_s = seconds[segment.id] - blocks_s(program, segment)
        crossing = [(t, segment.host) for t in segment.inputs if (t, segment.host) in arrival_s]
        if not crossing:
            assert program.costs is not None
            more_s -= program.costs.segment_fixed_s[segment.host]
            crossing = [key for key in arrival_s if key[0] in segment.outputs]
        for key in crossing:
            found[key] += more_s / len(crossing)
    result: Arrivals = {}
    for (tensor, receiver), fixed_s in found.items():
        known_s = (
            0.0
            if len(topology.hosts) == 2 and not topology.bus
            else found_s.lone_s[tensor, receiver]
        )
        result.setdefault(tensor, {})[receiver] = max(0.0, fixed_s - known_s)
    return result


def merged(known: Mapping[str, Mapping[str, float]], new: Arrivals) -> Arrivals:
    """Both, the newer where they differ."""
    result: Arrivals = {tensor: dict(row) for tensor, row in known.items()}
    for tensor, row in new.items():
        result.setdefault(tensor, {}).update(row)
    return result


def blocks_s(program: Program, segment: Segment) -> float:
    """What the blocks of a segment cost on its host, without what it takes to begin."""
    assert program.costs is not None
    blocks = dict.fromkeys(program.block_of[op].name for op in segment.ops)
    return sum(program.costs.of(block, segment.host).median_s for block in blocks)
