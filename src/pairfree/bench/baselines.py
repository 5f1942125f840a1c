"""Rows of a table that train nothing: the noisy image, Gaussian filters, BM3D."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from pairfree.methods.bm3d import denoise_image, denoise_stabilised

Settings = Mapping[str, Any]


def unchanged(noisy: np.ndarray, settings: Settings) -> np.ndarray:
    """The noisy image as it is."""
    return noisy.astype(np.float64)


def gaussian(noisy: np.ndarray, settings: Settings) -> np.ndarray:
    """The same Gaussian filter for all images, of ``sigma_px``."""
    image = noisy.astype(np.float64)
    sigma_px = float(settings["sigma_px"])
    filtered = gaussian_filter(image, (0, sigma_px, sigma_px), mode="mirror")
    return np.asarray(filtered)


def bm3d(noisy: np.ndarray, settings: Settings) -> np.ndarray:
    """BM3D at noise of ``sigma`` grey levels, of a level estimated for each image where that is absent.

    With ``stabilise``, noise that follows the signal is made even first.
    """
    image = noisy.astype(np.float64)
    if settings.get("stabilise"):
        return denoise_stabilised(image)
    sigma = float(settings.get("sigma", 0.0))
    return denoise_image(image, sigma)


BASELINES: dict[str, Callable[[np.ndarray, Settings], np.ndarray]] = {
    "noisy": unchanged,
    "gaussian-filter": gaussian,
    "bm3d": bm3d,
}
REVISIONS = dict.fromkeys(BASELINES, 1)
"""Raised like ``Method.revision``."""
