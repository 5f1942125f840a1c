"""N2C: supervised training on clean partners, the upper bound every other method is read against."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pairfree.data.patches import Batch
from pairfree.methods.base import At, Needs, require
from pairfree.methods.parts.single import PUBLISHED, SingleConfig, SingleNetwork


def supervised_loss(denoised: Tensor, target: Tensor) -> Tensor:
    r"""Mean squared error to the partner, L = mean |f(y) - t|^2.

    Parameters
    ----------
    denoised
        f(y), (B, C, H, W), network units.
    target
        t, likewise.

    Returns
    -------
    Tensor
        Scalar, squared network units.

    Notes
    -----
    Noise model: any; the minimiser is E[target | noisy].

    Breaks when the partners are not registered: f then blurs by the misregistration.

    References
    ----------
    Zhang et al., IEEE TIP 2017, eq. 1 (t clean); Lehtinen et al., ICML 2018, eq. 6 (t a second noisy copy).
    """
    return torch.mean((denoised - target) ** 2)


@dataclass(frozen=True)
class N2CConfig(SingleConfig):
    """Settings of N2C: those of its network and its optimiser."""


PRESETS = {
    # Departs from the paper: `cpu`: network, optimiser and precision are those of every method's `cpu`
    # preset, so that rows of a table differ in the method only.
    "cpu": N2CConfig(),
    # Departs from the paper: `paper`: the U-Net and schedule of the IDDP tables, not DnCNN; `--set net=dncnn`
    # gives DnCNN-17.
    "paper": N2CConfig(
        **PUBLISHED,
        patch_px=128,
        batch_size=1,
        lr=2e-4,
        beta1=0.5,
        steps=2_000_000,
    ),
}


PRESETS["paper-200k"] = replace(PRESETS["paper"], steps=200_000)


class N2C(SingleNetwork):
    """The network learns to make the clean partner of each noisy patch."""

    key = "n2c"
    title = "Noise2Clean (supervised)"
    needs = Needs.TARGET_CLEAN
    citation = "Zhang et al., Beyond a Gaussian denoiser, IEEE TIP 26(7), 2017, doi:10.1109/TIP.2017.2662206"
    assumption = "registered clean partners"
    config_type = N2CConfig

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        """Descend ``supervised_loss``."""
        target = require(batch.target, self.needs.value)
        return self.descend(supervised_loss(self.f(batch.noisy), target), at)
