"""The ranges within which bandwidth and speeds may change, as a topology file declares them."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
AtLeastOne = Annotated[float, Field(ge=1, allow_inf_nan=False)]


class Conditions(BaseModel):
    """The ``[conditions]`` table: with it, the bundle carries a portfolio of plans.

    Attributes:
        bandwidth_mbit_s: of the first link, towards its second host; the other directions and
            links keep their proportion to it.
        rtt_ms: of the first link; the others keep their proportion. The declared one by default.
        device_slowdown, server_slowdown: factors on what is declared for the host where requests
            start, and for all others.
        tolerance: how far from the optimum a plan of the portfolio may be, relative.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bandwidth_mbit_s: tuple[Positive, Positive]
    rtt_ms: tuple[Positive, Positive] | None = None
    device_slowdown: tuple[AtLeastOne, AtLeastOne] = (1.0, 1.0)
    server_slowdown: tuple[AtLeastOne, AtLeastOne] = (1.0, 1.0)
    tolerance: Annotated[float, Field(gt=0, le=1)] = 0.05

    @model_validator(mode="after")
    def _upwards(self) -> Self:
        for name in ("bandwidth_mbit_s", "rtt_ms", "device_slowdown", "server_slowdown"):
            span = getattr(self, name)
            if span is not None and span[0] > span[1]:
                raise ValueError(f"the range of {name} runs from high to low; write [low, high]")
        return self
