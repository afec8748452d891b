"""Tells what a file is from what is in it, and has it read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from partc.errors import UsageError
from partc.imports import onnxruntime_profile, openvino_counters, trtexec
from partc.imports.imported import TITLES, ImportedCosts

_LARGEST_BYTES = 256 << 20
_KNOWN = (
    "an ONNX Runtime profile, what trtexec --exportProfile or --exportLayerInfo writes, "
    "or counters of OpenVINO (benchmark_app -report_type detailed_counters)"
)


def read(paths: Path | Sequence[Path]) -> ImportedCosts:
    """One profile; with layer information of the same engine beside it, if that is given too.

    Raises:
        UsageError: a file is missing, too large, damaged, or nothing that has costs.
    """
    given = [paths] if isinstance(paths, Path) else list(paths)
    found = [_read_one(path) for path in given]
    profiles = [each for each in found if each.kind != "trtexec-layers"]
    layers = [each for each in found if each.kind == "trtexec-layers"]
    if not profiles:
        raise UsageError(
            f"{layers[0].origin} is {TITLES['trtexec-layers']} and has no times; "
            "give the file of trtexec --exportProfile too"
            if layers
            else "there is no file to take costs from"
        )
    if len(profiles) > 1:
        raise UsageError(
            f"{profiles[0].origin} and {profiles[1].origin} are both profiles; "
            "costs of a host come from one"
        )
    (profile,) = profiles
    for each in layers:
        if profile.kind != "trtexec":
            raise UsageError(f"{each.origin} says nothing of a {profile.title}")
        profile = trtexec.joined(profile, each)
    return profile


def _read_one(path: Path) -> ImportedCosts:
    text = _text(path)
    origin = path.name if path.name.isprintable() else "the file"
    if openvino_counters.is_table(text):
        return openvino_counters.parse_table(text, origin)
    start = text.lstrip("\ufeff \t\r\n")[:1]
    if start not in ("[", "{"):
        raise UsageError(f"{path} is nothing that costs can be read from; give {_KNOWN}")
    try:
        data = json.loads(text.lstrip("\ufeff"))
    except (ValueError, RecursionError) as error:
        place = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UsageError(
            f"{path} is cut off or damaged: it begins as JSON and is not valid{place}; "
            "write it again, and end the profiled program properly"
        ) from None
    return _of_json(data, origin, path)


def _of_json(data: Any, origin: str, path: Path) -> ImportedCosts:
    if onnxruntime_profile.is_profile(data):
        return onnxruntime_profile.parse(data, origin)
    if trtexec.is_profile(data):
        return trtexec.parse(data, origin)
    if trtexec.is_layers(data):
        return trtexec.parse_layers(data, origin)
    if openvino_counters.is_report(data):
        return openvino_counters.parse_report(data, origin)
    if openvino_counters.is_dump(data):
        return openvino_counters.parse_dump(data, origin)
    raise UsageError(f"{path} {_why_not(data)}; give {_KNOWN}")


def _why_not(data: Any) -> str:
    """What it is instead."""
    if isinstance(data, dict):
        if data.get("format") == "partc-costs":
            return "holds costs of partc, which partc costs import reads"
        if "traceEvents" in data:
            return "is a trace of another tool"
        if "execution_results" in data or "cmd_options" in data:
            return "is a report of benchmark_app without counters"
    first = data[0] if isinstance(data, list) and data else None
    if isinstance(first, dict):
        if "latencyMs" in first or "startComputeMs" in first:
            return "has times of whole runs alone (trtexec --exportTimes)"
        if "cat" in first and "ph" in first:
            return "is a trace without kernels: the session was profiled and never run"
    return "is JSON, and no profile"


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise UsageError(
                f"{path} is larger than {_LARGEST_BYTES >> 20} MiB; profile fewer runs"
            )
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is nothing that costs can be read from; give {_KNOWN}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
