"""Reads placement problems from JSON that may be wrong in any way, and says how in one sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from partc.errors import UsageError
from partc.optimizer import problem as data_types
from partc.optimizer.problem import Problem
from partc.suggest import unknown_name

PARTS: dict[str, type[BaseModel]] = {
    "hosts": data_types.Host,
    "links": data_types.Link,
    "bus": data_types.Bus,
    "ops": data_types.Op,
    "tensors": data_types.Tensor,
    "weights": data_types.Weight,
    "codecs": data_types.Codec,
    "constraints": data_types.Constraints,
}


def problem_from_dict(data: Mapping[str, Any]) -> Problem:
    """A problem from decoded JSON, or a UsageError with the first thing that is wrong."""
    if not isinstance(data, Mapping):
        raise UsageError(
            f"A placement problem is a JSON object with hosts and ops, not {_kind_of(data)}."
        )
    try:
        return Problem.model_validate(dict(data))
    except ValidationError as error:
        raise UsageError(first_complaint(error, data, Problem, PARTS)) from None


def problem_from_json(path: str | Path) -> Problem:
    """A problem from a JSON file, or a UsageError that names the file."""
    data = json_of(path)
    try:
        return problem_from_dict(data)
    except UsageError as error:
        raise UsageError(f"The problem {path}: {error}") from None


def json_of(path: str | Path) -> Any:
    """What a JSON file holds, or a UsageError that names the file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"Cannot read the problem {path}: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise UsageError(f"The problem {path} is not UTF-8 text.") from None
    try:
        return json.loads(text, object_pairs_hook=_object_without_repeats, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"The problem {path} is not JSON: {error.msg} (line {error.lineno})."
        ) from None
    except RecursionError:
        raise UsageError(f"The problem {path} is nested too deeply to be one.") from None
    except ValueError as error:
        raise UsageError(f"The problem {path} is not usable JSON: {error}.") from None


def _object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!r} appears twice in one object")
        result[key] = value
    return result


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number that JSON knows")


def first_complaint(
    error: ValidationError,
    data: Mapping[str, Any],
    whole: type[BaseModel],
    parts: Mapping[str, type[BaseModel]],
) -> str:
    """The first complaint in the user's words, with the path to it.

    `parts` says which model the values of a key of `whole` are.
    """
    first = error.errors(include_url=False)[0]
    path = list(first["loc"])
    kind = first["type"]
    where = _path_text(path, data)
    if kind == "extra_forbidden":
        owner = _path_text(path[:-1], data) or "the problem"
        known = _keys_of(path[:-1], whole, parts)
        return f"In {owner}: {unknown_name('key', str(path[-1]), known)}"
    if kind == "missing" and isinstance(path[-1], int):
        return f"{_path_text(path[:-1], data)} needs two values, but has {path[-1]}."
    if kind == "missing":
        owner = _path_text(path[:-1], data) or "The problem"
        return f"{owner[0].upper()}{owner[1:]} lacks {str(path[-1])!r}."
    message = first["msg"]
    message = message[0].lower() + message[1:]
    return f"{where}: {message}, but it is {_kind_of(first['input'])}."


def _keys_of(
    path: list[int | str], whole: type[BaseModel], parts: Mapping[str, type[BaseModel]]
) -> list[str]:
    if not path:
        return list(whole.model_fields)
    if len(path) >= 3 and path[0] == "tensors" and path[2] == "codecs":
        return list(data_types.TensorCodec.model_fields)
    return list(parts[str(path[0])].model_fields)


def _path_text(path: list[int | str], data: Any) -> str:
    """Like `ops[3] ('conv4').cost_s.camera`."""
    text = ""
    here: Any = data
    for step in path:
        try:
            here = here[step]
        except (KeyError, IndexError, TypeError):
            here = None
        if isinstance(step, int):
            text += f"[{step}]"
            if isinstance(here, Mapping) and isinstance(here.get("name"), str):
                text += f" ({here['name']!r})"
        elif step not in ("[key]", "TensorCodec"):
            text += f".{step}" if text else step
    return text


def _kind_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
