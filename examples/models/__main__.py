"""Command line: python -m examples.models mobilenetv2 --output mobilenetv2.onnx."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

import onnx

from examples.models import MODELS


def main(arguments: Sequence[str] | None = None) -> int:
    """Write one of the example models to a file, or list them."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.models",
        description="Build an example model with weights drawn from a seed.",
    )
    parser.add_argument("name", nargs="?", help="which model to build; --list shows them")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: NAME.onnx")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--list", action="store_true", help="print the models' names and leave")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(MODELS))
        return 0
    if options.name is None:
        parser.error("name a model; --list shows them")
    if options.name not in MODELS:
        closest = difflib.get_close_matches(options.name, MODELS, n=1)
        hint = f"did you mean {closest[0]}?" if closest else f"choose from {', '.join(MODELS)}."
        parser.error(f"there is no model {options.name!r}; {hint}")
    if options.seed < 0:
        parser.error("the seed must be 0 or more")

    path: Path = options.output or Path(f"{options.name}.onnx")
    model = MODELS[options.name](seed=options.seed)
    try:
        onnx.save(model, path)
    except OSError as error:
        print(f"cannot write {path}: {error.strerror}", file=sys.stderr)
        return 1
    size_mb = path.stat().st_size / 1e6
    print(f"{path}: {len(model.graph.node)} ops, {size_mb:.3g} MB", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
