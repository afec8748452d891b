"""From the names that ONNX Runtime and OpenVINO give kernels back to ops.

ONNX Runtime names a kernel after its node; a fused one after the node or the output tensor that it
ends with, and adds ``_nchwc`` where it changed the layout, ``_token_3`` to nodes that it copied.

OpenVINO names a kernel after the node or tensor that it ends with, and adds ``/WithoutBiases``
where it took a bias apart. A reorder is named after both its ends, with layouts between them, as
``conv_1_abcd_acdb_conv_2``, and works for the op that reads it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from partc.imports.imported import Kernel
from partc.ir.program import Program

_SESSION_AFFIX = re.compile(r"(_nchwc|_token_\d+|_duplicated|_transformed)$")
_COUNTER_AFFIX = re.compile(
    r"(/WithoutBiases|/fq_\w+_\d+|/sink_port_\d+|/Broadcast|/DequantizationMultiply"
    r"|/OutputTranspose|/TransposeBefore|_original)$"
)
_LAYOUT = r"(?:_(?:[a-fA-F][a-fA-F0-9]*|bf16|[iu]\d+|boolean|undef))"
_REORDER = re.compile(rf"{_LAYOUT}{{2,4}}_(?P<reader>.+)$")
_LONGEST_NAME = 2_000


def session_reader(program: Program) -> Callable[[Kernel], str | None]:
    """The op whose work a kernel of ONNX Runtime does, or None."""
    known = _owners(program)

    def owner(kernel: Kernel) -> str | None:
        name = kernel.name
        found = _without_affixes(name, known, _SESSION_AFFIX)
        if found is None and name.startswith("fused "):
            found = _without_affixes(name.removeprefix("fused "), known, _SESSION_AFFIX)
        return found

    return owner


def counters_reader(program: Program) -> Callable[[Kernel], str | None]:
    """The op whose work a kernel of OpenVINO does, or None; a reorder works for who reads it."""
    known = _owners(program)

    def owner(kernel: Kernel) -> str | None:
        found = _without_affixes(kernel.name, known, _COUNTER_AFFIX)
        if found is None and kernel.type == "Reorder":
            return _reader_of(kernel.name, known)
        return found

    return owner


def _owners(program: Program) -> dict[str, str]:
    """Name of a node or of a tensor it writes -> the op; constant ops are nobody."""
    owners = {tensor: op.name for op in program.ops for tensor in op.outputs}
    owners.update((op.name, op.name) for op in program.ops)
    return owners


def _without_affixes(name: str, known: dict[str, str], affix: re.Pattern[str]) -> str | None:
    if len(name) > _LONGEST_NAME:
        return None
    while name not in known:
        shorter = affix.sub("", name)
        if shorter == name:
            return None
        name = shorter
    return known[name]


def _reader_of(name: str, known: dict[str, str]) -> str | None:
    """The op that the end of a reorder's name names."""
    if len(name) > _LONGEST_NAME:
        return None
    start = 0
    while (match := _REORDER.search(name, start)) is not None:
        found = _without_affixes(match["reader"], known, _COUNTER_AFFIX)
        if found is not None:
            return found
        start = match.start() + 1
    return None
