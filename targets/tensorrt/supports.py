"""Which ops an engine can hold, by the real parser."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

import onnx

from partc.targets.tensorrt.apart import ask
from partc.targets.tensorrt.detect import machine_of
from partc.targets.tensorrt.flavour import Library

_TIMEOUT_S = 600.0


def unsupported(model: onnx.ModelProto, judges: tuple[Library, ...]) -> dict[str, str]:
    """Node name -> why, by the first of ``judges`` that can be asked here.

    TensorRT's own parser needs a GPU; TensorRT-RTX's, which has the same source, does not. Where
    neither is there nothing is refused: whoever builds the engine then finds out.
    """
    for library in judges:
        machine = machine_of(library.flavour)
        if machine.version and (machine.gpu is not None or library.capabilities):
            return dict(_asked(_Text(model.SerializeToString()), library.flavour))
    return {}


class _Text(bytes):
    """Serialised models, compared by their contents."""


@lru_cache(maxsize=8)
def _asked(model: bytes, flavour: str) -> dict[str, str]:
    from partc.targets.tensorrt.flavour import LIBRARIES

    with tempfile.TemporaryDirectory(prefix="partc-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model)
        found = ask(
            LIBRARIES[flavour], {"job": "supports", "model": str(path)}, timeout_s=_TIMEOUT_S
        )
    refused: dict[str, str] = found["refused"]
    return refused
