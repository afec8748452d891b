"""The main job from end to end: ``make demo``, or ``python -m examples.demo``.

Builds MobileNetV2 by code, compiles it for a weak camera and a server, and runs the bundle on
both: two processes joined by an emulated link of the topology's bandwidth and delay.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from pathlib import Path

from partc.cli.main import run

TOPOLOGY = Path(
    os.path.relpath(Path(__file__).resolve().parent / "topologies" / "camera_and_server.toml")
)


def main() -> int:
    """Run the demo; the exit code of the first command that fails."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo")
    parser.add_argument("--model", default="mobilenetv2", help="one of examples.models")
    parser.add_argument("--topology", type=Path, default=TOPOLOGY)
    parser.add_argument("--output", type=Path, default=Path("demo-out"))
    parser.add_argument("--repeat", type=int, default=20)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    model, bundle = given.output / f"{given.model}.onnx", given.output / "bundle"
    _build(given.model, model)
    commands = [
        [
            "compile",
            str(model),
            "--topology",
            str(given.topology),
            "--output",
            str(bundle),
            "--force",
        ],
        ["verify", str(bundle)],
        ["run", str(bundle), "--local", "--repeat", str(given.repeat)],
    ]
    for command in commands:
        print(f"\n$ partc {shlex.join(command)}", flush=True)
        started = time.perf_counter()
        code = run(command)
        if code != 0:
            return code
        print(f"  ({time.perf_counter() - started:.1f} s)", flush=True)
    print(f"\nOpen {bundle / 'report.html'} in a browser for the report.")
    return 0


def _build(name: str, path: Path) -> None:
    import onnx

    from examples.models import MODELS

    if name not in MODELS:
        sys.exit(f"there is no model {name!r}; python -m examples.models --list shows them")
    print(f"building {name} ({path})", flush=True)
    onnx.save(MODELS[name](), path)


if __name__ == "__main__":
    sys.exit(main())
