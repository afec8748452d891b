"""Finds passes: built-ins and plug-ins come in by the same entry-point group, each when used."""

from __future__ import annotations

from functools import cache

from partc.errors import UsageError
from partc.passes.contract import Pass
from partc.plugins import PluginGroup

PASSES = PluginGroup("partc.passes", "pass", UsageError)


@cache
def pass_names() -> tuple[str, ...]:
    """All registered passes; none is imported for that.

    Raises:
        UsageError: two packages register the same name.
    """
    return PASSES.names()


@cache
def load_pass(name: str) -> type[Pass]:
    """The pass of that name.

    Raises:
        UsageError: unknown, or its package cannot be imported or registers something else.
    """
    loaded = PASSES.load(name)
    if not (isinstance(loaded, type) and issubclass(loaded, Pass)):
        raise UsageError(f"pass {name!r}: entry point {PASSES.origin(name)!r} is not a pass")
    if getattr(loaded, "name", None) != name:
        raise UsageError(
            f"pass {getattr(loaded, 'name', loaded.__name__)!r} is registered under another name, "
            f"{name!r}"
        )
    return loaded


def registered_passes() -> dict[str, type[Pass]]:
    """Name -> class, of every pass that can be imported here."""
    broken = broken_passes()
    return {name: load_pass(name) for name in pass_names() if name not in broken}


def broken_passes() -> dict[str, str]:
    """Name -> one sentence, of every registered pass that cannot be used here."""
    broken: dict[str, str] = {}
    for name in pass_names():
        try:
            load_pass(name)
        except UsageError as error:
            broken[name] = error.message
    return broken
