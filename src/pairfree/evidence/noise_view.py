"""Noise that a method found in the images beside noise that it makes, for the report."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import ArrayLike, NDArray

from pairfree.errors import InputError
from pairfree.evidence.numbers import format_fixed, format_number
from pairfree.evidence.plots import curves, histogram_pair, png_uri, to_uint8
from pairfree.evidence.residual import LAGS_PX, autocorrelation
from pairfree.files.intensity import UNKNOWN_UNIT
from pairfree.sampling import spaced_indices

FloatArray = NDArray[np.float64]

SHEET = 4
"""Patches along each side of a contact sheet."""
GAP_PX = 2
"""Between them."""
FARTHEST_PX = 16
"""Of the curves of autocorrelation."""
WINDOW_STD = 3.0
"""White of a contact sheet, in standard deviations of the noise found; black is as far below zero."""
AXES = ((3, "along rows"), (2, "along columns"))
"""Of patches (N, C, P, P)."""


@dataclass(frozen=True)
class NoiseSamples:
    """Patches of noise, both kinds in units of the images."""

    found: ArrayLike
    """(N, C, P, P), cut out of smooth areas, their means removed."""
    made: ArrayLike
    """(M, C, Q, Q), of the noise generator."""
    unit: str = ""
    """What they count, where that is not the images' unit."""


def noise_view(samples: NoiseSamples, unit: str = UNKNOWN_UNIT) -> dict[str, Any]:
    """What the template needs: contact sheets, histograms, deviation and autocorrelation.

    Parameters
    ----------
    samples
        Of one method.
    unit
        What intensities count, in the plural.
    """
    found = _check_patches(samples.found)
    made = _check_patches(samples.made)
    window = WINDOW_STD * float(found.std())
    histogram = histogram_pair(
        found,
        made,
        ("found", "made"),
        "noise found and noise made",
        f"noise, {unit}",
    )
    return {
        "found": _sheet_uri(found, window),
        "made": _sheet_uri(made, window),
        "window": f"±{format_number(window)}",
        "rows": _compare(found, made),
        "histogram": Markup(histogram),
        "correlation": Markup(_correlation(found, made)),
    }


def _sheet_uri(patches: FloatArray, window: float) -> str:
    sheet = contact_sheet(patches, window)
    return png_uri(to_uint8(sheet, -window, window))


def _compare(found: FloatArray, made: FloatArray) -> list[tuple[str, str, str]]:
    """Name, and value of the noise found and of the noise made, of a few statistics."""
    of_found = format_number(float(found.std()))
    of_made = format_number(float(made.std()))
    rows = [("Standard deviation", of_found, of_made)]
    for axis, name in AXES:
        correlations = zip(autocorrelation(found, axis), autocorrelation(made, axis), strict=True)
        for lag, (first, second) in zip(LAGS_PX, correlations, strict=True):
            label = f"Correlation at {lag} px {name}"
            rows.append((label, format_fixed(first, 2), format_fixed(second, 2)))
    return rows


def _correlation(found: FloatArray, made: FloatArray) -> str:
    """SVG: autocorrelation along both axes as far as the smaller patches tell it, a quarter of their side."""
    farthest = min(FARTHEST_PX, found.shape[-1] // 4, made.shape[-1] // 4)
    lags = range(1, farthest + 1)
    series = {}
    for axis, along in AXES:
        series[f"found, {along}"] = (lags, autocorrelation(found, axis, lags))
        series[f"made, {along}"] = (lags, autocorrelation(made, axis, lags))
    return curves(
        series,
        "autocorrelation of the noise found and made, by distance",
        "distance, px",
        "autocorrelation",
        falling=True,
    )


def _check_patches(array: ArrayLike) -> FloatArray:
    patches = np.asarray(array, dtype=np.float64)
    there = patches.ndim == 4 and patches.size > 0
    sound = there and bool(np.all(np.isfinite(patches)))
    if not sound or patches.shape[-1] <= max(LAGS_PX):
        raise InputError(
            f"noise samples must be finite patches (N, C, P, P) larger than {max(LAGS_PX)} px, got shape "
            f"{patches.shape}"
        )
    return patches


def contact_sheet(patches: FloatArray, gap: float) -> FloatArray:
    """The first channel of patches spread over all, from the most to the least even, side by side.

    White lines, of intensity ``gap``, stand between them.
    """
    side = min(SHEET, math.isqrt(len(patches)))
    shown = patches[spaced_indices(len(patches), side * side), 0]
    patch_px = patches.shape[-1]
    step = patch_px + GAP_PX
    length = side * step - GAP_PX
    sheet = np.full((length, length), gap)
    for place, patch in enumerate(shown):
        row, column = divmod(place, side)
        top, left = step * row, step * column
        sheet[top : top + patch_px, left : left + patch_px] = patch
    return sheet
