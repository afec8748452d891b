"""Ops that treat every element, or every position along other axes, by itself."""

from __future__ import annotations

from partc.passes.tiling.geometry import Geometry, Reads, Rule, RuleTable, Site, TilingError

_UNARY = (
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Clip Cos Cosh Elu Erf Exp "
    "Floor Gelu HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal "
    "Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh "
    "ThresholdedRelu"
)
_BROADCASTING = (
    "Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less "
    "LessOrEqual Max Mean Min Mod Mul Or PRelu Pow Sub Sum Where Xor"
)
_CONTRIB_UNARY = "Gelu FastGelu QuickGelu"


def broadcasting(site: Site) -> Geometry:
    """Inputs stretched to a common shape; one row along the tiled axis serves every tile."""
    reads: dict[int, Reads] = {}
    for index, name in enumerate(site.node.input):
        if not name:
            continue
        shape = site.shape(index)
        axis = site.axis - (site.rank - len(shape))
        if axis < 0:
            continue
        if shape[axis] == site.rows:
            reads[index] = Reads.same(axis, site.rows)
        elif not site.is_constant(name):
            reads[index] = Reads.whole(axis, shape[axis], site.rows)
    return Geometry(site.rows, reads)


def unary(site: Site) -> Geometry:
    """The first input element by element; others are parameters."""
    return Geometry(site.rows, {0: Reads.same(site.axis, site.rows)})


def dropout(site: Site) -> Geometry:
    """Nothing at inference; its mask is refused."""
    site.needs_only_first_output("a mask")
    training = site.constant(2, "mode")
    if training is not None and training.any():
        raise TilingError("is in training mode")
    return unary(site)


def quantise(site: Site) -> Geometry:
    """QuantizeLinear and DequantizeLinear, by tensor or by channel."""
    if site.attribute("block_size", 0):
        raise TilingError("quantises in blocks")
    reads = {0: Reads.same(site.axis, site.rows)}
    axis = int(site.attribute("axis", 1)) % max(site.rank, 1)
    for index in (1, 2):
        if not site.input(index):
            continue
        shape = site.shape(index)
        if len(shape) > 1:
            raise TilingError("quantises in blocks")
        if len(shape) == 1 and shape[0] > 1 and axis == site.axis:
            reads[index] = Reads.same(0, site.rows)
    return Geometry(site.rows, reads)


def batch_normalization(site: Site) -> Geometry:
    """With stored statistics, which are per channel."""
    if site.attribute("training_mode", 0):
        raise TilingError("computes its statistics over all rows (training_mode)")
    site.needs_only_first_output("statistics of all rows")
    reads = {0: Reads.same(site.axis, site.rows)}
    if site.axis == 1:
        reads.update({index: Reads.same(0, site.rows) for index in range(1, 5)})
    return Geometry(site.rows, reads)


def _all(names: str, rule: Rule, domain: str = "") -> RuleTable:
    return {(domain, name): rule for name in names.split()}


RULES: RuleTable = {
    **_all(_UNARY, unary),
    **_all(_BROADCASTING, broadcasting),
    **_all(_CONTRIB_UNARY, unary, "com.microsoft"),
    ("", "Dropout"): dropout,
    ("", "QuantizeLinear"): quantise,
    ("", "DequantizeLinear"): quantise,
    ("", "BatchNormalization"): batch_normalization,
}
