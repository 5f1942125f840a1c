"""Low-dose computed tomography.

Noise is added where it arises, in the projections, and reconstructed with them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from skimage.transform import iradon, radon

from pairfree.noise.model import (
    ANY,
    COUNTS,
    GREY_MAX,
    NOT_NEGATIVE,
    POSITIVE,
    NoiseModel,
    Number,
    as_image,
    fixed,
    within,
)

FloatArray = NDArray[np.float64]

MU_WATER_PER_MM = 0.02
"""Linear attenuation of water at about 65 keV, 1/mm."""
FILTER = "hann"
"""Ramp filter with a Hann window, in the way of a soft-tissue kernel.

It sets the texture (correlation) of the noise.
"""

VIEWS = within(least=1.0, most=1e5)
"""Domain of the number of projections."""


@dataclass(frozen=True)
class LowDoseCT(NoiseModel):
    r"""Quantum and electronic noise of a parallel-beam scan, filtered back projection.

    Pixels x <= 0 are taken for air: an 8-bit image does not say how far below the window they lie. The
    surroundings are air.

    Notes
    -----
    Noise model: Grey levels are CT numbers through a window: HU = level - width / 2 + width * x / 255,
    mu = mu_water (1 + HU / 1000), not below 0. Line integrals p = R mu; counts
    k ~ Poisson(i0 dose exp(-p)) + N(0, electronic^2), at least 1; q = log(i0 dose / k);
    y = x + (FBP q - FBP p) in grey levels. Only the difference is added, so that x itself is not resampled;
    FBP is linear, so one back projection of q - p is enough.

    Moments: With m = i0 dose exp(-p): E[q - p] = O(1 / m), var[q - p] = 1 / m + (electronic / m)^2 up to
    higher orders in 1 / m. So E[y | x] = x and var[y | x] ~ 1 / dose where counts are plenty. Neighbours are
    correlated, and strongly along the rays of great attenuation (streaks); the noise depends on the whole
    image.

    Severity: At dose 0.25 a full-dose abdomen (512 x 512) has noise of 20 HU in soft tissue and 29.4 dB in
    its window; the AAPM challenge's quarter-dose image of that slice differs by 22 HU and has 29.6 dB.

    Breaks when counts are few (m below about 10): the floor of one count makes the log biased, as in a
    scanner. A frame filled with tissue to its corners (a micrograph) starves along its diagonals: give it a
    smaller pixel_mm.

    Samples: Independent scans. Cost: about views * (H^2 + W^2) operations.

    References
    ----------
    The model of the low-dose simulation in the AAPM challenge (Yu et al., J. Comput. Assist. Tomogr. 2012),
    which made ISCL's quarter-dose data (ISCL sec. IV-B); parallel beam and one energy are simplifications of
    ours.
    """

    key: ClassVar[str] = "lowdose-ct"
    dose: Number = field(default=0.25, metadata=POSITIVE)
    """Share of the full dose, no unit."""
    i0: Number = field(default=1e6, metadata=COUNTS)
    """Photons that leave the source for one detector bin in one view at full dose, counts."""
    electronic: Number = field(default=5.0, metadata=NOT_NEGATIVE)
    """Standard deviation of the read-out noise, counts."""
    level: Number = field(default=40.0, metadata=ANY)
    """Centre of the window that grey levels 0..255 show, HU (40 with width 400: abdomen, [-160, 240] HU)."""
    width: Number = field(default=400.0, metadata=POSITIVE)
    """Width of that window, HU."""
    pixel_mm: Number = field(default=0.7, metadata=POSITIVE)
    """Pixel size, mm; with the image's size it sets how much is attenuated."""
    views: Number = field(default=360.0, metadata=VIEWS)
    """Projections over 180 degrees; rounded to a whole number."""

    def add(self, clean: np.ndarray, rng: Generator) -> FloatArray:
        """``clean`` with this noise, not clipped: y of the noise model."""
        image = as_image(clean)
        samples = image[:, :, None] if image.ndim == 2 else image
        noise = np.empty(samples.shape)
        for index in range(samples.shape[2]):
            noise[:, :, index] = self._noise(samples[:, :, index], rng)
        return image + noise.reshape(image.shape)

    def _noise(self, image: FloatArray, rng: Generator) -> FloatArray:
        """FBP q - FBP p of one (H, W) sample, grey levels."""
        pixel_mm = fixed(self.pixel_mm)
        width_hu = fixed(self.width)
        views = round(fixed(self.views))
        photons = fixed(self.i0) * fixed(self.dose)
        mu_per_mm = attenuation(image, fixed(self.level), width_hu)
        angles_deg = np.arange(views, dtype=np.float64) * (180.0 / views)
        expected = project(mu_per_mm, angles_deg) * pixel_mm
        measured = measure(expected, photons, fixed(self.electronic), rng)
        height, width = image.shape
        projected = back_project(measured - expected, angles_deg, (height, width))
        noise_per_mm = projected / pixel_mm
        noise_hu = 1000.0 * noise_per_mm / MU_WATER_PER_MM
        return noise_hu * (GREY_MAX / width_hu)


