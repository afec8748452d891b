"""Reads horizontal problems from JSON that may be wrong in any way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from partc.errors import UsageError
from partc.optimizer.horizontal.problem import Arc, Gather, HorizontalProblem, Tiling
from partc.optimizer.problem import Problem
from partc.optimizer.reading import PARTS, first_complaint, json_of, problem_from_dict

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
    return _of_file(path, json_of(path), horizontal_from_dict)


def any_problem_from_json(path: str | Path) -> Problem | HorizontalProblem:
    """A placement problem from a JSON file, or a horizontal one where it has the key `arcs`.

    Raises:
        UsageError: the file cannot be read, is no JSON, or is neither.
    """
    data = json_of(path)
    if isinstance(data, Mapping) and "arcs" in data:
        return _of_file(path, data, horizontal_from_dict)
    return _of_file(path, data, problem_from_dict)


P = TypeVar("P", Problem, HorizontalProblem)


def _of_file(path: str | Path, data: Any, read: Callable[[Any], P]) -> P:
    try:
        return read(data)
    except UsageError as error:
        raise UsageError(f"The problem {path}: {error}") from None
