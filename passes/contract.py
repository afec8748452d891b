"""What a pass is, what it may rely on, and what it promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from partc.ir.cost import MessageCost
from partc.ir.program import Array, Program
from partc.ir.topology import Topology
from partc.targets.here import meter_here, what_is_known
from partc.targets.meter import Meter
from partc.targets.registry import load_target

if TYPE_CHECKING:
    from partc.imports.imported import ImportedCosts
    from partc.measure.store import CostStore

Progress = Callable[[str, float | None], None]
"""Called with what is being done and the fraction done, or None where that is unknown."""


# Measured once for gRPC on a small x86 machine; an estimate anywhere else.
TYPICAL_MESSAGE_COST = MessageCost(fixed_s=4e-4, s_per_byte=1e-9, provenance="estimated")


def no_progress(activity: str, fraction: float | None) -> None:
    """Reports nothing."""


@dataclass(frozen=True)
class Context:
    """What passes see besides the program.

    Attributes:
        store: measured costs of earlier compilations; None to measure everything anew.
        message_cost: what a message between hosts costs on top of the link; measured over the
            runtime's own protocol by whoever starts the pipeline.
        exchange_cost: measures, when tiles may pay, what a message between hosts at work costs
            besides its bytes, given the seconds for each byte; None to take ``message_cost``.
        seed: of sample inputs that partc draws itself.
        calibration: inputs of the model from which ranges for int8 are taken; the sample input
            where there are none.
        meters: host -> what measures on its hardware; hosts that are not named are measured on
            this machine, or known by their data sheet where that is other hardware.
        imports: host -> a profile that was taken there, in place of measuring.
        kept: what one pass has worked out and another may need again; each works without.
    """

    topology: Topology
    store: CostStore | None = None
    message_cost: MessageCost = TYPICAL_MESSAGE_COST
    exchange_cost: Callable[[float], float] | None = field(default=None, compare=False)
    seed: int = 0
    progress: Progress = field(default=no_progress, compare=False)
    meters: Mapping[str, Meter] = field(default_factory=dict, compare=False)
    imports: Mapping[str, ImportedCosts] = field(default_factory=dict, compare=False)
    calibration: tuple[Mapping[str, Array], ...] = field(default=(), compare=False)
    kept: dict[str, object] = field(default_factory=dict, compare=False, repr=False)

    def meter(self, host: str) -> Meter:
        """What measures on the hardware of ``host``.

        Raises:
            TargetError: the host's target is unknown, or can neither be measured nor estimated.
        """
        if host in self.meters:
            return self.meters[host]
        target = load_target(self.topology.hosts[host].target)
        return what_is_known(target) if host in self.imports else meter_here(target)


@dataclass(frozen=True)
class PassResult:
    """What a pass gives back.

    Attributes:
        modified: whether ``program`` differs from what the pass was given.
        diagnostics: sentences for the user.
    """

    program: Program
    modified: bool
    diagnostics: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pass(ABC):
    """One step from the graph to the bundle: a frozen dataclass whose fields are its options.

    Class attributes:
        name: kebab-case, unique among all registered passes.
        kind: an analysis only annotates and leaves the graph as it is; a transformation
            rewrites the graph, which drops annotations that no longer hold.
        requires, ensures: names of invariants (`partc.passes.invariants`), checked before and
            after the pass.
    """

    name: ClassVar[str]
    kind: ClassVar[Literal["analysis", "transformation"]]
    requires: ClassVar[tuple[str, ...]] = ()
    ensures: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def run(self, program: Program, context: Context) -> PassResult:
        """Do the work. ``program`` is not changed.

        Raises:
            PartcError: the work cannot be done; the message says why and what to do.
        """
