"""Lists the names of real TensorRT bindings, for `test_api`.

The wheels of the bindings alone (``pip download --no-deps tensorrt-cu12-bindings==VERSION``) can be
had without TensorRT itself. They import as soon as the libraries they are linked to are found, of
which they need nine functions; stand-ins that do nothing are enough to list every class::

    python -m tests.targets.tensorrt.list_api tensorrt_cu12_bindings-*.whl

writes ``api.json`` beside this file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
CLASSES = (
    "Builder", "BuilderFlag", "DataType", "DeviceType", "EngineInspector",
    "HardwareCompatibilityLevel", "IBuilderConfig", "ICudaEngine", "IExecutionContext",
    "ILogger", "INetworkDefinition", "IOptimizationProfile", "IProfiler", "IProgressMonitor",
    "ITensor", "ITimingCache", "LayerInformationFormat", "MemoryPoolType",
    "NetworkDefinitionCreationFlag", "OnnxParser", "ParserError", "ProfilingVerbosity",
    "Runtime", "Severity", "TensorIOMode", "TensorLocation",
)  # fmt: skip
LISTING = f"""
import json, sys
sys.path.insert(0, sys.argv[1])
import tensorrt_bindings.tensorrt as trt
def public(owner):
    return sorted(name for name in dir(owner) if not name.startswith("_"))
classes = {{name: public(getattr(trt, name)) for name in {CLASSES!r} if hasattr(trt, name)}}
classes["Severity"] = public(trt.ILogger.Severity)
json.dump({{"module": public(trt), "classes": classes}}, sys.stdout)
"""


def listed(wheel: Path) -> tuple[str, dict[str, object]]:
    """Version of a wheel, and its names."""
    version = wheel.name.split("-")[1]
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        source = Path(folder) / "stand_in.c"
        source.write_text("".join(f"void* {name}(void) {{ return 0; }}\n" for name in FUNCTIONS))
        major = version.split(".")[0]
        for library in ("nvinfer", "nvonnxparser", "nvinfer_plugin"):
            target = Path(folder) / f"lib{library}.so.{major}"
            subprocess.run(["gcc", "-shared", "-fPIC", "-o", target, source], check=True)
        listing = subprocess.run(
            [sys.executable, "-c", LISTING, folder],
            env={**os.environ, "LD_LIBRARY_PATH": folder},
            capture_output=True,
            check=True,
        )
    return version, json.loads(listing.stdout)


if __name__ == "__main__":
    found = dict(sorted(listed(Path(argument)) for argument in sys.argv[1:]))
    text = json.dumps({"wheel": "tensorrt_cu12_bindings, cp311", "versions": found}, indent=1)
    (HERE / "api.json").write_text(text + "\n", encoding="utf-8")
