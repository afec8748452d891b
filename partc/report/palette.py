"""How hosts and strategies look: a colour each, and never a colour alone."""

from __future__ import annotations

from dataclasses import dataclass

HOST_STYLES = 6


@dataclass(frozen=True)
class Style:
    """A look that works in both colour schemes and without colours.

    Attributes:
        variable: CSS custom property of the page that holds the colour.
        marker: of the plotting library.
        dashes: on and off lengths, empty for a solid line.
    """

    variable: str
    marker: str
    dashes: tuple[float, ...]


_MARKERS = ("o", "s", "^", "D", "v", "P")
_DASHES: tuple[tuple[float, ...], ...] = ((), (6, 2), (2, 2), (6, 2, 1, 2), (1, 1), (8, 2, 2, 2))


def style(index: int) -> Style:
    """The look of the ``index``-th host or strategy; beyond six they repeat."""
    slot = index % HOST_STYLES
    return Style(f"--host-{slot}", _MARKERS[slot], _DASHES[slot])


# Colours that stand for the page's CSS properties until the drawing is put into the page.
_VARIABLES = (
    *(f"--host-{slot}" for slot in range(HOST_STYLES)),
    "--ink",
    "--muted",
    "--line",
    "--surface",
    "--wire",
    "--cut",
)


def placeholder(variable: str) -> str:
    """The colour that stands for a CSS custom property inside a drawing."""
    return f"#0dfe{_VARIABLES.index(variable):02x}"


PLACEHOLDERS = {placeholder(variable): f"var({variable})" for variable in _VARIABLES}
