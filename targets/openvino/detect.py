"""What OpenVINO and which processor this machine has."""

from __future__ import annotations

import platform

from partc.errors import MissingBackendError
from partc.targets.machine import processor_name
from partc.targets.openvino.library import core, openvino, sentence
from partc.targets.protocol import Detection


def detect() -> Detection:
    """Available where the package is installed and its CPU plug-in loads."""
    try:
        version = str(openvino().__version__).partition("-")[0]
    except MissingBackendError as error:
        return Detection(False, str(error), "", "")
    try:
        devices = list(core().available_devices)
    except RuntimeError as error:
        return Detection(False, f"OpenVINO does not start: {sentence(error)}", version, "")
    if "CPU" not in devices:
        found = ", ".join(devices) or "no device"
        reason = f"OpenVINO has no plug-in for this processor, only {found}"
        return Detection(False, reason, version, "")
    fingerprint = f"openvino-{version}-cpu/{platform.machine()}/{processor_name()}"
    return Detection(True, "", version, fingerprint)
