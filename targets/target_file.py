"""Target files: what a host is, in TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from partc.errors import TargetError
from partc.suggest import unknown_name
from partc.targets.hardware import Hardware

_OptionValue = str | bool | int | float


class TargetFile(BaseModel):
    """The keys of a target file.

    Attributes:
        backend: name of the backend that executes and profiles.
        missing: what to do where no such backend is installed.
        provider: of the backends that have several, the one that executes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: Annotated[str, Field(min_length=1)]
    description: str = ""
    optimization: Annotated[str, Field(min_length=1)] = "all"
    missing: str = ""
    provider: str = ""
    provider_options: dict[str, str] = {}
    hardware: Hardware = Hardware()

    @field_validator("provider_options", mode="before")
    @classmethod
    def _as_text(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {
            key: _text(value) if isinstance(value, _OptionValue) else value
            for key, value in given.items()
        }


def _text(value: _OptionValue) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def read_target_file(path: Path) -> TargetFile:
    """Read and check.

    Raises:
        TargetError: the file is missing, is not TOML, or is not a target; in one sentence.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TargetError(
            f"target file {path} cannot be read: {error.strerror or error}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TargetError(f"target file {path} is not valid TOML: {error}") from error
    try:
        target = TargetFile.model_validate(data)
    except ValidationError as error:
        raise TargetError(f"target file {path}: {_sentence(error)}") from error
    if target.provider_options and not target.provider:
        raise TargetError(
            f"target file {path}: provider_options are given without a provider; "
            'add provider = "NAME", for example "CUDAExecutionProvider"'
        )
    return target


def _sentence(error: ValidationError) -> str:
    # A mistyped key is both unknown and missing; unknown says more.
    details = sorted(error.errors(), key=lambda each: each["type"] == "missing")
    detail = details[0]
    where = ".".join(str(part) for part in detail["loc"] if part != "[key]")
    key = str(detail["loc"][-1]) if detail["loc"] else ""
    section = Hardware if detail["loc"][:1] == ("hardware",) and len(detail["loc"]) > 1 else None
    if detail["type"] == "extra_forbidden":
        known = (section or TargetFile).model_fields
        return f"{where}: {unknown_name('key', key, known)}"
    if detail["type"] == "missing":
        return f'it needs {key} = "NAME"; partc targets lists the backends'
    if detail["type"] == "value_error":
        return f"{where}: {detail['msg'].removeprefix('Value error, ')}"
    return f"{where}: {detail['msg']} (given: {detail['input']!r})"
