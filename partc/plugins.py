"""The one door by which built-ins and plug-ins come in: an entry-point group, loaded when used."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from partc.errors import PartcError
from partc.suggest import unknown_name


@dataclass(frozen=True)
class PluginGroup:
    """The things registered under one entry-point group.

    Attributes:
        group: of the entry points.
        kind: what one of them is called in messages.
        error: raised for a name that is unknown, registered twice, or cannot be imported.
    """

    group: str
    kind: str
    error: type[PartcError]

    def points(self) -> dict[str, EntryPoint]:
        """Name -> entry point; nothing is imported.

        Raises:
            PartcError: two packages register the same name.
        """
        found: dict[str, EntryPoint] = {}
        for point in entry_points(group=self.group):
            # An editable install may list the very same entry point twice.
            if point.name in found and found[point.name].value != point.value:
                raise self.error(
                    f"{self.kind} {point.name!r} is registered twice under {self.group!r}: by "
                    f"{found[point.name].value!r} and {point.value!r}; uninstall one of them"
                )
            found[point.name] = point
        return found

    def names(self) -> tuple[str, ...]:
        """All registered names."""
        return tuple(sorted(self.points()))

    def load(self, name: str) -> Any:
        """Import what is registered under a name.

        Raises:
            PartcError: unknown, or its package cannot be imported.
        """
        points = self.points()
        if name not in points:
            raise self.error(unknown_name(self.kind, name, points))
        try:
            return points[name].load()
        except (ImportError, AttributeError) as error:
            raise self.error(
                f"{self.kind} {name!r} cannot be imported: {error}; install what it needs"
            ) from error

    def origin(self, name: str) -> str:
        """Where a name leads, as its package wrote it."""
        return self.points()[name].value
