"""Plans that do not depend on this machine."""

from __future__ import annotations

import pytest


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles cost their share of the given costs, so that what is chosen does not depend on this
    machine."""
    from partc.passes.refine.segment_meter import SegmentMeter, SegmentTimes
    from partc.passes.tiling.planning import plan_tiles

    monkeypatch.setattr(plan_tiles, "measured_points", lambda *given: {})
    monkeypatch.setattr(SegmentMeter, "measure", lambda *given: SegmentTimes({}, 1.0))
