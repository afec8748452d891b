"""A link that needs seconds for a tensor is slow, and not down."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from partc.runtime.local import LocalDeployment
from tests.runtime import plans
from tests.runtime.handmade import write_bundle

ROWS = 2400  # of 64 floats: 0.6 MB, which take 5 s at 1 Mbit/s


@pytest.mark.slow
def test_long_transfers_one_after_the_other_are_no_failure(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, plans.two_hosts(bandwidth_mbit_s=1.0))
    feeds = plans.sample(ROWS)
    with LocalDeployment(bundle, deadline_s=60.0) as local:
        for _ in range(2):
            answer = local.request(feeds)
            assert answer.failures == ()
            assert answer.latency_s > 8
            np.testing.assert_allclose(answer.outputs["y"], 6 * feeds["x"], rtol=1e-5)
