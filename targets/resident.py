"""Measures the memory that a loaded segment really takes, in a process of its own.

Backends do more than hold weights and tensors: they reorder weights, keep arenas, start threads.
A process that loads one segment and nothing else tells how much that comes to. What the backend's
libraries take on loading is not the segment's, and is left out: a tiny model is loaded first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from pydantic import TypeAdapter

from partc.errors import TargetError
from partc.targets.protocol import Array, RunSettings

_STATM = Path("/proc/self/statm")
_TIMEOUT_S = 600.0
_RUNS = 3
_settings: TypeAdapter[RunSettings] = TypeAdapter(RunSettings)


@dataclass(frozen=True)
class ResidentMemory:
    """Growth of a process, bytes.

    Attributes:
        loaded_bytes: after the segment was loaded, before it ran.
        running_bytes: after it ran a few times.
    """

    loaded_bytes: int
    running_bytes: int


def measure_resident(
    model: onnx.ModelProto,
    backend: str,
    feeds: Mapping[str, Array],
    settings: RunSettings | None = None,
    *,
    timeout_s: float = _TIMEOUT_S,
) -> ResidentMemory:
    """Load and run ``model`` in a new process, and see how much that process grows.

    Raises:
        TargetError: the backend refuses the model or the tensors, the process died (of too little
            memory, for one) or took too long, or this system does not tell a process's memory.
    """
    if not _STATM.exists():
        raise TargetError("resident memory is read from /proc, which this system does not have")
    with tempfile.TemporaryDirectory(prefix="partc-") as folder:
        path, arrays = Path(folder) / "model.onnx", Path(folder) / "feeds.npz"
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        onnx.save(copy, path, save_as_external_data=True, location="model.data")
        numbered: dict[str, Any] = {f"a{n}": array for n, array in enumerate(feeds.values())}
        np.savez(arrays, **numbered)
        job = {
            "model": str(path),
            "backend": backend,
            "settings": _settings.dump_python(settings or RunSettings(), mode="json"),
            "feeds": {name: f"a{number}" for number, name in enumerate(feeds)},
            "arrays": str(arrays),
        }
        try:
            done = subprocess.run(
                [sys.executable, "-m", "partc.targets.resident"],
                input=json.dumps(job),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TargetError(
                f"a process that loaded the segment did not end within {timeout_s:g} s"
            ) from None
    return _read(done.returncode, done.stdout)


def _read(code: int, printed: str) -> ResidentMemory:
    try:
        answer = json.loads(printed.strip().rpartition("\n")[2])
    except ValueError:
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        raise TargetError(
            f"the process that loaded the segment {how}; it may have run out of memory"
        ) from None
    if "error" in answer:
        raise TargetError(str(answer["error"]))
    return ResidentMemory(int(answer["loaded_bytes"]), int(answer["running_bytes"]))


def _resident_bytes() -> int:
    pages = int(_STATM.read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _measure(job: Mapping[str, Any]) -> dict[str, int]:
    from partc.targets.registry import load_backend

    settings = _settings.validate_python(job["settings"])
    backend = load_backend(job["backend"])
    with backend.runner(_tiny(), settings) as warm:
        warm.run({"x": np.zeros(1, np.float32)})
    # Pickled arrays could run code; strings are the only ones that would need it.
    with np.load(job["arrays"], allow_pickle=False) as arrays:
        feeds = {name: arrays[key] for name, key in job["feeds"].items()}
    before = _resident_bytes()
    with backend.runner(Path(job["model"]), settings) as runner:
        loaded = _resident_bytes()
        for _ in range(_RUNS):
            runner.run(feeds)
        running = _resident_bytes()
    return {"loaded_bytes": max(0, loaded - before), "running_bytes": max(0, running - before)}


def _tiny() -> bytes:
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Neg", ["x"], ["y"])],
        "tiny",
        [info("x", onnx.TensorProto.FLOAT, [1])],
        [info("y", onnx.TensorProto.FLOAT, [1])],
    )
    opset = [onnx.helper.make_opsetid("", 13)]
    return bytes(
        onnx.helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    )


def main() -> None:
    """The process that measures: a job on standard input, its outcome on standard output."""
    try:
        answer: dict[str, Any] = _measure(json.loads(sys.stdin.read()))
    except Exception as error:  # whatever it is, the parent shall say it
        answer = {"error": str(error) or type(error).__name__}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
