"""CBC, the second solver: a check on what HiGHS says, and the fallback."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from partc.errors import OptimizerError
from partc.optimizer.highs import RawResult
from partc.optimizer.linear import Arrays, LinearModel

_GRACE_S = 5.0


def run_cbc(
    model: LinearModel, *, time_limit_s: float | None, gap: float, integer: bool = True
) -> RawResult:
    """Solve a PuLP model with CBC in a process of its own, ended when it overruns.

    Raises:
        OptimizerError: PuLP brings no CBC for this machine.
    """
    import pulp

    binary = pulp.PULP_CBC_CMD.pulp_cbc_path
    if not Path(binary).exists():
        raise OptimizerError(
            "CBC, the second solver, is not on this machine; install PuLP with its bundled CBC."
        )
    with tempfile.TemporaryDirectory(prefix="partc-cbc-") as folder:
        source, answer = Path(folder) / "model.mps", Path(folder) / "answer.txt"
        renamed = model.problem.writeMPS(str(source), rename=True)[1]
        options = [str(source), "-ratioGap", str(gap)]
        if time_limit_s is not None:
            options += ["-sec", str(max(time_limit_s, 0.01)), "-timeMode", "elapsed"]
        options += ["-branch" if integer else "-initialSolve", "-solution", str(answer)]
        limit_s = None if time_limit_s is None else time_limit_s + _GRACE_S
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                [binary, *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=limit_s,
                check=False,
                env=os.environ,
            )
        if not answer.exists():
            return RawResult("stopped", None, float("inf"), float("-inf"), "cbc")
        return _read_answer(answer.read_text(), model.arrays(), dict(renamed), model)


def _read_answer(
    text: str, arrays: Arrays, renamed: dict[str, str], model: LinearModel
) -> RawResult:
    lines = text.splitlines()
    head = lines[0].lower() if lines else ""
    if "infeasible" in head:
        return RawResult("infeasible", None, float("inf"), float("-inf"), "cbc")
    written = {}
    for line in lines[1:]:
        parts = line.replace("**", " ").split()
        if len(parts) >= 3:
            written[parts[1]] = float(parts[2])
    values = np.array([written.get(renamed[v.name], 0.0) for v in model.variables])
    objective = float(arrays.cost @ values) + arrays.constant
    if head.startswith("optimal"):
        return RawResult("optimal", values, objective, objective, "cbc")
    activity = _row_activity(arrays, values)
    room = 1e-6 * (1 + np.abs(activity))
    fits = bool(
        np.all(activity >= arrays.row_lower - room) and np.all(activity <= arrays.row_upper + room)
    )
    if not fits:
        return RawResult("stopped", None, float("inf"), float("-inf"), "cbc")
    return RawResult("stopped", values, objective, float("-inf"), "cbc")


def _row_activity(arrays: Arrays, values: np.ndarray) -> np.ndarray:
    if len(arrays.row_lower) == 0:
        return np.zeros(0)
    products = arrays.values * values[arrays.columns]
    sums = np.concatenate([[0.0], np.cumsum(products)])
    return np.asarray(sums[arrays.starts[1:]] - sums[arrays.starts[:-1]])
