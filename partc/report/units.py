"""Numbers as people read them: seconds, bytes and bandwidths with a fitting unit."""

from __future__ import annotations

import math

_DURATIONS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_SIZES = ((1024.0**3, "GiB"), (1024.0**2, "MiB"), (1024.0, "KiB"))
_ENERGIES = ((1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"))
_BANDWIDTHS = ((1e3, "Gbit/s"), (1.0, "Mbit/s"), (1e-3, "kbit/s"))


def digits(value: float, significant: int = 3) -> str:
    """A number with ``significant`` digits, never in scientific notation above 1e-6."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    # Rounding first: 0.99997 has the magnitude of 1.
    magnitude = math.floor(math.log10(abs(float(f"{value:.{significant - 1}e}"))))
    if magnitude < -6:
        return f"{value:.{significant - 1}e}"
    decimals = max(0, significant - 1 - magnitude)
    return f"{value:,.{decimals}f}"


def duration(seconds: float) -> str:
    """Seconds as ``21.0 ms``."""
    return _scaled(seconds, _DURATIONS, "s")


def energy(joules: float) -> str:
    """Joules as ``21.0 mJ``."""
    return _scaled(joules, _ENERGIES, "J")


def size(size_bytes: float) -> str:
    """Bytes as ``73.5 KiB``."""
    if abs(size_bytes) < 1024:
        return f"{size_bytes:.0f} B"
    return _scaled(size_bytes, _SIZES, "B")


def bandwidth(mbit_s: float) -> str:
    """10^6 bits per second as ``20 Mbit/s``."""
    text, _, unit = _scaled(mbit_s, _BANDWIDTHS, "Mbit/s").rpartition(" ")
    whole = text.rstrip("0").rstrip(".") if "." in text else text
    return f"{whole} {unit}"


def error(value: float) -> str:
    """A numeric difference as ``1.9e-6``."""
    mantissa, _, exponent = f"{value:.2g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def percent(fraction: float) -> str:
    """A fraction as ``0.3 %``."""
    return f"{digits(fraction * 100, 2)} %"


def count(number: int, noun: str) -> str:
    """A number with its noun: ``1 block``, ``2 blocks``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _scaled(value: float, units: tuple[tuple[float, str], ...], zero_unit: str) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{digits(value)} {zero_unit}"
    for factor, unit in units:
        # The margin keeps 999.97 ms from being written as "1,000 ms".
        if abs(value) >= factor * 0.9995:
            return f"{digits(value / factor)} {unit}"
    factor, unit = units[-1]
    return f"{digits(value / factor)} {unit}"
