"""Noise that a method found in the images beside noise that it makes, for the report."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import ArrayLike, NDArray

from pairfree.errors import InputError
from pairfree.evidence.noref import LAGS_PX, autocorrelation
from pairfree.evidence.plots import curves, histogram_pair, png_uri, to_uint8
from pairfree.evidence.reading import fixed, number
from pairfree.sampling import spaced_indices

SHEET = 4
"""Patches along each side of a contact sheet."""
GAP_PX = 2
FARTHEST_PX = 16
WINDOW_STD = 3.0


@dataclass(frozen=True)
class NoiseSamples:
    """found    patches cut out of smooth areas, (N, C, P, P), their means removed;  made   patches of the noise generator, (M, C, Q, Q)

    Both in units of the images.
    """

    found: ArrayLike
    made: ArrayLike


def noise_view(samples: NoiseSamples) -> dict[str, Any]:
    """What the template needs: two contact sheets, both histograms, and deviation and autocorrelation side by side and as curves."""
    found, made = (_patches(array) for array in (samples.found, samples.made))
    std = float(found.std())
    window = WINDOW_STD * std
    rows = [("Standard deviation", number(std), number(float(made.std())))]
    for axis, name in ((3, "along rows"), (2, "along columns")):
        for lag, *pair in zip(
            LAGS_PX, autocorrelation(found, axis), autocorrelation(made, axis), strict=True
        ):
            first, second = (fixed(one, 2) for one in pair)
            rows.append((f"Correlation at {lag} px {name}", first, second))
    names = "found", "made"
    return {
        "found": png_uri(to_uint8(_sheet(found, window), -window, window)),
        "made": png_uri(to_uint8(_sheet(made, window), -window, window)),
        "window": f"±{number(window)}",
        "rows": rows,
        "histogram": Markup(
            histogram_pair(found, made, names, "noise found and noise made", "noise, intensity units")
        ),
        "correlation": Markup(_correlation(found, made)),
    }


def _correlation(found: NDArray[np.float64], made: NDArray[np.float64]) -> str:
    """SVG: autocorrelation along both axes as far as the smaller patches tell it, a quarter of their side."""
    lags = range(1, min(FARTHEST_PX, found.shape[-1] // 4, made.shape[-1] // 4) + 1)
    series = {
        f"{name}, {along}": (lags, autocorrelation(patches, axis, lags))
        for axis, along in ((3, "along rows"), (2, "along columns"))
        for name, patches in (("found", found), ("made", made))
    }
    return curves(
        series,
        "autocorrelation of the noise found and made, by distance",
        "distance, px",
        "autocorrelation",
        falling=True,
    )


def _patches(array: ArrayLike) -> NDArray[np.float64]:
    patches = np.asarray(array, dtype=np.float64)
    if (
        patches.ndim != 4
        or patches.size == 0
        or not np.all(np.isfinite(patches))
        or patches.shape[-1] <= max(LAGS_PX)
    ):
        raise InputError(
            f"noise samples must be finite patches (N, C, P, P) larger than {max(LAGS_PX)} px, got shape {patches.shape}"
        )
    return patches


def _sheet(patches: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """The first channel of patches spread over all, from the most to the least even, side by side, white lines between them."""
    side = min(SHEET, math.isqrt(len(patches)))
    shown = patches[spaced_indices(len(patches), side * side), 0]
    px = patches.shape[-1] + GAP_PX
    sheet = np.full((side * px - GAP_PX, side * px - GAP_PX), gap)
    for place in range(side * side):
        row, column = divmod(place, side)
        sheet[row * px : row * px + px - GAP_PX, column * px : column * px + px - GAP_PX] = shown[place]
    return sheet
