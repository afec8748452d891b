"""OpenVINO itself, where it is installed, and what it says in its errors."""

from __future__ import annotations

from functools import cache
from typing import Any

from partc.errors import MissingBackendError

INSTALL = "pip install 'partc[openvino]'"
_LONGEST_MESSAGE = 300
_NOISE = ("Exception from ", "Check '", "Model wasn't fully converted", "Summary:")


@cache
def openvino() -> Any:
    """The package.

    Raises:
        MissingBackendError: it is not installed, or its libraries do not load.
    """
    try:
        import openvino
    except ImportError as error:
        installed = getattr(error, "name", None) != "openvino"
        why = f"cannot be loaded ({error})" if installed else "is not installed"
        raise MissingBackendError(f"OpenVINO {why}: {INSTALL}") from error
    return openvino


@cache
def core() -> Any:
    """Its one entrance, which keeps the plug-ins."""
    return openvino().Core()


@cache
def _frontends() -> Any:
    """What loads frontends; were it freed, so would be their libraries, whoever uses them."""
    return openvino().frontend.FrontEndManager()


@cache
def onnx_frontend() -> Any:
    """What converts ONNX, in part as well."""
    return _frontends().load_by_framework("onnx")


def sentence(error: BaseException) -> str:
    """What of OpenVINO's message is for people, on one line."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(_NOISE)]
    text = "; ".join(told or [line for line in lines if line]) or type(error).__name__
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + " [...]"
