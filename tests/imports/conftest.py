"""Real profiles, taken when the tests run, and a program to give them to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from partc.ir.program import Program
from tests.cli.support import small_model
from tests.support.placements import ingested, topology_of


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model") / "m.onnx")


@pytest.fixture(scope="session")
def program(model_path: Path) -> Program:
    sample = {"x": np.zeros((1, 1, 64, 64), np.float32)}
    return ingested(onnx.load(model_path), topology_of(("only", "other")), sample=sample)


@pytest.fixture(scope="session")
def session_profile(
    model_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Runs a session with ONNX Runtime's profiler on; gives the file."""

    def profiled(level: str = "ALL", threads: int = 1, runs: int = 6, path: Path = model_path,
                 shape: tuple[int, ...] = (1, 1, 64, 64)) -> Path:  # fmt: skip
        options = ort.SessionOptions()
        name = "ORT_DISABLE_ALL" if level == "NONE" else f"ORT_ENABLE_{level}"
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, name)
        options.intra_op_num_threads = threads
        options.enable_profiling = True
        options.profile_file_prefix = str(tmp_path_factory.mktemp("profile") / "p")
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        feeds = {session.get_inputs()[0].name: np.zeros(shape, np.float32)}
        for _ in range(runs):
            session.run(None, feeds)
        return Path(session.end_profiling())

    return profiled


@pytest.fixture(scope="session")
def counted(model_path: Path) -> list[list[Any]]:
    """`get_profiling_info` of OpenVINO for three requests."""
    ov = pytest.importorskip("openvino")
    core = ov.Core()
    model = core.read_model(model_path)
    model.reshape([1, 1, 64, 64])
    compiled = core.compile_model(model, "CPU", {"PERF_COUNT": "YES", "INFERENCE_NUM_THREADS": 1})
    request = compiled.create_infer_request()
    found = []
    for _ in range(3):
        request.infer({0: np.zeros((1, 1, 64, 64), np.float32)})
        found.append(list(request.get_profiling_info()))
    return found


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Puts text, bytes or JSON into a file."""

    def put(content: object, name: str = "profile.json") -> Path:
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            text = content if isinstance(content, str) else json.dumps(content)
            path.write_text(text, encoding="utf-8")
        return path

    return put
