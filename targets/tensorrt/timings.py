"""What a builder timed, kept for the next build. Whatever goes wrong with it, engines get built."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path
from typing import Any


def read_timings(path: Path | None) -> bytes:
    """What is kept; nothing where there is nothing, or it cannot be read."""
    if path is None:
        return b""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def keep_timings(path: Path | None, timings: bytes) -> None:
    """Keep it whole, or leave what was there, as where the disk is full."""
    if path is None or not timings:
        return
    # Two builds may end at once.
    part = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        part.write_bytes(timings)
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def use_timings(config: Any, timings: bytes) -> None:
    """Have a builder start from what was kept, or from nothing where it cannot use that."""
    for each in dict.fromkeys((timings, b"")):
        cache = config.create_timing_cache(each)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return
