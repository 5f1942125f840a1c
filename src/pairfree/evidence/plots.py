"""Small plots as inline SVG and images as data URIs: nothing a page shows comes from outside it.

Text from users is escaped here.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pairfree.evidence import svg
from pairfree.evidence.axes import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axes, pad_range
from pairfree.evidence.numbers import format_number

FloatArray = NDArray[np.float64]
ByteArray = NDArray[np.uint8]
Values = Sequence[float] | FloatArray
Curve = tuple[Sequence[float], Sequence[float]]
"""x and y."""

MAX_POINTS = 240
"""Of a curve; of more, neighbours are averaged."""
BINS = 64
"""Of a histogram."""
GAUSS_STD = 4.5
"""How far from the mean a histogram of a residual goes, in standard deviations."""
KEY_STEP_PX = 16
"""From the name of a curve to the next."""


def png_uri(pixels: ByteArray) -> str:
    """An (H, W) grey or (H, W, 3) colour 8-bit image as a PNG data URI."""
    height, width = pixels.shape[:2]
    bits, colour_type = 8, 2 if pixels.ndim == 3 else 0
    header = struct.pack(">IIBBxxx", width, height, bits, colour_type)
    rows = np.ascontiguousarray(pixels).reshape(height, -1)
    # every row of a PNG begins with the kind of its filter
    unfiltered = np.zeros((height, 1), np.uint8)
    raw = np.concatenate([unfiltered, rows], axis=1)
    packed = zlib.compress(raw.tobytes(), 9)
    data = b"\x89PNG\r\n\x1a\n"
    data += _chunk(b"IHDR", header)
    data += _chunk(b"IDAT", packed)
    data += _chunk(b"IEND", b"")
    letters = base64.b64encode(data).decode("ascii")
    return f"data:image/png;base64,{letters}"


def _chunk(kind: bytes, body: bytes) -> bytes:
    content = kind + body
    length = struct.pack(">I", len(body))
    checksum = struct.pack(">I", zlib.crc32(content))
    return length + content + checksum


def to_uint8(image: ArrayLike, low: float, high: float) -> ByteArray:
    """Levels of the screen: ``low`` is black, ``high`` white, the rest clipped.

    A window of no width is mid grey.
    """
    a = np.asarray(image, dtype=np.float64)
    if not high > low:
        return np.full(a.shape, 128, np.uint8)
    shares = (a - low) / (high - low)
    levels = np.rint(shares * 255)
    clipped = np.clip(levels, 0, 255)
    return np.asarray(clipped, dtype=np.uint8)


def line_plot(
    x: Sequence[float],
    y: Sequence[float],
    label: str,
    x_label: str = "step",
    log_y: bool = False,
) -> str:
    """A curve as SVG: means of about 240 buckets, over a band from each bucket's least to its greatest value.

    Parameters
    ----------
    x, y
        The curve. Points that are not finite, or not positive on a log axis, are left out.
    label
        What a screen reader says.
    x_label
        What stands under the axis.
    log_y
        Whether the vertical axis is logarithmic.
    """
    xs, ys = _plottable(x, y, log_y)
    if xs.size == 0:
        return _empty(label)
    count = min(xs.size, MAX_POINTS)
    x_buckets = np.array_split(xs, count)
    y_buckets = np.array_split(ys, count)
    centre = [float(bucket.mean()) for bucket in x_buckets]
    mean = [float(bucket.mean()) for bucket in y_buckets]
    low = [float(bucket.min()) for bucket in y_buckets]
    high = [float(bucket.max()) for bucket in y_buckets]
    across = float(xs.min()), float(xs.max())
    # a few very low values would leave the rest of the curve flat
    least = float(np.quantile(low, 0.005))
    upward = pad_range(least, max(high), log_y)
    axes = Axes(across, upward, log_y)
    shapes = [axes.draw(x_label)]
    if xs.size > MAX_POINTS:
        shapes.append(_band(axes, centre, low, high, "band"))
    places = axes.places(centre, mean)
    shapes.append(svg.path("line", places))
    shapes.append(svg.dot("line-dot", places[-1], 2.5))
    first = format_number(mean[0])
    last = format_number(mean[-1])
    return _frame(f"{label}: {first} at first, {last} at last", shapes)


def _flat(values: ArrayLike) -> FloatArray:
    return np.asarray(values, dtype=np.float64).ravel()


def _plottable(x: ArrayLike, y: ArrayLike, log_y: bool) -> tuple[FloatArray, FloatArray]:
    """The points that can be drawn."""
    xs = _flat(x)
    ys = _flat(y)
    count = min(xs.size, ys.size)
    xs = xs[:count]
    ys = ys[:count]
    kept = np.isfinite(xs) & np.isfinite(ys)
    if log_y:
        kept &= ys > 0
    return xs[kept], ys[kept]


def curves(
    series: Mapping[str, Curve],
    label: str,
    x_label: str,
    y_label: str,
    falling: bool = False,
    from_zero: bool = True,
    left: bool = False,
) -> str:
    """Up to four named curves over one pair of axes, as SVG of class line-0, line-1, ...

    Parameters
    ----------
    series
        The curves by name.
    label
        What a screen reader says.
    x_label, y_label
        What stands at the axes.
    falling
        Names of curves that fall stand at the top right, others at the bottom right.
    from_zero
        Whether the horizontal axis begins at 0, or where the curves do.
    left
        Names stand at the top left, as for lines that rise.
    """
    xs: list[float] = []
    ys: list[float] = []
    for x, y in series.values():
        xs += x
        ys += y
    upward = pad_range(min(ys), max(ys))
    axes = Axes((0.0 if from_zero else min(xs), max(xs)), upward)
    whole_x = all(x == round(x) for x in xs)
    shapes = [axes.draw(x_label, whole_x=whole_x)]
    keys = []
    first_key = _key_y(0)
    if not falling and not left:
        last_key = HEIGHT - BOTTOM - 8
        first_key = last_key - KEY_STEP_PX * (len(series) - 1)
    for number, (name, (x, y)) in enumerate(series.items()):
        places = axes.places(x, y)
        mark = f"mark-{number}"
        shapes.append(svg.path(f"line-{number}", places))
        for place in places:
            shapes.append(svg.dot(mark, place, 2))
        down = first_key + KEY_STEP_PX * number
        keys.append(_key(name, mark, down, left))
    title = svg.text("axis-label", (LEFT, TOP - 2), escape(y_label))
    return _frame(label, [*shapes, *keys, title])


def histogram_pair(
    first: ArrayLike,
    second: ArrayLike,
    names: tuple[str, str],
    label: str,
    x_label: str,
) -> str:
    """Two histograms over one axis as SVG, the first filled, the second as a line.

    Heights are square roots, so that rare intensities show.

    Parameters
    ----------
    first, second
        The values.
    names
        Of both.
    label
        What a screen reader says.
    x_label
        What stands under the axis.
    """
    a = _flat(first)
    b = _flat(second)
    both = np.concatenate([a, b])
    low = float(np.quantile(both, 0.001))
    high = float(np.quantile(both, 0.999))
    edges = _bin_edges(low, high, both)
    heights = []
    for values in (a, b):
        heights.append(np.sqrt(_shares(values, edges)))
    return _histograms(edges, heights, names, label, x_label)


def histogram_gauss(
    values: ArrayLike,
    names: tuple[str, str],
    label: str,
    x_label: str,
) -> str:
    """The histogram of a residual, filled, and as a line the Gaussian of its mean and standard deviation.

    Parameters
    ----------
    values
        The residual.
    names
        Of the histogram and of the Gaussian.
    label
        What a screen reader says.
    x_label
        What stands under the axis.
    """
    v = _flat(values)
    mean = float(v.mean())
    std = float(v.std())
    if std == 0:
        return _empty(label)
    reach = GAUSS_STD * std
    edges = _bin_edges(mean - reach, mean + reach, v)
    from_mean = _middles(edges) - mean
    fall = np.exp(-(from_mean**2) / (2 * std**2))
    density = fall / (std * math.sqrt(2 * math.pi))
    heights = [_shares(v, edges), density * np.diff(edges)]
    return _histograms(edges, heights, names, label, x_label)


def _bin_edges(low: float, high: float, values: FloatArray) -> FloatArray:
    """For whole-numbered images the bins are whole numbers wide, or the histogram would show a comb."""
    least = 1e-9 * max(abs(low), abs(high))  # narrower bins would be none in floats
    if high - low <= least:
        low, high = low - max(0.5, least), high + max(0.5, least)
    if np.array_equal(values, np.rint(values)):
        whole = round((high - low) / BINS)
        step = max(1.0, float(whole))
        return np.arange(math.floor(low) - 0.5, high + step, step)
    return np.linspace(low, high, BINS + 1)


def _shares(values: FloatArray, edges: FloatArray) -> FloatArray:
    """Share of the values in each bin."""
    counts, _ = np.histogram(values, edges)
    return np.asarray(counts / values.size)


def _middles(edges: FloatArray) -> FloatArray:
    return np.asarray((edges[:-1] + edges[1:]) / 2)


def _histograms(
    edges: FloatArray,
    heights: Sequence[FloatArray],
    names: tuple[str, str],
    label: str,
    x_label: str,
) -> str:
    """The first filled, the second as a line through the middles of its bins."""
    first, second = heights
    top = max(first.max(), second.max(), 1e-12)
    across = float(edges[0]), float(edges[-1])
    axes = Axes(across, (0.0, 1.08 * float(top)))
    corners = np.repeat(edges, 2)[1:-1]
    base = np.zeros(corners.size)
    steps = np.repeat(first, 2)
    middles = axes.places(_middles(edges), second)
    shapes = [
        axes.draw(x_label, show_y=False),
        _band(axes, corners, base, steps, "fill-a"),
        svg.path("line-b", middles),
        _key(names[0], "mark-a", _key_y(0)),
        _key(names[1], "mark-b", _key_y(1)),
    ]
    return _frame(label, shapes)


def _key_y(number: int) -> int:
    """Height of the name of a curve, from the top."""
    return TOP + 13 + KEY_STEP_PX * number


def _key(name: str, mark: str, y: int, left: bool = False) -> str:
    """The name of a curve at the right, or at the left, after a square of its colour."""
    words = f'<tspan class="{mark}">■</tspan> {escape(name)}'
    if left:
        return svg.text("axis-label", (LEFT + 8, y), words)
    return svg.text("key", (WIDTH - RIGHT - 4, y), words)


def _band(axes: Axes, x: Values, low: Values, high: Values, kind: str) -> str:
    """The area between two curves."""
    there = axes.places(x, high)
    back = axes.places(x, low)
    return svg.area(kind, [*there, *reversed(back)])


def _frame(label: str, shapes: Sequence[str]) -> str:
    return svg.frame(label, (WIDTH, HEIGHT), shapes)


def _empty(label: str) -> str:
    words = "nothing to plot"
    middle = WIDTH / 2, HEIGHT / 2
    shape = svg.text("tick", middle, words, "middle")
    return _frame(f"{label}: {words}", [shape])
