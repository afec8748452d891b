"""Deployments whose servers are joined with each other; the calls are the compiler's own."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from partc.bundle.manifest import CallEntry
from partc.ir.segment import Segment
from partc.ir.topology import Topology
from partc.passes.emit.manifest import call_entry
from partc.passes.lower.calls import make_calls
from tests.runtime.handmade import Drawing, Piece
from tests.runtime.plans import adding, labouring, scaling, tensors

Array = np.ndarray[Any, np.dtype[Any]]
Pair = tuple[str, str]


def all_pairs(hosts: Sequence[str]) -> tuple[Pair, ...]:
    """Every host joined with every other."""
    return tuple(itertools.combinations(hosts, 2))


def topology(hosts: Sequence[str], pairs: Iterable[Pair]) -> Topology:
    links = [{"between": list(pair), "bandwidth_mbit_s": 100} for pair in pairs]
    return Topology.parse({"hosts": {host: {} for host in hosts}, "links": links})


def calls_of(
    pieces: Iterable[Piece], hosts: Sequence[str], pairs: Iterable[Pair], outputs: tuple[str, ...]
) -> tuple[CallEntry, ...]:
    """As the compiler plans them; the first host is the root."""
    segments = [Segment(p.id, p.host, (p.id,), p.inputs, p.outputs) for p in pieces]
    program: Any = SimpleNamespace(inputs=("x",), outputs=outputs)
    return tuple(call_entry(c) for c in make_calls(program, segments, topology(hosts, pairs)))


def mesh(
    pieces: Sequence[Piece],
    hosts: Sequence[str],
    pairs: Sequence[Pair] | None = None,
    outputs: tuple[str, ...] = ("y",),
    **settings: Any,
) -> Drawing:
    """A deployment; hosts that have nothing to do are left out."""
    joined = all_pairs(hosts) if pairs is None else pairs
    calls = calls_of(pieces, hosts, joined, outputs)
    used = {call.host for call in calls}
    names = dict.fromkeys(("x", *(t for p in pieces for t in (*p.inputs, *p.outputs))))
    return Drawing(
        tensors=tensors(*names),
        inputs=("x",),
        outputs=outputs,
        pieces=tuple(pieces),
        calls=calls,
        links=tuple(pair for pair in joined if set(pair) <= used),
        **settings,
    )


def exchange(rounds: int = 3, labour: int = 1, **settings: Any) -> Drawing:
    """Two servers that each need what the other made, ``rounds`` times: y = 4 * 3**rounds x.

    left: a' = a + 2 b; right: b' = b + 2 a. Both begin with 2 x.
    """
    pieces = [
        scaling("p0", "camera", "x", 2.0, "a0"),
        scaling("p1", "camera", "x", 2.0, "b0"),
    ]
    for k in range(rounds):
        for own, other, host in (("a", "b", "left"), ("b", "a", "right")):
            pieces += [
                labouring(f"{own}w{k}", host, f"{own}{k}", f"{own}h{k}", labour),
                scaling(f"{own}d{k}", host, f"{own}h{k}", 2.0, f"{own}s{k}"),
                adding(f"{own}n{k}", host, f"{own}{k}", f"{other}s{k}", f"{own}{k + 1}"),
            ]
    pieces.append(adding("last", "camera", f"a{rounds}", f"b{rounds}", "y"))
    return mesh(pieces, ["camera", "left", "right"], **settings)


def pipeline(**settings: Any) -> Drawing:
    """camera, left, right, camera; left sends to right alone: y = 30 x."""
    pieces = (
        scaling("s0", "camera", "x", 2.0, "t"),
        scaling("s1", "left", "t", 3.0, "u"),
        scaling("s2", "right", "u", 5.0, "y"),
    )
    return mesh(pieces, ["camera", "left", "right"], **settings)


def forwarded(**settings: Any) -> Drawing:
    """A ring of four, seen from its camera: what one end makes goes over a host that reads it not.

    y = 2 x * 3 * 5 + 2 x * 7 = 44 x.
    """
    pairs = (("camera", "one"), ("one", "two"), ("two", "three"), ("three", "camera"))
    pieces = (
        scaling("s0", "one", "x", 2.0, "t"),
        scaling("s1", "two", "t", 3.0, "u"),
        scaling("s2", "three", "u", 5.0, "v"),
        scaling("s3", "two", "t", 7.0, "w"),
        adding("s4", "camera", "v", "w", "y"),
    )
    return mesh(pieces, ["camera", "one", "two", "three"], pairs, **settings)


def behind_gateways(**settings: Any) -> Drawing:
    """Two gateways, and behind each a host that exchanges with the one behind the other: y = 30 x.

    The calls of the two sides must be told apart finely, or they wait for each other.
    """
    pairs = (("root", "g1"), ("root", "g2"), ("g1", "c1"), ("g2", "c2"), ("c1", "c2"))
    pieces = (
        scaling("e1", "g1", "x", 2.0, "p"),
        scaling("e2", "g2", "x", 3.0, "q"),
        scaling("a1", "c1", "p", 2.0, "r"),
        scaling("b1", "c2", "q", 2.0, "s"),
        scaling("b0", "c2", "r", 3.0, "u"),
        scaling("a0", "c1", "s", 3.0, "v"),
        adding("z", "root", "u", "v", "y"),
    )
    return mesh(pieces, ["root", "g1", "g2", "c1", "c2"], pairs, **settings)


@st.composite
def random_pieces(draw: st.DrawFn, hosts: Sequence[str]) -> tuple[tuple[Piece, ...], float]:
    """Segments anywhere, and what the output is times the input."""
    count = draw(st.integers(3, 14))
    factor = {"x": 1.0}
    pieces: list[Piece] = []
    for index in range(count):
        host = draw(st.sampled_from(hosts))
        name = "y" if index == count - 1 else f"t{index}"
        recent = list(factor)[-5:]
        one, other = draw(st.sampled_from(recent)), draw(st.sampled_from(recent))
        if one == other:
            pieces.append(scaling(f"s{index}", host, one, 0.5, name))
            factor[name] = 0.5 * factor[one]
        else:
            pieces.append(adding(f"s{index}", host, one, other, name))
            factor[name] = factor[one] + factor[other]
    return tuple(pieces), factor["y"]
