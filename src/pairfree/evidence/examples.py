"""Images of a report to look at: noisy, denoised and residual, an enlarged part, and where to look twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_gradient_magnitude, uniform_filter

from pairfree.errors import InputError
from pairfree.evidence.noref import pool, residual_evidence
from pairfree.evidence.numbers import format_fixed, format_number
from pairfree.evidence.plots import histogram_gauss, histogram_pair, png_uri, to_uint8
from pairfree.evidence.residual import MIN_SIDE_PX
from pairfree.evidence.sites import Box, Sites, site_map
from pairfree.files.intensity import UNKNOWN_UNIT

FloatArray = NDArray[np.float64]

STAGE_PX = 640
"""Longer side on the page."""
ZOOM_PX, LEAST_ZOOM_PX = 64, 16
"""Most and least side of the enlarged part."""
RESIDUAL_WINDOW_STD = 3.0
"""White of a residual, in its standard deviations; black is as far below zero."""
WINDOW_PERCENTILES = (0.5, 99.5)
"""Of the denoised image: black and white before the margin."""
WINDOW_MARGIN = 0.1
"""Share of their distance that is added at either end."""


@dataclass(frozen=True)
class Example:
    """One image to look at, cropped by the caller to at most about 320 x 320 px.

    Its arrays are (H, W) or (H, W, 3), all of one shape.
    """

    name: str
    """Of the image."""
    noisy: ArrayLike
    """As it was stored."""
    denoised: ArrayLike
    """What became of it."""
    clean: ArrayLike | None = None
    """Its ground truth, where there is one."""
    text: str = ""
    """Pixel type and scale, and where the crop lies.

    Such as ``uint16; 1 px = 0.11 µm; crop at row 96, column 200``."""
    disagreement: ArrayLike | None = None
    """How far two denoisers of one method are apart, not negative; black is agreement."""
    uncertainty: ArrayLike | None = None
    """Standard error of each pixel, intensity units."""
    places: Sequence[Box] = ()
    """Boxes (row, column, height, width) that are not like the rest, in pixels of the crop."""


def example_view(example: Example, unit: str = UNKNOWN_UNIT) -> dict[str, Any]:
    """What the template needs of one example: data URIs, plots, the residual's statistics, captions.

    Parameters
    ----------
    example
        The images.
    unit
        What intensities count, in the plural.
    """
    noisy = _check_image(example, "noisy", example.noisy)
    denoised = _check_image(example, "denoised", example.denoised)
    versions = {"noisy": noisy, "denoised": denoised}
    if example.clean is not None:
        versions["clean"] = _check_image(example, "clean", example.clean)
    low, high = display_window(denoised)
    outside = 100 * float(np.mean((noisy < low) | (noisy > high)))
    zoom = zoom_box(denoised)
    uris, zooms = {}, []
    for name, image in versions.items():
        levels = to_uint8(image, low, high)
        uris[name] = png_uri(levels)
        zooms.append((name, png_uri(_cut(levels, zoom))))
    height, width = denoised.shape[:2]
    view = {
        "name": example.name,
        "text": example.text,
        "width": width,
        "height": height,
        "stage": round(STAGE_PX * width / max(width, height)),
        "uri": uris,
        "zooms": zooms,
        "zoom": zoom,
        "sites": _find_sites(noisy, denoised),
        "places": example.places,
        "stats": _describe_residual(noisy, denoised),
        "window": f"{format_number(low)} (black) to {format_number(high)} (white)",
        "outside": f"{outside:.0f} %",
    }
    view |= _residual_view(noisy - denoised)
    view |= _map_view(example, "disagreement") | _map_view(example, "uncertainty")
    return view | _histograms(example.name, noisy, denoised, unit)


def _residual_view(residual: FloatArray) -> dict[str, str]:
    window = RESIDUAL_WINDOW_STD * float(residual.std())
    levels = to_uint8(residual, -window, window)
    return {
        "residual": png_uri(levels),
        "residual_window": f"±{format_number(window)}",
    }


def _map_view(example: Example, name: str) -> dict[str, str]:
    """A map from 0 on, empty where there is none; white is its 99.5th percentile."""
    values = getattr(example, name)
    if values is None:
        return {name: "", f"{name}_window": format_number(0.0)}
    found = np.asarray(values, dtype=np.float64)
    shape = np.shape(example.noisy)
    if found.shape == shape[:2] and len(shape) == 3:  # one map for all colours
        found = np.broadcast_to(found[..., None], shape)
    found = _check_image(example, name, found)
    most = float(np.percentile(found, WINDOW_PERCENTILES[1]))
    levels = to_uint8(found, 0.0, most or 1.0)
    return {name: png_uri(levels), f"{name}_window": format_number(most)}


def _histograms(name: str, noisy: FloatArray, denoised: FloatArray, unit: str) -> dict[str, Markup]:
    both = histogram_pair(
        denoised,
        noisy,
        ("denoised", "noisy"),
        f"{name}: both histograms",
        unit,
    )
    removed = histogram_gauss(
        noisy - denoised,
        ("residual", "Gaussian, same std"),
        f"{name}: histogram of the residual",
        f"residual, {unit}",
    )
    return {"histogram": Markup(both), "residual_histogram": Markup(removed)}


def display_window(denoised: FloatArray) -> tuple[float, float]:
    """Black and white for all versions of an example.

    Percentiles 0.5 and 99.5 of the denoised image, widened by 10 % of their distance. The denoised image, not
    the noisy one: under strong noise a window that holds the noise shows a flat grey output, and hides
    inventions.
    """
    low, high = (float(v) for v in np.percentile(denoised, WINDOW_PERCENTILES))
    margin = WINDOW_MARGIN * (high - low)
    return low - margin, high + margin


def zoom_box(image: FloatArray) -> Box:
    """The part with most structure, a square of at most 64 px and at most half of each side (but 16 px)."""
    grey = image.mean(axis=-1) if image.ndim == 3 else image
    shorter = min(grey.shape)
    wanted = max(LEAST_ZOOM_PX, min(ZOOM_PX, shorter // 2))
    side = min(shorter, wanted)
    gradient = gaussian_gradient_magnitude(grey, 1.5)
    density = uniform_filter(gradient, size=side, mode="constant")
    half = side // 2
    rows, columns = (slice(half, length - side + half + 1) for length in grey.shape)
    inner = density[rows, columns]  # of boxes that lie within the image, by their middle
    fullest = int(np.argmax(inner))
    row, column = np.unravel_index(fullest, inner.shape)
    return int(row), int(column), side, side


def _check_image(example: Example, role: str, array: ArrayLike) -> FloatArray:
    image = np.asarray(array, dtype=np.float64)
    is_colour = image.ndim == 3 and image.shape[-1] == 3
    if image.ndim != 2 and not is_colour:
        raise InputError(
            f"example {example.name!r}: the {role} image must be (H, W) or (H, W, 3), got shape {image.shape}"
        )
    if image.shape != np.shape(example.noisy) or image.size == 0:
        raise InputError(
            f"example {example.name!r}: the {role} image has shape {image.shape}, the noisy one "
            f"{np.shape(example.noisy)}"
        )
    if not np.all(np.isfinite(image)):
        raise InputError(
            f"example {example.name!r}: the {role} image has pixels that are NaN or infinite: choose another "
            "crop"
        )
    return image


def _channels(noisy: FloatArray, denoised: FloatArray) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Both images of each channel."""
    if noisy.ndim == 2:
        yield noisy, denoised
        return
    for channel in range(3):
        yield noisy[..., channel], denoised[..., channel]


