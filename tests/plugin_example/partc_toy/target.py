"""A target that runs ONNX's own reference evaluator, and knows no Sigmoid."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from partc.errors import TargetError
from partc.targets.clocks import ClockKind
from partc.targets.protocol import Array, Detection, Profile, RunSettings, Sampling


class ToyRunner:
    """A segment in the reference evaluator.

    Attributes:
        clock: it computes in the thread that calls it, so that thread's CPU time is its cost.
    """

    clock: ClockKind = "caller"

    def __init__(self, model: bytes | Path) -> None:
        self._evaluator = ReferenceEvaluator(model if isinstance(model, bytes) else str(model))

    @property
    def input_names(self) -> tuple[str, ...]:
        """Tensors it needs."""
        return tuple(self._evaluator.input_names)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Tensors it gives."""
        return tuple(self._evaluator.output_names)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Execute once."""
        try:
            wanted = {name: feeds[name] for name in self.input_names}
            outputs = self._evaluator.run(None, wanted)
        except (KeyError, ValueError, RuntimeError) as error:
            raise TargetError(f"the reference evaluator failed: {error}") from error
        return dict(zip(self.output_names, map(np.asarray, outputs), strict=True))

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class ToyBackend:
    """Every op is a kernel of its own, and all take the same time."""

    name = "toy"

    def detect(self) -> Detection:
        """Always there."""
        return Detection(True, "", onnx.__version__, f"toy-{onnx.__version__}")

    def detect_provider(self, provider: str) -> Detection:
        """It has one execution provider, so that a target file may name it."""
        if provider != "slow":
            raise TargetError(f"the toy has no provider {provider!r}, only 'slow'")
        return replace(self.detect(), fingerprint=f"toy-slow-{onnx.__version__}")

    def unsupported(self, model: onnx.ModelProto) -> dict[str, str]:
        """Sigmoid, to show that partc works around it."""
        return {
            node.name: "the toy knows no Sigmoid"
            for node in model.graph.node
            if node.op_type == "Sigmoid"
        }

    def fused_groups(self, model: onnx.ModelProto, settings: RunSettings) -> list[tuple[str, ...]]:
        """None."""
        return []

    def profile(
        self,
        model: onnx.ModelProto,
        feeds: Mapping[str, Array],
        settings: RunSettings,
        sampling: Sampling,
    ) -> Profile:
        """Whole runs, their time shared out evenly."""
        runner = ToyRunner(model.SerializeToString())
        whole_s: list[float] = []
        for _ in range(3):
            started = time.perf_counter()
            runner.run(feeds)
            whole_s.append(time.perf_counter() - started)
        names = [node.name for node in model.graph.node]
        share = tuple(seconds / len(names) for seconds in whole_s)
        return Profile(op_s=dict.fromkeys(names, share), whole_s=tuple(whole_s))

    def runner(self, model: bytes | Path, settings: RunSettings) -> ToyRunner:
        """Load a segment."""
        return ToyRunner(model)


BACKEND: Any = ToyBackend()
