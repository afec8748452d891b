"""The concrete shape of every input, for which sizes and costs are planned."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from partc.errors import UsageError
from partc.ir.program import Array, Program
from partc.ir.tensor import Dim, TensorInfo

Shape = tuple[int, ...]


def bind_shapes(
    program: Program, written: Mapping[str, TensorInfo]
) -> tuple[dict[str, Shape], list[str]]:
    """Input -> shape, from the sample, from ``--shape``, or with a batch of 1; and notices.

    Args:
        written: the inputs as the model declares them.

    Raises:
        UsageError: a shape or sample contradicts the model or another one, or a dimension
            that is no batch is left open.
    """
    bindings: dict[str, Shape] = {}
    symbols: dict[str, int] = {}
    notices: list[str] = []
    for name in program.inputs:
        given = _given(program, name, written[name])
        if given is not None:
            _match(name, written[name], given, symbols)
            bindings[name] = given
    for name in program.inputs:
        info = written[name]
        if name not in bindings and info.kind == "tensor" and info.shape is not None:
            bindings[name] = _completed(name, info.shape, symbols, notices)
    return bindings, notices


def _given(program: Program, name: str, info: TensorInfo) -> Shape | None:
    bound = program.bindings.get(name)
    if name not in program.sample or info.kind != "tensor":
        return bound
    sample = np.asarray(program.sample[name])
    _check_type(name, sample, info)
    if bound is not None and tuple(bound) != sample.shape:
        raise UsageError(
            f"--shape gives {list(bound)} for input {name!r}, but its array in --input has shape "
            f"{list(sample.shape)}; leave one of them out"
        )
    return sample.shape


def _check_type(name: str, sample: Array, info: TensorInfo) -> None:
    given = "string" if sample.dtype.kind in "OUS" else sample.dtype.name
    if info.dtype and given != info.dtype:
        raise UsageError(
            f"input {name!r} is of type {info.dtype}, its array in --input of type {given}; "
            f"convert it, for example with array.astype({info.dtype!r})"
        )


def _match(name: str, info: TensorInfo, given: Shape, symbols: dict[str, int]) -> None:
    if info.shape is None:
        return
    if len(given) != len(info.shape):
        raise UsageError(
            f"input {name!r} has {len(info.shape)} dimensions, the shape given for it {len(given)}"
        )
    for axis, (dim, size) in enumerate(zip(info.shape, given, strict=True)):
        expected = symbols.setdefault(dim, size) if isinstance(dim, str) else dim
        where = f"dimension {axis} of input {name!r}"
        if expected is not None and expected != size:
            what = f" ({dim})" if isinstance(dim, str) else ""
            raise UsageError(f"{where}{what} is {expected}, but {size} was given for it")
        if size < 1 and not isinstance(dim, int):
            raise UsageError(f"{where} must be at least 1, but {size} was given for it")


def _completed(
    name: str, shape: tuple[Dim, ...], symbols: dict[str, int], notices: list[str]
) -> Shape:
    sizes: list[int] = []
    for axis, dim in enumerate(shape):
        if isinstance(dim, int):
            sizes.append(dim)
        elif isinstance(dim, str) and dim in symbols:
            sizes.append(symbols[dim])
        elif axis == 0 or _is_batch(dim):
            sizes.append(1)
            if isinstance(dim, str):
                symbols[dim] = 1
            notices.append(
                f"dimension {axis} of input {name!r} is dynamic; planning for a batch of 1 "
                f"(bind it with --shape {name}=...; the segments stay dynamic)"
            )
        else:
            raise UsageError(
                f"dimension {axis} of input {name!r} is dynamic ({dim or 'unnamed'}); "
                f"give --shape {name}={_example(shape)} with numbers, or a sample with --input"
            )
    return tuple(sizes)


def _example(shape: tuple[Dim, ...]) -> str:
    return ",".join(
        str(dim) if isinstance(dim, int) else ("1" if axis == 0 or _is_batch(dim) else "?")
        for axis, dim in enumerate(shape)
    )


def _is_batch(dim: Dim) -> bool:
    """Whether a symbol names the batch, which recurrent models have on their second axis."""
    return isinstance(dim, str) and (dim in ("N", "B") or "batch" in dim.lower())
