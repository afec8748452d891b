"""Tries an engine in a process of its own: ``python -m partc.runtime.engine_trial``.

A library may crash over an engine that does not suit it or the driver, and a server must not end
with it. What was tried is one JSON object on standard input.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from partc.bundle.reader import Bundle
from partc.errors import PartcError, TargetError
from partc.ir.engine import EngineEntry, EngineRecipe
from partc.targets.engines import engine_backend

LONGEST_TRIAL_S = 600.0

_BEGUN, _DONE = b"begun", b"done"
_STOPPED = (signal.SIGINT, signal.SIGTERM)


def try_apart(
    backend: str, engine: Path, entry: EngineEntry, bundle: Bundle, *, allow_code: bool
) -> None:
    """Load an engine and run its golden inputs, to see whether the process lives on.

    Whether the answers are right is not asked here, and where no engine can be tried nothing is
    said against it: who loads it finds out.

    Raises:
        TargetError: the process died, or hung.
    """
    job = {
        "backend": backend,
        "engine": str(engine.absolute()),
        "recipe": entry.recipe.model_dump(mode="json"),
        "bundle": str(bundle.path.absolute()),
        "inputs": entry.golden[0] if entry.golden else "",
        "allow_code": allow_code,
    }
    try:
        done = subprocess.run(
            # -P: modules are not to be found in a folder that may be somebody else's bundle.
            [sys.executable, "-P", "-m", "partc.runtime.engine_trial"],
            input=json.dumps(job).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=LONGEST_TRIAL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TargetError(
            f"the engine was tried for {LONGEST_TRIAL_S:g} s and did not run"
        ) from None
    except OSError:  # no room for one more process; the engine is not to blame
        return
    said = done.stdout.split()
    if _BEGUN not in said or _DONE in said or -done.returncode in _STOPPED:
        return
    raise TargetError(
        f"the engine ended the process in which it was tried ({_end(done.returncode)})"
    )


def _end(status: int) -> str:
    if status >= 0:
        return f"exit code {status}"
    name = signal.Signals(-status).name
    return f"{name}, perhaps for want of memory" if -status == signal.SIGKILL else name


def main() -> int:
    """Try what is asked for."""
    # Libraries print to standard output; the answers go where it was.
    answers = os.dup(1)
    os.dup2(2, 1)
    job = json.load(sys.stdin)
    with suppress(PartcError, OSError):
        backend = engine_backend(job["backend"])
        if backend is None:
            return 0
        recipe = EngineRecipe.model_validate(job["recipe"])
        feeds = Bundle.open(job["bundle"]).arrays(job["inputs"]) if job["inputs"] else None
        os.write(answers, _BEGUN + b"\n")
        # Given only where it is meant, as backends of others may not know it.
        code = {"allow_code": True} if job["allow_code"] else {}
        with (
            suppress(PartcError, OSError),
            backend.engine_runner(Path(job["engine"]), recipe, **code) as runner,
        ):
            if feeds is not None:
                runner.run(feeds)
    os.write(answers, _DONE + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
