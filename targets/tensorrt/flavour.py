"""TensorRT and TensorRT-RTX: two libraries of one API, with formats of their own."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import Any

from partc.errors import MissingBackendError
from partc.ir.engine import Flavour


@dataclass(frozen=True)
class Library:
    """One of the two.

    Attributes:
        flavour: as recipes and keys name it.
        backend: as targets name it.
        module: its Python module.
        title: for people.
        install: what to do where the module is missing.
        capabilities: compute capabilities that it can build for without such a GPU.
        oldest: version that partc can use; empty where any will do.
    """

    flavour: Flavour
    backend: str
    module: str
    title: str
    install: str
    capabilities: tuple[str, ...] = ()
    oldest: tuple[int, ...] = ()

    def why_too_old(self, version: str) -> str:
        """Why an installed version cannot be used; empty if it can."""
        numbers = tuple(int(part) for part in re.findall(r"\d+", version))
        if numbers >= self.oldest:
            return ""
        oldest = ".".join(map(str, self.oldest))
        return (
            f"{self.title} {version} is installed, and partc needs {oldest} or later; install a "
            "newer one (on a Jetson it comes with JetPack 6.1 or later, which Nano, TX2 and Xavier "
            "never get), or let the host run its segments by another target, such as "
            "onnxruntime-cpu"
        )

    def load(self) -> Any:
        """Import it. Call this in a worker process alone, or where a GPU was found: some builds
        end the process where there is none.

        Raises:
            MissingBackendError: it cannot be imported.
        """
        try:
            return importlib.import_module(self.module)
        except (ImportError, OSError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise MissingBackendError(
                f"{self.title} cannot be imported ({reason}); {self.install}"
            ) from error


TENSORRT = Library(
    flavour="tensorrt",
    backend="tensorrt",
    module="tensorrt",
    title="TensorRT",
    install="install it with JetPack on a Jetson, else from developer.nvidia.com/tensorrt or with "
    "pip install tensorrt (version 10.3 or later), on the machine with the GPU; JetPack 6 has it "
    "for Python 3.10 and partc needs 3.11 or later, so a Jetson needs bindings built for that",
    oldest=(10, 3),
)

TENSORRT_RTX = Library(
    flavour="tensorrt_rtx",
    backend="tensorrt-rtx",
    module="tensorrt_rtx",
    title="TensorRT-RTX",
    install="pip install 'partc[tensorrt-rtx]'",
    capabilities=("7.5", "8.0", "8.6", "8.9", "12.0", "12.1"),
)

LIBRARIES: dict[str, Library] = {each.flavour: each for each in (TENSORRT, TENSORRT_RTX)}
