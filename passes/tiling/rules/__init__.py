"""What partc knows of tiling standard ops, as one table a subject."""

from __future__ import annotations

from partc.passes.tiling.geometry import RuleTable
from partc.passes.tiling.rules import (
    elementwise,
    mixing,
    products,
    reducing,
    resizing,
    shaping,
    windows,
)

RULES: RuleTable = {
    **elementwise.RULES,
    **mixing.RULES,
    **products.RULES,
    **reducing.RULES,
    **resizing.RULES,
    **shaping.RULES,
    **windows.RULES,
}
