"""Intensity <-> network units: fitted once on the training images, affine, invertible, stored in every checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pairfree.errors import CheckpointError, InputError

LOW_PERCENTILE, HIGH_PERCENTILE = 0.5, 99.5
SAMPLE_PER_PLANE = 65_536


@dataclass(frozen=True)
class Normalizer:
    """``normalised = (intensity - offset) / scale`` with one offset and scale for all channels of a model.

    offset      intensity units of the files (counts, grey levels, HU)
    scale       intensity units per network unit; > 0
    """

    offset: float
    scale: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.offset) and np.isfinite(self.scale) and self.scale > 0):
            raise CheckpointError(
                f"normaliser offset {self.offset} and scale {self.scale} are not a usable intensity map; retrain the model"
            )

    def apply(self, intensity: np.ndarray) -> np.ndarray:
        """Intensity of any dtype -> float32 network units, same shape. float64 inside, so that large offsets lose nothing."""
        return ((intensity.astype(np.float64) - self.offset) / self.scale).astype(np.float32)

    def invert(self, normalised: np.ndarray) -> np.ndarray:
        """Network units -> float64 intensity, same shape."""
        return normalised.astype(np.float64) * self.scale + self.offset

    def as_dict(self) -> dict[str, float]:
        return {"offset": self.offset, "scale": self.scale}


EIGHT_BIT = Normalizer(0.0, 255.0)


def is_eight_bit(dtypes: Iterable[np.dtype]) -> bool:
    return all(np.dtype(kind) == np.uint8 for kind in dtypes)


def fit_normalizer(planes: Iterable[np.ndarray], dtypes: Sequence[np.dtype]) -> Normalizer:
    """Fit the intensity map on noisy training planes, (H, W) or (C, H, W).

    8-bit files keep their natural scale, 0..255 -> 0..1, so that published sigmas mean what they say. Any other type maps the pooled
    0.5 and 99.5 percentiles to 0 and 1.
    """
    return (
        EIGHT_BIT
        if is_eight_bit(dtypes)
        else fit_percentiles(planes, (LOW_PERCENTILE, HIGH_PERCENTILE))
    )


def fit_percentiles(planes: Iterable[np.ndarray], percentiles: tuple[float, float]) -> Normalizer:
    """The map of the pooled ``percentiles`` to 0 and 1 without clipping: a hot pixel or a padding value does not squeeze the picture."""
    samples = []
    for plane in planes:
        flat = plane.reshape(-1)
        stride = max(1, flat.size // SAMPLE_PER_PLANE)
        samples.append(flat[::stride].astype(np.float64))
    pooled = np.concatenate(samples)
    low, high = np.percentile(pooled, percentiles)
    if high <= low:
        low, high = float(pooled.min()), float(pooled.max())
    if high <= low:
        raise InputError(
            f"all training pixels have the same value {low:g}: there is no noise to learn from; check the input files"
        )
    return Normalizer(float(low), float(high - low))
