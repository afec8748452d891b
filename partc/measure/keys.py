"""What a stored cost is the cost of: what was measured, on which hardware, with which settings."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from partc.measure.power_mode import in_mode, split_mode

_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_PAUSE = re.compile(r"pause ([0-9.e+-]+) ms")
_POWER = "power "
PRECISION_PREFIX = "precision "
"""Of the part of the settings that tells in which precision a model ran, if not in float32."""

ENGINE_PREFIX = "engine "
"""Of the part that tells how its engine was built, if not by default; before the precision."""

KINDS = {
    "block": "a block",
    "segment": "a segment",
    "whole": "a whole model",
    "segment-fixed": "what one more segment costs",
    "link-message-fixed": "what a message costs between two nodes",
    "line-message-fixed": "what a message costs",
    "line-message-per-byte": "what a byte of a message costs",
    "line-exchange-fixed": "what a message costs between hosts at work",
    "request-fixed": "what a request costs beyond segments and messages",
}

STRUCTURED = frozenset(("block", "segment", "whole"))
"""Kinds that are of some structure; the others are measured once for each machine."""


@dataclass(frozen=True)
class CostKey:
    """One thing that can be measured. As text it is the key under which a cost is stored.

    Attributes:
        kind: one of `KINDS`, or a later one.
        signature: structure of what is measured (`partc.measure.signature`); empty for kinds that
            are measured once for each machine.
        fingerprint: hardware and backend.
        settings: as `RunSettings.key` writes them: threads, level, provider, engine, precision;
            empty where nothing is run by a backend.
        pause_ms: idle time before each run; None where it does not count.
        power: the power mode of the machine; empty where it has none.
    """

    kind: str
    signature: str = ""
    fingerprint: str = ""
    settings: str = ""
    pause_ms: float | None = None
    power: str = ""

    def __str__(self) -> str:
        parts = [self.kind, self.signature, self.fingerprint.replace("|", "/"), self.settings]
        if self.power:
            parts.append(f"{_POWER}{self.power.replace('|', '/')}")
        if self.pause_ms is not None:
            parts.append(f"pause {self.pause_ms:g} ms")
        return "|".join(part for part in parts if part)

    @classmethod
    def parse(cls, text: str) -> CostKey:
        """Read what ``str`` wrote; a text that is nothing of the kind is a kind of its own."""
        kind, *parts = text.split("|")
        signature = parts.pop(0) if parts and _SIGNATURE.fullmatch(parts[0]) else ""
        pause = _PAUSE.fullmatch(parts[-1]) if parts else None
        pause_ms = None
        if pause is not None:
            try:
                pause_ms = float(pause[1])
                parts.pop()
            except ValueError:
                pause_ms = None
        power = parts.pop().removeprefix(_POWER) if parts and parts[-1].startswith(_POWER) else ""
        fingerprint = parts.pop(0) if parts else ""
        return cls(kind, signature, fingerprint, "|".join(parts), pause_ms, power)

    @property
    def mode(self) -> str:
        """The power mode, wherever it is noted."""
        return self.power or split_mode(self.fingerprint)[1]

    def texts(self, of_any_mode: bool = True) -> tuple[str, ...]:
        """The keys under which a store may have it, the most telling first.

        Earlier versions wrote a node's power mode into its fingerprint, and no other machine's.

        Args:
            of_any_mode: a cost whose power mode nobody noted will do.
        """
        if not self.power:
            return (str(self),)
        bare = replace(self, power="")
        noted = replace(bare, fingerprint=in_mode(self.fingerprint, self.power))
        return (str(self), str(noted), *((str(bare),) if of_any_mode else ()))

    @property
    def threads(self) -> int | None:
        """Threads of a run; None where nothing is run by a backend."""
        number = self.settings.partition("|")[0]
        return int(number) if number.isdecimal() else None

    @property
    def precision(self) -> str:
        """In which the model ran; empty where nothing is run by a backend."""
        if self.threads is None:
            return ""
        last = self.settings.rpartition("|")[2]
        return last.removeprefix(PRECISION_PREFIX) if last.startswith(PRECISION_PREFIX) else "fp32"

    @property
    def conditions_text(self) -> str:
        """The settings for people: ``1 thread, all, pause 50 ms``."""
        number, _, rest = self.settings.partition("|")
        parts = [f"{number} thread{'' if number == '1' else 's'}"] if number.isdecimal() else []
        parts += [each for each in rest.split("|") if each]
        if self.power:
            parts.append(f"power mode {self.power}")
        if self.pause_ms is not None:
            parts.append(f"pause {self.pause_ms:g} ms" if self.pause_ms else "no pause")
        return ", ".join(parts)
