"""Manifests built by hand, as the compiler would write them for well-known models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from partc.bundle.manifest import Manifest
from partc.ir.engine import EngineRecipe, Gpu, engine_key, source_digest

CAMERA, SERVER = "camera", "server"
SLOWDOWN = 12.0
Reads = dict[str, tuple[str, ...]]


@dataclass
class Layers:
    """A model under construction: blocks with their times and the tensors between them."""

    input_shape: tuple[int, ...]
    blocks: list[dict[str, Any]] = field(default_factory=list)
    reads: Reads = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    provenance: Literal["measured", "estimated"] = "measured"

    def add(self, name: str, inputs: Sequence[str], shape: tuple[int, ...], seconds: float) -> str:
        """Append a block with one output; gives the output's name."""
        output = f"{name}_out"
        self.shapes[output] = shape
        self.reads[name] = tuple(inputs)
        self.blocks.append(
            {
                "name": name,
                "ops": [f"{name}_conv", f"{name}_clip"],
                "outputs": {output: 4 * math.prod(shape)},
                "costs": {
                    CAMERA: self._cost(seconds * SLOWDOWN, "scaled"),
                    SERVER: self._cost(seconds, "measured"),
                },
            }
        )
        return output

    def _cost(self, seconds: float, provenance: str) -> dict[str, Any]:
        if self.provenance == "estimated":
            return {"median_s": seconds, "spread_s": 0, "samples": 0, "provenance": "estimated"}
        return {
            "median_s": seconds,
            "spread_s": seconds * 0.03,
            "samples": 30,
            "provenance": provenance,
            "measured_at": "2026-01-05T10:00:00Z",
        }


