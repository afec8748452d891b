"""End-to-end latency minus the segments' own times, between two processes over loopback.

``python -m benchmarks.runtime``: for boundary tensors of 1 KiB to 5 MB, by stream and by unary
calls. Wanted: under 3 ms at the median up to 100 KiB by stream. With ``--link`` also through an
emulated link, beside what the link's bandwidth and delay alone would take. With ``--exchanges``
what one more exchange between two servers costs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from onnx import helper

from partc.bundle.reader import Bundle
from partc.runtime.allocator import keep_large_blocks
from partc.runtime.device import Answer, Deployment, open_bundle
from partc.runtime.host import message_limit_bytes
from partc.runtime.local import LocalDeployment
from partc.runtime.wire.client import GrpcTransport
from tests.runtime.handmade import Drawing, Piece, Tensor, call, write_bundle
from tests.runtime.meshes import mesh
from tests.runtime.plans import adding, scaling

SIZES_BYTES = (1 << 10, 10 << 10, 100 << 10, 600_000, 5_000_000)
REPLY_ELEMENTS = 1024
WANTED_P50_MS = 3.0
MOST_EXCHANGES = 9


def drawing(size_bytes: int, bandwidth_mbit_s: float = 1000.0, rtt_ms: float = 0.0) -> Drawing:
    """The device sends a tensor of ``size_bytes``, the server answers with up to 4 KiB of it."""
    count = size_bytes // 4
    reply = min(REPLY_ELEMENTS, count)
    constants = {
        "starts": np.array([0], dtype=np.int64),
        "ends": np.array([reply], dtype=np.int64),
    }
    cut = helper.make_node("Slice", ["t", "starts", "ends"], ["y"])
    return Drawing(
        tensors=(Tensor("x", (count,)), Tensor("t", (count,)), Tensor("y", (reply,))),
        inputs=("x",),
        outputs=("y",),
        pieces=(
            scaling("s0", "camera", "x", 2.0, "t"),
            Piece("s1", "server", ("t",), ("y",), (cut,), constants),
        ),
        calls=(
            call("c0", None, "camera", ["x"], ["y"], ["s0", "c1"]),
            call("c1", "camera", "server", ["t"], ["y"], ["s1"]),
        ),
        links=(("camera", "server"),),
        bandwidth_mbit_s=bandwidth_mbit_s,
        rtt_ms=rtt_ms,
    )


def overheads_ms(deployment: Deployment, size_bytes: int, seconds: float) -> list[float]:
    """Latency minus segments of as many requests as fit in ``seconds``."""
    feeds = {"x": np.arange(size_bytes // 4, dtype=np.float32)}
    for _ in range(5):
        deployment.request(feeds)
    samples: list[float] = []
    end_s = time.perf_counter() + seconds
    while len(samples) < 10 or (time.perf_counter() < end_s and len(samples) < 1000):
        samples.append(_overhead_ms(deployment.request(feeds)))
    return samples


def _overhead_ms(answer: Answer) -> float:
    assert not answer.failures, answer.failures
    return 1e3 * (answer.latency_s - answer.segments_s)


def loopback(seconds: float) -> list[dict[str, float | str]]:
    """One row for each size and kind of call."""
    rows: list[dict[str, float | str]] = []
    for size_bytes in SIZES_BYTES:
        with tempfile.TemporaryDirectory() as folder:
            bundle = Bundle.open(write_bundle(Path(folder), drawing(size_bytes)))
            with LocalDeployment(bundle, emulate_links=False) as local:
                samples = overheads_ms(local.deployment, size_bytes, seconds)
                rows.append(_row("line", size_bytes, samples))
                for kind, has_stream in (("stream", True), ("unary", False)):
                    transport = GrpcTransport(
                        local.addresses,
                        max_message_bytes=message_limit_bytes(bundle.manifest),
                        prefer_lines=False,
                        prefer_stream=has_stream,
                    )
                    with open_bundle(bundle, transport=transport) as deployment:
                        samples = overheads_ms(deployment, size_bytes, seconds)
                    rows.append(_row(kind, size_bytes, samples))
    return rows


def emulated(
    seconds: float, bandwidth_mbit_s: float, rtt_ms: float
) -> list[dict[str, float | str]]:
    """One row for each size, through a relay."""
    rows: list[dict[str, float | str]] = []
    for size_bytes in SIZES_BYTES:
        with tempfile.TemporaryDirectory() as folder:
            plan = drawing(size_bytes, bandwidth_mbit_s, rtt_ms)
            with LocalDeployment(write_bundle(Path(folder), plan)) as local:
                samples = overheads_ms(local.deployment, size_bytes, seconds)
        row = _row(f"{bandwidth_mbit_s:g} Mbit/s, {rtt_ms:g} ms", size_bytes, samples)
        sent_bytes = size_bytes + min(4 * REPLY_ELEMENTS, size_bytes)
        rows.append(row | {"ideal_ms": rtt_ms + sent_bytes * 8e-3 / bandwidth_mbit_s})
    return rows


def exchanges(seconds: float) -> list[dict[str, float | str]]:
    """What one more exchange of two servers costs: pushed, and over the device.

    From the latencies with many exchanges and with one; the segments add some tens of
    microseconds to both ways.
    """
    hosts = ["camera", "left", "right"]
    star = [("camera", "left"), ("camera", "right")]
    rows: list[dict[str, float | str]] = []
    for size_bytes in (1 << 10, 100 << 10, 600_000):
        for kind, pairs in (("pushed", None), ("over the device", star)):
            medians_ms: dict[int, float] = {}
            for rounds in (1, MOST_EXCHANGES):
                with tempfile.TemporaryDirectory() as folder:
                    plan = halving(rounds, hosts, pairs)
                    with LocalDeployment(write_bundle(Path(folder), plan), False) as local:
                        samples = latencies_ms(local.deployment, size_bytes, seconds)
                medians_ms[rounds] = statistics.median(samples)
            one_ms = (medians_ms[MOST_EXCHANGES] - medians_ms[1]) / (MOST_EXCHANGES - 1)
            rows.append(_row(f"an exchange {kind}", size_bytes, [one_ms]))
    return rows


def halving(rounds: int, hosts: list[str], pairs: list[tuple[str, str]] | None) -> Drawing:
    """Two servers that each take the other's tensor, ``rounds`` times."""
    pieces: list[Piece] = []
    for k in range(rounds):
        for own, other, host in (("a", "b", "left"), ("b", "a", "right")):
            source = f"{other}{k}" if k else "x"
            pieces.append(scaling(f"{own}{k}", host, source, 0.5, f"{own}{k + 1}"))
    pieces.append(adding("last", "camera", f"a{rounds}", f"b{rounds}", "y"))
    return mesh(pieces, hosts, pairs)


