"""A thin layer over PuLP: affine expressions with constants folded, and export to arrays.

PuLP holds the model; HiGHS and CBC both get it from there, so that they solve the same thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pulp

INFINITY = float("inf")
_ROW_SIZE = 1000.0
_MOST_SCALED = 1e200
_HOPELESS = 1e15


@dataclass(frozen=True)
class Affine:
    """A sum of coefficient times variable, plus a constant."""

    terms: tuple[tuple[Any, float], ...] = ()
    constant: float = 0.0

    def minus(self, other: Affine) -> Affine:
        """This expression less another, like terms joined."""
        joined = dict(self.terms)
        for variable, coefficient in other.terms:
            joined[variable] = joined.get(variable, 0.0) - coefficient
        terms = tuple((variable, value) for variable, value in joined.items() if value != 0.0)
        return Affine(terms, self.constant - other.constant)


ONE = Affine((), 1.0)
ZERO = Affine()


class Sum:
    """An affine expression under construction."""

    def __init__(self) -> None:
        self.terms: dict[Any, float] = {}
        self.constant = 0.0

    def add(self, expression: Affine, factor: float = 1.0) -> None:
        """Add an expression times a factor."""
        if factor == 0.0:
            return
        self.constant += factor * expression.constant
        for variable, coefficient in expression.terms:
            self.terms[variable] = self.terms.get(variable, 0.0) + factor * coefficient

    def add_sum(self, other: Sum, factor: float = 1.0) -> None:
        """Add another sum times a factor."""
        if factor == 0.0:
            return
        self.constant += factor * other.constant
        for variable, coefficient in other.terms.items():
            self.terms[variable] = self.terms.get(variable, 0.0) + factor * coefficient

    def expression(self) -> Affine:
        """What has been added up."""
        return Affine(tuple(self.terms.items()), self.constant)


@dataclass(frozen=True)
class Arrays:
    """A linear model in compressed rows; `integer` marks the columns that must be whole."""

    cost: npt.NDArray[np.float64]
    lower: npt.NDArray[np.float64]
    upper: npt.NDArray[np.float64]
    integer: npt.NDArray[np.bool_]
    row_lower: npt.NDArray[np.float64]
    row_upper: npt.NDArray[np.float64]
    starts: npt.NDArray[np.int32]
    columns: npt.NDArray[np.int32]
    values: npt.NDArray[np.float64]
    constant: float


class LinearModel:
    """A minimisation in PuLP with its variables in a known order."""

    def __init__(self) -> None:
        self.problem = pulp.LpProblem("placement", pulp.LpMinimize)
        self.variables: list[Any] = []
        self._rows: list[Any] = []

    def variable(self, kind: str, *, integer: bool = False, upper: float | None = 1.0) -> Affine:
        """A new variable between 0 and `upper`; `kind` begins its name."""
        category = pulp.LpInteger if integer else pulp.LpContinuous
        name = f"{kind}{len(self.variables)}"
        variable = self.problem.add_variable(name, 0, upper, category)
        self.variables.append(variable)
        return Affine(((variable, 1.0),))

    def at_least(self, expression: Affine, bound: float = 0.0) -> None:
        """Require expression >= bound."""
        self._row(expression, pulp.LpConstraintGE, bound - expression.constant)

    def equal(self, expression: Affine, value: float) -> None:
        """Require expression == value."""
        self._row(expression, pulp.LpConstraintEQ, value - expression.constant)

    def budget(self, total: Sum, limit: float) -> None:
        """Require total <= limit, with the row scaled so that rounding stays relative to it."""
        size = max([limit, *map(abs, total.terms.values())])
        factor = min(_ROW_SIZE / size, _MOST_SCALED) if size > 0 else 1.0
        terms = tuple((variable, -value * factor) for variable, value in total.terms.items())
        # What exceeds the limit by so much does so whatever the terms are.
        bound = min((total.constant - limit) * factor, _HOPELESS)
        self._row(Affine(terms), pulp.LpConstraintGE, bound)

    def minimise(self, total: Sum) -> None:
        """Set the objective."""
        self.problem.setObjective(
            pulp.LpAffineExpression(list(total.terms.items()), constant=total.constant)
        )

    def _row(self, expression: Affine, sense: int, bound: float) -> None:
        row = pulp.LpConstraint(
            pulp.LpAffineExpression(list(expression.terms)), sense, f"r{len(self._rows)}", bound
        )
        self.problem.addConstraint(row)
        self._rows.append(row)

    def arrays(self) -> Arrays:
        """The model as arrays, columns in the order of `variables`."""
        index = {variable: position for position, variable in enumerate(self.variables)}
        cost = np.zeros(len(index))
        objective = self.problem.objective
        for variable, coefficient in objective.items():
            if variable in index:  # PuLP writes a dummy into an objective without terms
                cost[index[variable]] = coefficient
        starts, columns, values = [0], [], []
        row_lower, row_upper = [], []
        for row in self._rows:
            for variable, coefficient in row.items():
                columns.append(index[variable])
                values.append(coefficient)
            starts.append(len(columns))
            bound = -row.constant
            row_lower.append(bound if row.sense != pulp.LpConstraintLE else -INFINITY)
            row_upper.append(bound if row.sense != pulp.LpConstraintGE else INFINITY)
        return Arrays(
            cost,
            np.array([variable.lowBound for variable in self.variables], dtype=float),
            np.array(
                [INFINITY if v.upBound is None else v.upBound for v in self.variables], dtype=float
            ),
            np.array([variable.cat == pulp.LpInteger for variable in self.variables], dtype=bool),
            np.array(row_lower, dtype=float),
            np.array(row_upper, dtype=float),
            np.array(starts, dtype=np.int32),
            np.array(columns, dtype=np.int32),
            np.array(values, dtype=float),
            float(objective.constant),
        )
