"""The shapes that small plots are made of, as SVG text.

They carry classes, not colours: the page's style sheet gives them, for light, dark and print.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

Point = tuple[float, float]
"""x from the left and y from the top, px."""


def line(kind: str, start: Point, end: Point) -> str:
    """A straight line of a class."""
    x1, y1 = map(_px, start)
    x2, y2 = map(_px, end)
    return f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def text(kind: str, place: Point, words: str, anchor: str = "") -> str:
    """Words of a class.

    Parameters
    ----------
    kind
        The class.
    place
        Where they begin, or what ``anchor`` says.
    words
        SVG; what users wrote is escaped before.
    anchor
        "middle" or "end": which part of the words lies at ``place``.
    """
    x, y = map(_px, place)
    at = f'x="{x}" y="{y}"'
    if anchor:
        at += f' text-anchor="{anchor}"'
    return f'<text class="{kind}" {at}>{words}</text>'


def dot(kind: str, centre: Point, radius: float) -> str:
    """A small circle of a class."""
    x, y = map(_px, centre)
    return f'<circle class="{kind}" cx="{x}" cy="{y}" r="{_px(radius)}"/>'


def path(kind: str, points: Iterable[Point]) -> str:
    """An open line through many points."""
    return f'<polyline class="{kind}" points="{_places(points)}"/>'


def area(kind: str, points: Iterable[Point]) -> str:
    """A closed area, its corners in order."""
    return f'<polygon class="{kind}" points="{_places(points)}"/>'


def frame(label: str, size: tuple[int, int], shapes: Sequence[str]) -> str:
    """A whole plot.

    Parameters
    ----------
    label
        What a screen reader says; escaped here.
    size
        Width and height, px.
    shapes
        What is drawn, in order.
    """
    width, height = size
    spoken = escape(label, quote=True)
    box = f"0 0 {width} {height}"
    head = f'<svg class="plot" viewBox="{box}" role="img" aria-label="{spoken}">'
    return head + "".join(shapes) + "</svg>"


def _places(points: Iterable[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _px(length: float) -> str:
    """Whole numbers as they are, all others to a tenth."""
    return str(length) if isinstance(length, int) else f"{length:.1f}"
