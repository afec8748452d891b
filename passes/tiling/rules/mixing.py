"""Ops that close a group, each with a reason better than that there is no rule."""

from __future__ import annotations

from partc.passes.tiling.geometry import Geometry, Reads, Rule, RuleTable, Site, TilingError


def _over_all(what: str) -> Rule:
    """Refused along the axes from 2 on, which the op looks at as a whole."""

    def rule(site: Site) -> Geometry:
        if site.axis >= 2:
            raise TilingError(f"{what} all rows of a channel")
        return Geometry(site.rows, {0: Reads.same(site.axis, site.rows)})

    return rule


def _never(why: str) -> Rule:
    def rule(site: Site) -> Geometry:
        raise TilingError(why)

    return rule


def _flatten(site: Site) -> Geometry:
    axis = int(site.attribute("axis", 1)) % (len(site.shape(0)) + 1)
    if site.axis == 0 and axis == 1:
        return Geometry(site.rows, {0: Reads.same(0, site.rows)})
    raise TilingError("puts all rows of a request into one vector")


RULES: RuleTable = {
    ("", "GlobalAveragePool"): _over_all("averages over"),
    ("", "GlobalMaxPool"): _over_all("takes the maximum over"),
    ("", "GlobalLpPool"): _over_all("takes a norm over"),
    ("", "InstanceNormalization"): _never("normalises over all rows of a channel"),
    ("", "GroupNormalization"): _never("normalises over all rows of a group of channels"),
    ("", "Flatten"): _flatten,
    ("", "DynamicQuantizeLinear"): _never("takes its scale from all values"),
    ("", "Attention"): _never("relates every position to every other"),
    ("", "Loop"): _never("repeats a body, into which no rule looks"),
    ("", "Scan"): _never("repeats a body, into which no rule looks"),
    ("", "If"): _never("chooses between bodies, into which no rule looks"),
    ("", "LSTM"): _never("carries a state from position to position"),
    ("", "GRU"): _never("carries a state from position to position"),
    ("", "RNN"): _never("carries a state from position to position"),
    ("", "TopK"): _never("sorts values"),
    ("", "NonMaxSuppression"): _never("compares all boxes with each other"),
}
