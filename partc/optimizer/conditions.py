"""What may change after deployment, and a plan's cost as a function of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Conditions:
    """Ranges of what may change; a range of one value is fixed.

    Attributes:
        bandwidth_mbit_s: of the first link, towards its second host; the other directions and
            links keep their proportion to it.
        rtt_s: of the first link; the others keep their proportion.
        device_slowdown, server_slowdown: factors on the costs of the device, of all other hosts.
    """

    bandwidth_mbit_s: tuple[float, float]
    rtt_s: tuple[float, float] | None = None
    device_slowdown: tuple[float, float] = (1.0, 1.0)
    server_slowdown: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True)
class Point:
    """One condition."""

    bandwidth_mbit_s: float
    rtt_s: float
    device_slowdown: float = 1.0
    server_slowdown: float = 1.0


@dataclass(frozen=True)
class CostVector:
    """A plan's latency as a sum: choosing among plans at run time is a dot product.

    Attributes:
        constant_s: encoding and decoding.
        device_s, server_s: computing at slowdown 1.
        sent_bytes: bytes as if all went over the first link's first direction.
        round_trips: latency per second of the first link's round-trip time.
    """

    constant_s: float
    device_s: float
    server_s: float
    sent_bytes: float
    round_trips: float

    def latency_s(self, point: Point) -> float:
        """The plan's latency under a condition."""
        sending_s = self.sent_bytes * 8e-6 / point.bandwidth_mbit_s if self.sent_bytes else 0.0
        return (
            self.constant_s
            + self.device_s * point.device_slowdown
            + self.server_s * point.server_slowdown
            + sending_s
            + self.round_trips * point.rtt_s
        )
