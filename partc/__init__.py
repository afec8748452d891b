"""partc: a compiler that places neural networks on a device and the servers near it.

Names are loaded when they are first used, so that importing partc is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from partc import optimizer
    from partc.api import compile, load, open_bundle
    from partc.bundle.reader import Bundle
    from partc.errors import PartcError
    from partc.ir.program import Program
    from partc.ir.topology import Topology
    from partc.passes.contract import Context, Pass, PassResult
    from partc.pipeline import Pipeline

__version__ = "0.1.0"

_HOMES = {
    "Bundle": "partc.bundle.reader",
    "Context": "partc.passes.contract",
    "PartcError": "partc.errors",
    "Pass": "partc.passes.contract",
    "PassResult": "partc.passes.contract",
    "Pipeline": "partc.pipeline",
    "Program": "partc.ir.program",
    "Topology": "partc.ir.topology",
    "compile": "partc.api",
    "load": "partc.api",
    "open_bundle": "partc.api",
}

__all__ = [
    "Bundle",
    "Context",
    "PartcError",
    "Pass",
    "PassResult",
    "Pipeline",
    "Program",
    "Topology",
    "compile",
    "load",
    "open_bundle",
    "optimizer",
]


def __getattr__(name: str) -> Any:
    if name == "optimizer":
        return import_module("partc.optimizer")
    if name not in _HOMES:
        raise AttributeError(f"module 'partc' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
