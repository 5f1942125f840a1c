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
from pairfree.examination.law_errors import (
    EVEN,
    EVEN_OF_MANY,
    GROWN,
    GROWN_OF_MANY,
    find_errors,
    find_errors_of_median,
)
from pairfree.measure.noise_law import NoiseLaw
from pairfree.measure.variance_line import PoissonGaussian

FloatArray = NDArray[np.float64]

BRIGHTNESSES = (0.1, 0.5, 0.9)
"""Quantiles of the intensities at which variances are compared."""


@dataclass(frozen=True)
class ImageLaws:
    """The law of each channel of an image, and how well its variance is known."""

    laws: tuple[NoiseLaw, ...]
    chance: float
    """Relative standard error of the variance, as far as it becomes smaller with the number of images."""
    texture: float
    """The rest of it: texture makes all variances too large."""
    shared: bool
    """Whether the errors are those of all images together."""

    @property
    def error(self) -> float:
        """Relative standard error of the variance."""
        return math.hypot(self.chance, self.texture)


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
        return [_judge_laws(image, laws) for image, laws in zip(images, own, strict=True)]
    pooled, errors = [], []
    for channel in range(counts.pop()):
        planes = [image[channel] for image in images]
        law, error = _pool([laws[channel] for laws in own], planes)
        pooled.append(law)
        errors.append(error)
    chance, texture = np.max(errors, axis=0)
    together = ImageLaws(tuple(pooled), float(chance), float(texture), True)
    return [together] * len(images)


def _judge_laws(image: FloatArray, laws: tuple[NoiseLaw, ...]) -> ImageLaws:
    """How well the laws of the channels of an image (C, H, W) are known."""
    errors = []
    for plane, law in zip(image, laws, strict=True):
        errors.append(find_errors(plane, law, GROWN if law.noise.gain > 0 else EVEN))
    chance, texture = np.max(errors, axis=0)
    return ImageLaws(laws, float(chance), float(texture), False)


def pool_errors(laws: Sequence[ImageLaws], variances: Sequence[float]) -> float:
    """Relative standard error of the mean variance over all images, of their own mean variances."""
    if laws[0].shared:
        return laws[0].error
    pairs = list(zip(laws, variances, strict=True))
    chance = math.hypot(*(one.chance * variance for one, variance in pairs))
    texture = sum(one.texture * variance for one, variance in pairs)
    return math.hypot(chance, texture) / max(sum(variances), 1e-300)


def _pool(
    laws: Sequence[NoiseLaw], planes: Sequence[FloatArray]
) -> tuple[NoiseLaw, tuple[float, float]]:
    """One law for one channel of all images, and its relative errors by chance and by texture."""
    pixels = np.concatenate([plane[::4, ::4].ravel() for plane in planes])
    levels = np.quantile(pixels, BRIGHTNESSES)
    variances = np.array([law.noise.variance(levels) for law in laws])
    grows = float(np.median([law.noise.gain for law in laws])) > 0
    noise = _lay_line(levels, np.median(variances, axis=0), grows)
    spectrum = _pool_spectra(laws)
    darkest = min(law.darkest for law in laws)
    middle = variances[:, 1] / max(float(np.median(variances[:, 1])), 1e-300)
    weights = GROWN_OF_MANY if noise.gain > 0 else EVEN_OF_MANY
    errors = [find_errors(*pair, weights) for pair in zip(planes, laws, strict=True)]
    return NoiseLaw(noise, spectrum is not None, darkest, spectrum), find_errors_of_median(
        middle, errors
    )


def _lay_line(levels: FloatArray, variances: FloatArray, grows: bool) -> PoissonGaussian:
    """Through the variances at three brightnesses; flat where noise does not grow."""
    gain = 0.0
    if grows and levels[-1] > levels[0]:
        gain = max(float(np.polyfit(levels, variances, 1)[0]), 0.0)
    return PoissonGaussian(gain, float(np.mean(variances - gain * levels)))


def _pool_spectra(laws: Sequence[NoiseLaw]) -> FloatArray | None:
    """The mean of those of noise that neighbours share; None where that of most images is not so."""
    shared = [law for law in laws if law.correlated]
    spectra = [law.spectrum for law in shared if law.spectrum is not None]
    if 2 * len(shared) <= len(laws) or not spectra:
        return None
    return np.asarray(np.mean(spectra, axis=0))
