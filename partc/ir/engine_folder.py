"""Where a machine keeps engines that it built, and what it timed while it built them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from platformdirs import user_cache_path

from partc.ir.engine import Gpu


def engine_folder() -> Path:
    """``$PARTC_ENGINES``, or a folder in the user's cache."""
    given = os.environ.get("PARTC_ENGINES")
    return Path(given) if given else user_cache_path("partc") / "engines"


def timing_cache(gpu: Gpu, root: Path | None = None) -> Path:
    """Where builds for ``gpu`` keep what they timed, so that the next one is quicker.

    Args:
        root: of the engines; `engine_folder` if None.

    Raises:
        OSError: the folder cannot be made.
    """
    words = (gpu.flavour, gpu.version, gpu.compute_capability, gpu.platform, gpu.name)
    name = hashlib.sha256("|".join(words).encode()).hexdigest()[:32]
    folder = (root or engine_folder()) / "timings"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder / f"{name}.cache"
