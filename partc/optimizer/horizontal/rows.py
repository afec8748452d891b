"""Columns and rows of a linear model under construction, kept as arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from partc.optimizer.linear import ZERO, Arrays, LinearModel, Sum

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class Rows:
    """Columns and rows under construction."""

    def __init__(self) -> None:
        self.cost_s: list[Floats] = []
        self.integer: list[npt.NDArray[np.bool_]] = []
        self.upper: list[Floats] = []
        self.columns = 0
        self._entries: list[tuple[Integers, Integers, Floats]] = []
        self._small: tuple[list[int], list[int], list[float]] = ([], [], [])
        self.row_lower: list[float] = []
        self.row_upper: list[float] = []

    def add_columns(self, cost_s: Floats, *, integer: bool = False, upper: float = 1.0) -> Integers:
        """New columns between 0 and `upper`."""
        count = len(cost_s)
        self.cost_s.append(cost_s)
        self.integer.append(np.full(count, integer))
        self.upper.append(np.full(count, upper))
        self.columns += count
        return np.arange(self.columns - count, self.columns)

    def add_column(self, cost_s: float = 0.0, *, integer: bool = False) -> int:
        """One new column between 0 and 1."""
        return int(self.add_columns(np.array([cost_s]), integer=integer)[0])

    def add_row(self, terms: dict[int, float], lower: float, upper: float) -> int:
        """Require lower <= terms <= upper."""
        row = len(self.row_lower)
        self.row_lower.append(lower)
        self.row_upper.append(upper)
        rows, columns, values = self._small
        rows.extend([row] * len(terms))
        columns.extend(terms)
        values.extend(terms.values())
        return row

    def add_terms(self, row: int, columns: Integers, values: Floats | float) -> None:
        """More terms for a row."""
        filled = np.broadcast_to(np.asarray(values, dtype=float), columns.shape)
        self._entries.append((np.full(len(columns), row), columns, filled))

    def sum_of(self, columns: Integers) -> int:
        """A column that equals the sum of others."""
        if len(columns) == 1:
            return int(columns[0])
        total = self.add_column()
        self.add_terms(self.add_row({total: -1.0}, 0.0, 0.0), columns, 1.0)
        return total

    def seconds(self) -> Floats:
        """What each column adds to the latency."""
        return np.concatenate([np.zeros(0), *self.cost_s])

    def arrays(self, cost: Floats) -> Arrays:
        """All of it as the solvers take it; `cost` in their own units."""
        from scipy.sparse import coo_array

        small = tuple(np.array(part) for part in self._small)
        rows, columns, values = (
            np.concatenate([small[part], *(entry[part] for entry in self._entries)])
            for part in range(3)
        )
        shape = (len(self.row_lower), self.columns)
        matrix = coo_array((values, (rows.astype(int), columns.astype(int))), shape=shape).tocsr()
        return Arrays(
            cost,
            np.zeros(self.columns),
            np.concatenate(self.upper),
            np.concatenate(self.integer),
            np.array(self.row_lower),
            np.array(self.row_upper),
            matrix.indptr.astype(np.int32),
            matrix.indices.astype(np.int32),
            matrix.data,
            0.0,
        )


def linear_model_of(arrays: Arrays) -> LinearModel:
    """The same model in PuLP, which CBC reads."""
    model = LinearModel()
    variables = [
        model.variable("v", integer=bool(whole), upper=None if np.isinf(upper) else float(upper))
        for whole, upper in zip(arrays.integer, arrays.upper, strict=True)
    ]
    for row, (lower, upper) in enumerate(zip(arrays.row_lower, arrays.row_upper, strict=True)):
        total = Sum()
        for entry in range(int(arrays.starts[row]), int(arrays.starts[row + 1])):
            total.add(variables[arrays.columns[entry]], float(arrays.values[entry]))
        expression = total.expression()
        if not expression.terms:
            # PuLP drops rows without terms; one that cannot hold must stay.
            if lower > 0 or upper < 0:
                model.at_least(variables[0], 2.0)
                model.at_least(ZERO.minus(variables[0]), 0.0)
        elif lower == upper:
            model.equal(expression, float(lower))
        else:
            if np.isfinite(lower):
                model.at_least(expression, float(lower))
            if np.isfinite(upper):
                model.at_least(ZERO.minus(expression), -float(upper))
    objective = Sum()
    for variable, price in zip(variables, arrays.cost, strict=True):
        objective.add(variable, float(price))
    model.minimise(objective)
    return model
