from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from partc.report import render_report, tables, units
from partc.report.answers import print_answer, summarise_run
from tests.report import sample


@dataclass
class Run:
    segment: str
    host: str
    seconds: float


@dataclass
class Round:
    call: str
    seconds: float


@dataclass
class Answer:
    latency_s: float = 0.09
    segments: tuple[Run, ...] = (Run("s0", "camera", 0.05), Run("s1", "server", 0.006))
    calls: tuple[Round, ...] = (Round("c1", 0.036),)
    sent_bytes: int = 54_000
    failures: tuple[str, ...] = ("server did not answer",)
    avoided: tuple[str, ...] = ()
    outputs: dict[str, Any] = field(default_factory=lambda: {"y": np.zeros((1, 10))})
    plan: str = "chosen"


def console() -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=120, highlight=False), text


def test_compilation_says_strategies_verdict_proof_and_check() -> None:
    screen, text = console()
    tables.print_compilation(screen, sample.chain()[0])
    for part in ("device-only", "→ optimal", "Splitting pays", "Proven optimal", "1.9e-6"):
        assert part in text.getvalue()


def test_inspection_takes_hostile_names_literally() -> None:
    screen, text = console()
    tables.print_inspection(screen, sample.hostile()[0])
    assert "<script>alert('model')</script>" in text.getvalue()
    assert "estimated" in text.getvalue()
    assert "\x1b" not in text.getvalue()


def test_the_precision_of_costs_is_told_where_it_is_not_that_of_the_model() -> None:
    manifest = sample.chain()[0]
    screen, text = console()
    tables.print_compilation(screen, manifest)
    assert "Costs are of" not in text.getvalue()
    names = list(manifest.hosts)
    entries, described = dict(manifest.hosts), dict(manifest.topology.hosts)
    for name, runs, measured in zip(names, ("fp32", "int8"), ("fp32", "fp16"), strict=True):
        entries[name] = entries[name].model_copy(update={"costs_precision": measured})
        described[name] = described[name].model_copy(update={"precision": runs})
    changed = manifest.topology.model_copy(update={"hosts": described})
    manifest = manifest.model_copy(update={"hosts": entries, "topology": changed})
    told = f"Costs are of {names[0]} in fp32 and {names[1]} in fp16 (it runs int8)."
    tables.print_inspection(screen, manifest)
    assert told in text.getvalue()
    page = render_report(manifest)
    assert told in page and ", in int8" in page


def test_names_are_not_console_markup() -> None:
    screen, text = console()
    layers = sample.mobilenet_layers({"stem": "[red]x[/blue]"})
    manifest = sample.manifest_of(layers, cut_after=["[red]x[/blue]_out"], on_camera=1)
    tables.print_inspection(screen, manifest)
    assert "[red]x[/blue]_out" in text.getvalue()


def test_answer_shows_predicted_beside_measured_and_failures() -> None:
    screen, text = console()
    golden = {"y": np.full((1, 10), 0.25)}
    print_answer(screen, sample.chain()[0], [Answer(), Answer(latency_s=0.11)], golden)
    assert "Latency 100 ms, median of 2 requests, predicted 89.6 ms" in text.getvalue()
    assert "Largest difference from the whole model's answer: 0.25" in text.getvalue()
    assert text.getvalue().count("server did not answer") == 1


def test_a_request_of_hosts_side_by_side_is_predicted_as_it_was_simulated() -> None:
    manifest = sample.chain()[0]
    proof = manifest.certificate.model_copy(update={"simulated_s": 0.06})
    manifest = manifest.model_copy(update={"certificate": proof})
    assert summarise_run(manifest, [Answer()]).predicted_s == 0.06
    assert summarise_run(manifest, [Answer()]).is_estimated is False


def test_transfers_are_what_a_round_trip_takes_beyond_its_segments() -> None:
    summary = summarise_run(sample.chain()[0], [Answer()])
    (transfers,) = [row for row in summary.rows if row.what.startswith("transfers")]
    assert transfers.measured_s == pytest.approx(0.030)
    assert summary.difference is None


def test_requests_that_went_different_ways_are_not_mixed() -> None:
    screen, text = console()
    alone = Answer(segments=(Run("s0", "camera", 0.05), Run("s1", "camera", 0.1)), calls=())
    print_answer(screen, sample.chain()[0], [Answer(failures=()), alone])
    assert "1 of 2 were finished in place of a host that failed" in text.getvalue()
    (row,) = [r for r in summarise_run(sample.chain()[0], [alone]).rows if r.what == "s1"]
    assert row.predicted_s is None  # nobody predicted the server's segment on the camera


def test_timing_sums_up() -> None:
    screen, text = console()
    tables.print_timing(screen, [("infer-shapes", 0.25), ("partition", 0.75)])
    assert "1.00 s" in text.getvalue()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units.duration(0.021), "21.0 ms"),
        (units.duration(0), "0 s"),
        (units.duration(0.99997), "1.00 s"),
        (units.duration(2.5e-12), "0.00250 ns"),
        (units.duration(float("inf")), "inf s"),
        (units.size(75264), "73.5 KiB"),
        (units.size(17), "17 B"),
        (units.bandwidth(20), "20 Mbit/s"),
        (units.bandwidth(1000), "1 Gbit/s"),
        (units.bandwidth(0.1), "100 kbit/s"),
        (units.error(1.9e-6), "1.9e-6"),
        (units.count(1, "block"), "1 block"),
    ],
)
def test_units(text: str, expected: str) -> None:
    assert text == expected
