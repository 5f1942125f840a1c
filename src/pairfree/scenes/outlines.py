"""Closed curves: ellipses, blobs, polygons and bars."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""Corners of an outline or places of a curve, (N, 2), each row and column in pixels of the canvas."""
TURN = 2.0 * np.pi
"""A whole turn, radians."""


def outline_ellipse(
    centre: Points,
    radius: float,
    ratio: float,
    angle: float,
) -> Points:
    """The outline of an ellipse: its longer half axis is ``radius``, the other ``ratio`` times that."""
    corners = int(np.clip(1.5 * radius, 12, 96))
    circle = outline_circle(corners) * (radius, radius * ratio)
    return centre + turn_points(circle, angle)


def outline_blob(
    rng: np.random.Generator,
    centre: Points,
    radius: float,
    wobble: float,
) -> Points:
    """Draw the outline of a wobbly disc; ``wobble`` is about the relative deviation of its radius."""
    corners = int(np.clip(2.0 * radius, 16, 160))
    turn = spread_angles(corners)[:, None]
    waves = np.arange(2, 8)
    heights = rng.normal(0.0, 1.0, waves.size) / waves
    phases = rng.uniform(0.0, TURN, waves.size)
    swing = np.sin(turn * waves + phases) @ heights
    share = np.maximum(1.0 + wobble * swing, 0.2)
    circle = outline_circle(corners)
    return centre + radius * share[:, None] * circle


def outline_polygon(
    rng: np.random.Generator,
    centre: Points,
    radius: float,
    corners: int,
) -> Points:
    """Draw the outline of a polygon with ``corners`` corners at random angles."""
    turn = np.sort(rng.uniform(0.0, TURN, corners))
    return centre + radius * directions_of(turn)


def outline_bar(
    centre: Points,
    length: float,
    thickness: float,
    angle: float,
) -> Points:
    """The outline of a rectangle of any direction."""
    square = np.array([[-0.5, -0.5], [-0.5, 0.5], [0.5, 0.5], [0.5, -0.5]])
    return centre + turn_points(square * (length, thickness), angle)


def outline_circle(corners: int) -> Points:
    """The outline of a circle of radius 1 around 0."""
    return directions_of(spread_angles(corners))


def spread_angles(count: int) -> NDArray[np.float64]:
    """Angles that part a circle evenly, (count,), radians."""
    return np.linspace(0.0, TURN, count, endpoint=False)


def directions_of(angles: NDArray[np.float64]) -> Points:
    """Unit steps in these directions, (count, 2)."""
    return np.stack([np.sin(angles), np.cos(angles)], axis=1)


def turn_points(points: Points, angle: float) -> Points:
    """Turn points about 0 by an angle in radians."""
    sine, cosine = np.sin(angle), np.cos(angle)
    turn = np.array([[cosine, sine], [-sine, cosine]])
    return np.asarray(points @ turn)


def corners_of(points: Points) -> list[tuple[float, float]]:
    """Points as the pen takes them: column first."""
    return [(column, row) for row, column in points.tolist()]
