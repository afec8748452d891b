"""What a plan must respect, in the words of a topology file."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Patterns = tuple[str, ...]


class Constraints(BaseModel):
    """The ``[constraints]`` table. All are absent by default.

    Ops are named by name, by glob (``/layer1/*``) or by type (``type:Softmax``); tensors by name
    or glob. A pattern that matches nothing is an error.

    Attributes:
        monotone: what left the host where requests start does not come back, but as an answer.
        contiguous: no path of ops leaves a host and comes back to it.
        max_segments: host -> the most times that a path of ops may enter it.
        pin, forbid: host -> ops that must run there, or must not.
        together: each entry's ops share a host.
        keep_local: tensors that may not leave the host where they arise.
        private_blocks: the first so many blocks, and what they read, stay where the inputs arise.
        deadline_ms: longest latency of one request.
        energy_hosts: whose energy ``--objective energy`` minimises; all hosts by default.
        energy_j: host -> most energy for one request, joules.
        loss_budget: most loss of the output that compressed transfers may cause, relative.
        codecs: how transfers may be encoded (`partc.codecs.CODEC_NAMES`); by default every codec
            where there is a ``loss_budget``, and none where there is not.
        count_activations: live tensors count against ``memory_mib`` too, not only weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    monotone: bool = False
    contiguous: bool = False
    max_segments: dict[str, Annotated[int, Field(ge=1)]] = {}
    pin: dict[str, Patterns] = {}
    forbid: dict[str, Patterns] = {}
    together: tuple[Patterns, ...] = ()
    keep_local: Patterns = ()
    private_blocks: Annotated[int, Field(ge=0)] = 0
    deadline_ms: Positive | None = None
    energy_hosts: tuple[str, ...] = ()
    energy_j: dict[str, NonNegative] = {}
    loss_budget: Annotated[float, Field(ge=0, le=1)] | None = None  # at 1 nothing is left of it
    codecs: tuple[str, ...] | None = None
    count_activations: bool = False

    def hosts(self) -> set[str]:
        """Every host that a constraint names."""
        return {*self.max_segments, *self.pin, *self.forbid, *self.energy_j, *self.energy_hosts}
