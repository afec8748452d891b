"""What holds for every test: the user's own store of measured costs is never touched."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _costs_of_this_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARTC_COSTS", str(tmp_path_factory.mktemp("costs") / "costs.sqlite"))
        yield
