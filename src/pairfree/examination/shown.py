"""Curves of an examination: which planted spots survive, and what of each fineness the output keeps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pairfree.evidence.report import CurveSet
from pairfree.examination.planted import (
    FULL_WIDTH,
    STRENGTHS,
    WIDTHS_PX,
    Planted,
    find_height,
)
from pairfree.examination.pooled import Pooled
from pairfree.examination.transfer import Rings

MOST_TRANSFER = 2.0
"""That is drawn."""


def draw_curves(pooled: Pooled, clipped: bool) -> list[CurveSet]:
    """What a report shows of an examination; where noise is cut off, planted spots alone."""
    found = []
    if pooled.planted is not None:
        found.append(_draw_survival(pooled, pooled.planted))
    if not clipped and np.isfinite(pooled.rings.resolution_px):
        found.append(_draw_transfer(pooled.rings))
    return found


def _draw_survival(pooled: Pooled, planted: Planted) -> CurveSet:
    """Share of the spots that keep half their contrast, by height, a curve for each width."""
    series = {}
    for width in WIDTHS_PX:
        heights = [find_height(strength, width) * pooled.level for strength in STRENGTHS]
        shares = [100.0 * share for share in planted.survival(width)]
        known = [number for number, share in enumerate(shares) if math.isfinite(share)]
        if known:
            name = f"{pooled.length(FULL_WIDTH * width)} wide"
            series[name] = [heights[one] for one in known], [shares[one] for one in known]
    return CurveSet(
        "Planted spots that survive",
        "Spots of three widths were planted in these images. A spot survives that keeps half its contrast.",
        series,
        f"height of the spot, {pooled.unit}",
        "survive, %",
    )


def _draw_transfer(rings: Rings) -> CurveSet:
    """Correlation with the truth, and how much stronger the output should be, by frequency."""
    resolved = max(rings.resolved, 2)
    frequencies = [float(one) for one in rings.frequencies]
    correlation = [float(one) for one in np.nan_to_num(rings.correlation)]
    transfer = [float(one) for one in np.clip(rings.transfer, 0.0, MOST_TRANSFER)]
    return CurveSet(
        "What the output keeps of each fineness",
        "Correlation with the truth: 1 is all of it, below 0.5 nothing is resolved. Transfer: how many times "
        "as strong the output should be, 1 where it is right, as far as detail is resolved.",
        {
            "correlation with the truth": (frequencies, correlation),
            "transfer": (frequencies[:resolved], transfer[:resolved]),
        },
        "cycles a pixel",
        "",
        falling=True,
    )


def list_curves(pooled: Pooled, clipped: bool) -> dict[str, Any]:
    """The same as numbers, for JSON."""
    found: dict[str, Any] = {}
    if pooled.planted is not None:
        spots = []
        for width in WIDTHS_PX:
            for strength, share in zip(STRENGTHS, pooled.planted.survival(width), strict=True):
                spots.append(
                    {
                        "width_px": FULL_WIDTH * width,
                        "height": find_height(strength, width) * pooled.level,
                        "signal_to_noise": strength,
                        "survive": float(share),
                    }
                )
        found["planted_spots"] = spots
    if not clipped:
        rings = pooled.rings
        found["frequencies"] = [float(one) for one in rings.frequencies]
        found["correlation_with_truth"] = [float(one) for one in rings.correlation]
        found["transfer"] = [float(one) for one in rings.transfer]
    return found
