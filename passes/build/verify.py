"""verify: the partitioned program must give the whole model's answers, at every boundary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from partc.errors import PassError, TargetError, VerificationError
from partc.ir.program import Array, Difference, Program, Verification, is_random
from partc.measure.loss import output_loss
from partc.passes import surgery
from partc.passes.build.compare import compare
from partc.passes.build.lossy import loses_something, run_with_codecs
from partc.passes.contract import Context, Pass, PassResult
from partc.passes.ingest.normal_form import with_unique_names
from partc.passes.ingest.sample import sample_feeds
from partc.passes.ingest.types import value_info
from partc.targets.loading import open_model
from partc.targets.protocol import RunSettings
from partc.targets.reference import open_reference
from partc.targets.registry import load_backend, load_target


@dataclass(frozen=True)
class Verify(Pass):
    """Runs the segments one after the other, each as its host will, and compares.

    Every tensor that crosses a boundary is compared with the same tensor of the whole model,
    and every output with the model as it was read, before anything rewrote it.

    Attributes:
        tolerance: largest difference of a float32 tensor, relative to its largest magnitude;
            other types follow from it (`partc.passes.build.compare`).
    """

    name: ClassVar[str] = "verify"
    kind: ClassVar[Literal["analysis", "transformation"]] = "analysis"
    requires: ClassVar[tuple[str, ...]] = ("split",)
    ensures: ClassVar[tuple[str, ...]] = ("verified",)

    tolerance: float = 1e-4

    def run(self, program: Program, context: Context) -> PassResult:
        """Compare, and refuse the program where it differs."""
        context.progress("verifying", None)
        feeds = sample_feeds(program, context.seed)
        outputs = _outputs_of_original(program, feeds)
        expected = {**_boundaries_of_whole(program, feeds), **outputs}
        actual = _run_segments(program, feeds, context)
        random = _random_tensors(program)
        differences: list[Difference] = []
        for tensor, reference in expected.items():
            if tensor in random:
                continue
            found = compare(tensor, actual[tensor], reference, self.tolerance)
            if found.complaint:
                segment = next((s for s in program.segments or () if tensor in s.outputs), None)
                raise VerificationError(
                    f"the partitioned program differs from the whole model at {tensor!r}: "
                    f"{found.complaint}; nothing was written",
                    pass_name=self.name,
                    host=segment.host if segment else None,
                )
            differences.append(found.difference)
        notices: tuple[str, ...] = ()
        if random:
            notices = (
                f"{len(random)} tensors follow from ops that draw random numbers "
                f"(such as {sorted(random)[0]!r}) and could not be compared",
            )
        loss = _loss_of_transfers(program, context, feeds, outputs)
        verification = Verification(tuple(differences), feeds, outputs, loss)
        verified = replace(program, verification=verification, notices=(*program.notices, *notices))
        said = f"{len(differences)} tensors equal, largest error {verification.max_abs_error:.3g}"
        return PassResult(verified, True, (said, *notices))


def _outputs_of_original(program: Program, feeds: Mapping[str, Array]) -> dict[str, Array]:
    model = program.original if program.original is not None else program.model
    with _explained(program), open_reference(with_unique_names(model)) as runner:
        return runner.run(feeds)


def _boundaries_of_whole(program: Program, feeds: Mapping[str, Array]) -> dict[str, Array]:
    boundaries = [
        tensor
        for segment in program.segments or ()
        for tensor in segment.outputs
        if tensor not in program.outputs
    ]
    if not boundaries:
        return {}
    model = surgery.with_outputs(
        program.model, [value_info(tensor, program.tensor(tensor)) for tensor in boundaries]
    )
    with open_reference(model) as runner:
        whole = runner.run(feeds)
    return {tensor: whole[tensor] for tensor in boundaries}


def _run_segments(
    program: Program, feeds: Mapping[str, Array], context: Context
) -> dict[str, Array]:
    held: dict[str, Array] = dict(feeds)
    for segment in program.segments or ():
        if segment.model is None:
            raise PassError(f"segment {segment.id!r} has no model", pass_name="verify")
        host = context.topology.hosts[segment.host]
        target = load_target(host.target)
        settings = RunSettings(host.threads, target.optimization)
        try:
            with open_model(segment.model, load_backend(target.backend), settings) as runner:
                held.update(runner.run(held))
        except TargetError as error:
            raise VerificationError(
                f"segment {segment.id!r} does not run: {error}", host=segment.host
            ) from error
    return held


def _loss_of_transfers(
    program: Program,
    context: Context,
    feeds: Mapping[str, Array],
    expected: Mapping[str, Array],
) -> float:
    """What encoding the transfers really costs the answer.

    Raises:
        VerificationError: more than the budget. The optimizer adds up losses that were measured
            one by one, which is not always what they do together.
    """
    if not loses_something(program):
        return 0.0
    loss = output_loss(run_with_codecs(program, context.topology, feeds), expected)
    budget = context.topology.constraints.loss_budget
    if budget is not None and loss > budget:
        raise VerificationError(
            f"the encoded transfers lose {loss:.3g} of the answer, more than the budget of "
            f"{budget:g}; give a smaller --loss-budget, so that fewer bits are saved, or real "
            "samples with --input"
        )
    return loss


@contextmanager
def _explained(program: Program) -> Iterator[None]:
    """Turns a refusal of the sample into a sentence that says what to give instead."""
    try:
        yield
    except TargetError as error:
        source = "sample given" if program.sample else "random sample"
        raise VerificationError(
            f"the whole model does not run on the {source}: {error}; "
            "give an input that it accepts with --input"
        ) from error


def _random_tensors(program: Program) -> set[str]:
    found: set[str] = set()
    for op in program.ops:
        if is_random(program.nodes[op.name]) or any(t in found for t in op.inputs):
            found.update(op.outputs)
    return found
