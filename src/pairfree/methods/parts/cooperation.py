"""The networks of ISCL and of CycleGAN beside it: who they are, how they are averaged, and what denoises."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pairfree.data.patches import Batch, TrainingData
from pairfree.methods.base import At, require
from pairfree.methods.parts.averages import SWA, Lookahead
from pairfree.methods.parts.unpaired import Bounded, UnpairedConfig, UnpairedMethod, clip_signed
from pairfree.nets.batch_instance_norm import recompute_running_statistics
from pairfree.nets.blocks import channels_last, clip, placed
from pairfree.nets.traits import total_stride

SETTLING_BATCHES = 30
"""Batches that normalisation statistics of the averaged denoiser are computed from."""


def without_noise(x: Tensor, noise: Tensor) -> Tensor:
    """The image x - H(x), clipped to [-1, 1]; shapes (B, C, H, W)."""
    # Departs from the paper: x - H(x) is clipped to [-1, 1] wherever it is used, as the authors' code does
    # with the output.
    return clip(x - noise, -1.0, 1.0)


class Ensemble(nn.Module):
    r"""The result, y = gamma F(x) + (1 - gamma) (x - H(x)); without an extractor it is F(x).

    Parameters
    ----------
    denoise
        F, (B, C, H, W) in [-1, 1] -> same.
    extract
        H, alike; None without an extractor.
    gamma
        Share of F, 0 to 1.

    References
    ----------
    Lee & Jeong, ISCL, eq. 13.
    """

    def __init__(self, denoise: nn.Module, extract: nn.Module | None, gamma: float) -> None:
        super().__init__()
        self.denoise = denoise
        self.extract = extract
        self.gamma = gamma
        self.stride = total_stride(denoise)

    def forward(self, x: Tensor) -> Tensor:
        """Noisy images (B, C, H, W) -> y."""
        first, second = self.both(x)
        if second is None:
            return first
        return self.gamma * first + (1.0 - self.gamma) * second

    def both(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """F(x), and x - H(x) where there is an H."""
        first = self.denoise(x)
        if self.extract is None:
            return first, None
        return first, without_noise(x, self.extract(x))


def make_radam(lr: float, *nets: nn.Module) -> torch.optim.Optimizer:
    """RAdam (Liu et al., ICLR 2020) for all weights of some networks."""
    parameters = [parameter for net in nets for parameter in net.parameters()]
    return torch.optim.RAdam(parameters, lr=lr, foreach=True)


@dataclass(frozen=True)
class Passes:
    """A batch and what the networks make of it, all (B, C, H, W) in [-1, 1]."""

    x: Tensor
    """Noisy patches."""
    y: Tensor
    """Clean patches."""
    before_noise: Tensor
    """What G adds noise to: y in the paper."""
    denoised: Tensor
    """F(x)."""
    made_noisy: Tensor
    """G(y)."""
    extracted: Tensor | None
    """H(x); None without an extractor."""
    pseudo_noisy: Tensor
    """y + H(x), a constant; y without an extractor."""

    @property
    def noise(self) -> Tensor:
        """H(x), a constant."""
        return require(self.extracted, "an extractor").detach()

    @property
    def pseudo_clean(self) -> Tensor:
        """The image x - H(x), a constant."""
        return without_noise(self.x, self.noise)


class Cooperation(UnpairedMethod):
    """Translators F and G, critics D_X and D_Y, and an extractor H, which CycleGAN lacks.

    A subclass makes the networks and trains them. F and G are averaged (SWA), D_X, D_Y and H kept on a leash
    (Lookahead). The averaged F and the slow H denoise.
    """

    def __init__(
        self,
        config: UnpairedConfig,
        channels: int,
        device: torch.device | str,
        net: nn.Module | None,
        extract: bool,
    ) -> None:
        super().__init__(config, device, net)
        self.networks: dict[str, nn.Module] = {}
        self.leashes: dict[str, Lookahead] = {}
        self.trained: list[nn.Module] = []
        self.build_networks(channels, extract)
        # Departs from the paper: What lies beyond [-1, 1] in the input is put back on the output.
        slow = self.leashes["H"].net if extract else None
        self.ensemble = self.make_ensemble(self.F_swa.net, slow)
        self.bounded = Bounded(self.ensemble)

    def build_networks(self, channels: int, extract: bool) -> None:
        """All networks, their averages and slow weights, by name."""
        self.F = self._add("F", self.make_denoiser(channels))
        self.G = self._add("G", self.make_translator(channels))
        self.D_X = self._add("D_X", self.make_critic(channels))
        self.D_Y = self._add("D_Y", self.make_critic(channels))
        self.F_swa = SWA(self.F)
        self.G_swa = SWA(self.G)
        self.networks |= {"F_swa": self.F_swa, "G_swa": self.G_swa}
        self._leash("D_X")
        self._leash("D_Y")
        if extract:
            self.H = self._add("H", self.make_extractor(channels))
            self._leash("H")

    def _add(self, name: str, net: nn.Module) -> nn.Module:
        """One of the networks that are trained."""
        self.networks[name] = placed(net, self.place)
        self.trained.append(self.networks[name])
        return self.networks[name]

    def _leash(self, name: str) -> None:
        leash = self.make_leash(self.networks[name])
        self.leashes[name] = leash
        self.networks[f"{name}_slow"] = leash

    def make_denoiser(self, channels: int) -> nn.Module:
        """F, (B, C, H, W) in [-1, 1] -> same."""
        return self.make_translator(channels)

    @abstractmethod
    def make_translator(self, channels: int) -> nn.Module:
        """G, and F where it is of the same make, (B, C, H, W) in [-1, 1] -> same."""

    @abstractmethod
    def make_critic(self, channels: int) -> nn.Module:
        """D_X or D_Y, (B, C, H, W) in [-1, 1] -> scores."""

    @abstractmethod
    def make_extractor(self, channels: int) -> nn.Module:
        """H, (B, C, H, W) in [-1, 1] -> noise of that shape."""

    @abstractmethod
    def make_leash(self, net: nn.Module) -> Lookahead:
        """The slow weights of a network."""

    @abstractmethod
    def make_ensemble(self, denoise: nn.Module, extract: nn.Module | None) -> Ensemble:
        """What denoises."""

    @abstractmethod
    def noisy_patches(self, batch: Batch, at: At) -> Tensor:
        """What F and H see of the noisy patches of a step, (B, C, P, P) in [-1, 1]."""

    def average_weights(self, begun: bool) -> None:
        """The averages of F and G take in today's weights, or, until averaging has begun, are those."""
        for average, net in ((self.F_swa, self.F), (self.G_swa, self.G)):
            if begun:
                average.add(net)
            else:
                average.begin(net)

    def look_ahead(self, at: At) -> None:
        """Lookahead of D_X, D_Y and H, which takes place every k steps."""
        for name, leash in self.leashes.items():
            leash.after_step(self.networks[name], at.step + 1)

    def finish(self, data: TrainingData, seed: int) -> None:
        """Normalisation statistics of the averaged F and of the slow H, from batches of noisy patches."""
        # Departs from the paper: The batch part of batch-instance normalisation uses running statistics when
        # the denoiser is applied, computed anew for the averaged weights; the authors' code uses those of the
        # test batch. The instance part uses the whole image for all tiles.
        for net in (self.ensemble.denoise, self.ensemble.extract):
            if net is not None:
                recompute_running_statistics(net, self._settling_batches(data, seed))

    def _settling_batches(self, data: TrainingData, seed: int) -> Iterator[Tensor]:
        for step in range(SETTLING_BATCHES):
            at = At(seed, step, "finish", step, SETTLING_BATCHES)
            yield self.noisy_patches(data.batch(seed, step, self.batch_size), at)

    @property
    def disagrees(self) -> bool:
        """Whether there is an extractor, which denoises beside F."""
        return self.ensemble.extract is not None

    def disagreement(self, x: Tensor) -> Tensor:
        """|F(x) - (x - H(x))|: both are denoisers, of different make."""
        if self.ensemble.extract is None:
            return super().disagreement(x)
        first, second = self.ensemble.both(clip_signed(channels_last(x)))
        second = require(second, "an extractor")
        return (first - second).abs() / 2.0

    @property
    def denoiser(self) -> nn.Module:
        """The ensemble, for images beyond [-1, 1] too."""
        return self.bounded
