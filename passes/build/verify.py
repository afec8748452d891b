"""verify: the partitioned program must give the whole model's answers, at every boundary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import onnx

from partc.codecs import is_lossy
from partc.errors import TargetError, VerificationError
from partc.ir.plan import Transfer
from partc.ir.program import Array, Difference, Program, Verification, is_random
from partc.ir.segment import Segment
from partc.ir.tensor import TensorInfo
from partc.ir.tiling import Tiled
from partc.measure.loss import output_loss
from partc.passes import surgery
from partc.passes.build.compare import compare
from partc.passes.build.segment_runs import SegmentRuns
from partc.passes.contract import Context, Pass, PassResult
from partc.passes.ingest.normal_form import with_unique_names
from partc.passes.ingest.sample import sample_feeds
from partc.passes.ingest.types import value_info
from partc.targets.reference import REFERENCE_BACKEND, open_reference


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
        random = _random_tensors(program)
        worst: dict[str, Difference] = {}
        loss = 0.0
        with SegmentRuns(context.topology) as runs:
            for segments, transfers in _plans(program):
                actual = runs.one_by_one(segments, feeds)
                for tensor in expected:
                    if tensor not in random and tensor in actual:
                        found = self._compared(segments, tensor, actual[tensor], expected[tensor])
                        before = worst.get(tensor, found)
                        worst[tensor] = max(before, found, key=lambda d: d.max_abs_error)
                is_narrow = any(segment.precision != "fp32" for segment in segments)
                if is_narrow or any(is_lossy(transfer.codec) for transfer in transfers):
                    with SegmentRuns(context.topology, at_precision=True) as deployed:
                        lossy = deployed if is_narrow else runs
                        encoded = lossy.with_codecs(segments, transfers, feeds, program.outputs)
                    known = {name: a for name, a in outputs.items() if name not in random}
                    loss = max(loss, output_loss(encoded, known))
        _refuse_over_budget(loss, context.topology.constraints.loss_budget)
        differences = list(worst.values())
        notices: tuple[str, ...] = ()
        if random:
            notices = (
                f"{len(random)} tensors follow from ops that draw random numbers "
                f"(such as {sorted(random)[0]!r}) and could not be compared",
            )
        notices += tuple(
            f"segments of host {host!r} were checked with {REFERENCE_BACKEND} on this machine, not "
            f"with their own backend ({why}); partc verify on that host does that"
            for host, why in runs.stood_in.items()
        )
        notices += _precision_notice(program, loss)
        verification = Verification(tuple(differences), feeds, outputs, loss)
        verified = replace(program, verification=verification, notices=(*program.notices, *notices))
        said = f"{len(differences)} tensors equal, largest error {verification.max_abs_error:.3g}"
        return PassResult(verified, True, (said, *notices))

    def _compared(
        self, segments: tuple[Segment, ...], tensor: str, actual: Array, expected: Array
    ) -> Difference:
        found = compare(tensor, actual, expected, self.tolerance)
        if found.complaint:
            segment = next((s for s in segments if tensor in s.outputs), None)
            raise VerificationError(
                f"the partitioned program differs from the whole model at {tensor!r}: "
                f"{found.complaint}; nothing was written. A difference that is wanted can be "
                "allowed with verify{tolerance=...} in the pipeline",
                pass_name=self.name,
                host=segment.host if segment else None,
            )
        return found.difference


def _plans(program: Program) -> list[tuple[tuple[Segment, ...], tuple[Transfer, ...]]]:
    """Segments and transfers of the chosen plan, and of every other that the bundle carries."""
    chosen = (program.segments or (), program.plan.transfers if program.plan else ())
    others = program.portfolio.plans if program.portfolio is not None else ()
    return [chosen, *((each.segments or (), each.transfers) for each in others)]


def _precision_notice(program: Program, loss: float) -> tuple[str, ...]:
    narrow = {
        f"{segment.host!r} computes in {segment.precision}": None
        for segments, _ in _plans(program)
        for segment in segments
        if segment.precision != "fp32"
    }
    if not narrow:
        return ()
    return (f"host {' and '.join(narrow)}: on the sample the answer loses {loss:.3g}, relative",)


def _refuse_over_budget(loss: float, budget: float | None) -> None:
    """The optimizer adds up losses measured one by one, which is not always what they do."""
    if budget is not None and loss > budget:
        raise VerificationError(
            f"the encoded transfers, and hosts that compute in a lower precision, lose {loss:.3g} "
            f"of the answer, more than the budget of {budget:g}; give a smaller --loss-budget, so "
            "that fewer bits are saved on the way, a higher precision, or real samples with --input"
        )


def _outputs_of_original(program: Program, feeds: Mapping[str, Array]) -> dict[str, Array]:
    model = program.original if program.original is not None else program.model
    with _explained(program), open_reference(with_unique_names(model)) as runner:
        return runner.run(feeds)


def _boundaries_of_whole(program: Program, feeds: Mapping[str, Array]) -> dict[str, Array]:
    boundaries = dict.fromkeys(
        tensor
        for segments, _ in _plans(program)
        for segment in segments
        for tensor in segment.outputs
        if tensor not in program.outputs
    )
    if program.tiled is not None:
        return _boundaries_before_tiling(program, program.tiled, boundaries, feeds)
    return _values(program.model, program.tensors, boundaries, feeds)


def _boundaries_before_tiling(
    program: Program, tiled: Tiled, boundaries: Iterable[str], feeds: Mapping[str, Array]
) -> dict[str, Array]:
    """A tile is compared with its rows of the tensor as the model before tiling makes it.

    What that model does not have, such as the terms of a sum, is left to the tensor that follows.
    """
    parts = {name: tiled.parts[name] for name in boundaries if name in tiled.parts}
    same = [name for name in boundaries if name not in parts and name in tiled.tensors]
    inner = dict.fromkeys([*same, *(part.tensor for part in parts.values())])
    whole = {**feeds, **_values(tiled.model, tiled.tensors, inner, feeds)}
    cut = {
        name: whole[part.tensor].take(range(part.begin, part.end), axis=part.axis)
        for name, part in parts.items()
    }
    return {name: whole[name] for name in same} | cut


def _values(
    model: onnx.ModelProto,
    types: Mapping[str, TensorInfo],
    wanted: Iterable[str],
    feeds: Mapping[str, Array],
) -> dict[str, Array]:
    names = [name for name in wanted if name not in feeds]
    if not names:
        return {}
    widened = surgery.with_outputs(model, [value_info(name, types[name]) for name in names])
    with open_reference(widened) as runner:
        found = runner.run(feeds)
    return {name: found[name] for name in names}


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
