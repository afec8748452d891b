"""Convolutions and pools: an output row sees a window of input rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from partc.passes.tiling.geometry import (
    Geometry,
    Reads,
    RuleTable,
    Site,
    Sliding,
    Tile,
    TilingError,
)


@dataclass(frozen=True)
class Window:
    """One spatial axis of a convolution or a pool.

    Attributes:
        size, rows: of the input and of the output along the axis.
        before, after: rows of padding.
    """

    size: int
    rows: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def extent(self) -> int:
        """Rows from the first to the last of a window."""
        return (self.kernel - 1) * self.dilation + 1

    def start(self, row: int) -> int:
        """First input row of an output row's window; below 0 in the padding."""
        return row * self.stride - self.before

    @property
    def last_row_inside(self) -> int:
        """The last output row whose window does not begin after the input."""
        return (self.size - 1 + self.before) // self.stride

    def counts(self, is_ceil: bool) -> int:
        """Output rows by ONNX's formula."""
        free = self.size + self.before + self.after - self.extent
        count = -(-free // self.stride) if is_ceil else free // self.stride
        if is_ceil and count * self.stride >= self.size + self.before:
            count -= 1  # a window may not begin in the padding at the end
        return count + 1


def conv(site: Site) -> Geometry:
    """Conv along a spatial axis, over output channels, or over a fixed batch."""
    _refuse_computed_weights(site)
    if site.axis == 1:
        return _conv_channels(site)
    if site.axis == 0:
        return Geometry(site.rows, {0: Reads.same(0, site.rows)})
    weight = site.shape(1)
    return _windowed(site, _windows(site, weight[2:]), is_ceil=False)


def quantised_conv(site: Site) -> Geometry:
    """QLinearConv and ConvInteger: the input is padded with its zero point, as Conv's with 0."""
    weight_index = 3 if site.node.op_type == "QLinearConv" else 1
    if site.axis < 2:
        raise TilingError("is quantised and can be cut along rows and columns only")
    return _windowed(site, _windows(site, site.shape(weight_index)[2:]), is_ceil=False)


def pool(site: Site) -> Geometry:
    """MaxPool, AveragePool and LpPool."""
    site.needs_only_first_output("positions in the whole input, which a tile does not know")
    if site.axis < 2:
        return Geometry(site.rows, {0: Reads.same(site.axis, site.rows)})
    windows = _windows(site, site.attribute("kernel_shape"))
    if site.attribute("auto_pad", "NOTSET") != "NOTSET":
        is_ceil = False
    else:
        is_ceil = bool(site.attribute("ceil_mode", 0))
    return _windowed(site, windows, is_ceil)


def _refuse_computed_weights(site: Site) -> None:
    for index in range(1, len(site.node.input)):
        if site.input(index) and not site.is_constant(site.input(index)):
            raise TilingError(f"has weights {site.input(index)!r} that are computed at run time")


def _windows(site: Site, kernel: Sequence[int]) -> list[Window]:
    rank = len(kernel)
    shape, out = site.shape(0), site.output_shape
    if len(shape) != rank + 2:
        raise TilingError(f"has a kernel of {rank} axes on an input of {len(shape)}")
    strides = site.attribute("strides") or [1] * rank
    dilations = site.attribute("dilations") or [1] * rank
    auto_pad = site.attribute("auto_pad", "NOTSET")
    pads = list(site.attribute("pads") or [0] * (2 * rank))
    windows: list[Window] = []
    for i in range(rank):
        extent = (kernel[i] - 1) * dilations[i] + 1
        before, after = pads[i], pads[rank + i]
        if auto_pad == "VALID":
            before = after = 0
        elif auto_pad != "NOTSET":
            if not site.is_fixed(0, i + 2):
                raise TilingError(f"pads by {auto_pad} along axis {i + 2}, whose size is open")
            needed = -(-shape[i + 2] // strides[i])
            total = max((needed - 1) * strides[i] + extent - shape[i + 2], 0)
            before = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
            after = total - before
        windows.append(
            Window(shape[i + 2], out[i + 2], kernel[i], strides[i], dilations[i], before, after)
        )
    return windows


def _windowed(site: Site, windows: list[Window], is_ceil: bool) -> Geometry:
    index = site.axis - 2
    window = windows[index]
    for i, each in enumerate(windows):
        if each.counts(is_ceil) != each.rows:
            raise TilingError(
                f"gives {each.rows} rows along axis {i + 2} where its padding and stride make "
                f"{each.counts(is_ceil)}"
            )
    starts = np.minimum(np.arange(window.rows), window.last_row_inside) * window.stride
    first = starts - window.before
    last = np.arange(window.rows) * window.stride - window.before + window.extent
    reads = Reads.of(site.axis, window.size, first, last)

    def rewrite(tile: Tile) -> tuple[int, int]:
        low, high = tile.rows[0]
        begin = min(tile.begin, window.last_row_inside)
        before = low - window.start(begin)
        after = max(0, window.start(tile.end - 1) + window.extent - high)
        if is_ceil and tile.end == window.rows:
            after = window.after  # the last window may reach past the padding
        pads = [(each.before, each.after) for each in windows]
        pads[index] = (before, after)
        flat = [each[0] for each in pads] + [each[1] for each in pads]
        tile.set(pads=flat, auto_pad=None)
        if not is_ceil:
            tile.set(ceil_mode=None)
        tile.emit(tile.node)
        if is_ceil:
            return begin, tile.end
        free = high - low + before + after - window.extent
        return begin, begin + free // window.stride + 1

    sliding = None
    if not is_ceil and window.extent > window.before and window.extent > window.after:
        most = None if site.node.op_type == "Conv" else window.kernel - 1
        sliding = Sliding(window.stride, window.extent, window.before, window.after, most)
    return Geometry(window.rows, {0: reads}, rewrite, sliding)


def _conv_channels(site: Site) -> Geometry:
    """Output channels: each host has its rows of the weights, and the input whole (or the
    channels of its groups)."""
    weight = site.shape(1)
    channels, group = weight[0], int(site.attribute("group", 1))
    per_group = channels // group
    inputs = site.shape(0)[1]
    own = np.arange(channels)
    if group == 1:
        reads = {0: Reads.whole(1, inputs, channels), 1: Reads.same(0, channels)}
        if site.input(2):
            reads[2] = Reads.same(0, channels)
        return Geometry(channels, reads)
    of_group = own // per_group
    reads = {
        0: Reads.of(1, inputs, of_group * weight[1], (of_group + 1) * weight[1]),
        1: Reads.of(0, channels, of_group * per_group, (of_group + 1) * per_group),
    }
    if site.input(2):
        reads[2] = reads[1]

    def rewrite(tile: Tile) -> tuple[int, int]:
        begin, end = tile.rows[1]
        tile.set(group=(end - begin) // per_group)
        tile.emit(tile.node)
        return begin, end

    return Geometry(channels, reads, rewrite)


def conv_transpose(site: Site) -> Geometry:
    """ConvTranspose: an input row is spread over a window of output rows."""
    _refuse_computed_weights(site)
    if site.axis == 0:
        return Geometry(site.rows, {0: Reads.same(0, site.rows)})
    if site.axis == 1:
        return _conv_transpose_channels(site)
    rank = len(site.shape(1)) - 2
    kernel = site.shape(1)[2:]
    strides = site.attribute("strides") or [1] * rank
    dilations = site.attribute("dilations") or [1] * rank
    extra = list(site.attribute("output_padding") or [0] * rank)
    pads = _transposed_pads(site, kernel, strides, dilations, extra)
    i = site.axis - 2
    size, rows, stride = site.shape(0)[site.axis], site.rows, strides[i]
    extent = (kernel[i] - 1) * dilations[i] + 1
    before = pads[i][0]
    if (size - 1) * stride + extent + extra[i] - sum(pads[i]) != rows:
        raise TilingError(f"gives {rows} rows, which its padding and stride do not explain")
    at = np.arange(rows) + before  # position in the output before the padding is taken off
    first = np.minimum(-((extent - 1 - at) // stride), at // stride)
    reads = Reads.of(site.axis, size, first, at // stride + 1)

    def rewrite(tile: Tile) -> tuple[int, int]:
        low, high = tile.rows[0]
        front = tile.begin + before - low * stride
        back = (high - 1) * stride + extent - (tile.end + before)
        widths = list(pads)
        widths[i] = (front, max(back, 0))
        more = list(extra)
        more[i] = max(-back, 0)
        tile.set(
            pads=[w[0] for w in widths] + [w[1] for w in widths],
            output_padding=more,
            auto_pad=None,
            output_shape=None,
        )
        tile.emit(tile.node)
        return tile.begin, tile.end

    return Geometry(rows, {0: reads}, rewrite)


def _transposed_pads(
    site: Site,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    extra: Sequence[int],
) -> list[tuple[int, int]]:
    rank = len(kernel)
    auto_pad = site.attribute("auto_pad", "NOTSET")
    if auto_pad == "NOTSET" and not site.attribute("output_shape"):
        pads = site.attribute("pads") or [0] * (2 * rank)
        return [(pads[i], pads[rank + i]) for i in range(rank)]
    if auto_pad == "VALID" and not site.attribute("output_shape"):
        return [(0, 0)] * rank
    found: list[tuple[int, int]] = []
    for i in range(rank):
        if not site.is_fixed(0, i + 2):
            raise TilingError(f"is padded to a shape along axis {i + 2}, whose size is open")
        size = site.shape(0)[i + 2]
        extent = (kernel[i] - 1) * dilations[i] + 1
        total = strides[i] * (size - 1) + extra[i] + extent - site.output_shape[i + 2]
        if total < 0:
            raise TilingError("gives more rows than its input reaches")
        half = total // 2
        found.append((half, total - half) if auto_pad == "SAME_UPPER" else (total - half, half))
    return found


def _conv_transpose_channels(site: Site) -> Geometry:
    if int(site.attribute("group", 1)) != 1:
        raise TilingError("has groups and cannot be cut over its output channels")
    channels = site.rows
    reads = {
        0: Reads.whole(1, site.shape(0)[1], channels),
        1: Reads.same(1, channels),
    }
    if site.input(2):
        reads[2] = Reads.same(0, channels)
    return Geometry(channels, reads)


RULES: RuleTable = {
    ("", "Conv"): conv,
    ("", "QLinearConv"): quantised_conv,
    ("", "ConvInteger"): quantised_conv,
    ("", "ConvTranspose"): conv_transpose,
    ("", "MaxPool"): pool,
    ("", "AveragePool"): pool,
    ("", "LpPool"): pool,
}
