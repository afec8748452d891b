"""Pipelines as text: ``name,name{option=value,option="any text"}``, read and written."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Iterator
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from partc.errors import UsageError
from partc.passes.contract import Pass
from partc.passes.registry import load_pass
from partc.suggest import unknown_name

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_PASS = re.compile(rf'\s*([A-Za-z][\w-]*)\s*(?:\{{((?:[^{{}}"]|{_QUOTED})*)\}})?\s*(,|$)')
_OPTION = re.compile(rf'[\s,]*([A-Za-z][\w-]*)(?:\s*=\s*({_QUOTED}|[^\s,"=]+))?(?=[\s,]|$)')
_PLAIN_TEXT = re.compile(r"[A-Za-z0-9_.:/+-]+")
_WORDS = {"true": True, "false": False}


def read_passes(text: str) -> tuple[Pass, ...]:
    """The passes that ``text`` names, with their options.

    Raises:
        UsageError: the text is malformed, or names an unknown pass, option or value.
    """
    passes: list[Pass] = []
    position = 0
    while True:
        match = _PASS.match(text, position)
        if match is None:
            rest = text[position : position + 20].strip()
            where = f"at {rest!r}" if rest else "where a pass should be named"
            raise UsageError(
                f"the pipeline cannot be read {where}; write it as name,name{{option=value}}"
            )
        name, options, separator = match.groups()
        passes.append(_build(name, options or ""))
        position = match.end()
        if not separator:
            return tuple(passes)


def written(passes: Iterable[Pass]) -> str:
    """Text from which `read_passes` makes the same passes; defaults are left out."""
    return ",".join(_pass_text(each) for each in passes)


def _build(name: str, options: str) -> Pass:
    kind = load_pass(name)
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    for key, value in _options(name, options):
        if key not in fields:
            raise UsageError(unknown_name(f"option of pass {name!r}", key, fields))
        if key in values:
            raise UsageError(f"option {key!r} of pass {name!r} is given twice")
        if value is None:
            raise UsageError(f"option {key!r} of pass {name!r} needs a value: {key}=...")
        values[key] = _value(f"option {key!r} of pass {name!r}", value, hints[key])
    for key, field in fields.items():
        needed = field.default is dataclasses.MISSING
        if needed and field.default_factory is dataclasses.MISSING and key not in values:
            raise UsageError(f"pass {name!r} needs a value for option {key!r}: {key}=...")
    try:
        return kind(**values)
    except ValueError as error:
        raise UsageError(f"pass {name!r}: {error}") from error


def _options(name: str, text: str) -> Iterator[tuple[str, str | None]]:
    text = text.strip().rstrip(",").rstrip()
    position = 0
    while position < len(text):
        match = _OPTION.match(text, position)
        if match is None:
            raise UsageError(
                f"the options of pass {name!r} cannot be read at "
                f"{text[position : position + 20].strip()!r}; write them as option=value"
            )
        yield match[1].replace("-", "_"), match[2]
        position = match.end()


def _value(option: str, text: str, kind: Any) -> Any:
    choices, wanted, optional = _accepted(kind)
    quoted = text.startswith('"')
    if quoted:
        try:
            text = json.loads(text)
        except ValueError:
            raise UsageError(f"{option}: {text} is not a quoted text") from None
    elif optional and text == "none":
        return None
    if choices:
        for choice in choices:
            if text == str(choice):
                return choice
        raise UsageError(unknown_name(f"value of {option}", text, map(str, choices)))
    if wanted is str:
        return text
    if quoted or wanted not in (bool, int, float):
        raise UsageError(f"{option} cannot be given as text {text!r}")
    return _number_or_truth(option, text, wanted)


def _number_or_truth(option: str, text: str, wanted: type[bool | int | float]) -> Any:
    names = {bool: "true or false", int: "a whole number", float: "a number"}
    try:
        value = _WORDS[text] if wanted is bool else wanted(text)
        if isinstance(value, float) and math.isnan(value):
            raise ValueError
    except (ValueError, KeyError):
        raise UsageError(f"{option} is {text!r}; it must be {names[wanted]}") from None
    return value


def _accepted(kind: Any) -> tuple[tuple[Any, ...], Any, bool]:
    """The choices of a Literal, the type of anything else, and whether None will do."""
    members = (kind,) if get_origin(kind) is Literal or not get_args(kind) else get_args(kind)
    optional = NoneType in members
    rest = [member for member in members if member is not NoneType]
    if len(rest) == 1 and get_origin(rest[0]) is Literal:
        return get_args(rest[0]), None, optional
    return (), rest[0] if len(rest) == 1 else None, optional


def _pass_text(each: Pass) -> str:
    options = [
        f"{field.name}={_value_text(getattr(each, field.name))}"
        for field in dataclasses.fields(each)
        if getattr(each, field.name) != field.default
    ]
    return each.name + (f"{{{','.join(options)}}}" if options else "")


def _value_text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and (value == "none" or not _PLAIN_TEXT.fullmatch(value)):
        return json.dumps(value)
    return str(value)