def attenuation(image: FloatArray, level_hu: float, width_hu: float) -> FloatArray:
    """Linear attenuation (1/mm) of grey levels seen through a window; grey 0 and below is air."""
    hu = level_hu - width_hu / 2.0 + image * (width_hu / GREY_MAX)
    relative = np.maximum(1.0 + hu / 1000.0, 0.0)
    return np.where(image > 0.0, MU_WATER_PER_MM * relative, 0.0)


def project(image: FloatArray, angles_deg: FloatArray) -> FloatArray:
    """Parallel-beam line integrals of an image in air.

    Parameters
    ----------
    image
        (H, W).
    angles_deg
        Of the views, degrees.

    Returns
    -------
    array
        (bins, views), in the image's unit times pixels.
    """
    side = _canvas_side(image.shape)
    canvas = np.zeros((side, side))
    canvas[_centre(image.shape, side)] = image
    integrals = radon(canvas, theta=angles_deg, circle=True)  # type: ignore[no-untyped-call]
    return np.asarray(integrals, dtype=np.float64)


def measure(
    line_integrals: FloatArray,
    photons: float,
    electronic: float,
    rng: Generator,
) -> FloatArray:
    """Line integrals as a detector reports them: Poisson counts, read-out noise, logarithm.

    Parameters
    ----------
    line_integrals
        (bins, views), no unit.
    photons
        That are sent to a bin.
    electronic
        Standard deviation of the read-out noise, counts.
    rng
        What counts and read-out noise are drawn with.
    """
    # Interpolation of the projector can undershoot zero by rounding; a ray never gains photons.
    passing = np.exp(-np.maximum(line_integrals, 0.0))
    arriving = rng.poisson(photons * passing)
    read_out = electronic * rng.standard_normal(line_integrals.shape)
    counts = np.maximum(arriving + read_out, 1.0)
    return np.asarray(np.log(photons / counts))


def back_project(
    sinogram: FloatArray,
    angles_deg: FloatArray,
    shape: tuple[int, int],
) -> FloatArray:
    """Filtered back projection.

    Parameters
    ----------
    sinogram
        (bins, views).
    angles_deg
        Of the views, degrees.
    shape
        (H, W) of the image that ``project`` was given.

    Returns
    -------
    array
        (H, W), per pixel.
    """
    side = _canvas_side(shape)
    canvas = iradon(  # type: ignore[no-untyped-call]
        sinogram,
        theta=angles_deg,
        filter_name=FILTER,
        circle=True,
        output_size=side,
    )
    inside = canvas[_centre(shape, side)]
    return np.asarray(inside, dtype=np.float64)


def _canvas_side(shape: tuple[int, ...]) -> int:
    """Side of a square whose inscribed circle holds an image of ``shape``."""
    height, width = shape
    return math.ceil(math.hypot(height, width)) + 2


def _centre(shape: tuple[int, ...], side: int) -> tuple[slice, slice]:
    height, width = shape
    top = (side - height) // 2
    left = (side - width) // 2
    return slice(top, top + height), slice(left, left + width)
