"""The axes of a small plot: where a value stands on the canvas, round numbers along it, and their SVG."""

from __future__ import annotations

import math
from html import escape

WIDTH, HEIGHT = 420, 190
"""Of the canvas, px."""
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 12, 34
"""Margins around the field of a plot, px."""


class Axes:
    """A pair of axes.

    Parameters
    ----------
    x, y
        Least and greatest value along each.
    log_y
        Whether the vertical one is logarithmic.
    """

    def __init__(self, x: tuple[float, float], y: tuple[float, float], log_y: bool) -> None:
        self.x = x if x[1] > x[0] else (x[0] - 0.5, x[0] + 0.5)
        self.y = y
        self.log_y = log_y

    def x_px(self, x: float) -> float:
        """Where a value of x stands, px from the left."""
        first, last = self.x
        return LEFT + (x - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def y_px(self, y: float) -> float:
        """Where a value of y stands, px from the top; values beyond the axis at its end."""
        low, high = self.y
        if self.log_y:
            low, high, y = math.log10(low), math.log10(high), math.log10(y)
        share = min(max((y - low) / (high - low), 0.0), 1.0)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

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
        parts = [f'<line class="axis" x1="{LEFT}" y1="{base}" x2="{WIDTH - RIGHT}" y2="{base}"/>']
        for value in nice_ticks(*self.x):
            if not whole_x or value == round(value):
                parts.append(_tick(f"{self.x_px(value):.1f}", f"{base + 15}", "middle", value))
        if show_y:
            values = log_ticks(*self.y) if self.log_y else nice_ticks(*self.y, 4)
            for value in values:
                y = self.y_px(value)
                parts.append(
                    f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'
                )
                parts.append(_tick(f"{LEFT - 7}", f"{y + 4:.1f}", "end", value))
        middle = (LEFT + WIDTH - RIGHT) / 2
        place = f'x="{middle}" y="{HEIGHT - 3}" text-anchor="middle"'
        parts.append(f'<text class="axis-label" {place}>{escape(x_label)}</text>')
        return "".join(parts)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers within [low, high], about ``count`` of them."""
    if not math.isfinite(low):
        return []
    if not math.isfinite(high) or high <= low:
        return [low]
    rough = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    steps = [multiple * power for multiple in (1, 2, 2.5, 5, 10)]
    step = next(one for one in steps if one >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within [low, high], with 2 and 5 between them where there are few."""
    powers = [10.0**p for p in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    tens = [ten for ten in powers if low <= ten <= high]
    if len(tens) >= 3:
        return tens[:: math.ceil(len(tens) / 6)]
    between = [multiple * ten for ten in powers for multiple in (1, 2, 5)]
    within = [value for value in between if low <= value <= high]
    return within or [low, high]


def pad_range(low: float, high: float, log: bool) -> tuple[float, float]:
    """A range of values, a little wider, so that no curve touches the frame."""
    if log:
        low, high = math.log10(low), math.log10(high)
    gap = 0.06 * (high - low)
    if not high > low:
        gap = max(abs(high) * 0.1, 0.5)
    low, high = low - gap, high + gap
    return (10**low, 10**high) if log else (low, high)


def _tick(x: str, y: str, anchor: str, value: float) -> str:
    return f'<text class="tick" x="{x}" y="{y}" text-anchor="{anchor}">{_tick_text(value)}</text>'


def _tick_text(value: float) -> str:
    """A number at an axis: a thin space between thousands, a true minus sign, a short exponent."""
    if value == 0 or abs(value) < 1e-300:
        return "0"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:,.6g}".replace("-", "−").replace(",", "\u2009")
    text = f"{value:.3g}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    return text.replace("-", "−")
