"""BM3D (Dabov et al., IEEE TIP 2007) through the optional package ``bm3d``: nothing is trained, only the noise level is estimated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pairfree.errors import ConfigError, MissingPackageError
from pairfree.measure.level import MIN_SIDE_PX, estimate_sigma
from pairfree.measure.variance_line import (
    PoissonGaussian,
    estimate_poisson_gaussian,
    stabilised,
    unstabilised,
)
from pairfree.methods.base import Needs
from pairfree.methods.parts.one_image import Untrained

CHEN = "Chen, Zhu & Heng, An efficient statistical method for image noise level estimation, ICCV 2015"
MAKITALO = (
    "Makitalo & Foi, A closed-form approximation of the exact unbiased inverse of the Anscombe variance-stabilizing transformation, "
    "IEEE TIP 20(9), 2011"
)

GROWN_PX = 16
"""Smaller images are grown to this side: of less than 8 px the package refuses them, of 8 x 8 it crashes."""
LEAST_SIGMA = 1e-6


@dataclass(frozen=True)
class BM3DConfig:
    """sigma       noise standard deviation in network units (8-bit files: grey levels / 255); 0 estimates it for each image on its own
    stabilise   first make noise even whose variance grows with the signal (Poisson-Gaussian), gain and floor estimated per image; undone
                afterwards
    """

    sigma: float = 0.0
    stabilise: bool = False

    def __post_init__(self) -> None:
        if not self.sigma >= 0:
            raise ConfigError(f"bm3d: sigma = {self.sigma} must be 0 (estimate) or positive")
        if self.stabilise and self.sigma > 0:
            raise ConfigError(
                "bm3d: give sigma or stabilise, not both: stabilised noise has a level of its own"
            )


PRESETS = {"cpu": BM3DConfig(), "paper": BM3DConfig()}


class BM3DNetwork(nn.Module):
    """BM3D in the shape of a network: whole images only, so prediction never tiles it."""

    whole_image = True

    def __init__(self, sigma: float, stabilise: bool = False) -> None:
        super().__init__()
        self.sigma, self.stabilise = sigma, stabilise
        self.register_buffer("unused", torch.zeros(1))

    def whole_bytes(self, channels: int) -> tuple[float, float]:
        """What the package takes, bytes beside an image's size (the estimate of its noise) and for each pixel; measured on 256 to 512 px a
        side."""
        return 50e6, 500.0 + 100.0 * channels

    def forward(self, x: Tensor) -> Tensor:
        images = x.cpu().double().numpy()
        done = [
            bm3d_stabilised(image) if self.stabilise else bm3d_image(image, self.sigma) for image in images
        ]
        return torch.from_numpy(np.stack(done).astype(np.float32)).to(x.device)


def bm3d_image(image: np.ndarray, sigma: float = 0.0) -> np.ndarray:
    """BM3D of one image (C, H, W), float64; sigma in the image's own units, 0 estimates it for each channel.

    Three channels are taken for red, green and blue and share the blocks that are found in their mean; others are denoised one by one.
    """
    # Departs from the paper: The noise level is estimated where none is given; the paper takes it as known.
    levels = [max(sigma or _estimated(plane), LEAST_SIGMA) for plane in image]
    height, width = image.shape[1:]
    grown = np.pad(
        image, ((0, 0), (0, max(0, GROWN_PX - height)), (0, max(0, GROWN_PX - width))), mode="edge"
    )
    grey, colour = _package()
    if _has_colours(grown):
        done = np.moveaxis(colour(np.moveaxis(grown, 0, -1), levels), -1, 0)
    else:
        done = np.stack(
            [np.reshape(grey(plane, level), plane.shape) for plane, level in zip(grown, levels, strict=True)]
        )
    return np.asarray(done[:, :height, :width])


def _has_colours(image: np.ndarray) -> bool:
    """Whether none of the package's opponent colours is constant, which it would divide by the range of."""
    if len(image) != 3:
        return False
    red, green, blue = image
    return all(np.ptp(one) > 0 for one in (red + green + blue, red - blue, red - 2.0 * green + blue))


def bm3d_stabilised(image: np.ndarray) -> np.ndarray:
    """BM3D of one image (C, H, W), float64, with the noise of each channel made even first; of channels whose noise is even, as it is.

    What is made even has unit deviation by construction; estimated again, faint correlation made it a third of that on real frames.
    """
    noises = [_poisson_gaussian(plane) for plane in image]
    if all(noise.gain == 0 for noise in noises):
        return bm3d_image(image)
    if len(image) > 1 and any(
        noise.gain == 0 and noise.floor <= 0 for noise in noises
    ):  # nothing to mix with a channel without noise
        return np.concatenate([bm3d_stabilised(plane[None]) for plane in image])
    even = [stabilised(p, n) if n.gain > 0 else p / n.floor**0.5 for p, n in zip(image, noises, strict=True)]
    done = bm3d_image(np.stack(even), 1.0)
    return np.stack(
        [unstabilised(p, n) if n.gain > 0 else p * n.floor**0.5 for p, n in zip(done, noises, strict=True)]
    )


def _poisson_gaussian(plane: np.ndarray) -> PoissonGaussian:
    if min(plane.shape) >= MIN_SIDE_PX:
        return estimate_poisson_gaussian(plane)
    return PoissonGaussian(0.0, _estimated(plane) ** 2)


def _estimated(plane: np.ndarray) -> float:
    """Noise level of (H, W); of images too small for patches, from the median of neighbours' differences."""
    if min(plane.shape) >= MIN_SIDE_PX:
        return estimate_sigma(plane)
    steps = np.concatenate([np.diff(plane, axis=axis).ravel() for axis in (0, 1)])
    return float(np.median(np.abs(steps)) / (0.6745 * 2**0.5)) if steps.size else 0.0


class BM3D(Untrained):
    key = "bm3d"
    title = "BM3D"
    needs = Needs.NOISY
    citation = "Dabov et al., Image denoising by sparse 3-D transform-domain filtering, IEEE TIP 16(8), 2007, doi:10.1109/TIP.2007.901238"
    assumption = "white noise, Gaussian of one level, or with stabilise Poisson-Gaussian; levels are estimated for each image where none is given"
    config_type = BM3DConfig
    config: BM3DConfig

    def __init__(
        self,
        config: BM3DConfig,
        channels: int,
        device: torch.device | str = "cpu",
        net: nn.Module | None = None,
    ) -> None:
        _package()
        self.refuse(net)
        self.config = config
        self.net = BM3DNetwork(config.sigma, config.stabilise)
        self.networks = {"net": self.net}

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.citation, CHEN, MAKITALO) if self.config.stabilise else (self.citation,)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")


def _package():  # type: ignore[no-untyped-def]
    try:
        from bm3d import bm3d, bm3d_rgb
    except ImportError:
        raise MissingPackageError(
            "method bm3d needs the package bm3d, which is free for non-commercial use only: pip install 'pairfree[bm3d]'"
        ) from None
    return bm3d, bm3d_rgb
