"""The program as text before and after each pass, for one small model.

With PARTC_UPDATE_GOLDEN=1 in the environment the files are written anew; read the difference
before it is committed.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from partc.ir.cost import Cost, CostTable
from partc.ir.program import Program
from partc.ir.text import program_text
from partc.passes.contract import TYPICAL_MESSAGE_COST, Context
from partc.passes.ingest.read_model import read_model
from partc.pipeline import Pipeline
from tests.support.nasty_models import floats, parsed
from tests.support.placements import QUICK, topology_of

GOLDEN = Path(__file__).parent / "golden"
HOSTS = topology_of(("camera", "server"))
NAMES = [each.name for each in Pipeline.parse(QUICK).passes]


def small_model() -> onnx.ModelProto:
    """Fusion, folding, a branch, a body with captures, a dynamic batch, and two outputs."""
    example = parsed(
        """small (float[N,3,64,64] image, bool bright) => (float[N,10] scores, float[N,4] feature)
           <float half = {0.5}, int64 zero = {0}, int64[1] front = {0}, int64[1] rest = {-1}> {
             twice = Add(half, half)
             kernel = Mul(raw_kernel, twice)
             conv = Conv <pads=[1,1,1,1], strides=[4,4]> (image, kernel)
             act = Relu(conv)
             seen = If (bright) <
               then_branch = dim () => (float[N,4,16,16] d) { d = Mul(act, half) },
               else_branch = same () => (float[N,4,16,16] s) { s = Abs(act) }>
             pooled = GlobalAveragePool(seen)
             shape = Shape(image)
             batch = Gather <axis=0> (shape, zero)
             batches = Unsqueeze(batch, front)
             flat = Concat <axis=0> (batches, rest)
             feature = Reshape(pooled, flat)
             scores = Gemm(feature, dense)
           }""",
        {},
    )
    for name, shape in (("raw_kernel", (4, 3, 3, 3)), ("dense", (4, 10))):
        example.model.graph.initializer.append(onnx.numpy_helper.from_array(floats(*shape), name))
    return example.model


def with_fixed_costs(program: Program) -> Program:
    """The same costs on every machine, so that the plan is always the same."""
    heavy = ("If_4", "GlobalAveragePool_5", "Gemm_11")
    costs = {
        block.name: {
            "camera": Cost(0.02 if block.name in heavy else 0.001, 0.0, 5, "scaled"),
            "server": Cost(0.001, 0.0, 5, "measured"),
        }
        for block in program.blocks or ()
    }
    fixed = {"camera": 1e-5, "server": 1e-5}
    return replace(program, costs=CostTable(costs, fixed, fixed, TYPICAL_MESSAGE_COST))


@pytest.fixture(scope="module")
def stages() -> dict[str, str]:
    """Text of the program as read, and after each pass of the default pipeline."""
    program = read_model(small_model())
    texts = {"as-read": program_text(program)}
    for each in Pipeline.parse(QUICK).passes:
        program = each.run(program, Context(HOSTS)).program
        if each.name == "annotate-costs":
            program = with_fixed_costs(program)
        texts[each.name] = program_text(program)
    return texts


@pytest.mark.parametrize("stage", ["as-read", *NAMES])
def test_the_program_is_as_the_golden_file_says(stages: dict[str, str], stage: str) -> None:
    number = ["as-read", *NAMES].index(stage)
    path = GOLDEN / f"{number:02d}-{stage}.txt"
    if os.environ.get("PARTC_UPDATE_GOLDEN"):
        path.write_text(stages[stage], encoding="utf-8")
    assert stages[stage] == path.read_text(encoding="utf-8")


def test_there_is_no_golden_file_too_many() -> None:
    wanted = {f"{number:02d}-{stage}.txt" for number, stage in enumerate(["as-read", *NAMES])}
    assert {path.name for path in GOLDEN.iterdir()} == wanted
