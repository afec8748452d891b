"""Models built by code: the published architectures, with weights drawn from a seed."""

from __future__ import annotations

from typing import Protocol

import onnx

from examples.models import (
    branching,
    detector,
    inceptionv4,
    looping,
    mobilenetv2,
    resnet50,
    scanning,
    transformer,
)

__all__ = ["MODELS", "Builder"]


class Builder(Protocol):
    """A function that writes one model; the same seed gives the same bytes."""

    def __call__(self, seed: int = 0) -> onnx.ModelProto:
        """Build the model with weights drawn from `seed`."""
        ...


MODELS: dict[str, Builder] = {
    "mobilenetv2": mobilenetv2.build,
    "resnet50": resnet50.build,
    "inceptionv4": inceptionv4.build,
    "transformer": transformer.build,
    "detector": detector.build,
    "branching": branching.build,
    "looping": looping.build,
    "scanning": scanning.build,
}