def latencies_ms(deployment: Deployment, size_bytes: int, seconds: float) -> list[float]:
    """Of as many requests as fit in ``seconds``."""
    feeds = {"x": np.ones((size_bytes // 256, 64), np.float32)}
    samples: list[float] = []
    end_s = time.perf_counter() + seconds
    while len(samples) < 10 or time.perf_counter() < end_s:
        answer = deployment.request(feeds)
        assert not answer.failures, answer.failures
        samples.append(1e3 * answer.latency_s)
    return samples[5:]


def _row(kind: str, size_bytes: int, samples: list[float]) -> dict[str, float | str]:
    return {
        "kind": kind,
        "size_bytes": size_bytes,
        "p50_ms": statistics.median(samples),
        "p95_ms": float(np.quantile(samples, 0.95)),
        "requests": len(samples),
    }


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runtime")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row")
    parser.add_argument("--link", nargs=2, type=float, metavar=("MBIT_S", "RTT_MS"))
    parser.add_argument(
        "--exchanges", action="store_true", help="of two servers, in place of calls"
    )
    parser.add_argument("--large-blocks", action="store_true", help="as a server's memory settings")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.large_blocks:
        keep_large_blocks()
    if given.exchanges:
        rows = exchanges(given.seconds)
    else:
        rows = emulated(given.seconds, *given.link) if given.link else loopback(given.seconds)
    if given.json:
        print(json.dumps(rows))
        return
    print(f"{'':28}{'bytes':>10}{'p50 ms':>10}{'p95 ms':>10}{'ideal ms':>10}")
    for row in rows:
        ideal = f"{row['ideal_ms']:10.2f}" if "ideal_ms" in row else ""
        figures = f"{row['p50_ms']:10.2f}{row['p95_ms']:10.2f}"
        print(f"{row['kind']:28}{row['size_bytes']:>10}{figures}{ideal}")
    for row in rows:
        if row["kind"] == "stream" and row["size_bytes"] == 100 << 10:
            met = "met" if float(row["p50_ms"]) < WANTED_P50_MS else "MISSED"
            print(f"under {WANTED_P50_MS:g} ms at 100 KiB by stream: {met}")


if __name__ == "__main__":
    main()
