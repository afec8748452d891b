"""Checks tensors against what the manifest says of them, in sentences for who sent them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from partc.bundle.manifest import TensorSpec
from partc.errors import RequestError
from partc.suggest import unknown_name

Array = np.ndarray[Any, np.dtype[Any]]


def dtype_name(array: Array) -> str:
    """The manifest's name of an array's element type."""
    return "string" if array.dtype.kind in "OUS" else array.dtype.name


def checked_tensors(
    given: Mapping[str, Any], specs: Sequence[TensorSpec], what: str = "input"
) -> dict[str, Array]:
    """``given`` as arrays, when it is exactly what ``specs`` asks for.

    Args:
        what: the word for a tensor in the sentences.

    Raises:
        RequestError: a tensor is missing, unknown, or of another type, rank or shape.
    """
    known = {spec.name: spec for spec in specs}
    for name in given:
        if name not in known:
            raise RequestError(unknown_name(what, shortened(str(name)), known))
    missing = [name for name in known if name not in given]
    if missing:
        raise RequestError(
            f"{what} {missing[0]!r} is missing; it is a {describe(known[missing[0]])}"
        )
    symbols: dict[str, tuple[int, str]] = {}
    return {
        name: _checked(np.asarray(given[name]), spec, f"{what} {name!r}", symbols)
        for name, spec in known.items()
    }


def shortened(text: str) -> str:
    """``text`` with at most 128 characters: names come from others and go into sentences."""
    return text if len(text) <= 128 else f"{text[:125]}..."


def in_one_line(text: str) -> str:
    """``text`` of somebody else as it may stand in a log: one line, no control characters."""
    return "".join(c if c.isprintable() else " " for c in text)


def describe(spec: TensorSpec) -> str:
    """A tensor's type and shape, such as ``float32 tensor of shape (N, 3, 224, 224)``."""
    if spec.shape is None:
        return f"{spec.dtype} tensor of any shape"
    return f"{spec.dtype} tensor of shape {_shape_text(spec.shape)}"


def _shape_text(shape: Sequence[int | str | None]) -> str:
    dims = ", ".join("?" if dim is None else str(dim) for dim in shape)
    return f"({dims},)" if len(shape) == 1 else f"({dims})"


def _checked(
    array: Array, spec: TensorSpec, label: str, symbols: dict[str, tuple[int, str]]
) -> Array:
    given_dtype = dtype_name(array)
    if given_dtype != spec.dtype or not array.dtype.isnative:
        given = given_dtype if array.dtype.isnative else f"byte-swapped {given_dtype}"
        raise RequestError(f"{label} must be a {describe(spec)}, but {given} was given")
    if spec.shape is not None:
        _check_shape(array.shape, spec.shape, label, symbols)
    if array.dtype.kind in "US":
        array = array.astype(object)
    if array.dtype.kind == "O" and not all(isinstance(x, str | bytes) for x in array.flat):
        raise RequestError(f"{label} must hold text only; give str or bytes elements")
    return array


def _check_shape(
    given: tuple[int, ...],
    shape: Sequence[int | str | None],
    label: str,
    symbols: dict[str, tuple[int, str]],
) -> None:
    if len(given) != len(shape) or any(
        isinstance(dim, int) and dim != size for dim, size in zip(shape, given, strict=True)
    ):
        raise RequestError(f"{label} must have shape {_shape_text(shape)}, but {given} was given")
    for dim, size in zip(shape, given, strict=True):
        if not isinstance(dim, str) or not _names_one_size(dim):
            continue
        bound, by = symbols.setdefault(dim, (size, label))
        if bound != size:
            raise RequestError(
                f"dimension {dim!r} is {bound} in {by} and {size} in {label}; it must be the same"
            )


def _names_one_size(symbol: str) -> bool:
    """Older exporters write one placeholder for every unknown dimension, equal or not."""
    return symbol.isidentifier() and symbol.lower() not in ("none", "unk", "unknown")
