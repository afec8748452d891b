"""Whether a profile may stand for a host: the same backend, and the same number of threads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from partc.errors import UsageError
from partc.imports.imported import ImportedCosts, Kind
from partc.suggest import unknown_name

# A backend, or a provider of ONNX Runtime's. A third party's backend may be anything.
_RUNTIMES: dict[Kind, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime",),
    "trtexec": (
        "tensorrt",
        "tensorrt-rtx",
        "TensorrtExecutionProvider",
        "NvTensorRTRTXExecutionProvider",
    ),
    "openvino": ("openvino", "OpenVINOExecutionProvider"),
}
_KNOWN = frozenset(name for names in _RUNTIMES.values() for name in names)


@dataclass(frozen=True)
class HostSettings:
    """How a host of the topology runs its segments.

    Attributes:
        target: as the topology has it.
    """

    name: str
    target: str
    backend: str
    threads: int
    provider: str = ""


def require_fit(imported: ImportedCosts, host: HostSettings, model: str = "MODEL") -> None:
    """Refuse a profile that was taken otherwise than the host runs.

    Raises:
        UsageError: another backend, provider or number of threads; it says how to measure.
    """
    measure = (
        f"measure there with partc profile {model} --target {host.target} --threads {host.threads}"
    )
    if imported.threads is not None and imported.threads != host.threads:
        had = f"{imported.threads} thread{'s' if imported.threads > 1 else ''}"
        raise UsageError(
            f"{imported.title} was taken with {had}, and host {host.name!r} asks for "
            f"{host.threads}; {measure}, or let the host have threads = {imported.threads}"
        )
    runs = host.provider or host.backend
    fits = _RUNTIMES.get(imported.kind, ())
    if runs in _KNOWN and runs not in fits:
        raise UsageError(
            f"{imported.title} says nothing of host {host.name!r}, whose target {host.target!r} "
            f"runs {runs}; {measure}"
        )
    ran = [name for name in imported.runtime.split(", ") if name.endswith("ExecutionProvider")]
    if imported.kind == "onnxruntime" and host.backend == "onnxruntime" and ran:
        wanted = host.provider or "CPUExecutionProvider"
        if wanted not in ran:
            raise UsageError(
                f"{imported.title} ran on {' and '.join(ran)}, and host {host.name!r} runs on "
                f"{wanted}; {measure}"
            )


def files_by_host(options: Iterable[str], hosts: Iterable[str]) -> dict[str, list[Path]]:
    """``--costs-from FILE`` or ``--costs-from HOST=FILE``, given any number of times.

    Raises:
        UsageError: a host is unknown, or a file names none where there are several.
    """
    known = list(hosts)
    found: dict[str, list[Path]] = {}
    for option in options:
        name, equals, file = option.partition("=")
        if equals and name not in known and Path(option).exists():
            name, equals, file = "", "", option
        if not equals:
            if len(known) != 1:
                raise UsageError(
                    f"--costs-from {option} does not say whose costs these are; "
                    f"write --costs-from HOST={option} with one of {', '.join(known)}"
                )
            name, file = known[0], option
        if name not in known:
            raise UsageError(f"--costs-from {option}: {unknown_name('host', name, known)}")
        if not file:
            raise UsageError(f"--costs-from {option} names no file")
        found.setdefault(name, []).append(Path(file))
    return found
