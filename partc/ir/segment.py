"""Segments and the calls between hosts that carry a request through them."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from partc.ir.engine import Precision


@dataclass(frozen=True)
class Segment:
    """A maximal connected set of ops that one host runs without waiting for another.

    Attributes:
        inputs: tensors that must be present before it runs; weights are inside the model.
        outputs: tensors that another segment or the user reads.
        model: the segment as a model of its own; None where only the structure is known.
        precision: in which its host computes it.
        deployed: what its host runs, where that is not ``model``: the same at its precision.
        engine_source: what an engine is built from, where that is neither.
        emulated: gives its answers on this machine, where ``deployed`` does not.
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
    emulated: onnx.ModelProto | None = None


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
    """One thing a host does for a request, exactly one of these.

    Attributes:
        run: a segment of its own.
        call: a call to another host, which it waits for when something needs its outputs.
        push: tensors that it sends to a host that it is joined with and neither calls nor is
            called by.
        awaits: tensors that such a host sends it.
    """

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
