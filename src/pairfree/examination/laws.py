"""The law of the noise of several images, as one where they do not differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairfree.data.even import measure_laws
from pairfree.data.sets import array_set
from pairfree.diagnosis.set_facts import SetFacts, measure_set
from pairfree.measure.local_moments import NORMAL_MAD
from pairfree.measure.noise_law import NoiseLaw
from pairfree.measure.variance_line import PoissonGaussian

FloatArray = NDArray[np.float64]

ONE_ERROR = 0.03
"""Relative error of the variance that is measured in one image: texture looks like noise."""
SHARED_ERROR = 0.1
"""Likewise where neighbours share noise, and of many images, too: structure looks like it."""
POOLED_ERROR = 0.005
"""What is left of it in many images."""
BRIGHTNESSES = (0.1, 0.5, 0.9)
"""Quantiles of the intensities at which variances are compared."""


@dataclass(frozen=True)
class ImageLaws:
    """The law of each channel of an image, and how well its variance is known."""

    laws: tuple[NoiseLaw, ...]
    error: float
    """Relative standard error of the variance."""
    shared: bool
    """Whether the error is that of all images together."""


def shows_something(planes: FloatArray) -> bool:
    """Whether no channel of (C, H, W) is constant, or a mask of two values."""
    return all(len(np.unique(plane[::4, ::4])) > 2 for plane in planes)


def measure_planes(images: Sequence[FloatArray]) -> SetFacts:
    """What the noise of images (C, H, W) is like, as a diagnosis has it."""
    return measure_set(array_set([image.astype(np.float32) for image in images], "image"))


def find_laws(images: Sequence[FloatArray], differ: bool) -> list[ImageLaws]:
    """The laws that images (C, H, W) are examined by.

    Parameters
    ----------
    images
        Intensity units, finite.
    differ
        Whether the noise of the images differs, so that each goes by its own.

    Notes
    -----
    Of images of one kind the variances at three brightnesses are put together, the median of all, and a line
    is laid through them.
    """
    own = [measure_laws(image) for image in images]
    counts = {len(laws) for laws in own}
    if differ or len(images) == 1 or len(counts) > 1:
        return [ImageLaws(laws, _error_of(laws), False) for laws in own]
    pooled, errors = [], []
    for channel in range(counts.pop()):
        planes = [image[channel] for image in images]
        law, error = _pool([laws[channel] for laws in own], planes)
        pooled.append(law)
        errors.append(error)
    if any(law.correlated for law in pooled):
        errors.append(SHARED_ERROR)
    together = ImageLaws(tuple(pooled), max(errors), True)
    return [together] * len(images)


def _error_of(laws: Sequence[NoiseLaw]) -> float:
    return SHARED_ERROR if any(law.correlated for law in laws) else ONE_ERROR


def pool_errors(laws: Sequence[ImageLaws], variances: Sequence[float]) -> float:
    """Relative standard error of the mean variance over all images, of their own mean variances."""
    if laws[0].shared:
        return laws[0].error
    parts = [one.error * variance for one, variance in zip(laws, variances, strict=True)]
    return math.hypot(*parts) / max(sum(variances), 1e-300)


def _pool(laws: Sequence[NoiseLaw], planes: Sequence[FloatArray]) -> tuple[NoiseLaw, float]:
    """One law for one channel of all images, and its relative error."""
    pixels = np.concatenate([plane[::4, ::4].ravel() for plane in planes])
    levels = np.quantile(pixels, BRIGHTNESSES)
    variances = np.array([law.noise.variance(levels) for law in laws])
    together = np.median(variances, axis=0)
    gains = [law.noise.gain for law in laws]
    gain = 0.0
    if np.median(gains) > 0 and levels[-1] > levels[0]:
        gain = max(float(np.polyfit(levels, together, 1)[0]), 0.0)
    floor = float(np.mean(together - gain * levels))
    middle = variances[:, 1] / max(float(together[1]), 1e-300)
    scatter = NORMAL_MAD * float(np.median(np.abs(middle - np.median(middle))))
    error = math.hypot(POOLED_ERROR, max(scatter, ONE_ERROR / 1.5) / math.sqrt(len(laws)))
    shared = [law for law in laws if law.correlated]
    correlated = 2 * len(shared) > len(laws)
    spectra = [law.spectrum for law in shared if law.spectrum is not None]
    spectrum = None
    if correlated and spectra:
        spectrum = np.mean(spectra, axis=0)
    return (
        NoiseLaw(
            PoissonGaussian(gain, floor),
            correlated and spectrum is not None,
            min(law.darkest for law in laws),
            spectrum,
        ),
        error,
    )
