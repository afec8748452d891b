"""Segments and the calls between hosts that carry a request through them."""

from __future__ import annotations

from dataclasses import dataclass

import onnx


@dataclass(frozen=True)
class Segment:
    """A maximal connected set of ops that one host runs without waiting for another.

    Attributes:
        inputs: tensors that must be present before it runs; weights are inside the model.
        outputs: tensors that another segment or the user reads.
        model: the segment as a model of its own; None where only the structure is known.
    """

    id: str
    host: str
    ops: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    predicted_s: float = 0.0
    model: onnx.ModelProto | None = None
    precision: Precision = "fp32"
    deployed: onnx.ModelProto | None = None
    engine_source: onnx.ModelProto | None = None


@dataclass(frozen=True)
class Exchange:
    """Tensors that one host sends to another in one message, beside the tree of calls.

    Attributes:
        id: the same in the step that sends and in the step that awaits.
        peer: the host at the other end.
    """

    id: str
    peer: str
    tensors: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """One thing a host does for a request: run a segment of its own, or call another host."""

    run: str | None = None
    call: str | None = None
    push: Exchange | None = None
    awaits: Exchange | None = None


@dataclass(frozen=True)
class Call:
    """One round trip from ``caller`` to ``host``: tensors there, steps, tensors back.

    The root call has no caller: it is the request itself. A host may make calls of its own, to
    hosts further from the root, so a tree of hosts is served by the same rule at every level.

    Attributes:
        inputs: tensors that ``caller`` sends; what it sent in an earlier call of the same
            request is held by ``host`` and not sent again.
        outputs: tensors sent back.
        is_last: ``host`` may forget the request after this call.
    """

    id: str
    host: str
    caller: str | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]
    is_last: bool = True
