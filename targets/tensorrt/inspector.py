"""The engine inspector's JSON, of TensorRT 10 and of 11 alike. Text alone, no TensorRT."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from partc.errors import TargetError


@dataclass(frozen=True)
class EngineLayers:
    """What the inspector says.

    Attributes:
        names: of the layers, in order.
        metadata: layer -> its ``Metadata``, which names the ops it was made of.
        tensors: inputs and outputs of the engine; ``Bindings`` in 10, ``I/O Tensors`` in 11.
    """

    names: tuple[str, ...]
    metadata: dict[str, str]
    tensors: tuple[str, ...]


def read_layers(text: str) -> EngineLayers:
    """Read the JSON. Engines that were not built in detail have names alone as layers.

    Raises:
        TargetError: it is not the inspector's JSON.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TargetError(f"the engine's layer information is not valid JSON: {error}") from error
    layers = data.get("Layers") if isinstance(data, dict) else None
    if not isinstance(layers, list):
        raise TargetError("the engine's layer information has no list of Layers")
    names: list[str] = []
    metadata: dict[str, str] = {}
    for layer in layers:
        name = layer.get("Name") if isinstance(layer, dict) else layer
        if not isinstance(name, str):
            raise TargetError("a layer of the engine's layer information has no name")
        names.append(name)
        told = layer.get("Metadata") if isinstance(layer, dict) else None
        if isinstance(told, str) and told:
            metadata[name] = told
    return EngineLayers(tuple(names), metadata, tuple(_tensors(data)))


def _tensors(data: dict[str, Any]) -> list[str]:
    found = data.get("Bindings", data.get("I/O Tensors", []))
    if not isinstance(found, list):
        return []
    names = [each.get("Name") if isinstance(each, dict) else each for each in found]
    return [name for name in names if isinstance(name, str)]
