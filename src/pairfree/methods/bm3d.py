"""BM3D (Dabov et al., IEEE TIP 2007) through the optional package ``bm3d``.

Nothing is trained, only the noise level is estimated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pairfree.errors import ConfigError, MissingPackageError
from pairfree.measure.level import MIN_SIDE_PX, estimate_sigma
from pairfree.measure.variance_line import (
    PoissonGaussian,
    estimate_poisson_gaussian,
    make_even,
    undo_even,
)
from pairfree.methods.base import Needs
from pairfree.methods.parts.untrained import Untrained

CHEN = (
    "Chen, Zhu & Heng, An efficient statistical method for image noise level estimation, ICCV 2015"
)
MAKITALO = (
    "Makitalo & Foi, A closed-form approximation of the exact unbiased inverse of the Anscombe "
    "variance-stabilizing transformation, IEEE TIP 20(9), 2011"
)

GROWN_PX = 16
"""Smaller images are grown to this side: of less than 8 px the package refuses them, of 8 x 8 it crashes."""
LEAST_SIGMA = 1e-6
"""A level of 0 is none that the package takes."""

Package = tuple[Callable[..., np.ndarray], Callable[..., np.ndarray]]
"""Its two functions, for planes (H, W) and for colour images (H, W, 3)."""


@dataclass(frozen=True)
class BM3DConfig:
    """Settings of BM3D."""

    sigma: float = 0.0
    """Standard deviation of the noise, network units (8-bit files: grey levels / 255).

    0 estimates it for each image.
    """

    stabilise: bool = False
    """Noise whose variance grows with the signal (Poisson-Gaussian) is made even first; undone afterwards.

    Gain and floor are estimated for each image.
    """

    def __post_init__(self) -> None:
        if not self.sigma >= 0:
            raise ConfigError(f"bm3d: sigma = {self.sigma} must be 0 (estimate) or positive")
        if self.stabilise and self.sigma > 0:
            raise ConfigError(
                "bm3d: give sigma or stabilise, not both: stabilised noise has a level of its own"
            )


PRESETS = {"cpu": BM3DConfig(), "paper": BM3DConfig()}


class BM3DNetwork(nn.Module):
    """BM3D in the shape of a network: whole images only, so prediction never tiles it.

    Parameters
    ----------
    sigma
        As in ``BM3DConfig``.
    stabilise
        Likewise.
    """

    whole_image = True

    def __init__(self, sigma: float, stabilise: bool = False) -> None:
        super().__init__()
        self.sigma = sigma
        self.stabilise = stabilise
        self.register_buffer("unused", torch.zeros(1))

    def whole_bytes(self, channels: int) -> tuple[float, float]:
        """What the package takes; measured on 256 to 512 px a side.

        Parameters
        ----------
        channels
            Of the image.

        Returns
        -------
        tuple of float
            Bytes beside the image's size (the estimate of its noise), and bytes for each pixel.
        """
        return 50e6, 500.0 + 100.0 * channels

    def forward(self, x: Tensor) -> Tensor:
        """Denoise images (B, C, H, W), network units, one by one."""
        done = []
        for image in x.cpu().double().numpy():
            if self.stabilise:
                done.append(denoise_stabilised(image))
            else:
                done.append(denoise_image(image, self.sigma))
        return torch.from_numpy(np.stack(done).astype(np.float32)).to(x.device)


def denoise_image(image: np.ndarray, sigma: float = 0.0) -> np.ndarray:
    """BM3D of one image.

    Three channels are taken for red, green and blue and share the blocks that are found in their mean; others
    are denoised one by one.

    Parameters
    ----------
    image
        (C, H, W), float64.
    sigma
        In the image's own units; 0 estimates it for each channel.

    Returns
    -------
    numpy.ndarray
        (C, H, W), float64.
    """
    # Departs from the paper: The noise level is estimated where none is given; the paper takes it as known.
    levels = [max(sigma or _estimate_level(plane), LEAST_SIGMA) for plane in image]
    height, width = image.shape[1:]
    below = max(0, GROWN_PX - height)
    right = max(0, GROWN_PX - width)
    grown = np.pad(image, ((0, 0), (0, below), (0, right)), mode="edge")
    grey, colour = _load_package()
    if _has_colours(grown):
        done = np.moveaxis(colour(np.moveaxis(grown, 0, -1), levels), -1, 0)
    else:
        planes = zip(grown, levels, strict=True)
        done = np.stack([np.reshape(grey(plane, level), plane.shape) for plane, level in planes])
    return np.asarray(done[:, :height, :width])


def _has_colours(image: np.ndarray) -> bool:
    """Whether none of the package's opponent colours is constant, which it would divide by the range of."""
    if len(image) != 3:
        return False
    red, green, blue = image
    opponents = (red + green + blue, red - blue, red - 2.0 * green + blue)
    return all(np.ptp(one) > 0 for one in opponents)