def _describe_residual(noisy: FloatArray, denoised: FloatArray) -> list[tuple[str, str]]:
    """Names and values of a few statistics."""
    residual = noisy - denoised
    stats = [("std", format_number(float(residual.std())))]
    stats.append(("mean", format_number(float(residual.mean()), 2)))
    if min(residual.shape[:2]) >= MIN_SIDE_PX:
        channels = _channels(noisy, denoised)
        evidence = pool([residual_evidence(y, f) for y, f in channels])
        stats.append(("lag-1 x", format_fixed(evidence.autocorr_x[0], 2)))
        stats.append(("lag-1 y", format_fixed(evidence.autocorr_y[0], 2)))
        stats.append(("with output", format_fixed(evidence.corr_output, 2)))
    return stats


def _find_sites(noisy: FloatArray, denoised: FloatArray) -> Sites:
    """Of all channels, each once."""
    if min(noisy.shape[:2]) < MIN_SIDE_PX:
        return Sites([], [])
    unsupported, removed = set(), set()
    for y, f in _channels(noisy, denoised):
        found = site_map(y, f)
        unsupported.update(found.unsupported)
        removed.update(found.removed)
    return Sites(sorted(unsupported), sorted(removed))


def _cut(image: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    y, x, height, width = box
    return image[y : y + height, x : x + width]
