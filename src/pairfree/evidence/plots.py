"""Small plots as inline SVG and images as data URIs: nothing a page shows comes from outside it.

The SVG carries classes, not colours: the page's style sheet gives them, for light, dark and print. Text from users is escaped here.
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

from pairfree.evidence.reading import number

FloatArray = NDArray[np.float64]
Path = list[tuple[float, float]]

WIDTH, HEIGHT = 420, 190
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 12, 34
MAX_POINTS = 240


def png_uri(pixels: NDArray[np.uint8]) -> str:
    """An (H, W) grey or (H, W, 3) colour 8-bit image as a PNG data URI."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).reshape(height, -1)
    raw = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()
    head = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", head)
        + _chunk(b"IDAT", zlib.compress(raw, 9))
        + _chunk(b"IEND", b"")
    )
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def to_uint8(image: ArrayLike, low: float, high: float) -> NDArray[np.uint8]:
    """Grey levels of the screen: ``low`` is black, ``high`` white, the rest clipped; a window of no width is mid grey."""
    a = np.asarray(image, dtype=np.float64)
    if not high > low:
        return np.full(a.shape, 128, np.uint8)
    return np.asarray(np.clip(np.rint((a - low) / (high - low) * 255), 0, 255), dtype=np.uint8)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers within [low, high], about ``count`` of them."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low] if math.isfinite(low) else []
    rough = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within [low, high], with 2 and 5 between them where there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    tens = [10.0**p for p in powers if low <= 10.0**p <= high]
    if len(tens) >= 3:
        return tens[:: math.ceil(len(tens) / 6)]
    return [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high] or [low, high]


def line_plot(
    x: Sequence[float], y: Sequence[float], label: str, x_label: str = "step", log_y: bool = False
) -> str:
    """A curve as SVG: means of about 240 buckets, over a band from each bucket's least to its greatest value.

    Points that are not finite, or not positive on a log axis, are left out. ``label`` is what a screen reader says.
    """
    xs, ys = np.asarray(x, dtype=np.float64).ravel(), np.asarray(y, dtype=np.float64).ravel()
    n = min(xs.size, ys.size)
    keep = np.isfinite(xs[:n]) & np.isfinite(ys[:n]) & ((ys[:n] > 0) | (not log_y))
    xs, ys = xs[:n][keep], ys[:n][keep]
    if xs.size == 0:
        return _empty(label)
    groups = np.array_split(np.arange(xs.size), min(xs.size, MAX_POINTS))
    at, mean = np.array([xs[g].mean() for g in groups]), np.array([ys[g].mean() for g in groups])
    low, high = np.array([ys[g].min() for g in groups]), np.array([ys[g].max() for g in groups])
    axes = _Axes(
        (float(xs.min()), float(xs.max())),
        _padded(float(np.quantile(low, 0.005)), float(high.max()), log_y),
        log_y,
    )
    band = "" if xs.size <= MAX_POINTS else _polygon(axes, at, low, high)
    dot = f'<circle class="line-dot" cx="{axes.px(at[-1]):.1f}" cy="{axes.py(mean[-1]):.1f}" r="2.5"/>'
    text = f"{label}: {number(float(mean[0]))} at first, {number(float(mean[-1]))} at last"
    return _frame(text, axes.draw(x_label) + band + _polyline(axes, at, mean, "line") + dot)


def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    label: str,
    x_label: str,
    y_label: str,
    falling: bool = False,
) -> str:
    """Up to four named curves (x, y) over one pair of axes, of class line-0, line-1, ...

    Their names stand at the bottom right, or, where the curves fall, at the top right.
    """
    xs = [x for first, _ in series.values() for x in first]
    ys = [y for _, second in series.values() for y in second]
    axes = _Axes((0.0, max(xs)), _padded(min(ys), max(ys), False), False)
    lines, keys = "", ""
    for i, (name, (x, y)) in enumerate(series.items()):
        lines += _polyline(axes, np.asarray(x, np.float64), np.asarray(y, np.float64), f"line-{i}")
        lines += "".join(
            f'<circle class="mark-{i}" cx="{axes.px(a):.1f}" cy="{axes.py(b):.1f}" r="2"/>'
            for a, b in zip(x, y)
        )
        down = TOP + 13 + 16 * i if falling else HEIGHT - BOTTOM - 8 - 16 * (len(series) - 1 - i)
        place = f'x="{WIDTH - RIGHT - 4}" y="{down}"'
        keys += f'<text class="key" {place}><tspan class="mark-{i}">■</tspan> {escape(name)}</text>'
    title = f'<text class="axis-label" x="{LEFT}" y="{TOP - 2}">{escape(y_label)}</text>'
    return _frame(label, axes.draw(x_label, whole_x=all(x == round(x) for x in xs)) + lines + keys + title)


def histogram_pair(
    first: ArrayLike, second: ArrayLike, names: tuple[str, str], label: str, x_label: str
) -> str:
    """Two histograms over one axis, the first filled, the second as a line; heights are square roots, so that rare grey levels show."""
    a, b = np.asarray(first, dtype=np.float64).ravel(), np.asarray(second, dtype=np.float64).ravel()
    both = np.concatenate([a, b])
    edges = _edges(float(np.quantile(both, 0.001)), float(np.quantile(both, 0.999)), both)
    return _histograms(
        edges,
        np.sqrt(np.histogram(a, edges)[0] / a.size),
        np.sqrt(np.histogram(b, edges)[0] / b.size),
        names,
        label,
        x_label,
    )


