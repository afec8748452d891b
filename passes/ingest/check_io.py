"""What ``[io]`` says of a model's inputs and outputs, held against the model."""

from __future__ import annotations

from partc.errors import UsageError
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.passes.lower.schedule import root_host
from partc.suggest import unknown_name


def check_io(program: Program, topology: Topology) -> list[str]:
    """Notices on tensors whose home is not the host where requests start.

    A request brings all inputs to one host and takes all outputs from it; what arises or is
    wanted elsewhere is planned so, and travels there and back all the same.

    Raises:
        UsageError: a tensor is named that the model does not have.
    """
    _refuse_unknown("input", topology.io.inputs, program.inputs)
    _refuse_unknown("output", topology.io.outputs, program.outputs)
    root = root_host(program, topology)
    notices = [
        f"input {name!r} arises on {home}, but requests start on {root}: give it there, from "
        f"where it is sent to {home}, which the prediction leaves out"
        for name in program.inputs
        if (home := topology.input_home(name)) != root
    ]
    notices += [
        f"output {name!r} is wanted on {home}, but the answer is given on {root}: the prediction "
        "leaves out its way back"
        for name in program.outputs
        if (home := topology.output_home(name)) != root
    ]
    return notices


def _refuse_unknown(what: str, homes: str | dict[str, str] | None, known: tuple[str, ...]) -> None:
    for name in homes if isinstance(homes, dict) else ():
        if name not in known:
            raise UsageError(f"[io] {what}s: {unknown_name(f'model {what}', name, known)}")
