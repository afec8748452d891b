"""What TensorRT says while it works."""

from __future__ import annotations

import re
from typing import Any

_LONGEST = 400
_PREFIX = re.compile(r"^(?:\[[^\]]*\]\s*)+")


def make_logger(trt: Any) -> Any:
    """A logger that keeps errors in ``errors`` and prints nothing."""

    class Errors(trt.ILogger):  # type: ignore[misc]
        """Errors alone; warnings are many and rarely a user's concern."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            """Called from TensorRT's threads."""
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

    return Errors()


def sentence(errors: list[str]) -> str:
    """The first thing that went wrong, in one line."""
    for text in errors:
        bare = " ".join(_PREFIX.sub("", text).split())
        if bare:
            return bare if len(bare) <= _LONGEST else bare[:_LONGEST] + " [...]"
    return "it gave no reason"
