"""infer-shapes: the type, the shape as written and the shape for planning of every tensor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import onnx

from partc.errors import ModelError, UsageError
from partc.ir.program import Array, Program
from partc.ir.tensor import TensorInfo
from partc.passes import surgery
from partc.passes.annotate.deployed_model import asked_before_types
from partc.passes.contract import Context, Pass, PassResult
from partc.passes.ingest.bind_shapes import bind_shapes
from partc.passes.ingest.check_io import check_io
from partc.passes.ingest.sample import sample_feeds
from partc.passes.ingest.types import inferred_types, value_info
from partc.targets.reference import open_reference
from partc.targets.support import refuse_unknown_ops


@dataclass(frozen=True)
class InferShapes(Pass):
    """Annotates every tensor with its type and sizes.

    Shapes for planning come from the sample input, from ``--shape``, or else from a batch of 1.
    What ONNX's inference leaves open is observed by running the model once, so that no tensor
    of unknown size is ever counted as 0 bytes.
    """

    name: ClassVar[str] = "infer-shapes"
    kind: ClassVar[Literal["analysis", "transformation"]] = "analysis"
    requires: ClassVar[tuple[str, ...]] = ("well-formed",)
    ensures: ClassVar[tuple[str, ...]] = ("typed",)

    def run(self, program: Program, context: Context) -> PassResult:
        """Infer, bind, and observe what is still unknown."""
        refuse_unknown_ops(
            program, context.topology, context.meters, partial(asked_before_types, program, context)
        )
        homes = check_io(program, context.topology)
        written = inferred_types(program)
        bindings, notices = bind_shapes(program, written)
        notices = [*homes, *notices]
        planned = inferred_types(program, bindings)
        tensors: dict[str, TensorInfo] = {}
        for name in (*program.inputs, *program.producer):
            as_written = written.get(name, TensorInfo(name, "", None))
            as_planned = planned.get(name, as_written)
            tensors[name] = replace(
                as_written,
                dtype=as_written.dtype or as_planned.dtype,
                planned_shape=_first_known(as_planned.planned_shape, as_written.planned_shape),
                kind=as_planned.kind,
            )
        _refuse_ends_that_cannot_cross(program, tensors)
        annotated = replace(program, bindings=bindings, tensors=tensors)
        annotated = _observe(annotated, context)
        return PassResult(
            replace(annotated, notices=(*program.notices, *notices)), True, tuple(notices)
        )


def _refuse_ends_that_cannot_cross(program: Program, tensors: dict[str, TensorInfo]) -> None:
    for what, names in (("input", program.inputs), ("output", program.outputs)):
        for name in names:
            info = tensors[name]
            if info.can_cross:
                continue
            if info.kind == "tensor":
                raise ModelError(
                    f"{what} {name!r} is of type {info.dtype}, of which no array can be given "
                    "or taken; put a Cast to float32 or float16 between it and the model"
                )
            raise ModelError(
                f"{what} {name!r} is a {info.kind}, and requests carry tensors only; make it a "
                "tensor inside of the model (for a sequence with ConcatFromSequence)"
            )


def _first_known(*shapes: tuple[int, ...] | None) -> tuple[int, ...] | None:
    return next((shape for shape in shapes if shape is not None), None)


def _observe(program: Program, context: Context) -> Program:
    unknown = [
        info for info in program.tensors.values() if info.kind == "tensor" and not info.is_sized
    ]
    if not unknown:
        return program
    for info in unknown:
        if info.name in program.inputs:
            raise UsageError(
                f"the shape of input {info.name!r} is not in the model; "
                f"give --shape {info.name}=... or a sample with --input"
            )
    observed = _run_once(program, unknown, context)
    tensors = dict(program.tensors)
    ambiguous = _of_ambiguous_rank(program)
    for info in unknown:
        array = np.asarray(observed[info.name])
        dtype = "string" if array.dtype.kind in "OUS" else array.dtype.name
        shape = info.shape
        if shape is None and info.name not in ambiguous:
            shape = (None,) * array.ndim
        tensors[info.name] = replace(info, dtype=dtype, shape=shape, planned_shape=array.shape)
    return replace(program, tensors=tensors)


def _of_ambiguous_rank(program: Program) -> set[str]:
    """Tensors whose rank may differ from request to request: PyTorch writes ``squeeze`` as an If.

    Of a Loop or Scan, and of ops that inference does not know, one observation is enough.
    """
    found: set[str] = set()
    unknown = {name for name, info in program.tensors.items() if info.shape is None}
    for op in program.ops:
        may_differ = op.op_type in ("If", "Squeeze", "Reshape", "SequenceAt", "OptionalGetElement")
        if (
            may_differ
            or _has_conditional(program.nodes[op.name])
            or not found.isdisjoint(op.inputs)
        ):
            found.update(unknown.intersection(op.outputs))
    return found


def _has_conditional(node: onnx.NodeProto) -> bool:
    bodies = [body for a in node.attribute for body in (a.g, *a.graphs)]
    return any(
        inner.op_type == "If" or _has_conditional(inner) for body in bodies for inner in body.node
    )


def _run_once(program: Program, wanted: list[TensorInfo], context: Context) -> dict[str, Array]:
    context.progress("observing shapes", None)
    model = surgery.with_outputs(program.model, [value_info(info.name, info) for info in wanted])
    feeds = sample_feeds(program, context.seed)
    try:
        with open_reference(model) as runner:
            return runner.run(feeds)
    except Exception as error:
        source = "the sample given" if program.sample else "a random sample"
        raise ModelError(
            f"the model does not run on {source}, which is needed to find the size of "
            f"{wanted[0].name!r}: {error}; give an input that it accepts with --input"
        ) from error
