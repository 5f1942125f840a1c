"""Intensity <-> network units: an affine map, fitted once on the training images, stored in checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pairfree.errors import CheckpointError, InputError

PERCENTILES = (0.5, 99.5)
"""Of the pooled pixels, which become 0 and 1."""
SAMPLE_PER_PLANE = 65_536
"""Pixels of each plane that are pooled, about."""


@dataclass(frozen=True)
class Normalizer:
    """``normalised = (intensity - offset) / scale``, the same for all channels of a model."""

    offset: float
    """Intensity units of the files: counts, grey levels, HU."""
    scale: float
    """Intensity units per network unit; above 0."""

    def __post_init__(self) -> None:
        finite = np.isfinite(self.offset) and np.isfinite(self.scale)
        if not (finite and self.scale > 0):
            raise CheckpointError(
                f"normaliser offset {self.offset} and scale {self.scale} are not a usable intensity map; "
                "retrain the model"
            )

    def apply(self, intensity: np.ndarray) -> np.ndarray:
        """Intensity of any dtype -> float32 network units, same shape.

        float64 inside, so that large offsets lose nothing.
        """
        centred = intensity.astype(np.float64) - self.offset
        return np.asarray(centred / self.scale, dtype=np.float32)

    def invert(self, normalised: np.ndarray) -> np.ndarray:
        """Network units -> float64 intensity, same shape."""
        return np.asarray(normalised.astype(np.float64) * self.scale + self.offset)

    def as_dict(self) -> dict[str, float]:
        """Offset and scale by name, as a checkpoint holds them."""
        return {"offset": self.offset, "scale": self.scale}


EIGHT_BIT = Normalizer(0.0, 255.0)


def is_eight_bit(dtypes: Iterable[np.dtype[Any]]) -> bool:
    """Whether all of them are uint8."""
    return all(np.dtype(kind) == np.uint8 for kind in dtypes)


def fit_normalizer(planes: Iterable[np.ndarray], dtypes: Sequence[np.dtype[Any]]) -> Normalizer:
    """Fit the intensity map on noisy training planes.

    8-bit files keep their natural scale, 0..255 -> 0..1, so that published sigmas mean what they say. Any
    other type maps the pooled 0.5 and 99.5 percentiles to 0 and 1.

    Parameters
    ----------
    planes
        (H, W) or (C, H, W).
    dtypes
        Of the files that they came from.

    Raises
    ------
    InputError
        Where all pixels have one value.
    """
    if is_eight_bit(dtypes):
        return EIGHT_BIT
    return fit_percentiles(planes, PERCENTILES)


def fit_percentiles(planes: Iterable[np.ndarray], percentiles: tuple[float, float]) -> Normalizer:
    """The map of the pooled ``percentiles`` to 0 and 1, without clipping.

    So a hot pixel or a padding value does not squeeze the picture.

    Raises
    ------
    InputError
        Where all pixels have one value.
    """
    samples = []
    for plane in planes:
        flat = plane.reshape(-1)
        stride = max(1, flat.size // SAMPLE_PER_PLANE)
        samples.append(flat[::stride].astype(np.float64))
    pooled = np.concatenate(samples)
    low, high = np.percentile(pooled, percentiles)
    if high <= low:
        low, high = pooled.min(), pooled.max()
    if high <= low:
        raise InputError(
            f"all training pixels have the same value {low:g}: there is no noise to learn from; check the "
            "input files"
        )
    return Normalizer(float(low), float(high - low))
