"""The JSON Schema of a placement problem, as published in docs/problem.schema.json.

`python -m partc.optimizer.schema > docs/problem.schema.json` writes it anew.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from partc.optimizer.problem import Problem


def problem_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) of what `Problem.from_dict` reads."""
    schema = Problem.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema


def schema_text() -> str:
    """The schema as the file holds it."""
    return json.dumps(problem_schema(), indent=2, allow_nan=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
