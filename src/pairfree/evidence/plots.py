"""Small plots as inline SVG and images as data URIs: nothing a page shows comes from outside it.

The SVG carries classes, not colours: the page's style sheet gives them, for light, dark and print. Text from
users is escaped here.
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

from pairfree.evidence.axes import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axes, pad_range
from pairfree.evidence.numbers import format_number

FloatArray = NDArray[np.float64]

MAX_POINTS = 240
"""Of a curve; of more, neighbours are averaged."""
BINS = 64
GAUSS_STD = 4.5
"""How far from the mean a histogram of a residual goes, in standard deviations."""


def png_uri(pixels: NDArray[np.uint8]) -> str:
    """An (H, W) grey or (H, W, 3) colour 8-bit image as a PNG data URI."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).reshape(height, -1)
    unfiltered = np.zeros(
        (height, 1), np.uint8
    )  # every row of a PNG begins with the kind of its filter
    raw = np.concatenate([unfiltered, rows], axis=1).tobytes()
    colour_type = 2 if pixels.ndim == 3 else 0
    chunks = (
        _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)),
        _chunk(b"IDAT", zlib.compress(raw, 9)),
        _chunk(b"IEND", b""),
    )
    data = b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def _chunk(kind: bytes, body: bytes) -> bytes:
    length = struct.pack(">I", len(body))
    checksum = struct.pack(">I", zlib.crc32(kind + body))
    return length + kind + body + checksum


def to_uint8(image: ArrayLike, low: float, high: float) -> NDArray[np.uint8]:
    """Levels of the screen: ``low`` is black, ``high`` white, the rest clipped; a window of no width is mid
    grey.
    """
    a = np.asarray(image, dtype=np.float64)
    if not high > low:
        return np.full(a.shape, 128, np.uint8)
    levels = np.rint((a - low) / (high - low) * 255)
    return np.asarray(np.clip(levels, 0, 255), dtype=np.uint8)


def line_plot(
    x: Sequence[float], y: Sequence[float], label: str, x_label: str = "step", log_y: bool = False
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
    buckets = np.array_split(np.arange(xs.size), min(xs.size, MAX_POINTS))
    centre = np.array([xs[bucket].mean() for bucket in buckets])
    mean = np.array([ys[bucket].mean() for bucket in buckets])
    low = np.array([ys[bucket].min() for bucket in buckets])
    high = np.array([ys[bucket].max() for bucket in buckets])
    across = (float(xs.min()), float(xs.max()))
    # a few very low values would leave the rest of the curve flat
    upward = pad_range(float(np.quantile(low, 0.005)), float(high.max()), log_y)
    axes = Axes(across, upward, log_y)
    shapes = [axes.draw(x_label)]
    if xs.size > MAX_POINTS:
        shapes.append(_band(axes, centre, low, high, "band"))
    shapes.append(_line(axes, centre, mean, "line"))
    shapes.append(
        f'<circle class="line-dot" cx="{axes.x_px(centre[-1]):.1f}" cy="{axes.y_px(mean[-1]):.1f}" r="2.5"/>'
    )
    first, last = format_number(float(mean[0])), format_number(float(mean[-1]))
    return _frame(f"{label}: {first} at first, {last} at last", shapes)


def _plottable(
    x: Sequence[float], y: Sequence[float], log_y: bool
) -> tuple[FloatArray, FloatArray]:
    """The points that can be drawn."""
    xs = np.asarray(x, dtype=np.float64).ravel()
    ys = np.asarray(y, dtype=np.float64).ravel()
    count = min(xs.size, ys.size)
    xs, ys = xs[:count], ys[:count]
    kept = np.isfinite(xs) & np.isfinite(ys)
    if log_y:
        kept &= ys > 0
    return xs[kept], ys[kept]


def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    label: str,
    x_label: str,
    y_label: str,
    falling: bool = False,
) -> str:
    """Up to four named curves over one pair of axes, as SVG of class line-0, line-1, ...

    Parameters
    ----------
    series
        Name -> (x, y).
    label
        What a screen reader says.
    x_label, y_label
        What stands at the axes.
    falling
        Names of curves that fall stand at the top right, others at the bottom right.
    """
    xs = [x for first, _ in series.values() for x in first]
    ys = [y for _, second in series.values() for y in second]
    axes = Axes((0.0, max(xs)), pad_range(min(ys), max(ys), False), False)
    shapes = [axes.draw(x_label, whole_x=all(x == round(x) for x in xs))]
    keys = []
    for number, (name, (x, y)) in enumerate(series.items()):
        shapes.append(
            _line(axes, np.asarray(x, np.float64), np.asarray(y, np.float64), f"line-{number}")
        )
        for a, b in zip(x, y):
            shapes.append(
                f'<circle class="mark-{number}" cx="{axes.x_px(a):.1f}" cy="{axes.y_px(b):.1f}" r="2"/>'
            )
        from_bottom = len(series) - 1 - number
        down = _key_y(number) if falling else HEIGHT - BOTTOM - 8 - 16 * from_bottom
        keys.append(_key(name, f"mark-{number}", down))
    title = f'<text class="axis-label" x="{LEFT}" y="{TOP - 2}">{escape(y_label)}</text>'
    return _frame(label, [*shapes, *keys, title])