def denoise_stabilised(image: np.ndarray) -> np.ndarray:
    """BM3D of one image with the noise of each channel made even first, where it is not.

    Parameters
    ----------
    image
        (C, H, W), float64.

    Returns
    -------
    numpy.ndarray
        (C, H, W), float64.

    Notes
    -----
    What is made even has unit deviation by construction; estimated again, faint correlation made it a third
    of that on real frames.
    """
    noises = [_estimate_noise(plane) for plane in image]
    if all(noise.gain == 0 for noise in noises):
        return denoise_image(image)
    noiseless = any(noise.gain == 0 and noise.floor <= 0 for noise in noises)
    if noiseless and len(image) > 1:  # nothing to mix with a channel without noise
        return np.concatenate([denoise_stabilised(plane[None]) for plane in image])
    even = [make_even(plane, noise) for plane, noise in zip(image, noises, strict=True)]
    done = denoise_image(np.stack(even), 1.0)
    return np.stack([undo_even(plane, noise) for plane, noise in zip(done, noises, strict=True)])


def _estimate_noise(plane: np.ndarray) -> PoissonGaussian:
    if min(plane.shape) >= MIN_SIDE_PX:
        return estimate_poisson_gaussian(plane)
    return PoissonGaussian(0.0, _estimate_level(plane) ** 2)


def _estimate_level(plane: np.ndarray) -> float:
    """Noise level of (H, W); of images too small for patches, from the median of neighbours' differences."""
    if min(plane.shape) >= MIN_SIDE_PX:
        return estimate_sigma(plane)
    down = np.diff(plane, axis=0)
    right = np.diff(plane, axis=1)
    steps = np.concatenate([down.ravel(), right.ravel()])
    if steps.size == 0:
        return 0.0
    return float(np.median(np.abs(steps)) / (0.6745 * 2**0.5))


class BM3D(Untrained):
    """BM3D of each image by itself.

    Raises
    ------
    MissingPackageError
        Where the package ``bm3d`` is not installed.
    """

    key = "bm3d"
    title = "BM3D"
    needs = Needs.NOISY
    citation = (
        "Dabov et al., Image denoising by sparse 3-D transform-domain filtering, IEEE TIP 16(8), 2007, "
        "doi:10.1109/TIP.2007.901238"
    )
    assumption = (
        "white noise, Gaussian of one level, or with stabilise Poisson-Gaussian; levels are estimated for "
        "each image where none is given"
    )
    config_type = BM3DConfig
    config: BM3DConfig

    def __init__(
        self,
        config: BM3DConfig,
        channels: int,
        device: torch.device | str = "cpu",
        net: nn.Module | None = None,
    ) -> None:
        _load_package()
        self.refuse_network(net)
        self.config = config
        self.net = BM3DNetwork(config.sigma, config.stabilise)
        self.networks = {"net": self.net}

    @property
    def sources(self) -> tuple[str, ...]:
        """The paper, and those of the noise model where it is used."""
        return (self.citation, CHEN, MAKITALO) if self.config.stabilise else (self.citation,)

    @property
    def device(self) -> torch.device:
        """The CPU always."""
        return torch.device("cpu")


def _load_package() -> Package:
    try:
        from bm3d import bm3d, bm3d_rgb
    except ImportError:
        raise MissingPackageError(
            "method bm3d needs the package bm3d, which is free for non-commercial use only: "
            "pip install 'pairfree[bm3d]'"
        ) from None
    return bm3d, bm3d_rgb
