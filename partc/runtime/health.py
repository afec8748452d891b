"""Which of the hosts that this one calls are down, and when they are back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

FIRST_PROBE_S = 0.2
LONGEST_PROBE_INTERVAL_S = 2.0
LONGEST_DISTRUST_S = 30.0
PROBE_TIMEOUT_S = 1.0

Probe = Callable[[str, float], str | None]


class PeerHealth:
    """Remembers hosts that failed, and probes them in the background until they are back.

    A host that answers probes and fails calls is probed later each time, so that it does not
    cost every few requests a deadline.

    Args:
        probe: host, timeout in seconds -> None when it is ready, else a clause saying why not.
    """

    def __init__(
        self,
        probe: Probe,
        *,
        first_probe_s: float = FIRST_PROBE_S,
        longest_interval_s: float = LONGEST_PROBE_INTERVAL_S,
        timeout_s: float = PROBE_TIMEOUT_S,
    ) -> None:
        self._probe = probe
        self._first_probe_s = first_probe_s
        self._longest_interval_s = longest_interval_s
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._down: dict[str, str] = {}
        self._failures: dict[str, int] = {}
        self._not_before_s: dict[str, float] = {}
        self._closed = threading.Event()
        self._prober: threading.Thread | None = None

    def why_down(self, host: str) -> str | None:
        """None while ``host`` is believed to be up, otherwise why it is not."""
        return self._down.get(host)

    def mark_down(self, host: str, reason: str) -> None:
        """Stop using ``host`` until a probe finds it ready."""
        with self._lock:
            if self._closed.is_set():
                return
            self._down[host] = reason
            count = self._failures[host] = self._failures.get(host, 0) + 1
            distrust_s = min(self._first_probe_s * 2.0 ** min(count - 1, 30), LONGEST_DISTRUST_S)
            self._not_before_s[host] = time.monotonic() + distrust_s
            if self._prober is None:
                self._prober = threading.Thread(
                    target=self._probe_until_all_up, name="partc-probe", daemon=True
                )
                self._prober.start()

    def note_answer(self, host: str) -> None:
        """``host`` has carried out a call."""
        self._failures.pop(host, None)

    def close(self) -> None:
        """Stop probing."""
        with self._lock:
            self._closed.set()
            prober = self._prober
        if prober is not None:
            prober.join(2 * self._timeout_s)

    def _probe_until_all_up(self) -> None:
        interval_s = self._first_probe_s
        while not self._closed.wait(interval_s):
            for host in list(self._down):
                if time.monotonic() < self._not_before_s[host]:
                    continue
                if self._probe(host, self._timeout_s) is None:
                    with self._lock:
                        self._down.pop(host, None)
            with self._lock:
                if not self._down:
                    self._prober = None
                    return
            interval_s = min(interval_s * 1.5, self._longest_interval_s)
