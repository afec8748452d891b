"""Finds rules: built-in tables and those of plug-ins come in by the same entry-point group."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from partc.errors import UsageError
from partc.passes.tiling.geometry import Rule
from partc.plugins import PluginGroup

TILE_RULES = PluginGroup("partc.tile_rules", "table of tile rules", UsageError)


@cache
def tile_rules() -> dict[tuple[str, str], Rule]:
    """(domain, op type) -> rule, of all tables.

    Raises:
        UsageError: a table cannot be imported, is no table, or two have a rule for one op.
    """
    found: dict[tuple[str, str], Rule] = {}
    origin: dict[tuple[str, str], str] = {}
    for name in TILE_RULES.names():
        table = TILE_RULES.load(name)
        if not isinstance(table, Mapping):
            raise UsageError(
                f"table of tile rules {name!r}: entry point {TILE_RULES.origin(name)!r} is no "
                "mapping from (domain, op type) to a rule"
            )
        for key, rule in table.items():
            if key in found:
                raise UsageError(
                    f"tables {origin[key]!r} and {name!r} both have a tile rule for {key[1]!r}; "
                    "uninstall one of them"
                )
            found[key], origin[key] = rule, name
    return found
