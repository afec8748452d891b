"""Products with weights, and lookups."""

from __future__ import annotations

from partc.passes.tiling.geometry import Geometry, Reads, RuleTable, Site, TilingError


def matmul(site: Site) -> Geometry:
    """MatMul along the rows of its first operand, the columns of its second, or a batch."""
    left, right = site.shape(0), site.shape(1)
    if len(left) < 2 or len(right) < 2:
        raise TilingError("multiplies with a vector")
    rows, rank, axis = site.rows, site.rank, site.axis
    if axis == rank - 2:
        _only_one_is_computed(site, 1)
        return Geometry(rows, {0: Reads.same(len(left) - 2, rows)})
    if axis == rank - 1:
        reads = {1: Reads.same(len(right) - 1, rows)}
        if not site.is_constant(site.input(0)):
            # Every column needs the whole of the first operand, as output channels do.
            reads[0] = Reads.whole(len(left) - 1, left[-1], rows)
        return Geometry(rows, reads)
    reads = {}
    for index, shape in ((0, left), (1, right)):
        own = axis - (rank - len(shape))
        if own >= 0 and shape[own] == rows:
            reads[index] = Reads.same(own, rows)
        elif own >= 0 and not site.is_constant(site.input(index)):
            reads[index] = Reads.whole(own, shape[own], rows)
    return Geometry(rows, reads)


def _only_one_is_computed(site: Site, index: int) -> None:
    name = site.input(index)
    if not site.is_constant(name):
        raise TilingError(
            f"multiplies with {name!r}, all of whose rows every row needs (attention)"
        )


def gemm(site: Site) -> Geometry:
    """Gemm along the rows of A, or the columns of B."""
    rows = site.rows
    index, is_transposed = (0, "transA") if site.axis == 0 else (1, "transB")
    along = site.axis if not site.attribute(is_transposed, 0) else 1 - site.axis
    reads = {index: Reads.same(along, rows)}
    if site.axis == 0:
        _only_one_is_computed(site, 1)
    elif not site.is_constant(site.input(0)):
        inner = 0 if site.attribute("transA", 0) else 1
        reads[0] = Reads.whole(inner, site.shape(0)[inner], rows)
    if site.input(2):
        shape = site.shape(2)
        axis = site.axis - (2 - len(shape))
        if axis >= 0 and shape[axis] == rows and rows > 1:
            reads[2] = Reads.same(axis, rows)
    return Geometry(rows, reads)


def gather(site: Site) -> Geometry:
    """Gather of weights by tiled indices, or of tiled rows by fixed indices along another axis."""
    data, indices = site.shape(0), site.shape(1)
    along = int(site.attribute("axis", 0)) % len(data)
    is_of_indices = along <= site.axis < along + len(indices)
    if is_of_indices:
        if not site.is_constant(site.input(0)):
            raise TilingError(f"picks positions along axis {site.axis}")
        return Geometry(site.rows, {1: Reads.same(site.axis - along, site.rows)})
    if not site.is_constant(site.input(1)):
        raise TilingError("picks positions that are computed at run time")
    axis = site.axis if site.axis < along else site.axis - len(indices) + 1
    return Geometry(site.rows, {0: Reads.same(axis, site.rows)})


def einsum(site: Site) -> Geometry:
    """Einsum along a letter of its result; operands without the letter must be weights."""
    equation = str(site.attribute("equation", "")).replace(" ", "")
    if "..." in equation or "->" not in equation:
        raise TilingError("does not name all its axes")
    operands, result = equation.split("->")
    letter = result[site.axis]
    reads: dict[int, Reads] = {}
    for index, operand in enumerate(operands.split(",")):
        if operand.count(letter) > 1:
            raise TilingError(f"takes a diagonal along axis {site.axis}")
        if letter in operand and site.shape(index)[operand.index(letter)] == site.rows:
            reads[index] = Reads.same(operand.index(letter), site.rows)
    return Geometry(site.rows, reads)


RULES: RuleTable = {
    ("", "Einsum"): einsum,
    ("", "MatMul"): matmul,
    ("", "Gemm"): gemm,
    ("", "Gather"): gather,
}
