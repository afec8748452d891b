"""What a builder timed is a help: nothing that happens to it may cost an engine."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import pytest

from partc.targets.tensorrt.timings import keep_timings, read_timings, use_timings


def test_what_is_kept_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.cache"
    assert read_timings(path) == b""
    keep_timings(path, b"one")
    keep_timings(path, b"two")
    keep_timings(path, b"")
    assert read_timings(path) == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_kept_where_nobody_wants_it() -> None:
    assert read_timings(None) == b""
    keep_timings(None, b"one")


def test_what_cannot_be_read_is_nothing(tmp_path: Path) -> None:
    assert read_timings(tmp_path) == b""


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    keep_timings(tmp_path / "nowhere" / "a.cache", b"one")
    assert list(tmp_path.iterdir()) == []


def test_a_place_with_no_room_keeps_what_was_there(tmp_path: Path) -> None:
    """The limit on a file's size stands for a disk that is full: the write fails half-way."""
    path = tmp_path / "a.cache"
    keep_timings(path, b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        keep_timings(path, b"new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert read_timings(path) == b"old"
    assert list(tmp_path.iterdir()) == [path]


class Config:
    """A builder's configuration that reads some caches and takes some of those."""

    def __init__(self, readable: set[bytes], fitting: set[bytes]) -> None:
        self.readable, self.fitting = readable, fitting
        self.used: Any = None

    def create_timing_cache(self, data: bytes) -> Any:
        return ("cache", data) if data in self.readable else None

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert cache is not None
        assert not ignore_mismatch
        if cache[1] in self.fitting:
            self.used = cache[1]
        return cache[1] in self.fitting


@pytest.mark.parametrize(
    ("readable", "fitting", "used"),
    [
        ({b"", b"old"}, {b"", b"old"}, b"old"),
        ({b""}, {b""}, b""),
        ({b"", b"old"}, {b""}, b""),  # of another GPU
        (set(), set(), None),
    ],
)
def test_a_cache_that_cannot_be_used_becomes_an_empty_one(
    readable: set[bytes], fitting: set[bytes], used: bytes | None
) -> None:
    config = Config(readable, fitting)
    use_timings(config, b"old")
    assert config.used == used
