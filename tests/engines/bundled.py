"""A bundle as it is, with engines put into it, as somebody else's bundle may have them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from partc.bundle.reader import Bundle
from partc.ir.engine import EngineRecipe, Gpu, engine_key

Write = Callable[[Path], bytes]
"""From the file of a segment's ONNX to the engine."""


def with_engines(
    bundle: Bundle,
    folder: Path,
    gpu: Gpu,
    write: Write,
    *,
    host: str = "gpu",
    version_compatible: bool = False,
) -> Bundle:
    """A copy of ``bundle`` in ``folder`` that brings an engine for each segment of ``host``."""
    shutil.copytree(bundle.path, folder)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    entry = manifest["hosts"][host]
    for segment, engine in entry["engines"].items():
        recipe = EngineRecipe.model_validate(
            {**engine["recipe"], "version_compatible": version_compatible}
        )
        data = write(folder / entry["artefacts"][segment]["path"])
        name = f"{host}-{segment}.engine"
        (folder / name).write_bytes(data)
        listed = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
        key = engine_key(recipe, engine["segment_sha256"], gpu)
        manifest["files"][name] = listed
        engine["recipe"] = recipe.model_dump(mode="json")
        engine["state"], engine["reason"] = "built", ""
        engine["built"] = [{"key": key.model_dump(mode="json"), "path": name, **listed}]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    return Bundle.open(folder)
