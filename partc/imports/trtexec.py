"""What trtexec exports: ``--exportProfile`` has times, ``--exportLayerInfo`` names ops.

The profile is a JSON list: ``{"count": runs}``, then one object a layer with ``name``, ``timeMs``
of all runs, ``averageMs`` and, in later versions, ``medianMs`` of one. The layer information has
``Layers``, names or objects with ``Name`` and ``Metadata``, and ``Bindings`` (to TensorRT 10) or
``I/O Tensors`` (from 11).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from partc.errors import UsageError
from partc.imports.imported import (
    MOST_KERNELS,
    ImportedCosts,
    Kernel,
    checked_count,
    checked_name,
    checked_seconds,
)

_TIMES = ("timeMs", "averageMs", "medianMs")
_MOST_RUNS = 10**9


def is_profile(data: object) -> bool:
    """Whether parsed JSON is what ``--exportProfile`` writes."""
    return isinstance(data, list) and any(
        isinstance(each, dict) and "name" in each and any(name in each for name in _TIMES)
        for each in data[:10]
    )


def is_layers(data: object) -> bool:
    """Whether parsed JSON is what ``--exportLayerInfo`` writes."""
    return isinstance(data, dict) and isinstance(data.get("Layers"), list)


def parse(data: list[Any], origin: str) -> ImportedCosts:
    """Layers with the median of their times, or their mean where an older trtexec gives no other.

    Raises:
        UsageError: an entry makes no sense.
    """
    runs = 1
    kernels: list[Kernel] = []
    if len(data) > MOST_KERNELS + 1:
        checked_count(len(data), origin)
    for index, each in enumerate(data):
        where = f"{origin}: entry {index}"
        if not isinstance(each, dict):
            raise UsageError(f"{where} is no layer of a profile")
        if "name" not in each and "count" in each:
            runs = _count(each["count"], where)
            continue
        kernels.append(_layer(each, runs, where))
    checked_count(len(kernels), origin)
    notices: tuple[str, ...] = ()
    if not any("medianMs" in each for each in data if isinstance(each, dict)):
        notices = (f"{origin} has mean times and no medians, so single slow runs count in it",)
    return ImportedCosts(
        "trtexec", origin, tuple(kernels), runs, runtime="TensorRT", notices=notices
    )


def _layer(each: dict[str, Any], runs: int, where: str) -> Kernel:
    name = checked_name(each.get("name"), f"{where}: name")
    values = {key: checked_seconds(each[key], 1e-3, f"{where}: {key}")
              for key in _TIMES if key in each}  # fmt: skip
    if not values:
        raise UsageError(f"{where} ({name[:60]!r}) has no time")
    mean_s = values.get("averageMs", values["timeMs"] / runs if "timeMs" in values else None)
    median_s = values.get("medianMs", mean_s)
    assert median_s is not None
    spread_s = abs(median_s - mean_s) if mean_s is not None else 0.0
    return Kernel(name, (median_s,), spread_s)


def _count(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_RUNS:
        raise UsageError(f"{where}: count is {value!r}, and not a number of runs")
    return value


def parse_layers(data: dict[str, Any], origin: str) -> ImportedCosts:
    """Layers without times, with the metadata that names their ops.

    Raises:
        UsageError: a layer has no name.
    """
    layers = data["Layers"]
    checked_count(len(layers), origin)
    kernels: list[Kernel] = []
    for index, layer in enumerate(layers):
        where = f"{origin}: layer {index}"
        is_detailed = isinstance(layer, dict)
        name = checked_name(layer.get("Name") if is_detailed else layer, f"{where}: Name")
        told = layer.get("Metadata") if is_detailed else None
        type_ = layer.get("LayerType") if is_detailed else None
        kernels.append(
            Kernel(
                name,
                (),
                type=type_ if isinstance(type_, str) else "",
                metadata=told if isinstance(told, str) else "",
            )
        )
    notices: tuple[str, ...] = ()
    if not any(isinstance(layer, dict) for layer in layers):
        notices = (
            f"{origin} has names of layers alone; "
            "build with --profilingVerbosity=detailed to know their ops",
        )
    return ImportedCosts("trtexec-layers", origin, tuple(kernels), 0, notices=notices)


def joined(profile: ImportedCosts, layers: ImportedCosts) -> ImportedCosts:
    """The profile with what the layer information says of its layers.

    Raises:
        UsageError: they are of different engines.
    """
    told = {kernel.name: kernel for kernel in layers.kernels}
    common = sum(kernel.name in told for kernel in profile.kernels)
    if 2 * common < len(profile.kernels):
        raise UsageError(
            f"{layers.origin} knows {common} of the {len(profile.kernels)} layers of "
            f"{profile.origin}; export both from the same engine"
        )
    kernels = tuple(
        replace(kernel, type=told[kernel.name].type, metadata=told[kernel.name].metadata)
        if kernel.name in told
        else kernel
        for kernel in profile.kernels
    )
    return replace(profile, kernels=kernels, notices=(*profile.notices, *layers.notices))
