"""What of a target this machine can stand for: its backend, and its hardware too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from partc.errors import MissingBackendError, TargetError
from partc.targets.data_sheet import DataSheetMeter
from partc.targets.machine import machine_names
from partc.targets.meter import LocalMeter, Meter, detection_of
from partc.targets.protocol import Detection
from partc.targets.registry import Target, backend_names, load_backend


def detect(target: Target) -> Detection:
    """Whether the target's backend works on this machine, whatever the hardware.

    Raises:
        TargetError: the target's file names a provider that the backend does not know.
    """
    if target.backend not in backend_names():
        why = f"no backend named {target.backend!r} is installed"
        reason = f"{why}: {target.missing}" if target.missing else why
        return Detection(False, reason, "", "")
    try:
        backend = load_backend(target.backend)
    except TargetError as error:
        return Detection(False, str(error), "", "")
    return detection_of(backend, target.provider)


def why_other_hardware(target: Target, names: Sequence[str] | None = None) -> str:
    """Why this machine is not the target's hardware; empty where it is, or where any would do.

    Args:
        names: of the machine's processor, board and GPUs; this machine's if not given.
    """
    wanted = target.hardware.recognised_by
    if target.hardware.typical:
        what = target.hardware.product or "machines of a kind"
        return (
            f"{target.name} stands for {what} and for no machine in particular; onnxruntime-cpu is "
            "the target that is measured here"
        )
    if not wanted:
        return ""
    names = machine_names() if names is None else names
    if any(text.casefold() in name.casefold() for text in wanted for name in names):
        return ""
    found = ", ".join(names) or "a machine that tells no name"
    return f"this machine is {found}, and not {target.hardware.product or wanted[0]}"


def detect_here(target: Target) -> Detection:
    """Whether measuring on this machine tells what the target does: backend and hardware are here.

    Raises:
        TargetError: the target's file names a provider that the backend does not know.
    """
    found = detect(target)
    if why := why_other_hardware(target):
        return replace(found, available=False, reason=why)
    return found


def what_is_known(target: Target) -> LocalMeter | DataSheetMeter:
    """What measures the target on this machine or, where it is elsewhere, reads its data sheet."""
    found = detect_here(target)
    if found.available:
        return LocalMeter(load_backend(target.backend), target.provider)
    return DataSheetMeter(target, found.reason)


def meter_here(target: Target) -> Meter:
    """The same, for whoever needs costs.

    Raises:
        MissingBackendError: the target is not here and its data sheet gives no rates.
    """
    known = what_is_known(target)
    if isinstance(known, LocalMeter) or target.hardware.has_rates:
        return known
    if target.backend not in backend_names() and not target.missing:
        load_backend(target.backend)  # says which there are
    raise MissingBackendError(
        f"target {target.name!r} cannot be measured here: {known.reason}; or name the host's agent "
        "in the topology (agent = ...), give costs with --costs-from, or name a board whose costs "
        "can be estimated (partc targets)"
    )
