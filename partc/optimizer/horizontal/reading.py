"""Reads horizontal problems from JSON that may be wrong in any way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from partc.errors import UsageError
from partc.optimizer.horizontal.problem import Arc, Gather, HorizontalProblem, Tiling
from partc.optimizer.reading import PARTS, first_complaint, json_of

_PARTS = PARTS | {"tilings": Tiling, "arcs": Arc, "gathers": Gather}


def horizontal_from_dict(data: Mapping[str, Any]) -> HorizontalProblem:
    """A problem from decoded JSON, or a UsageError with the first thing that is wrong."""
    if not isinstance(data, Mapping):
        raise UsageError("A horizontal problem is a JSON object with hosts, ops and arcs.")
    try:
        return HorizontalProblem.model_validate(dict(data))
    except ValidationError as error:
        raise UsageError(first_complaint(error, data, HorizontalProblem, _PARTS)) from None


def horizontal_from_json(path: str | Path) -> HorizontalProblem:
    """A problem from a JSON file, or a UsageError that names the file."""
    data = json_of(path)
    try:
        return horizontal_from_dict(data)
    except UsageError as error:
        raise UsageError(f"The problem {path}: {error}") from None
