"""White pixels here and there: a toy that follows the recipe of a noise model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from pairfree.noise.model import GREY_MAX, SHARE, NoiseModel, Number, as_image, fixed


@dataclass(frozen=True)
class Salt(NoiseModel):
    r"""Pixels that are white, whatever the scene is.

    Noise model   y = 255 with probability p, else x; independent between pixels.
    Moments       E[y | x] = x + p (255 - x), var[y | x] = p (1 - p) (255 - x)^2
    """

    key: ClassVar[str] = "salt"
    share: Number = field(default=0.05, metadata=SHARE)
    """Share p of the pixels that are white."""

    def add(self, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        image = as_image(clean)
        return np.where(rng.random(image.shape) < fixed(self.share), GREY_MAX, image)
