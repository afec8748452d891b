"""The deployments that the runtime is tested with, and their expected answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.runtime.handmade import Drawing, Piece, Tensor, add, busy, call, scale

Array = np.ndarray[Any, np.dtype[Any]]

SHAPE = ("N", 64)


def scaling(name: str, host: str, source: str, factor: float, result: str) -> Piece:
    node, constants = scale(source, factor, result)
    return Piece(name, host, (source,), (result,), (node,), constants)


def adding(name: str, host: str, one: str, other: str, result: str) -> Piece:
    return Piece(name, host, (one, other), (result,), (add(one, other, result),))


def labouring(name: str, host: str, source: str, result: str, rounds: int = 40) -> Piece:
    """A segment that takes a while."""
    eye = {f"{result}_eye": np.eye(64, dtype=np.float32)}
    return Piece(name, host, (source,), (result,), busy(source, result, rounds), eye)


def sample(rows: int = 2, seed: int = 0) -> dict[str, Array]:
    return {"x": np.random.default_rng(seed).standard_normal((rows, 64)).astype(np.float32)}


def tensors(*names: str) -> tuple[Tensor, ...]:
    return tuple(Tensor(name, SHAPE, planned=(2, 64)) for name in names)


def two_hosts(**settings: Any) -> Drawing:
    """The device doubles, the server triples: y = 6 x."""
    return Drawing(
        tensors=tensors("x", "t", "y"),
        inputs=("x",),
        outputs=("y",),
        pieces=(
            scaling("s0", "camera", "x", 2.0, "t"),
            scaling("s1", "server", "t", 3.0, "y"),
        ),
        calls=(
            call("c0", None, "camera", ["x"], ["y"], ["s0", "c1"]),
            call("c1", "camera", "server", ["t"], ["y"], ["s1"]),
        ),
        links=(("camera", "server"),),
        **settings,
    )


def there_and_back(**settings: Any) -> Drawing:
    """device, server, device, server: the server holds ``kept``. y = 6 x + 30 x = 36 x."""
    kept = scaling("s1a", "server", "t", 3.0, "kept")
    returned = scaling("s1b", "server", "t", 5.0, "u")
    server = Piece(
        "s1",
        "server",
        ("t",),
        ("kept", "u"),
        kept.nodes + returned.nodes,
        {**(kept.constants or {}), **(returned.constants or {})},
    )
    return Drawing(
        tensors=tensors("x", "t", "kept", "u", "v", "y"),
        inputs=("x",),
        outputs=("y",),
        pieces=(
            scaling("s0", "camera", "x", 2.0, "t"),
            server,
            scaling("s2", "camera", "u", 3.0, "v"),
            adding("s3", "server", "kept", "v", "y"),
        ),
        calls=(
            call("c0", None, "camera", ["x"], ["y"], ["s0", "c1", "s2", "c2"]),
            call("c1", "camera", "server", ["t"], ["u"], ["s1"], is_last=False),
            call("c2", "camera", "server", ["v"], ["y"], ["s3"]),
        ),
        links=(("camera", "server"),),
        **settings,
    )


def chain(**settings: Any) -> Drawing:
    """device, gateway, server; the gateway forwards and adds its own part. y = 6 x + 30 x."""
    return Drawing(
        tensors=tensors("x", "t", "g", "z", "y"),
        inputs=("x",),
        outputs=("y",),
        pieces=(
            scaling("s0", "camera", "x", 2.0, "t"),
            scaling("s1", "gateway", "t", 3.0, "g"),
            scaling("s2", "server", "g", 5.0, "z"),
            adding("s3", "gateway", "g", "z", "y"),
        ),
        calls=(
            call("c0", None, "camera", ["x"], ["y"], ["s0", "c1"]),
            call("c1", "camera", "gateway", ["t"], ["y"], ["s1", "c2", "s3"]),
            call("c2", "gateway", "server", ["g"], ["z"], ["s2"]),
        ),
        links=(("camera", "gateway"), ("gateway", "server")),
        **settings,
    )


def side_by_side(rounds: int = 40, **settings: Any) -> Drawing:
    """The device works on ``b`` while the server works on ``a``. y = 2 x + x."""
    return Drawing(
        tensors=tensors("x", "t", "a", "b", "y"),
        inputs=("x",),
        outputs=("y",),
        pieces=(
            scaling("s0", "camera", "x", 2.0, "t"),
            labouring("s1", "server", "t", "a", rounds),
            labouring("s2", "camera", "x", "b", rounds),
            adding("s3", "camera", "a", "b", "y"),
        ),
        calls=(
            call("c0", None, "camera", ["x"], ["y"], ["s0", "c1", "s2", "s3"]),
            call("c1", "camera", "server", ["t"], ["a"], ["s1"]),
        ),
        links=(("camera", "server"),),
        **settings,
    )


def slow_server(slowdown: float = 200.0, rounds: int = 200, **settings: Any) -> Drawing:
    """The server takes long enough to be killed in the middle. y = 2 x."""
    return Drawing(
        tensors=tensors("x", "t", "y"),
        inputs=("x",),
        outputs=("y",),
        pieces=(
            scaling("s0", "camera", "x", 2.0, "t"),
            labouring("s1", "server", "t", "y", rounds),
        ),
        calls=(
            call("c0", None, "camera", ["x"], ["y"], ["s0", "c1"]),
            call("c1", "camera", "server", ["t"], ["y"], ["s1"]),
        ),
        links=(("camera", "server"),),
        slowdown={"server": slowdown},
        **settings,
    )


def chain_called_twice(**settings: Any) -> Drawing:
    """device, gateway+server, device, gateway+server: both keep tensors. y = 6 x + 30 x."""
    return Drawing(
        tensors=tensors("x", "t", "g", "z", "u", "y"),
        inputs=("x",),
        outputs=("y",),
        pieces=(
            scaling("s0", "camera", "x", 2.0, "t"),
            scaling("s1", "gateway", "t", 1.5, "g"),
            scaling("s2", "server", "g", 2.0, "z"),
            scaling("s3", "camera", "g", 10.0, "u"),
            adding("s4", "server", "z", "u", "y"),
        ),
        calls=(
            call("c0", None, "camera", ["x"], ["y"], ["s0", "c1", "s3", "c3"]),
            call("c1", "camera", "gateway", ["t"], ["g"], ["s1", "c2"], is_last=False),
            call("c2", "gateway", "server", ["g"], [], ["s2"], is_last=False),
            call("c3", "camera", "gateway", ["u"], ["y"], ["c4"]),
            call("c4", "gateway", "server", ["u"], ["y"], ["s4"]),
        ),
        links=(("camera", "gateway"), ("gateway", "server")),
        **settings,
    )


def later_call_is_ready_first(**settings: Any) -> Drawing:
    """The far host keeps ``k`` = 6 x for a later call whose other input is there at once: y = 7 x.

    The first call to it waits for the near host, and the later one must wait for the first.
    """
    return Drawing(
        tensors=tensors("x", "a", "k", "u", "y"),
        inputs=("x",),
        outputs=("y", "u"),
        pieces=(
            scaling("s0", "near", "x", 2.0, "a"),
            scaling("s1", "far", "a", 3.0, "k"),
            scaling("s2", "camera", "a", 5.0, "u"),
            adding("s3", "far", "k", "x", "y"),
        ),
        calls=(
            call("c0", None, "camera", ["x"], ["y", "u"], ["c1", "c2", "c3", "s2"]),
            call("c1", "camera", "near", ["x"], ["a"], ["s0"]),
            call("c2", "camera", "far", ["a"], [], ["s1"], is_last=False),
            call("c3", "camera", "far", ["x"], ["y"], ["s3"]),
        ),
        links=(("camera", "near"), ("camera", "far")),
        **settings,
    )
