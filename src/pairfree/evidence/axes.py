"""The axes of a small plot: where a value stands on the canvas, round numbers along it, and their SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape

from pairfree.evidence import svg

WIDTH = 420
"""Of the canvas, px."""
HEIGHT = 190
"""Of the canvas, px."""
LEFT, RIGHT = 54, 12
"""Margins beside the field of a plot, px."""
TOP, BOTTOM = 12, 34
"""Margins above and below it, px."""

Range = tuple[float, float]
"""Least and greatest value."""


class Axes:
    """A pair of axes.

    Parameters
    ----------
    x, y
        Least and greatest value along each.
    log_y
        Whether the vertical one is logarithmic.
    """

    def __init__(self, x: Range, y: Range, log_y: bool = False) -> None:
        self.x = x
        self.y = y
        self.log_y = log_y
        first, last = x
        if not last > first:
            self.x = first - 0.5, first + 0.5

    def x_px(self, x: float) -> float:
        """Where a value of x stands, px from the left."""
        first, last = self.x
        share = (x - first) / (last - first)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y_px(self, y: float) -> float:
        """Where a value of y stands, px from the top; values beyond the axis at its end."""
        low, high = self.y
        if self.log_y:
            low = math.log10(low)
            high = math.log10(high)
            y = math.log10(y)
        share = (y - low) / (high - low)
        share = min(max(share, 0.0), 1.0)
        field = HEIGHT - TOP - BOTTOM
        return HEIGHT - BOTTOM - share * field

    def places(self, x: Iterable[float], y: Iterable[float]) -> list[svg.Point]:
        """Where the points of a curve stand."""
        return list(zip(map(self.x_px, x), map(self.y_px, y)))

    def draw(self, x_label: str, show_y: bool = True, whole_x: bool = False) -> str:
        """SVG of the horizontal axis with its label, and of the vertical one's numbers and lines.

        Parameters
        ----------
        x_label
            What stands under the axis; escaped here.
        show_y
            Whether the vertical axis has numbers.
        whole_x
            Whether only whole numbers stand at the horizontal axis.
        """
        base = HEIGHT - BOTTOM
        parts = [_across("axis", base)]
        for value in nice_ticks(*self.x):
            if not whole_x or value == round(value):
                under = self.x_px(value), base + 15
                parts.append(_tick(under, value, "middle"))
        if show_y:
            for value in self.y_ticks():
                y = self.y_px(value)
                beside = LEFT - 7, y + 4
                parts.append(_across("grid", y))
                parts.append(_tick(beside, value, "end"))
        middle = (LEFT + WIDTH - RIGHT) / 2
        below = middle, HEIGHT - 3
        parts.append(svg.text("axis-label", below, escape(x_label), "middle"))
        return "".join(parts)

    def y_ticks(self) -> list[float]:
        """The numbers along the vertical axis."""
        if self.log_y:
            return log_ticks(*self.y)
        return nice_ticks(*self.y, 4)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers within [low, high], about ``count`` of them."""
    if not math.isfinite(low):
        return []
    if not math.isfinite(high) or high <= low:
        return [low]
    rough = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    steps = [multiple * power for multiple in (1, 2, 2.5, 5, 10)]
    least = rough * (1 - 1e-9)
    step = next(one for one in steps if one >= least)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within [low, high], with 2 and 5 between them where there are few."""
    first = math.floor(math.log10(low))
    last = math.ceil(math.log10(high))
    powers = [10.0**power for power in range(first, last + 1)]
    tens = [ten for ten in powers if low <= ten <= high]
    if len(tens) >= 3:
        every = math.ceil(len(tens) / 6)
        return tens[::every]
    within = []
    for ten in powers:
        for value in (ten, 2 * ten, 5 * ten):
            if low <= value <= high:
                within.append(value)
    return within or [low, high]


def pad_range(low: float, high: float, log: bool = False) -> Range:
    """A range of values, a little wider, so that no curve touches the frame."""
    if log:
        low = math.log10(low)
        high = math.log10(high)
    if high > low:
        gap = 0.06 * (high - low)
    else:
        gap = max(abs(high) * 0.1, 0.5)
    low -= gap
    high += gap
    if log:
        return 10**low, 10**high
    return low, high


def _across(kind: str, y: float) -> str:
    """A horizontal line over the whole field."""
    right = WIDTH - RIGHT
    return svg.line(kind, (LEFT, y), (right, y))


def _tick(place: svg.Point, value: float, anchor: str) -> str:
    return svg.text("tick", place, _tick_text(value), anchor)


def _tick_text(value: float) -> str:
    """A number at an axis: a thin space between thousands, a true minus sign, a short exponent."""
    size = abs(value)
    if size < 1e-300:
        return "0"
    if 1e-3 <= size < 1e5:
        text = f"{value:,.6g}".replace(",", "\u2009")
    else:
        text = f"{value:.3g}".replace("e+0", "e")
        text = text.replace("e-0", "e-").replace("e+", "e")
    return text.replace("-", "−")
