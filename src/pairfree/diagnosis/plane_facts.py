"""Everything that is measured of one plane before anything is concluded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pairfree.measure.calm_blocks import CalmBins, measure_calm_blocks
from pairfree.measure.grey_levels import GreyLevels, measure_grey_levels
from pairfree.measure.jpeg_comb import JpegComb, measure_jpeg_comb
from pairfree.measure.noise_law import NoiseLaw
from pairfree.measure.plane_law import measure_noise_law
from pairfree.measure.skewness import Skewness, measure_skewness
from pairfree.measure.stripes import Stripes, measure_stripes
from pairfree.measure.variance_kinds import VarianceLaws, fit_variance_laws
from pairfree.measure.window_spectrum import Shared, measure_shared_noise
from pairfree.noise.model import GREY_MAX

FloatArray = NDArray[np.float64]

BLUR_PX = 2.0
"""Before the brightness is taken that counts are expected from."""
AIR_HU, NEAR_HU = -1000.0, 50.0
NO_COMB = JpegComb(np.nan, np.nan)


@dataclass(frozen=True)
class PlaneFacts:
    """Of one plane, intensity units."""

    bins: CalmBins
    """Variance of the finest detail by brightness."""
    laws: VarianceLaws
    """Fitted to these."""
    shared: Shared
    """What neighbours share."""
    stripes: Stripes
    """What lines share."""
    grey: GreyLevels
    """Step and ends of the values."""
    comb: JpegComb
    """Traces of JPEG; NaN where values are no whole steps."""
    skewness: Skewness
    """Of the noise."""
    law: NoiseLaw
    """What training goes by."""
    contrast: float
    """Deviation of all pixels."""
    brightness: float
    """Their mean."""
    air: float
    """Share of the pixels within 50 of -1000, as of air in Hounsfield units."""
    empty: float
    """Share of the pixels that counts of such a gain leave at zero by themselves."""

    @property
    def level(self) -> float:
        """Deviation of the finest detail at the median brightness."""
        return float(np.sqrt(np.median(self.bins.variance)))


def measure_plane(plane: FloatArray, law: NoiseLaw | None = None) -> PlaneFacts:
    """Measure a plane.

    Parameters
    ----------
    plane
        (H, W), intensity units, finite; both sides at least 16.
    law
        Of its noise, where it is known already: of three colours, by their differences.
    """
    bins = measure_calm_blocks(plane)
    laws = fit_variance_laws(bins)
    shared = measure_shared_noise(plane)
    grey = measure_grey_levels(plane)
    return PlaneFacts(
        bins=bins,
        laws=laws,
        shared=shared,
        stripes=measure_stripes(plane),
        grey=grey,
        comb=_measure_comb(plane, grey),
        skewness=measure_skewness(plane),
        law=law or measure_noise_law(plane, bins, shared),
        contrast=float(plane.std()),
        brightness=float(plane.mean()),
        air=float(np.mean(np.abs(plane - AIR_HU) < NEAR_HU)),
        empty=_expect_empty(plane, laws.line.slope),
    )


def _measure_comb(plane: FloatArray, grey: GreyLevels) -> JpegComb:
    """Of values that JPEG can hold: 256 steps."""
    if grey.step == 0 or np.ptp(plane) > GREY_MAX * grey.step:
        return NO_COMB
    return measure_jpeg_comb(plane / grey.step)


def _expect_empty(plane: FloatArray, gain: float) -> float:
    """Share of the pixels that counts of that gain leave at zero, as bright as their surroundings are."""
    if gain <= 0:
        return 0.0
    brightness = gaussian_filter(plane - plane.min(), BLUR_PX, mode="reflect")
    return float(np.mean(np.exp(-brightness / gain)))
