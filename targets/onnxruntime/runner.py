"""Executes a segment with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnxruntime as ort

from partc.errors import TargetError
from partc.targets.onnxruntime.compiled import refuse_compiled_code
from partc.targets.onnxruntime.providers import as_asked, clock_for, refuse_fallback
from partc.targets.protocol import Array, RunSettings

_LONGEST_MESSAGE = 300

_LEVELS = {
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


def session_options(settings: RunSettings) -> Any:
    """Options under which segments are deployed; profiling uses the same.

    Raises:
        TargetError: the optimisation level is not one of ONNX Runtime's.
    """
    if settings.optimization not in _LEVELS:
        raise TargetError(
            f"onnxruntime has no optimisation level {settings.optimization!r}; "
            f"use one of {', '.join(_LEVELS)}"
        )
    options = ort.SessionOptions()
    options.graph_optimization_level = _LEVELS[settings.optimization]
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised; the log would repeat them
    return options


def open_session(model: bytes | Path, options: Any, settings: RunSettings) -> Any:
    """A session on the provider of the settings.

    Raises:
        MissingBackendError: the provider is not here, or did not start.
        TargetError: ONNX Runtime refused the model, or it carries compiled code.
    """
    refuse_compiled_code(model)
    source = model if isinstance(model, bytes) else str(model)
    providers = as_asked(settings)
    try:
        session = ort.InferenceSession(source, options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no base but Exception
        raise TargetError(f"ONNX Runtime cannot load the model: {first_line(error)}") from error
    refuse_fallback(session, settings)
    return session


def first_line(error: BaseException) -> str:
    """The part of ONNX Runtime's message that a user can read."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + " [...]"


class OnnxRuntimeRunner:
    """A loaded segment. ``run`` takes and gives arrays by tensor name.

    Attributes:
        clock: where it computes (`partc.targets.clocks`).
    """

    def __init__(self, model: bytes | Path, settings: RunSettings) -> None:
        self._session: Any = open_session(model, session_options(settings), settings)
        self.clock = clock_for(settings)
        self._inputs = tuple(i.name for i in self._session.get_inputs())
        self._outputs = tuple(o.name for o in self._session.get_outputs())

    @property
    def input_names(self) -> tuple[str, ...]:
        """Tensors it needs."""
        return self._inputs

    @property
    def output_names(self) -> tuple[str, ...]:
        """Tensors it gives."""
        return self._outputs

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Execute once; extra entries of ``feeds`` are ignored."""
        missing = [name for name in self._inputs if name not in feeds]
        if missing:
            raise TargetError(f"the segment needs tensor {missing[0]!r}, which was not given")
        try:
            outputs = self._session.run(
                self._outputs, {name: np.asarray(feeds[name]) for name in self._inputs}
            )
        except Exception as error:
            raise TargetError(f"ONNX Runtime failed: {first_line(error)}") from error
        return dict(zip(self._outputs, outputs, strict=True))

    def close(self) -> None:
        """Free the session."""
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
