"""The JSON Schema of a horizontal problem, as published in docs/horizontal_problem.schema.json."""

from __future__ import annotations

from typing import Any

from partc.optimizer.horizontal.problem import HorizontalProblem


def horizontal_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) of what `HorizontalProblem.from_dict` reads."""
    schema = HorizontalProblem.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema
