"""Checks a bundle that is on disk: its files, and its segments against the golden pair."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from partc.bundle.reader import Bundle
from partc.errors import TargetError, VerificationError
from partc.ir.program import Array
from partc.passes.build.compare import compare
from partc.pipeline import Pipeline
from partc.targets.protocol import RunSettings
from partc.targets.registry import load_backend


@dataclass(frozen=True)
class BundleCheck:
    """What was found.

    Attributes:
        files: how many files have the digest that the manifest says.
    """

    files: int
    max_abs_error: float
    max_rel_error: float


def verify_bundle(path: Path) -> BundleCheck:
    """Check digests, then run every segment on the golden input and compare the outputs.

    Raises:
        IntegrityError: a file was changed.
        VerificationError: the segments do not give the stored answers.
    """
    bundle = Bundle.open(path)
    bundle.check()
    feeds, expected = bundle.golden()
    held: dict[str, Array] = dict(feeds)
    for segment in bundle.manifest.plan.segments:
        host = bundle.manifest.hosts[segment.host]
        settings = RunSettings(host.threads, host.optimization)
        file = bundle.artefact_path(segment.host, segment.id)
        try:
            with load_backend(host.backend).runner(file, settings) as runner:
                held.update(runner.run(held))
        except TargetError as error:
            raise VerificationError(
                f"segment {segment.id!r} does not run: {error}", host=segment.host
            ) from error
    tolerance = _tolerance(bundle.manifest.pipeline)
    worst_abs = worst_rel = 0.0
    for name, reference in expected.items():
        found = compare(name, held[name], reference, tolerance)
        if found.complaint:
            raise VerificationError(
                f"output {name!r} differs from the whole model's: {found.complaint}; "
                "compile the bundle again on this kind of machine"
            )
        worst_abs = max(worst_abs, found.difference.max_abs_error)
        worst_rel = max(worst_rel, found.difference.max_rel_error)
    return BundleCheck(len(bundle.manifest.files), worst_abs, worst_rel)


def _tolerance(pipeline: str) -> float:
    from partc.passes.build.verify import Verify

    for each in Pipeline.parse(pipeline).passes:
        if isinstance(each, Verify):
            return each.tolerance
    return Verify().tolerance
