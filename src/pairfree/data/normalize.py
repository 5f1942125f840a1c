"""Intensity <-> network units: an affine map, fitted once on the training images, stored in checkpoints.

Or, where the noise is to be even, a map of each plane by the law of its own noise (``data.even``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pairfree.data.even import EVEN_LEVEL, Read, measure_even_map
from pairfree.errors import CheckpointError, InputError

PERCENTILES = (0.5, 99.5)
"""Of the pooled pixels, which become 0 and 1."""
SAMPLE_PER_PLANE = 65_536
"""Pixels of each plane that are pooled, about."""


class PlaneMap(Protocol):
    """How the intensities (C, h, w) of one plane become network units, and results intensities."""

    @property
    def correlated(self) -> bool:
        """Whether neighbouring pixels are known to share noise."""

    def apply(self, intensity: np.ndarray) -> np.ndarray:
        """Intensities of any dtype -> float32 network units, same shape."""

    def add(self, intensity: np.ndarray, change: np.ndarray) -> np.ndarray:
        """What a network makes of intensities by a change in network units: float64 intensities."""

    def widen(self, intensity: np.ndarray, apart: np.ndarray) -> np.ndarray:
        """A distance in network units at intensities, in intensity units."""


@dataclass(frozen=True)
class Normalizer:
    """``normalised = (intensity - offset) / scale``, the same for all channels of a model.

    Where ``even``, this is only the range of the training images; each plane has a map of its own.
    """

    offset: float
    """Intensity units of the files: counts, grey levels, HU."""
    scale: float
    """Intensity units per network unit; above 0."""
    even: bool = False
    """Whether the noise of each plane is measured and made even, and results come back through the exact
    unbiased inverse."""
    one_law: bool = False
    """Whether the noise of the middle channel stands for that of all: channels are slices of a stack."""
    law: int = 1
    """How the noise was measured in training: ``data.even.REVISION`` of that time."""

    correlated = False
    """Nothing is measured that would tell."""

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

    def add(self, intensity: np.ndarray, change: np.ndarray) -> np.ndarray:
        """What a network makes of intensities by a change in network units; no change leaves them exactly."""
        return np.asarray(intensity + self.scale * change)

    def widen(self, intensity: np.ndarray, apart: np.ndarray) -> np.ndarray:
        """A distance in network units, in intensity units; the same at all intensities."""
        return np.asarray(self.scale * apart)

    def map_plane(self, read: Read, height: int, width: int) -> PlaneMap:
        """The map of one plane, of which ``read`` gives parts: this one, or where ``even``, its own."""
        return measure_even_map(read, height, width, self.one_law) if self.even else self

    def map_whole(self, plane: np.ndarray) -> PlaneMap:
        """The map of a whole plane (C, H, W)."""
        _, height, width = plane.shape
        return self.map_plane(lambda rows, columns: plane[:, rows, columns], height, width)

    def map_array(self, plane: np.ndarray) -> np.ndarray:
        """A whole plane (C, H, W) -> float32 network units, by the map of the plane."""
        return self.map_whole(plane).apply(plane)

    def describe(self) -> str:
        """What network units are, in words."""
        low, high = self.offset, self.offset + self.scale
        if self.even:
            return (
                f"each plane's noise is made even, with a deviation of {EVEN_LEVEL:g} "
                f"(training images: {low:g} .. {high:g})"
            )
        return f"(intensity - {low:g}) / {self.scale:g}"

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, as a checkpoint holds them; those at their defaults only by their absence."""
        return {
            name: value
            for name, value in vars(self).items()
            if value != getattr(Normalizer, name, None)
        }


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