def mobilenet_layers(rename: Mapping[str, str] | None = None) -> Layers:
    """MobileNetV2 1.0 224: 55 blocks, residual additions fused into the projections."""
    names = rename or {}
    model = Layers((1, 3, 224, 224))

    def conv(name: str, inputs: Sequence[str], channels: int, side: int, work: float) -> str:
        return model.add(names.get(name, name), inputs, (1, channels, side, side), work * 11e-3)

    x = conv("stem", ["input"], 32, 112, 0.06)
    channels, side = 32, 112
    settings = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)]
    settings += [(6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    number = 0
    for expand, out, repeats, stride in settings:
        for repeat in range(repeats):
            step = stride if repeat == 0 else 1
            scope, skip, wide = f"features.{number}", x, channels * expand
            if expand > 1:
                x = conv(f"{scope}.expand", [x], wide, side, 0.02)
            side //= step
            x = conv(f"{scope}.depthwise", [x], wide, side, 0.012)
            is_residual = step == 1 and channels == out
            sources = [x, skip] if is_residual else [x]
            x = conv(f"{scope}.project", sources, out, side, 0.018)
            channels, number = out, number + 1
    x = conv("head", [x], 1280, 7, 0.05)
    x = model.add("pool", [x], (1, 1280), 4e-5)
    model.add("classifier", [x], (1, 1000), 4e-4)
    return model


def branching_layers() -> Layers:
    """As InceptionV4 before fusing: about 400 blocks in modules of up to six branches."""
    model = Layers((1, 3, 299, 299))
    x = "input"
    for i in range(8):
        x = model.add(f"stem/conv{i}", [x], (1, 32 + 8 * i, 147 - 10 * i, 147 - 10 * i), 2e-3)
    serial = 0
    for module in range(16):
        side, width = (35, 96) if module < 5 else (17, 192) if module < 12 else (8, 256)
        ends = []
        for branch, depth in enumerate((2, 3, 5, 6, 4, 4)):
            y = x
            for _ in range(depth):
                name = f"module{module}/branch{branch}/Conv2d_{serial}"
                y = model.add(name, [y], (1, width, side, side), 3e-4)
                serial += 1
            ends.append(y)
        x = model.add(f"module{module}/concat", ends, (1, width * 6, side, side), 5e-5)
    x = model.add("pool", [x], (1, 1536), 1e-4)
    model.add("logits", [x], (1, 1000), 5e-4)
    return model


def manifest_of(
    layers: Layers,
    *,
    cut_after: Sequence[str] = (),
    on_camera: int | None = None,
    name: str = "mobilenetv2",
    with_verdict: bool = True,
    notices: Sequence[str] = (),
    pipeline: str = "infer-shapes,group-blocks,annotate-costs,partition,split,verify",
) -> Manifest:
    """The manifest of a plan whose first ``on_camera`` blocks (default: all) are on the camera.

    ``cut_after`` names the tensors that cross to the server.
    """
    blocks = layers.blocks
    first_there = len(blocks) if on_camera is None else on_camera
    for index, block in enumerate(blocks):
        block["host"] = CAMERA if index < first_there else SERVER
    output = next(iter(blocks[-1]["outputs"]))
    is_split = first_there < len(blocks)
    sizes = {t: size for block in blocks for t, size in block["outputs"].items()}
    sizes["input"] = 4 * math.prod(layers.input_shape)
    bandwidth_mbit_s = 20.0
    compute = {CAMERA: 0.0, SERVER: 0.0}
    for block in blocks:
        compute[block["host"]] += block["costs"][block["host"]]["median_s"]
    transfers = []
    if is_split:
        for tensor in cut_after:
            transfers.append(_transfer(tensor, CAMERA, SERVER, sizes, bandwidth_mbit_s))
        transfers.append(_transfer(output, SERVER, CAMERA, sizes, bandwidth_mbit_s))
    segments = [_segment("s0", CAMERA, blocks[:first_there], ["input"], compute[CAMERA])]
    segments[0]["outputs"] = list(cut_after) if is_split else [output]
    calls: list[dict[str, Any]] = [
        {"id": "c0", "host": CAMERA, "caller": None, "inputs": ["input"], "is_last": True}
    ]
    calls[0] |= {"outputs": [output], "steps": [{"run": "s0"}]}
    if is_split:
        segments.append(
            _segment("s1", SERVER, blocks[first_there:], list(cut_after), compute[SERVER])
        )
        segments[1]["outputs"] = [output]
        calls[0]["steps"] = [{"run": "s0"}, {"call": "c1"}]
        calls.append(
            {"id": "c1", "host": SERVER, "caller": CAMERA, "inputs": list(cut_after)}
            | {"outputs": [output], "steps": [{"run": "s1"}], "is_last": True}
        )
    digest = "ab" * 32
    used = [s["host"] for s in segments]
    strategies = _strategies(blocks, sizes, compute, transfers, bandwidth_mbit_s, output)
    return Manifest.parse(
        {
            "schema_version": 1,
            "partc_version": "0.1.0",
            "created_at": "2026-01-05T10:00:12Z",
            "tools": {"python": "3.11.2", "onnx": "1.21.0", "onnxruntime": "1.23.2"},
            "model": {
                "name": name,
                "sha256": "0123456789abcdef" * 4,
                "inputs": [_spec("input", layers.input_shape)],
                "outputs": [_spec(output, layers.shapes[output])],
            },
            "topology": {
                "hosts": {CAMERA: {"slowdown": SLOWDOWN}, SERVER: {"address": "127.0.0.1:8500"}},
                "links": [
                    {
                        "between": [CAMERA, SERVER],
                        "bandwidth_mbit_s": bandwidth_mbit_s,
                        "rtt_ms": 10,
                    }
                ],
                "io": {"inputs": CAMERA, "outputs": CAMERA},
            },
            "pipeline": pipeline,
            "tensors": {
                tensor: _spec(tensor, shape)
                for tensor, shape in {"input": layers.input_shape, **layers.shapes}.items()
            },
            "hosts": {
                host: {
                    "target": "onnxruntime-cpu",
                    "backend": "onnxruntime",
                    "threads": 1,
                    "slowdown": SLOWDOWN if host == CAMERA else 1.0,
                    "address": None if host == CAMERA else "127.0.0.1:8500",
                    "artefacts": {
                        s["id"]: {"path": f"hosts/{host}/{s['id']}.onnx", "format": "onnx"}
                        for s in segments
                        if s["host"] == host
                    },
                }
                for host in (CAMERA, SERVER)
            },
            "plan": {
                "root": CAMERA,
                "segments": segments,
                "transfers": transfers,
                "calls": calls,
            },
            "blocks": blocks,
            "strategies": strategies,
            "certificate": {
                "objective": "latency",
                "predicted_s": strategies[-1]["predicted_s"],
                "bound_s": strategies[-1]["predicted_s"],
                "gap": 0.0,
                "status": "optimal",
                "solver": "highs",
                "solve_s": 0.083,
                "maximum_flow_s": strategies[-1]["predicted_s"],
            },
            "verdict": _verdict(is_split) if with_verdict else None,
            "sweep": _sweep(strategies) if with_verdict else [],
            "verified": {
                "max_abs_error": 1.9e-6,
                "max_rel_error": 3.1e-7,
                "tensors": {t: [1.9e-6, 3.1e-7] for t in (*cut_after, output)},
            },
            "notices": list(notices),
            "files": {
                f"hosts/{host}/s{i}.onnx": {"sha256": digest, "size_bytes": 7_000_000 * (i + 1)}
                for i, host in enumerate(used)
            },
        }
    )


def chain(**options: Any) -> tuple[Manifest, Reads]:
    """MobileNetV2, cut where its tensors are small; with the tensors that each block reads."""
    layers = mobilenet_layers()
    names = [b["name"] for b in layers.blocks]
    options.setdefault("on_camera", names.index("features.7.expand"))
    cut = list(layers.blocks[options["on_camera"] - 1]["outputs"])
    return manifest_of(layers, cut_after=cut, **options), layers.reads


def device_only(**options: Any) -> tuple[Manifest, Reads]:
    """MobileNetV2 with no cut at all."""
    layers = mobilenet_layers()
    return manifest_of(layers, **options), layers.reads


def branching() -> tuple[Manifest, Reads]:
    """About 400 blocks, cut through the middle of a module: six tensors cross."""
    layers = branching_layers()
    names = [b["name"] for b in layers.blocks]
    at = names.index("module6/concat")
    cut = list(layers.reads["module6/concat"])
    return manifest_of(layers, cut_after=cut, on_camera=at, name="inceptionv4"), layers.reads


def with_engines(**reasons: str) -> tuple[Manifest, Reads]:
    """MobileNetV2 whose second half is an engine, for one GPU built and for others not."""
    manifest, reads = chain()
    data = manifest.model_dump(mode="json", by_alias=True)
    model = data["files"][f"hosts/{SERVER}/s1.onnx"]
    recipe = EngineRecipe(flavour="tensorrt_rtx")
    gpu = Gpu(
        flavour="tensorrt_rtx", version="1.7.1.2", compute_capability="8.9",
        platform="linux-x86_64",
    )  # fmt: skip
    segment_sha256 = source_digest([model["sha256"]])
    path = f"hosts/{SERVER}/s1.sm89.tensorrt_rtx"
    file = {"sha256": "cd" * 32, "size_bytes": 5_000_000}
    data["files"][path] = file
    built = {"key": engine_key(recipe, segment_sha256, gpu).model_dump(), "path": path, **file}
    server = data["hosts"][SERVER]
    server["target"] = server["backend"] = "tensorrt-rtx"
    server["engines"] = {
        "s1": {
            "recipe": recipe.model_dump(mode="json"),
            "segment_sha256": segment_sha256,
            "precision": "fp16",
            "state": "built",
            "reason": reasons.get("reason", "not for compute capability 7.5: no tactic"),
            "built": [{**built, "build_s": 1.25, "built_by": reasons.get("built_by", "")}],
        }
    }
    server["refused"] = [
        {"op": "stem_conv", "reason": reasons.get("refused", "no implementation of Stem")},
        {"op": "stem_clip", "reason": reasons.get("refused", "no implementation of Stem")},
        {"op": "features.0.depthwise_conv", "reason": "no tactic", "found_by": "builder"},
    ]
    return Manifest.parse(data), reads


def hostile() -> tuple[Manifest, Reads]:
    """Names that try to break out of the page, and costs that nobody measured."""
    names = {
        "stem": "<script>alert('stem')</script>",
        "features.0.depthwise": "\"><img src=x onerror=alert(1)>' onload='x",
        "features.1.expand": "卷积层/🙂/اختبار $x^{2}$ {{ 7 * 7 }}",
        "features.1.depthwise": "very/" * 400 + "long",
        "features.1.project": "]]></svg></style><!--",
        "features.2.expand": "zero\x00byte\x1b[31m\u202etxet",
    }
    layers = mobilenet_layers(names)
    layers.provenance = "estimated"
    for block in layers.blocks:
        for cost in block["costs"].values():
            cost |= {"samples": 0, "spread_s": 0.0, "provenance": "estimated"}
    at = 6
    cut = list(layers.blocks[at - 1]["outputs"])
    manifest = manifest_of(
        layers,
        cut_after=cut,
        on_camera=at,
        name="</title><script>alert('model')</script>",
        notices=["Dimension <b>N</b> of 'input' was unknown & taken as 1; give --shape."],
        pipeline="partition{note=<script>alert('pipeline')</script>}",
    )
    return manifest, layers.reads


def _spec(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {
        "name": name,
        "dtype": "float32",
        "shape": ["N", *shape[1:]],
        "planned_shape": list(shape),
    }


def _segment(
    segment_id: str,
    host: str,
    blocks: list[dict[str, Any]],
    inputs: list[str],
    predicted_s: float,
) -> dict[str, Any]:
    ops = [op for block in blocks for op in block["ops"]]
    return {
        "id": segment_id,
        "host": host,
        "ops": ops,
        "inputs": inputs,
        "predicted_s": predicted_s,
    }


def _transfer(
    tensor: str, sender: str, receiver: str, sizes: Mapping[str, int], mbit_s: float
) -> dict[str, Any]:
    seconds = 0.005 + sizes[tensor] * 8 / (mbit_s * 1e6)
    return {
        "tensor": tensor,
        "from": sender,
        "to": receiver,
        "bytes": sizes[tensor],
        "predicted_s": seconds,
    }


def _strategies(
    blocks: list[dict[str, Any]],
    sizes: Mapping[str, int],
    compute: Mapping[str, float],
    transfers: list[dict[str, Any]],
    mbit_s: float,
    output: str,
) -> list[dict[str, Any]]:
    def entry(name: str, camera_s: float, server_s: float, sent: int) -> dict[str, Any]:
        transfer_s = 0.01 + sent * 8 / (mbit_s * 1e6) if sent else 0.0
        return {
            "name": name,
            "predicted_s": camera_s + server_s + transfer_s,
            "bytes_sent": sent,
            "compute_s": {CAMERA: camera_s, SERVER: server_s},
            "transfer_s": transfer_s,
        }

    camera_s = sum(b["costs"][CAMERA]["median_s"] for b in blocks)
    server_s = sum(b["costs"][SERVER]["median_s"] for b in blocks)
    sent = sum(t["bytes"] for t in transfers)
    return [
        entry("device-only", camera_s, 0.0, 0),
        entry("edge-only", 0.0, server_s, sizes["input"] + sizes[output]),
        entry("single-cut", camera_s * 0.45, server_s * 0.55, int(sent * 1.1)),
        entry("optimal", compute[CAMERA], compute[SERVER], sent),
    ]


def _verdict(is_split: bool) -> dict[str, Any]:
    if not is_split:
        return {
            "split": False,
            "choice": "device-only",
            "break_even_mbit_s": 41.5,
            "split_range_mbit_s": None,
            "sentence": "Splitting does not pay: running all on camera is the best at 20 Mbit/s.",
        }
    return {
        "split": True,
        "choice": "split",
        "break_even_mbit_s": 7.9,
        "split_range_mbit_s": [7.9, 310.0],
        "sentence": "Splitting pays: camera and server together take less than either alone "
        "at 20 Mbit/s.",
    }


def _sweep(strategies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    points = []
    for step in range(41):
        mbit_s = 10 ** (-1 + step / 8)
        times = {
            s["name"]: sum(s["compute_s"].values())
            + (0.01 + s["bytes_sent"] * 8 / (mbit_s * 1e6) if s["bytes_sent"] else 0.0)
            for s in strategies
        }
        times["optimal"] = min(times.values())
        points.append({"bandwidth_mbit_s": mbit_s, "predicted_s": times})
    return points