def histogram_pair(
    first: ArrayLike, second: ArrayLike, names: tuple[str, str], label: str, x_label: str
) -> str:
    """Two histograms over one axis as SVG, the first filled, the second as a line.

    Heights are square roots, so that rare intensities show.
    """
    a = np.asarray(first, dtype=np.float64).ravel()
    b = np.asarray(second, dtype=np.float64).ravel()
    both = np.concatenate([a, b])
    edges = _bin_edges(float(np.quantile(both, 0.001)), float(np.quantile(both, 0.999)), both)
    heights = [np.sqrt(np.histogram(values, edges)[0] / values.size) for values in (a, b)]
    return _histograms(edges, heights[0], heights[1], names, label, x_label)


def histogram_gauss(values: ArrayLike, names: tuple[str, str], label: str, x_label: str) -> str:
    """The histogram of a residual, filled, and the Gaussian of the same mean and standard deviation as a
    line.
    """
    v = np.asarray(values, dtype=np.float64).ravel()
    mean, std = float(v.mean()), float(v.std())
    if std == 0:
        return _empty(label)
    edges = _bin_edges(mean - GAUSS_STD * std, mean + GAUSS_STD * std, v)
    centres = (edges[:-1] + edges[1:]) / 2
    density = np.exp(-((centres - mean) ** 2) / (2 * std**2)) / (std * math.sqrt(2 * math.pi))
    return _histograms(
        edges, np.histogram(v, edges)[0] / v.size, density * np.diff(edges), names, label, x_label
    )


def _bin_edges(low: float, high: float, values: FloatArray) -> FloatArray:
    """For whole-numbered images the bins are whole numbers wide, or the histogram would show a comb."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    if np.array_equal(values, np.rint(values)):
        step = max(1.0, float(round((high - low) / BINS)))
        return np.arange(math.floor(low) - 0.5, high + step, step)
    return np.linspace(low, high, BINS + 1)


def _histograms(
    edges: FloatArray,
    first: FloatArray,
    second: FloatArray,
    names: tuple[str, str],
    label: str,
    x_label: str,
) -> str:
    """The first filled, the second as a line through the middles of its bins."""
    top = max(float(np.max(first)), float(np.max(second)), 1e-12)
    axes = Axes((float(edges[0]), float(edges[-1])), (0.0, 1.08 * top), False)
    corners = np.repeat(edges, 2)[1:-1]
    centres = (edges[:-1] + edges[1:]) / 2
    shapes = [
        axes.draw(x_label, show_y=False),
        _band(axes, corners, np.zeros(corners.size), np.repeat(first, 2), "fill-a"),
        _line(axes, centres, second, "line-b"),
        _key(names[0], "mark-a", _key_y(0)),
        _key(names[1], "mark-b", _key_y(1)),
    ]
    return _frame(label, shapes)


def _key_y(number: int) -> int:
    """Height of the name of a curve, from the top."""
    return TOP + 13 + 16 * number


def _key(name: str, mark: str, y: int) -> str:
    """The name of a curve at the right, after a square of its colour."""
    square = f'<tspan class="{mark}">■</tspan>'
    return f'<text class="key" x="{WIDTH - RIGHT - 4}" y="{y}">{square} {escape(name)}</text>'


def _line(axes: Axes, x: FloatArray, y: FloatArray, kind: str) -> str:
    return f'<polyline class="{kind}" points="{_points(axes, x, y)}"/>'


def _band(axes: Axes, x: FloatArray, low: FloatArray, high: FloatArray, kind: str) -> str:
    """The area between two curves."""
    points = _points(axes, np.concatenate([x, x[::-1]]), np.concatenate([high, low[::-1]]))
    return f'<polygon class="{kind}" points="{points}"/>'


def _points(axes: Axes, x: FloatArray, y: FloatArray) -> str:
    return " ".join(f"{axes.x_px(a):.1f},{axes.y_px(b):.1f}" for a, b in zip(x, y))


def _frame(label: str, shapes: Sequence[str]) -> str:
    spoken = escape(label, quote=True)
    head = f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{spoken}">'
    return f"{head}{''.join(shapes)}</svg>"


def _empty(label: str) -> str:
    words = "nothing to plot"
    text = (
        f'<text class="tick" x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle">{words}</text>'
    )
    return _frame(f"{label}: {words}", [text])
