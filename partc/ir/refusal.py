"""Ops that a host cannot run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Refusal:
    """An op that a host cannot run, and why.

    Attributes:
        found_by: the host's backend, asked ahead of time; or its builder, when the engine of a
            segment with the op was to be built.
    """

    host: str
    op: str
    reason: str
    found_by: Literal["backend", "builder"] = "backend"
