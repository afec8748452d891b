from __future__ import annotations

import io

import pytest
from rich.console import Console

from partc.bundle.manifest import RefinementEntry, RefinementRoundEntry
from partc.report import render_report
from partc.report.tables import print_compilation
from tests.report import sample


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ("settled", "no other is predicted to beat it"),
        ("budget", "Time ran out"),
        ("unmeasured", "could not be measured here"),
    ],
)
def test_the_history_of_the_refinement_is_told(outcome: str, said: str) -> None:
    manifest, reads = sample.chain()
    rounds = [
        RefinementRoundEntry(
            blocks={"camera": 3, "server": 4}, predicted_s=0.02, measured_s=0.025, segments=2
        ),
        RefinementRoundEntry(blocks={"server": 7}, predicted_s=0.023, measured_s=0.023, segments=1),
    ]
    entry = RefinementEntry.model_validate(
        {"rounds": rounds, "outcome": outcome, "spent_s": 1.0, "drift": 1.0}
    )
    manifest = manifest.model_copy(update={"refinement": entry})
    page = render_report(manifest, reads=reads)
    assert said in page
    assert "Plans that were measured" in page
    assert "25.0 ms" in page
    printed = io.StringIO()
    print_compilation(Console(file=printed, width=200), manifest)
    assert "off by up to 20.0 %" in printed.getvalue()


def test_without_a_refinement_nothing_is_said() -> None:
    manifest, reads = sample.chain()
    assert "Plans that were measured" not in render_report(manifest, reads=reads)


def test_predictions_that_held_are_said_to_have_held() -> None:
    manifest, _ = sample.chain()
    entry = RefinementEntry.model_validate(
        {
            "rounds": [
                {"blocks": {"camera": 1}, "predicted_s": 0.02, "measured_s": 0.02, "segments": 1}
            ],
            "outcome": "settled",
            "spent_s": 1.0,
            "drift": 1.0,
        }
    )
    printed = io.StringIO()
    changed = manifest.model_copy(update={"refinement": entry})
    print_compilation(Console(file=printed, width=300), changed)
    assert "took what was predicted" in printed.getvalue()
