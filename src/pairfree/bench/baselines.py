"""Rows of a table that train nothing: the noisy image, Gaussian filters, BM3D with a stated or an estimated noise level."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from pairfree.methods.bm3d import denoise_image, denoise_stabilised


def unchanged(noisy: np.ndarray, settings: Mapping[str, Any]) -> np.ndarray:
    return noisy.astype(np.float64)


def gaussian(noisy: np.ndarray, settings: Mapping[str, Any]) -> np.ndarray:
    """settings["sigma_px"]: the same filter for all images."""
    sigma = float(settings["sigma_px"])
    return gaussian_filter(noisy.astype(np.float64), (0, sigma, sigma), mode="mirror")


def bm3d(noisy: np.ndarray, settings: Mapping[str, Any]) -> np.ndarray:
    """settings["sigma"] in grey levels; absent: estimated per image; settings["stabilise"]: noise that follows the signal is made even."""
    if settings.get("stabilise"):
        return denoise_stabilised(noisy.astype(np.float64))
    return denoise_image(noisy.astype(np.float64), float(settings.get("sigma", 0.0)))


BASELINES: dict[str, Callable[[np.ndarray, Mapping[str, Any]], np.ndarray]] = {
    "noisy": unchanged,
    "gaussian-filter": gaussian,
    "bm3d": bm3d,
}
REVISIONS = dict.fromkeys(BASELINES, 1)
"""Raised like ``Method.revision``."""
