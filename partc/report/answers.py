"""How requests went, beside what was predicted for them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rich.console import Console
from rich.text import Text

from partc.bundle.manifest import Manifest, PlanEntry
from partc.report.facts import host_provenances
from partc.report.names import shortened, visible
from partc.report.tables import plain_table, say
from partc.report.units import count, duration, error, size

_NAME_LIMIT = 48
CHOSEN = "chosen"


class SegmentRun(Protocol):
    """How long a segment ran; see `partc.runtime.transport.SegmentTime`."""

    @property
    def segment(self) -> str:
        """Its id."""

    @property
    def host(self) -> str:
        """Where."""

    @property
    def seconds(self) -> float:
        """How long."""


class CallRun(Protocol):
    """A round trip to another host; see `partc.runtime.transport.CallTime`."""

    @property
    def call(self) -> str:
        """Its id."""

    @property
    def seconds(self) -> float:
        """As the caller saw it."""


class RequestAnswer(Protocol):
    """How a request went; see `partc.runtime.device.Answer`."""

    @property
    def latency_s(self) -> float:
        """Until all outputs were there."""

    @property
    def segments(self) -> Sequence[SegmentRun]:
        """Every segment that ran."""

    @property
    def calls(self) -> Sequence[CallRun]:
        """Every round trip."""

    @property
    def sent_bytes(self) -> int:
        """Bytes of all messages."""

    @property
    def failures(self) -> Sequence[str]:
        """One sentence for each host that failed."""

    @property
    def avoided(self) -> Sequence[str]:
        """One sentence for each host that was passed over because it is down."""

    @property
    def outputs(self) -> Mapping[str, Any]:
        """Output -> array."""

    @property
    def plan(self) -> str:
        """The plan that the request took."""


@dataclass(frozen=True)
class Row:
    """A segment, or the transfers of a call: seconds predicted (None if unknown) and measured."""

    what: str
    where: str
    predicted_s: float | None
    measured_s: float


@dataclass(frozen=True)
class RunSummary:
    """What many requests say together.

    Attributes:
        latency_s: the median.
        predicted_s: of the plan that the last request took; None where conditions changed it.
        rows: medians over the requests that took the same way as the last.
        difference: the largest absolute difference of an output from the whole model's answer;
            None where that is not known.
        same_way: how many requests took the way of the last; the rows are of these.
        is_estimated: whether ``predicted_s`` counts on a cost that nobody measured.
    """

    latency_s: float
    predicted_s: float | None
    rows: tuple[Row, ...]
    difference: float | None
    plan: str
    same_way: int
    is_estimated: bool = False


def summarise_run(
    manifest: Manifest,
    answers: Sequence[RequestAnswer],
    golden: Mapping[str, Any] | None = None,
) -> RunSummary:
    """Medians of ``answers``, of which there must be at least one.

    Args:
        golden: the whole model's answer to the same request.
    """
    last = answers[-1]
    same = [a for a in answers if a.plan == last.plan and _way(a) == _way(last)]
    plan = _plan(manifest, last.plan)
    known = {
        (segment.id, segment.host): segment.predicted_s
        for each in manifest.plans
        for segment in each.segments
    }
    rows = [
        Row(
            run.segment,
            run.host,
            known.get((run.segment, run.host)),
            statistics.median(a.segments[index].seconds for a in same),
        )
        for index, run in enumerate(last.segments)
    ]
    rows += [
        row
        for index in range(len(last.calls))
        if (row := _transfers(plan, [(a, a.calls[index]) for a in same])) is not None
    ]
    known_by = host_provenances(manifest)
    compute_s = sum(s.predicted_s for s in plan.segments)
    predicted_s = compute_s + sum(t.predicted_s for t in plan.transfers)
    side_by_side_s = manifest.certificate.simulated_s
    if last.plan == CHOSEN and side_by_side_s is not None:
        predicted_s = side_by_side_s
    return RunSummary(
        latency_s=statistics.median(a.latency_s for a in answers),
        predicted_s=predicted_s,
        rows=tuple(rows),
        difference=None if golden is None else _difference(last.outputs, golden),
        plan=last.plan,
        same_way=len(same),
        is_estimated=any("estimated" in known_by.get(s.host, ()) for s in plan.segments),
    )


def print_answer(
    console: Console,
    manifest: Manifest,
    answers: Sequence[RequestAnswer],
    golden: Mapping[str, Any] | None = None,
) -> None:
    """The summary for people."""
    if not answers:
        return
    summary, last = summarise_run(manifest, answers, golden), answers[-1]
    table = plain_table("segment", "host", right=("predicted", "measured"))
    for row in summary.rows:
        expected = duration(row.predicted_s) if row.predicted_s is not None else ""
        table.add_row(Text(row.what), Text(visible(row.where)), expected, duration(row.measured_s))
    console.print(table)
    of = f", median of {count(len(answers), 'request')}" if len(answers) > 1 else ""
    from_estimates = " from estimates" * summary.is_estimated
    beside = (
        ""
        if summary.predicted_s is None
        else f", predicted {duration(summary.predicted_s)}{from_estimates}"
    )
    by = "" if summary.plan == CHOSEN else f" by plan {summary.plan}"
    say(
        console,
        f"Latency {duration(summary.latency_s)}{of}{by}{beside}; "
        f"{size(last.sent_bytes)} over links.",
    )
    for name, array in last.outputs.items():
        shape = " × ".join(map(str, array.shape)) or "scalar"
        say(console, f"Output {shortened(name, _NAME_LIMIT)}: {array.dtype} {shape}")
    if summary.difference is not None:
        say(
            console,
            f"Largest difference from the whole model's answer: {error(summary.difference)}.",
        )
    if summary.same_way < len(answers):
        replaced = sum(bool(answer.failures) for answer in answers)
        say(
            console,
            f"The table is of the {summary.same_way} requests that went the last one's way; "
            f"{replaced} of {len(answers)} were finished in place of a host that failed.",
            style="yellow",
        )
    for note in dict.fromkeys(n for a in answers for n in (*a.avoided, *a.failures)):
        say(console, note, style="yellow")


def _plan(manifest: Manifest, name: str) -> PlanEntry:
    others = manifest.portfolio.plans if manifest.portfolio is not None else []
    return next((each.plan for each in others if each.name == name), manifest.plan)


def _way(answer: RequestAnswer) -> list[tuple[str, str]]:
    return [(run.segment, run.host) for run in answer.segments]


def _transfers(plan: PlanEntry, runs: Sequence[tuple[RequestAnswer, CallRun]]) -> Row | None:
    """What a round trip takes beyond the segments behind it."""
    entry = next((c for c in plan.calls if c.id == runs[0][1].call), None)
    if entry is None:
        return None
    behind = _segments_behind(plan, entry.id)
    links = _links_behind(plan, entry.id)
    samples = [
        call.seconds - sum(s.seconds for s in answer.segments if s.segment in behind)
        for answer, call in runs
    ]
    predicted_s = sum(
        t.predicted_s for t in plan.transfers if frozenset((t.sender, t.receiver)) in links
    )
    alone = sum(c.caller == entry.caller and c.host == entry.host for c in plan.calls) == 1
    return Row(
        f"transfers {entry.id}",
        f"{entry.caller} ⇄ {entry.host}",
        predicted_s if alone else None,
        statistics.median(samples),
    )


def _segments_behind(plan: PlanEntry, call_id: str) -> set[str]:
    call = next(c for c in plan.calls if c.id == call_id)
    found = {step.run for step in call.steps if step.run is not None}
    for step in call.steps:
        if step.call is not None:
            found |= _segments_behind(plan, step.call)
    return found


def _links_behind(plan: PlanEntry, call_id: str) -> set[frozenset[str]]:
    call = next(c for c in plan.calls if c.id == call_id)
    found = {frozenset((call.caller or "", call.host))}
    for step in call.steps:
        if step.call is not None:
            found |= _links_behind(plan, step.call)
    return found


def _difference(outputs: Mapping[str, Any], golden: Mapping[str, Any]) -> float:
    import numpy as np

    worst = 0.0
    for name, expected in golden.items():
        actual = np.asarray(outputs[name])
        if expected.dtype.kind in "OUS" or actual.shape != expected.shape:
            worst = max(worst, 0.0 if np.array_equal(actual, expected) else float("inf"))
        elif expected.size:
            wide = np.abs(actual.astype(np.complex128) - expected.astype(np.complex128))
            same = (actual == expected) | (np.isnan(wide))
            worst = max(worst, float(np.where(same, 0.0, wide).max()))
    return worst
