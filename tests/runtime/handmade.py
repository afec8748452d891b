"""Small bundles written by hand, so that the runtime is tested without the compiler.

Every op multiplies, adds or concatenates small tensors, so that the expected answer is one line
of numpy and any tensor that is lost, stale or swapped shows.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from partc.bundle.manifest import (
    MANIFEST_NAME,
    SCHEMA_VERSION,
    Artefact,
    CallEntry,
    CertificateEntry,
    FileEntry,
    HostEntry,
    Manifest,
    ModelInfo,
    PlanEntry,
    SegmentEntry,
    StepEntry,
    TensorSpec,
    TransferEntry,
    VerificationEntry,
)
from partc.ir.topology import Topology

Dim = int | str | None

_ELEMENT_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "int64": TensorProto.INT64,
    "int8": TensorProto.INT8,
    "bool": TensorProto.BOOL,
    "string": TensorProto.STRING,
    "bfloat16": TensorProto.BFLOAT16,
}


@dataclass(frozen=True)
class Tensor:
    """A boundary tensor; ``planned`` replaces what is dynamic in ``shape``."""

    name: str
    shape: tuple[Dim, ...]
    dtype: str = "float32"
    planned: tuple[int, ...] | None = None

    @property
    def spec(self) -> TensorSpec:
        planned = self.planned or tuple(d if isinstance(d, int) else 2 for d in self.shape)
        return TensorSpec(
            name=self.name,
            dtype=self.dtype,
            shape=list(self.shape),
            planned_shape=list(planned),
        )

    @property
    def value_info(self) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(self.name, _ELEMENT_TYPES[self.dtype], self.shape)


@dataclass(frozen=True)
class Piece:
    """A segment: nodes, and constants by name."""

    id: str
    host: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[onnx.NodeProto, ...]
    constants: Mapping[str, np.ndarray] | None = None
    predicted_s: float = 0.001


@dataclass(frozen=True)
class Drawing:
    """A whole deployment: what `write_bundle` turns into a bundle."""

    tensors: tuple[Tensor, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    pieces: tuple[Piece, ...]
    calls: tuple[CallEntry, ...]
    links: tuple[tuple[str, str], ...]
    bandwidth_mbit_s: float = 1000.0
    rtt_ms: float = 0.0
    slowdown: Mapping[str, float] | None = None
    fallback_hosts: tuple[str, ...] | None = None
    codecs: Mapping[str, str] = field(default_factory=dict)
    bus: Mapping[str, object] | None = None


def scale(source: str, factor: float, result: str) -> tuple[onnx.NodeProto, dict[str, np.ndarray]]:
    """``result = source * factor``."""
    name = f"{result}_factor"
    node = helper.make_node("Mul", [source, name], [result], name=f"scale_{result}")
    return node, {name: np.array(factor, dtype=np.float32)}


def add(one: str, other: str, result: str) -> onnx.NodeProto:
    """``result = one + other``."""
    return helper.make_node("Add", [one, other], [result], name=f"add_{result}")


def busy(source: str, result: str, rounds: int) -> tuple[onnx.NodeProto, ...]:
    """``result`` equals ``source`` (rows of 64), after ``rounds`` products with the identity."""
    names = [source, *[f"{result}_{i}" for i in range(rounds - 1)], result]
    return tuple(
        helper.make_node("MatMul", [names[i], f"{result}_eye"], [names[i + 1]])
        for i in range(rounds)
    )


def steps(*names: str) -> list[StepEntry]:
    """Names that begin with ``c`` are calls, the others segments."""
    return [StepEntry(call=n) if n.startswith("c") else StepEntry(run=n) for n in names]


def call(
    name: str,
    caller: str | None,
    host: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    what: Sequence[str],
    *,
    is_last: bool = True,
) -> CallEntry:
    return CallEntry(
        id=name,
        host=host,
        caller=caller,
        inputs=list(inputs),
        outputs=list(outputs),
        steps=steps(*what),
        is_last=is_last,
    )


def write_bundle(folder: Path, drawing: Drawing) -> Path:
    """Write the bundle into ``folder`` and return it."""
    tensors = {tensor.name: tensor for tensor in drawing.tensors}
    hosts = list(dict.fromkeys(host for call in drawing.calls for host in [call.host]))
    with_fallback = hosts if drawing.fallback_hosts is None else drawing.fallback_hosts
    files: dict[str, FileEntry] = {}
    entries: dict[str, HostEntry] = {}
    for host in hosts:
        own = {p.id: p for p in drawing.pieces if p.host == host}
        others = {p.id: p for p in drawing.pieces if p.host != host}
        if host not in with_fallback:
            others = {}
        places = {
            **{name: f"hosts/{host}/{name}.onnx" for name in own},
            **{name: f"hosts/{host}/fallback/{name}.onnx" for name in others},
        }
        for name, piece in {**own, **others}.items():
            path = folder / places[name]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_model(piece, tensors).SerializeToString())
            files[places[name]] = _entry(path)
        entries[host] = HostEntry(
            target="onnxruntime-cpu",
            backend="onnxruntime",
            threads=1,
            slowdown=(drawing.slowdown or {}).get(host, 1.0),
            address=None,
            artefacts={name: Artefact(path=places[name], format="onnx") for name in own},
            fallback={name: Artefact(path=places[name], format="onnx") for name in others},
            no_fallback_reason=None if others else "the bundle was made without fallback files",
        )
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        partc_version="0",
        created_at="2026-01-01T00:00:00Z",
        tools={},
        model=ModelInfo(
            name="handmade",
            sha256=None,
            inputs=[tensors[name].spec for name in drawing.inputs],
            outputs=[tensors[name].spec for name in drawing.outputs],
        ),
        topology=_topology(drawing, hosts),
        pipeline="",
        tensors={name: tensor.spec for name, tensor in tensors.items()},
        hosts=entries,
        plan=PlanEntry(
            root=drawing.calls[0].host,
            segments=[
                SegmentEntry(
                    id=p.id,
                    host=p.host,
                    ops=[node.name for node in p.nodes],
                    inputs=list(p.inputs),
                    outputs=list(p.outputs),
                    predicted_s=p.predicted_s,
                )
                for p in drawing.pieces
            ],
            transfers=_transfers(drawing, tensors),
            calls=list(drawing.calls),
        ),
        blocks=[],
        strategies=[],
        certificate=CertificateEntry(
            objective="latency",
            predicted_s=0,
            bound_s=0,
            gap=0,
            status="optimal",
            solver="none",
            solve_s=0,
        ),
        verdict=None,
        sweep=[],
        verified=VerificationEntry(max_abs_error=0, max_rel_error=0, tensors={}),
        notices=[],
        files=files,
    )
    (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return folder


def _transfers(drawing: Drawing, tensors: Mapping[str, Tensor]) -> list[TransferEntry]:
    moved = [
        (name, *ends)
        for call in drawing.calls
        if call.caller is not None
        for names, ends in (
            (call.inputs, (call.caller, call.host)),
            (call.outputs, (call.host, call.caller)),
        )
        for name in names
    ] + [
        (name, call.host, step.push.peer)
        for call in drawing.calls
        for step in call.steps
        if step.push is not None
        for name in step.push.tensors
    ]
    entries: list[TransferEntry] = []
    for name, sender, receiver in moved:
        size_bytes = 4 * math.prod(tensors[name].spec.planned_shape or [1])
        seconds = drawing.rtt_ms / 2e3 + size_bytes * 8e-6 / drawing.bandwidth_mbit_s
        entries.append(
            TransferEntry.model_validate(
                {
                    "tensor": name,
                    "from": sender,
                    "to": receiver,
                    "bytes": size_bytes,
                    "predicted_s": seconds,
                    "codec": drawing.codecs.get(name, "none"),
                }
            )
        )
    return entries


def _entry(path: Path) -> FileEntry:
    data = path.read_bytes()
    return FileEntry(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def _topology(drawing: Drawing, hosts: Sequence[str]) -> Topology:
    if drawing.bus is not None:
        return Topology.parse(
            {"hosts": {host: {} for host in hosts}, "bus": [{"hosts": hosts, **drawing.bus}]}
        )
    return Topology.parse(
        {
            "hosts": {
                host: {"slowdown": (drawing.slowdown or {}).get(host, 1.0)} for host in hosts
            },
            "links": [
                {
                    "between": list(ends),
                    "bandwidth_mbit_s": drawing.bandwidth_mbit_s,
                    "rtt_ms": drawing.rtt_ms,
                }
                for ends in drawing.links
            ],
        }
    )


def _model(piece: Piece, tensors: Mapping[str, Tensor]) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(piece.nodes),
        piece.id,
        [tensors[name].value_info for name in piece.inputs],
        [tensors[name].value_info for name in piece.outputs],
        [numpy_helper.from_array(v, k) for k, v in (piece.constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model
