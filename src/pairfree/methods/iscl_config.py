"""The settings of ISCL and CycleGAN, and the networks and optimisers that they name."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from pairfree.errors import ConfigError
from pairfree.methods.base import check_positive
from pairfree.methods.parts.optim import MuonAdam
from pairfree.methods.parts.unpaired import UnpairedConfig
from pairfree.nets.iscl import Extractor, Generator
from pairfree.nets.shuffle_unet import ShuffleUNet

NETS = ("iscl", "residual")
OPTIMIZERS = ("radam", "muon")
MUON_BETAS, MUON_RATIO = (0.9, 0.99), 5.0


@dataclass(frozen=True)
class ISCLConfig(UnpairedConfig):
    """nets                  "iscl": F, G and H of the paper's Figure 3; "residual": U-Nets that never work at full resolution, of which F
                          and G begin at the identity
    width, blocks         channels of the first level of F and G, and their residual blocks ("iscl")
    extractor_width, extractor_depth   channels and layers of H (layers: "iscl")
    critic_width          channels of the first level of D_X and D_Y
    critic_norm           batch-instance normalisation in them; it hides a difference of brightness between two batches
    lr, lr_end            rate at the beginning and at the end, linear in between
    critic_lr             the same of the critics at the beginning; 0 is lr
    optimizer             of F, G and H: "radam", as the paper, or "muon" (short budgets)
    start                 share of the budget in which F and H learn from clean patches with noise measured from the two sets, before
                          eqs. (1) to (12); G then adds to such noise. 0 is the paper; 1 is the start alone
    nested_weight         lambda of eq. (1)
    agreement             weight of the first term of eq. (6)
    identity              weight of CycleGAN's identity loss beside the cycle; 0 is ISCL
    grid_weight           weight of ``grid_loss`` on what F and H remove from noisy images; 0 is the paper
    critics_ramp          share of the steps of Algorithm 1 in which the critics' part of eq. (1) grows to its full size; 0 is the paper
    gamma                 share of F in the result, eq. (13)
    extract               train H at all; False, with the three below, is CycleGAN
    bypass, boost, noise_consistency   eqs. (6), (9), (11): the rows of Table I
    swa_from              share of the steps after which the weights of F and G are averaged
    lookahead_every, lookahead_alpha   k and alpha of Lookahead on D_X, D_Y and H
    share_passes          F(x), G(y) and H(x) are computed once a step; False computes them anew for each update, as Algorithm 1 reads
    """

    nets: str = "iscl"
    width: int = 32
    blocks: int = 3
    extractor_width: int = 32
    extractor_depth: int = 20
    critic_width: int = 32
    critic_norm: bool = True
    lr: float = 1e-4
    lr_end: float = 1e-6
    critic_lr: float = 0.0
    optimizer: str = "radam"
    start: float = 0.0
    nested_weight: float = 30.0
    agreement: float = 1.0
    identity: float = 0.0
    grid_weight: float = 0.0
    critics_ramp: float = 0.0
    gamma: float = 0.5
    extract: bool = True
    bypass: bool = True
    boost: bool = True
    noise_consistency: bool = True
    swa_from: float = 0.6
    lookahead_every: int = 6
    lookahead_alpha: float = 0.5
    share_passes: bool = False

    def __post_init__(self) -> None:
        positive = (
            "width",
            "extractor_width",
            "critic_width",
            "batch_size",
            "lr",
            "lr_end",
            "nested_weight",
            "lookahead_every",
        )
        check_positive(type(self).__name__, [(name, getattr(self, name)) for name in positive])
        problems = []
        if self.blocks < 0 or self.extractor_depth < 3:
            problems.append(
                f"blocks = {self.blocks} must not be negative, extractor_depth = {self.extractor_depth} at least 3"
            )
        if self.nets not in NETS:
            problems.append(f"nets = {self.nets!r} must be one of {', '.join(NETS)}")
        if self.optimizer not in OPTIMIZERS:
            problems.append(f"optimizer = {self.optimizer!r} must be one of {', '.join(OPTIMIZERS)}")
        if min(self.critic_lr, self.agreement, self.identity, self.grid_weight) < 0:
            problems.append("critic_lr, agreement, identity and grid_weight must not be negative")
        if self.start > 0 and not self.extract:
            problems.append("start > 0 needs extract = true: the noise is what the extractor finds")
        for name in ("start", "gamma", "swa_from", "lookahead_alpha", "critics_ramp"):
            if not 0 <= getattr(self, name) <= 1:
                problems.append(f"{name} = {getattr(self, name)} must lie in [0, 1]")
        if not self.extract and (self.bypass or self.boost or self.noise_consistency):
            problems.append(
                "extract = false needs bypass, boost and noise_consistency to be false: they all need the extractor"
            )
        problems += self.common_problems()
        if problems:
            raise ConfigError(f"{type(self).__name__}: " + "; ".join(problems))


def translator(config: ISCLConfig, channels: int) -> nn.Module:
    """F or G, (B, C, H, W) in [-1, 1] -> same shape."""
    if config.nets == "iscl":
        return Generator(channels, config.width, config.blocks)
    return ShuffleUNet(channels, config.width)


def extractor(config: ISCLConfig, channels: int) -> nn.Module:
    """H, (B, C, H, W) in [-1, 1] -> noise of the same shape."""
    if config.nets == "iscl":
        return Extractor(channels, config.extractor_width, config.extractor_depth)
    return ShuffleUNet(channels, config.extractor_width, predict="image")


def optimizer(config: ISCLConfig, *nets: nn.Module) -> torch.optim.Optimizer:
    if config.optimizer == "radam":
        return radam(config, *nets)
    return MuonAdam(
        [p for net in nets for p in net.parameters()], config.lr, MUON_BETAS, muon_ratio=MUON_RATIO
    )


def radam(config: ISCLConfig, *nets: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.RAdam([p for net in nets for p in net.parameters()], lr=config.lr, foreach=True)
