"""Checks a bundle that is on disk: its files, and its segments against the golden pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from partc.bundle.manifest import Manifest, SegmentEntry
from partc.bundle.reader import Bundle
from partc.codecs import is_lossy
from partc.errors import TargetError, VerificationError
from partc.ir.program import Array
from partc.measure.loss import output_loss
from partc.passes.build.compare import compare
from partc.passes.build.segment_runs import carried
from partc.pipeline import Pipeline
from partc.targets.protocol import Runner
from partc.targets.reference import executor_here
from partc.targets.settings import settings_of

# Processors round differently where they quantise.
_MORE_LOSS, _LITTLE_LOSS = 1.5, 1e-3


@dataclass(frozen=True)
class BundleCheck:
    """What was found.

    Attributes:
        files: how many files have the digest that the manifest says.
        loss: of the outputs by encoded transfers, the largest of all plans.
        by_reference: host -> why its segments were run by the reference implementation and not by
            its own backend.
    """

    files: int
    max_abs_error: float
    max_rel_error: float
    loss: float = 0.0
    by_reference: Mapping[str, str] = field(default_factory=dict)


def verify_bundle(path: Path) -> BundleCheck:
    """Check digests, then run every plan on the golden input and compare the outputs.

    Outputs are compared without codecs; what these lose is measured and held to the budget.

    Raises:
        IntegrityError: a file was changed.
        VerificationError: the segments do not give the stored answers.
    """
    bundle = Bundle.open(path)
    bundle.check()
    feeds, expected = bundle.golden()
    manifest = bundle.manifest
    tolerance = _tolerance(manifest.pipeline)
    worst_abs = worst_rel = loss = 0.0
    instead: dict[str, str] = {}
    with ExitStack() as stack:
        run = _runs(bundle, stack, instead)
        for plan in manifest.plans:
            held: dict[str, Array] = dict(feeds)
            for segment in plan.segments:
                held.update(run(segment, held))
            is_narrow = any(
                manifest.topology.hosts[segment.host].precision != "fp32"
                for segment in plan.segments
            )
            for name, reference in () if is_narrow else expected.items():
                found = compare(name, held[name], reference, tolerance)
                if found.complaint:
                    raise VerificationError(
                        f"output {name!r} differs from the whole model's: {found.complaint}; "
                        "compile the bundle again on this kind of machine"
                    )
                worst_abs = max(worst_abs, found.difference.max_abs_error)
                worst_rel = max(worst_rel, found.difference.max_rel_error)
            if is_narrow or any(is_lossy(transfer.codec) for transfer in plan.transfers):
                encoded = carried(
                    run, plan.segments, plan.transfers, feeds, expected, manifest.topology
                )
                loss = max(loss, output_loss(encoded, expected))
    _refuse_more_loss(manifest, loss)
    budget = manifest.topology.constraints.loss_budget
    if budget is not None and loss > budget:
        raise VerificationError(
            f"the encoded transfers lose {loss:.3g} of the answer here, more than the budget of "
            f"{budget:g}; compile the bundle again on this kind of machine"
        )
    return BundleCheck(len(manifest.files), worst_abs, worst_rel, loss, instead)


def _refuse_more_loss(manifest: Manifest, loss: float) -> None:
    """Segments of a lower precision have no answer to be equal to; they lose what they lost."""
    allowed = _MORE_LOSS * manifest.verified.loss + _LITTLE_LOSS
    if loss > allowed:
        raise VerificationError(
            f"the plan loses {loss:.3g} of the answer here, and lost {manifest.verified.loss:.3g} "
            "when it was compiled; compile the bundle again on this kind of machine"
        )


def _runs(
    bundle: Bundle, stack: ExitStack, instead: dict[str, str]
) -> Callable[[SegmentEntry, Mapping[str, Array]], dict[str, Array]]:
    """Runs a segment as its host would; each is loaded once, however many plans it is in.

    Args:
        instead: takes down the hosts whose segments the reference runs, and why.
    """
    runners: dict[str, Runner] = {}

    def run(segment: SegmentEntry, given: Mapping[str, Array]) -> dict[str, Array]:
        host = bundle.manifest.hosts[segment.host]
        try:
            if segment.id not in runners:
                file = bundle.artefact_path(segment.host, segment.id)
                executor = executor_here(host.backend, settings_of(host))
                if executor.instead:
                    instead[segment.host] = executor.instead
                runner = executor.backend.runner(file, executor.settings)
                runners[segment.id] = stack.enter_context(runner)
            return runners[segment.id].run(given)
        except TargetError as error:
            raise VerificationError(
                f"segment {segment.id!r} does not run: {error}", host=segment.host
            ) from error

    return run


def _tolerance(pipeline: str) -> float:
    from partc.passes.build.verify import Verify

    for each in Pipeline.parse(pipeline).passes:
        if isinstance(each, Verify):
            return each.tolerance
    return Verify().tolerance
