"""What the report says of a manifest, before it is said in HTML or on a terminal."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

from partc.bundle.manifest import (
    BlockEntry,
    CostEntry,
    Manifest,
    StrategyEntry,
    TensorSpec,
    TransferEntry,
)
from partc.ir.tensor import element_bits
from partc.report.units import bandwidth, count, duration, error, percent, size

OPTIMAL = "optimal"
_TILE_CHOICES = ("tiles", "no tiles")
_SAME_TIME = 1.01

PROVENANCE_MEANING = {
    "measured": "timed on this hardware",
    "scaled": "timed here, multiplied by the host's declared slowdown",
    "imported": "taken from a measurement made elsewhere",
    "estimated": "computed from a model of the hardware; nothing was timed",
}


@dataclass(frozen=True)
class Cut:
    """A tensor that leaves the host that makes it, numbered as in the figures."""

    number: int
    transfer: TransferEntry
    producer: int | None
    """Index of the block that makes it; None for an input of the model."""


@dataclass(frozen=True)
class Facts:
    """A manifest with the lookups that several parts of the report need.

    Attributes:
        reads: block name -> tensors it reads; empty where the manifest does not record it.
    """

    manifest: Manifest
    reads: Mapping[str, Collection[str]]

    @cached_property
    def hosts(self) -> tuple[str, ...]:
        """Every host, the root first: the order of colours."""
        root = self.manifest.root
        return (root, *(name for name in self.manifest.hosts if name != root))

    @cached_property
    def producer(self) -> Mapping[str, int]:
        """Tensor -> index of the block that makes it."""
        return {t: i for i, block in enumerate(self.manifest.blocks) for t in block.outputs}

    @cached_property
    def cuts(self) -> tuple[Cut, ...]:
        """Every transfer, numbered in the order of the model."""

        def position(transfer: TransferEntry) -> tuple[int, str, str]:
            return self.producer.get(transfer.tensor, -1), transfer.tensor, transfer.receiver

        ordered = sorted(self.manifest.plan.transfers, key=position)
        return tuple(
            Cut(number, transfer, self.producer.get(transfer.tensor))
            for number, transfer in enumerate(ordered, start=1)
        )

    @cached_property
    def cut_of(self) -> Mapping[tuple[str, str], Cut]:
        """(tensor, receiver) -> its cut."""
        return {(c.transfer.tensor, c.transfer.receiver): c for c in self.cuts}

    @cached_property
    def input_bytes(self) -> int | None:
        """Bytes of all inputs of the model; None when one of them has no known size."""
        sizes = [spec_bytes(spec) for spec in self.manifest.model.inputs]
        known = [size for size in sizes if size is not None]
        return sum(known) if known and len(known) == len(sizes) else None

    @cached_property
    def chosen(self) -> StrategyEntry | None:
        """The strategy that the plan is: the one named optimal, or the fastest."""
        by_name = {s.name: s for s in self.manifest.strategies}
        if OPTIMAL in by_name:
            return by_name[OPTIMAL]
        return min(self.manifest.strategies, key=lambda s: s.predicted_s, default=None)

    @cached_property
    def used_hosts(self) -> tuple[str, ...]:
        """The hosts that run at least one segment."""
        used = {segment.host for segment in self.manifest.plan.segments}
        return tuple(host for host in self.hosts if host in used)

    @cached_property
    def is_split(self) -> bool:
        """Whether the plan computes on more than one host."""
        return len(self.used_hosts) > 1

    @cached_property
    def is_away(self) -> bool:
        """Whether the plan computes on a host that is not the root."""
        return self.used_hosts != (self.manifest.root,)

    @cached_property
    def declared_mbit_s(self) -> tuple[float, ...]:
        """The distinct bandwidths of the declared links, away from the root."""
        values = []
        for link in self.manifest.topology.links:
            sender = self.manifest.root if self.manifest.root in link.between else link.between[0]
            values.append(link.mbit_s(sender))
        values += [bus.bandwidth_mbit_s for bus in self.manifest.topology.bus]
        return tuple(sorted(set(values)))

    @cached_property
    def provenances(self) -> tuple[str, ...]:
        """Every kind of provenance among the costs, best first."""
        found = {c.provenance for b in self.manifest.blocks for c in b.costs.values()}
        return tuple(kind for kind in PROVENANCE_MEANING if kind in found)

    @cached_property
    def estimated_hosts(self) -> tuple[str, ...]:
        """The hosts of which any cost is an estimate."""
        return tuple(
            host for host, kinds in host_provenances(self.manifest).items() if "estimated" in kinds
        )


def facts_of(manifest: Manifest, reads: Mapping[str, Collection[str]] | None = None) -> Facts:
    """The facts of ``manifest``; ``reads`` as in `partc.report.render_report`."""
    if reads is None:
        reads = {block.name: _recorded_reads(block) for block in manifest.blocks}
    return Facts(manifest, {name: tuple(tensors) for name, tensors in reads.items() if tensors})


def host_provenances(manifest: Manifest) -> dict[str, list[str]]:
    """Host -> every kind of provenance among its costs, best first.

    Blocks of a segment that was measured as a whole are known by that: a tile's cost is a part of
    its block's, and what it takes is found when it is measured with the others.
    """
    whole = {op: (s.host, s.provenance) for s in manifest.plan.segments for op in s.ops}
    found: dict[str, set[str]] = {host: set() for host in manifest.topology.hosts}
    for block in manifest.blocks:
        at, measured = whole.get(block.ops[0], ("", None)) if block.ops else ("", None)
        for host, cost in block.costs.items():
            found[host].add(measured if measured and host == at else cost.provenance)
    return {
        host: [kind for kind in PROVENANCE_MEANING if kind in kinds]
        for host, kinds in found.items()
    }


def _recorded_reads(block: BlockEntry) -> tuple[str, ...]:
    # Manifests of the first schema have no inputs of blocks.
    return tuple(getattr(block, "inputs", ()))


def spec_bytes(spec: TensorSpec) -> int | None:
    """Bytes of a tensor at its planned shape; None when type or shape is unknown."""
    shape = spec.planned_shape
    if shape is None or not spec.dtype:
        return None
    try:
        return (math.prod(shape) * element_bits(spec.dtype) + 7) // 8
    except TypeError:
        return None


def estimates_sentence(facts: Facts) -> str | None:
    """Whose costs nobody measured; None where all were."""
    if not facts.estimated_hosts:
        return None
    return (
        f"Costs on {joined(facts.estimated_hosts)} are estimated: nobody timed them, and "
        "the plan is only as good as they are."
    )


def verdict_sentence(facts: Facts) -> str:
    """Whether splitting pays, in a sentence."""
    verdict = facts.manifest.verdict
    if verdict is not None and verdict.sentence.strip():
        return verdict.sentence.strip()
    if facts.is_split:
        return f"The plan runs on {joined(facts.used_hosts)} together."
    return f"The plan runs on {joined(facts.used_hosts)} alone."


def break_even_sentence(facts: Facts) -> str | None:
    """From which bandwidth on another host pays; None when that was not examined."""
    verdict = facts.manifest.verdict
    if verdict is None or not verdict.bandwidths_examined:
        return None
    if verdict.break_even_mbit_s is None:
        if facts.is_away or verdict.choice in _TILE_CHOICES:
            return None  # what was examined are links between servers, or nothing
        return f"No bandwidth that was examined makes leaving {facts.manifest.root} pay."
    at = bandwidth(verdict.break_even_mbit_s)
    text = f"Using another host pays from {at} on."
    if verdict.split_range_mbit_s is not None:
        low, high = verdict.split_range_mbit_s
        upto = f"up to {bandwidth(high)}" if high is not None else "upwards"
        text += f" A real split is the best from {bandwidth(low)} {upto}."
    return text


def proof_sentence(facts: Facts) -> str:
    """What the certificate proves, in a sentence."""
    proof = facts.manifest.certificate
    if proof.status == "optimal":
        if facts.manifest.tiling is not None and proof.predicted_s > proof.bound_s * _SAME_TIME:
            return (
                f"Proven optimal for the costs that it was planned with, {duration(proof.bound_s)} "
                f"(gap {_gap(proof.gap)}); as it is deployed, it is predicted to take "
                f"{duration(proof.predicted_s)}."
            )
        text = "Proven optimal: no other placement is predicted to do better"
        return f"{text} (gap {_gap(proof.gap)})."
    return f"Not proven optimal: the solver ended with {proof.status!r}, gap {_gap(proof.gap)}."


def simulation_sentence(facts: Facts) -> str | None:
    """What working side by side would save; None where it saves nothing."""
    proof = facts.manifest.certificate
    if proof.simulated_s is None or proof.latency_s is None:
        return None
    if proof.simulated_s >= proof.latency_s * (1 - 1e-6):
        return None
    return (
        f"With hosts and links working side by side, a request is simulated to take "
        f"{duration(proof.simulated_s)} instead of {duration(proof.latency_s)}."
    )


_WITHIN_NOISE = 5e-4


def refinement_sentence(facts: Facts) -> str | None:
    """How the plan stood up to being measured; None where nothing was."""
    found = facts.manifest.refinement
    if found is None or not found.rounds:
        return None
    is_tiled = facts.manifest.tiling is not None
    plans = count(len(found.rounds), "plan") + (" without tiles" if is_tiled else "")
    off = [abs(r.predicted_s / r.measured_s - 1) for r in found.rounds if r.measured_s > 0]
    most = max(off, default=0.0)
    text = f"The segments of {plans} were measured"
    if most < _WITHIN_NOISE:
        text += " and took what was predicted, within the noise of measuring. "
    else:
        text += f"; predictions were off by up to {100 * most:.1f} % and were corrected. "
    if is_tiled:
        return text.rstrip()
    if found.outcome == "settled":
        return text + "The chosen plan was measured, and no other is predicted to beat it."
    if found.outcome == "budget":
        return text + "Time ran out before every plan that might win was measured."
    return text + "The segments of some hosts could not be measured here."


def verification_sentence(facts: Facts) -> str:
    """How far the partitioned program is from the whole model, in a sentence."""
    check = facts.manifest.verified
    compared = f"over {count(len(check.tensors), 'compared tensor')}"
    if check.max_abs_error == 0:
        text = f"The partitioned program gives the whole model's answers exactly, {compared}."
    else:
        text = (
            f"The partitioned program differs from the whole model by at most "
            f"{error(check.max_abs_error)} ({error(check.max_rel_error)} relative), {compared}."
        )
    budget = facts.manifest.topology.constraints.loss_budget
    if budget is None:
        return text
    return (
        f"{text} Encoding on the way loses {percent(check.loss)} of the answer; "
        f"{percent(budget)} was allowed."
    )


def precision_sentence(facts: Facts) -> str | None:
    """In which precision the costs of each host were found; None where all are in float32."""
    hosts = facts.manifest.hosts
    runs = {name: host.precision for name, host in facts.manifest.topology.hosts.items()}
    if {*runs.values(), *(host.costs_precision or "fp32" for host in hosts.values())} == {"fp32"}:
        return None
    told: list[str] = []
    for name, host in hosts.items():
        text = f"{name} in {host.costs_precision or 'a precision that nobody noted'}"
        if host.costs_precision != runs[name]:
            text += f" (it runs {runs[name]})"
        told.append(text)
    return f"Costs are of {joined(told)}."


def codec_text(facts: Facts, transfer: TransferEntry) -> str:
    """How a tensor travels, and from what size it was encoded: ``int8, from 32.0 KiB``."""
    spec = facts.manifest.tensors.get(transfer.tensor)
    plain_bytes = None if spec is None else spec_bytes(spec)
    if transfer.codec == "none" or plain_bytes is None:
        return transfer.codec
    return f"{transfer.codec}, from {size(plain_bytes)}"


def speedup_sentence(facts: Facts) -> str | None:
    """How the chosen plan compares with the device alone; None when there is nothing to say."""
    alone = next((s for s in facts.manifest.strategies if s.name == "device-only"), None)
    chosen = facts.chosen
    if alone is None or chosen is None or alone is chosen or chosen.predicted_s <= 0:
        return None
    factor = alone.predicted_s / chosen.predicted_s
    if facts.used_hosts == (facts.manifest.root,):
        return None
    if factor < 1.005:
        return f"{facts.manifest.root} alone takes {duration(alone.predicted_s)}, no more than this"
    return f"{factor:.2f} times as fast as {facts.manifest.root} alone"


def cost_text(cost: CostEntry) -> str:
    """A cost with its spread."""
    if cost.samples == 0 or cost.spread_s == 0:
        return duration(cost.median_s)
    return f"{duration(cost.median_s)} ± {duration(cost.spread_s)}"


def joined(names: Collection[str]) -> str:
    """Names as in prose: ``a, b and c``."""
    listed = list(names)
    if len(listed) < 2:
        return "".join(listed)
    return f"{', '.join(listed[:-1])} and {listed[-1]}"


def _gap(gap: float) -> str:
    return "0 %" if abs(gap) < 5e-7 else f"{gap * 100:.2g} %"
