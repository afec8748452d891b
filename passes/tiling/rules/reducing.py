"""Ops that work along one axis, and are tiled along another."""

from __future__ import annotations

from collections.abc import Sequence

from partc.passes.tiling.geometry import Geometry, Reads, RuleTable, Site, TilingError

_REDUCTIONS = (
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
    "ReduceSum ReduceSumSquare"
)
_COERCING_UNTIL_OPSET = 12  # until then softmax flattened all axes from its own on


def same_unless(site: Site, axes: Sequence[int], what: str) -> Geometry:
    """Rows stay rows, unless the op works along the tiled axis."""
    if site.axis in axes:
        raise TilingError(f"{what} the whole of axis {site.axis}")
    return Geometry(site.rows, {0: Reads.same(site.axis, site.rows)})


def softmax(site: Site) -> Geometry:
    """Softmax, LogSoftmax and Hardmax over another axis."""
    is_coercing = site.opset <= _COERCING_UNTIL_OPSET
    axis = int(site.attribute("axis", 1 if is_coercing else -1)) % site.rank
    axes = range(axis, site.rank) if is_coercing else [axis]
    return same_unless(site, axes, "normalises over")


def layer_normalization(site: Site) -> Geometry:
    """LayerNormalization and RMSNormalization over later axes."""
    for name in site.node.output[1:]:
        if name in site.used_outputs:
            raise TilingError(f"also gives {name!r}, its statistics")
    axis = int(site.attribute("axis", -1)) % site.rank
    return same_unless(site, range(axis, site.rank), "normalises over")


def along_one_axis(site: Site) -> Geometry:
    """LpNormalization along another axis."""
    axis = int(site.attribute("axis", -1)) % site.rank
    return same_unless(site, [axis], "normalises over")


def local_response(site: Site) -> Geometry:
    """LRN looks at neighbouring channels."""
    return same_unless(site, [1], "looks at neighbours along")


def mean_variance(site: Site) -> Geometry:
    """MeanVarianceNormalization over other axes."""
    axes = [axis % site.rank for axis in site.attribute("axes", [0, 2, 3])]
    return same_unless(site, axes, "normalises over")


def cumulative(site: Site) -> Geometry:
    """CumSum along another axis."""
    axis = site.constant(1, "axis")
    if axis is None:
        raise TilingError("has no axis")
    return same_unless(site, [int(axis.ravel()[0]) % site.rank], "adds up along")


def reduction(site: Site) -> Geometry:
    """Reductions over other axes."""
    rank = len(site.shape(0))
    axes = site.attribute("axes")
    if axes is None and site.input(1):
        value = site.constant(1, "axes")
        axes = None if value is None or not value.size else value.ravel().tolist()
    if axes is None:
        if site.attribute("noop_with_empty_axes", 0):
            return Geometry(site.rows, {0: Reads.same(site.axis, site.rows)})
        raise TilingError("reduces over all axes")
    return _reduced(site, sorted({int(axis) % rank for axis in axes}), rank)


def arg_reduction(site: Site) -> Geometry:
    """ArgMax and ArgMin over another axis."""
    rank = len(site.shape(0))
    return _reduced(site, [int(site.attribute("axis", 0)) % rank], rank)


def _reduced(site: Site, axes: list[int], rank: int) -> Geometry:
    axis = site.axis
    if site.attribute("keepdims", 1):
        if axis in axes:
            raise TilingError(f"reduces over axis {axis}")
    else:
        axis = [each for each in range(rank) if each not in axes][axis]
    return Geometry(site.rows, {0: Reads.same(axis, site.rows)})


RULES: RuleTable = {
    **{("", name): reduction for name in _REDUCTIONS.split()},
    ("", "ArgMax"): arg_reduction,
    ("", "ArgMin"): arg_reduction,
    ("", "CumSum"): cumulative,
    ("", "Hardmax"): softmax,
    ("", "LogSoftmax"): softmax,
    ("", "Softmax"): softmax,
    ("", "LRN"): local_response,
    ("", "LayerNormalization"): layer_normalization,
    ("", "RMSNormalization"): layer_normalization,
    ("", "SimplifiedLayerNormalization"): layer_normalization,
    ("", "LpNormalization"): along_one_axis,
    ("", "MeanVarianceNormalization"): mean_variance,
}
