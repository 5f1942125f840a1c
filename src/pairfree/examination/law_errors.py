"""How well the law of an image's noise is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairfree.measure.calm_blocks import measure_calm_blocks, measure_texture
from pairfree.measure.level import MIN_SIDE_PX
from pairfree.measure.local_moments import NORMAL_MAD
from pairfree.measure.noise_law import NoiseLaw

FloatArray = NDArray[np.float64]

SHARED_ERROR = 0.1
"""Relative error of the variance where neighbours share noise, in any number of images.

Structure looks like such noise."""
POOLED_ERROR = 0.005
"""What is left in many images, beside texture."""


class Weights(NamedTuple):
    """What the relative error of a variance is made of."""

    chance: float
    """Over that of chance in the calmest blocks."""
    texture: float
    """Over how much rougher all blocks are than these: the rougher, the more texture they hold, too."""


EVEN, EVEN_OF_MANY = Weights(1.5, 1.0), Weights(1.0, 0.3)
"""Of even noise, in one image and in the median of several.

Of sets of four, intervals that should hold the true variance nine times of ten held it in 65 of 72."""
GROWN, GROWN_OF_MANY = Weights(1.3, 1.5), Weights(1.3, 1.2)
"""Of noise that grows with the brightness: texture often does, too. Here they held it in 84 of 86."""


def find_errors(plane: FloatArray, law: NoiseLaw, weights: Weights) -> tuple[float, float]:
    """Relative standard errors of the variance of one plane (H, W), by chance and by texture."""
    if law.correlated or min(plane.shape) < MIN_SIDE_PX:
        return 0.0, SHARED_ERROR
    calm = measure_calm_blocks(plane)
    of_all_bins = float(np.sum(calm.relative_error**-2))
    texture = weights.texture * measure_texture(plane, calm)
    return weights.chance / math.sqrt(of_all_bins), min(texture, 1.0)


def find_errors_of_median(
    variances: FloatArray, errors: Sequence[tuple[float, float]]
) -> tuple[float, float]:
    """Likewise of the median of several variances.

    Parameters
    ----------
    variances
        (N,) of the planes, over their median.
    errors
        Of each, as ``find_errors`` has them.
    """
    scatter = NORMAL_MAD * float(np.median(np.abs(variances - np.median(variances))))
    of_one = float(np.mean([chance for chance, _ in errors]))
    texture = float(np.median([texture for _, texture in errors]))
    chance = max(scatter, of_one) / math.sqrt(len(errors))
    return math.hypot(POOLED_ERROR, chance), texture
