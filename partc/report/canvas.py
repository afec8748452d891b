"""matplotlib figures as SVG that belongs to the page: its colours, its font, no outside names."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from partc.report.palette import PLACEHOLDERS, placeholder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINTS_PER_INCH = 72

_SETTINGS = {
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 12,
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "path.simplify": True,
    "hatch.linewidth": 1.1,
}

_COLOUR = re.compile(r"#0dfe[0-9a-f]{2}")
_FONT = re.compile(r"(?:font-family: [^;\"]*;? ?|font: (?:(\w+) )?([\d.]+px) [^;\"]*)")
_ID = re.compile(r'<g id="[^"]*"')
_PROLOGUE = re.compile(r"^.*?<svg[^>]*>", re.DOTALL)
_STYLESHEET = re.compile(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_NUMBER = re.compile(r"(\d+\.\d\d)\d+")
_NO_ROTATION = re.compile(r' transform="rotate\(-?0 [^"]*"')
_SPACE = re.compile(r"\s*\n\s*")


@contextmanager
def figure(width: int, height: int, name: str) -> Iterator[Figure]:
    """An empty figure of ``width`` x ``height`` CSS pixels; draw and `to_svg` inside the block."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    ink = placeholder("--ink")
    colours = {
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": placeholder("--line"),
    }
    ticks = {
        "xtick.color": placeholder("--muted"),
        "ytick.color": placeholder("--muted"),
    }
    # Identifiers are made from the salt and the content: a salt per drawing keeps them apart.
    salt = {"svg.hashsalt": f"partc-{name}-{width}"}
    settings: Any = {**_SETTINGS, **colours, **ticks, **salt}
    with matplotlib.rc_context(settings):
        drawn = Figure(
            figsize=(width / _POINTS_PER_INCH, height / _POINTS_PER_INCH), dpi=_POINTS_PER_INCH
        )
        FigureCanvasSVG(drawn)
        yield drawn


def plain_axes(drawn: Figure, left: float, right: float, bottom: float, top: float) -> Axes:
    """Axes without a box, their margins in CSS pixels."""
    width, height = drawn.get_size_inches() * _POINTS_PER_INCH
    axes = drawn.add_axes(
        (
            left / width,
            bottom / height,
            (width - left - right) / width,
            (height - top - bottom) / height,
        )
    )
    axes.patch.set_visible(False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
    return axes


def to_svg(drawn: Figure, *, title: str, css_class: str) -> Markup:
    """The drawing as an inline ``<svg>`` element with an accessible name.

    The title is escaped here; what is drawn was escaped by the plotting library.
    """
    buffer = io.StringIO()
    empty = {"Date": None, "Creator": None, "Format": None, "Type": None}
    drawn.savefig(buffer, format="svg", metadata=empty, transparent=True)
    body = _PROLOGUE.sub("", buffer.getvalue(), count=1)
    for pattern in (_STYLESHEET, _METADATA, _NO_ROTATION):
        body = pattern.sub("", body)
    body = _SPACE.sub(" ", body).replace("xlink:href", "href")
    body = _COLOUR.sub(lambda found: PLACEHOLDERS.get(found[0], found[0]), body)
    body = _ID.sub("<g", body)
    body = _FONT.sub(_inherited_font, body)
    body = _NUMBER.sub(r"\1", body)
    width, height = drawn.get_size_inches() * _POINTS_PER_INCH
    head = Markup('<svg class="chart {}" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">')
    return (
        head.format(css_class, width, height, title)
        + Markup("<title>{}</title>").format(title)
        + Markup(body)
    )


def _inherited_font(found: re.Match[str]) -> str:
    weight, size = found.groups()
    if size is None:
        return ""
    return f"font-size: {size}" + (f"; font-weight: {weight}" if weight else "")
