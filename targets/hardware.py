"""What a data sheet says of a host's hardware."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal["cpu", "gpu", "npu"]
Precision = Literal["fp64", "fp32", "fp16", "bf16", "int8"]

Rate = Annotated[float, Field(ge=1e3, le=1e21)]
BytesPerS = Annotated[float, Field(ge=1e3, le=1e18)]
Mebibytes = Annotated[float, Field(gt=0, le=1e12)]
Watts = Annotated[float, Field(ge=0, le=1e9)]
Price = Annotated[float, Field(ge=0, le=1e12)]
Text = Annotated[str, Field(min_length=1, max_length=200)]


class Hardware(BaseModel):
    """The figures of a data sheet, or typical ones; what is not known is None or empty.

    Attributes:
        kind: of the unit that runs the model; it decides which efficiencies are assumed.
        architecture: of the processor that runs partc there, as ``platform.machine()`` names it.
        cores: of a processor; its peak rates are of all of them together.
        peak_flop_s: precision -> operations per second, dense, a multiplication and an addition
            counted as two.
        memory_bandwidth_bytes_per_s: of the memory that holds weights and activations.
        overflow_bandwidth_bytes_per_s: at which weights arrive that do not fit into ``memory_mib``.
        precisions: in which it can compute; those of the peak rates where none are given.
        ops: types of ONNX ops that it can run; empty where the data sheet excludes none.
        price_usd: of one, in US dollars.
        recognised_by: a machine is this hardware if one of these texts is in the name of its
            processor, board or GPU, whatever the case; empty for hardware that any machine is.
        typical: stands for machines of a kind and for none in particular: no machine is it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    vendor: Text | None = None
    product: Text | None = None
    kind: Kind = "cpu"
    processor: Text | None = None
    architecture: Text | None = None
    cores: Annotated[int, Field(ge=1, le=65536)] | None = None
    peak_flop_s: Mapping[Precision, Rate] = {}
    memory_bandwidth_bytes_per_s: BytesPerS | None = None
    overflow_bandwidth_bytes_per_s: BytesPerS | None = None
    memory_mib: Mebibytes | None = None
    memory_type: Text | None = None
    precisions: tuple[Precision, ...] = ()
    ops: tuple[Text, ...] = ()
    power_active_w: Watts | None = None
    power_idle_w: Watts | None = None
    power_tx_w: Watts | None = None
    power_rx_w: Watts | None = None
    price_usd: Price | None = None
    recognised_by: tuple[Text, ...] = ()
    typical: bool = False

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for precision in self.precisions:
            if self.peak_flop_s and precision not in self.peak_flop_s:
                raise ValueError(
                    f"precisions names {precision!r}, for which peak_flop_s has no rate"
                )
        idle_w, active_w = self.power_idle_w, self.power_active_w
        if idle_w is not None and active_w is not None and idle_w > active_w:
            raise ValueError("power_idle_w is above power_active_w; swap them")
        if self.overflow_bandwidth_bytes_per_s is not None and self.memory_mib is None:
            raise ValueError("overflow_bandwidth_bytes_per_s needs memory_mib, which overflows")
        return self

    @property
    def computes_in(self) -> tuple[Precision, ...]:
        """Precisions that it can compute in."""
        return self.precisions or tuple(self.peak_flop_s)

    @property
    def has_rates(self) -> bool:
        """Whether costs can be estimated for it."""
        return bool(self.peak_flop_s)

    @property
    def figures(self) -> str:
        """What its figures are, in words: of a product there is a data sheet, of a kind none."""
        return "typical figures" if self.typical else "data sheet"
