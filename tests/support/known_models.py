"""Every complete model that tests know, by one name each: built by code, trained, or onnx's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx

from examples.models import MODELS
from partc.api import load
from partc.ir.program import Program
from partc.passes.contract import Context
from partc.passes.ingest.infer_shapes import InferShapes
from partc.passes.ingest.sample import sample_feeds
from tests.support.data import TRAINED_MODELS, TrainedModel
from tests.support.oracle import Array
from tests.support.placements import TWO_HOSTS

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


@dataclass(frozen=True)
class KnownModel:
    """A model and inputs for it.

    Attributes:
        source: gives the file or the model; skips the test where there is none.
        sample: inputs for a batch, or None where random ones will do.
    """

    source: Callable[[], Path | onnx.ModelProto]
    sample: Callable[[int], dict[str, Array]] | None = None
    dynamic_batch: bool = True

    def program(self) -> Program:
        """The program as it was read, with a batch of 1."""
        source = self.source()
        return load(source, sample=self.sample(1) if self.sample else None)

    def feeds(self, batch: int) -> dict[str, Array]:
        """Inputs for a batch."""
        if self.sample is not None:
            return self.sample(batch)
        typed = InferShapes().run(self.program(), Context(TWO_HOSTS)).program
        one = sample_feeds(typed, seed=batch)
        return {
            name: np.concatenate([array] * batch, axis=_batch_axis(typed, name))
            for name, array in one.items()
        }


def _batch_axis(program: Program, name: str) -> int:
    shape = program.tensor(name).shape or ()
    return next((axis for axis, dim in enumerate(shape) if not isinstance(dim, int)), 0)


def _trained(model: TrainedModel) -> KnownModel:
    return KnownModel(model.path, model.sample, model.dynamic_batch)


KNOWN: dict[str, KnownModel] = {
    **{name: KnownModel(builder) for name, builder in MODELS.items()},
    **{f"trained {model.name}": _trained(model) for model in TRAINED_MODELS},
    **{
        path.stem.replace("_", " "): KnownModel(partial(Path, path), dynamic_batch=False)
        for path in sorted(LIGHT.glob("*.onnx"))
    },
}
"""Name -> model."""

QUICK_ONES = (
    "mobilenetv2",
    "detector",
    "branching",
    "looping",
    "scanning",
    "trained resnet8-loop",
    "trained resnet32-external",
    "trained tinyvit",
    "trained ultraface",
    "trained silero-vad",
    "light squeezenet",
)
"""Enough variety for a quick run."""