def histogram_gauss(values: ArrayLike, names: tuple[str, str], label: str, x_label: str) -> str:
    """The histogram of a residual, filled, and the Gaussian of the same mean and standard deviation as a line."""
    v = np.asarray(values, dtype=np.float64).ravel()
    mean, std = float(v.mean()), float(v.std())
    if std == 0:
        return _empty(label)
    edges = _edges(mean - 4.5 * std, mean + 4.5 * std, v)
    centres = (edges[:-1] + edges[1:]) / 2
    gauss = np.exp(-((centres - mean) ** 2) / (2 * std**2)) / (std * math.sqrt(2 * math.pi)) * np.diff(edges)
    return _histograms(edges, np.histogram(v, edges)[0] / v.size, gauss, names, label, x_label)


def _edges(low: float, high: float, values: FloatArray) -> FloatArray:
    """Bin edges; for whole-numbered images the bins are whole numbers wide, or the histogram would show a comb."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    step = (high - low) / 64
    if np.array_equal(values, np.rint(values)):
        step = max(1.0, float(round(step)))
        return np.arange(math.floor(low) - 0.5, high + step, step)
    return np.linspace(low, high, 65)


def _histograms(
    edges: FloatArray, first: FloatArray, second: FloatArray, names: tuple[str, str], label: str, x_label: str
) -> str:
    top = max(float(np.max(first)), float(np.max(second)), 1e-12)
    axes = _Axes((float(edges[0]), float(edges[-1])), (0.0, 1.08 * top), False)
    corners_x = np.repeat(edges, 2)[1:-1]
    filled = _polygon(axes, corners_x, np.zeros(corners_x.size), np.repeat(first, 2), "fill-a")
    centres = (edges[:-1] + edges[1:]) / 2
    keys = "".join(
        f'<text class="key" x="{WIDTH - RIGHT - 4}" y="{TOP + 13 + 16 * i}"><tspan class="mark-{"ab"[i]}">■</tspan> {escape(name)}</text>'
        for i, name in enumerate(names)
    )
    return _frame(
        label, axes.draw(x_label, show_y=False) + filled + _polyline(axes, centres, second, "line-b") + keys
    )


class _Axes:
    """Where a value stands on the canvas, and the axes themselves."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], log_y: bool) -> None:
        self.x = x if x[1] > x[0] else (x[0] - 0.5, x[0] + 0.5)
        self.y, self.log_y = y, log_y

    def px(self, x: float) -> float:
        return LEFT + (x - self.x[0]) / (self.x[1] - self.x[0]) * (WIDTH - LEFT - RIGHT)

    def py(self, y: float) -> float:
        low, high, value = (math.log10(v) for v in (*self.y, y)) if self.log_y else (*self.y, y)
        return HEIGHT - BOTTOM - min(max((value - low) / (high - low), 0.0), 1.0) * (HEIGHT - TOP - BOTTOM)

    def draw(self, x_label: str, show_y: bool = True, whole_x: bool = False) -> str:
        base = HEIGHT - BOTTOM
        parts = [f'<line class="axis" x1="{LEFT}" y1="{base}" x2="{WIDTH - RIGHT}" y2="{base}"/>']
        for t in (t for t in nice_ticks(*self.x) if not whole_x or t == round(t)):
            parts.append(
                f'<text class="tick" x="{self.px(t):.1f}" y="{base + 15}" text-anchor="middle">{_short(t)}</text>'
            )
        for t in (log_ticks(*self.y) if self.log_y else nice_ticks(*self.y, 4)) if show_y else ():
            y = self.py(t)
            parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
            parts.append(
                f'<text class="tick" x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{_short(t)}</text>'
            )
        parts.append(
            f'<text class="axis-label" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 3}" text-anchor="middle">{escape(x_label)}</text>'
        )
        return "".join(parts)


def _padded(low: float, high: float, log: bool) -> tuple[float, float]:
    if log:
        low, high = math.log10(low), math.log10(high)
    gap = 0.06 * (high - low) if high > low else max(abs(high) * 0.1, 0.5)
    low, high = low - gap, high + gap
    return (10**low, 10**high) if log else (low, high)


def _short(value: float) -> str:
    if value == 0 or abs(value) < 1e-300:
        return "0"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:,.6g}".replace("-", "−").replace(",", "\u2009")
    return f"{value:.3g}".replace("e+0", "e").replace("e-0", "e−").replace("e+", "e").replace("-", "−")


def _polyline(axes: _Axes, x: FloatArray, y: FloatArray, kind: str) -> str:
    return f'<polyline class="{kind}" points="{" ".join(f"{axes.px(a):.1f},{axes.py(b):.1f}" for a, b in zip(x, y))}"/>'


def _polygon(axes: _Axes, x: FloatArray, low: FloatArray, high: FloatArray, kind: str = "band") -> str:
    corners: Path = [*zip(x.tolist(), high.tolist()), *zip(x[::-1].tolist(), low[::-1].tolist())]
    return f'<polygon class="{kind}" points="{" ".join(f"{axes.px(a):.1f},{axes.py(b):.1f}" for a, b in corners)}"/>'


def _frame(label: str, inner: str) -> str:
    return f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label, quote=True)}">{inner}</svg>'


def _empty(label: str) -> str:
    return _frame(
        f"{label}: nothing to plot",
        f'<text class="tick" x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle">nothing to plot</text>',
    )
