"""Methods that learn each image by itself as it is denoised."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from pairfree.config import architecture
from pairfree.data.patches import TrainingData
from pairfree.data.seeding import generator
from pairfree.errors import ConfigError
from pairfree.methods.base import At, check_positive, flat_then_linear, set_rate, update
from pairfree.methods.parts.optim import MuonAdam
from pairfree.methods.parts.spent import Spent
from pairfree.methods.parts.untrained import Untrained

PROBE_PX = 128
"""Side of the image that memory is measured on."""
LEARNING = 2.0
"""Memory of a step as a multiple of what a backward pass holds, with room above what was measured.

On 256 to 1024 px a side the process grew by 1.1 to 1.8 of it.
"""
PREDICTING = 0.8
"""That of a pass without gradients; measured 0.35 to 0.6."""
STATES = 5
"""Copies of the weights: themselves, gradients, Adam's moments, a running average."""
TIMED_STEPS = 3
LEAST_CELLS = 2
"""Smaller images are grown to this many times the network's stride: batch norm needs more than one value."""

Tell = Callable[[float], None]
"""Called with the share of some work that is done, in 0..1."""


@dataclass(frozen=True)
class OneImageConfig:
    """Settings of a method that learns each image by itself."""

    minutes: float = 0.0
    """Spent on each image; with 0 ``steps`` counts."""

    steps: int = 2000
    """Optimiser steps on each image."""

    width: int = architecture(16)
    """Channels of the network's first level."""

    lr: float = 1e-2
    """Learning rate of Adam."""

    muon_ratio: float = 0.0
    """Rate of Muon on inner kernels as a multiple of ``lr``, Adam on the rest; 0: Adam alone (the papers)."""

    falling: bool = False
    """The rate falls to 0 over the second half of the budget; without it, it stays, as in the papers."""

    def __post_init__(self) -> None:
        check_positive(type(self).__name__, [("width", self.width), ("lr", self.lr)])
        least = min(self.minutes, self.steps)
        most = max(self.minutes, self.steps)
        if least < 0 or not 0 < most < math.inf:
            raise ConfigError(
                f"minutes = {self.minutes}, steps = {self.steps}: one must be above 0, none below"
            )
        problems = self.own_problems()
        if self.muon_ratio < 0:
            problems.append(f"muon_ratio = {self.muon_ratio} must not be negative")
        if problems:
            raise ConfigError(f"{type(self).__name__}: " + "; ".join(problems))

    def own_problems(self) -> list[str]:
        """What is wrong with the settings that a subclass adds."""
        return []


def apply_budget(config: Any, minutes: float | None, steps: int | None) -> Any:
    """The config with the budget that is given, where a method learns each image; else as it is."""
    if not isinstance(config, OneImageConfig) or (minutes is None and steps is None):
        return config
    return replace(config, minutes=float(minutes or 0), steps=int(steps or 0))


def ignore_share(share: float) -> None:
    """A ``Tell`` for nobody."""


class Fit(ABC):
    """One image being learned.

    Parameters
    ----------
    y
        The noisy image (1, C, H, W), network units.
    seed
        Of the run: everything random at step k follows from (seed, k).
    config
        The method's settings.
    net
        What learns the image.
    """

    config: OneImageConfig
    settled = False
    """True where more steps would only make it worse."""
    finishing = 0.0
    """What ``result`` takes, in steps."""

    def __init__(self, y: Tensor, seed: int, config: OneImageConfig, net: nn.Module) -> None:
        self.y = y
        self.seed = seed
        self.config = config
        self.net = net
        self.optimizer: torch.optim.Optimizer
        if config.muon_ratio:
            betas = (0.9, 0.99)
            self.optimizer = MuonAdam(
                net.parameters(),
                config.lr,
                betas,
                muon_ratio=config.muon_ratio,
            )
        else:
            self.optimizer = torch.optim.Adam(net.parameters(), lr=config.lr, foreach=True)

    @abstractmethod
    def loss(self, at: At) -> Tensor:
        """What step ``at`` descends, a scalar."""

    def step(self, at: At) -> None:
        """One optimiser step. DivergedError where the loss is not finite."""
        if self.config.falling:
            set_rate(self.optimizer, self.config.lr * flat_then_linear(at.progress))
        update(self.optimizer, self.loss(at), at, "net")

    @abstractmethod
    def result(self, tell: Tell = ignore_share, until: float = math.inf) -> Tensor:
        """The image as it is denoised now.

        Parameters
        ----------
        tell
            Called with the share of the result that is made.
        until
            ``time.monotonic()`` when it should be there.

        Returns
        -------
        Tensor
            (1, C, H, W), network units.
        """

    @property
    def step_px(self) -> int:
        """Pixels of the image that one step learns from."""
        return math.prod(self.y.shape[-2:])

    def rng(self, step: int, purpose: str) -> torch.Generator:
        """The generator of what is drawn for one purpose of a step."""
        return generator(self.seed, step, purpose, self.y.device)


MakeFit = Callable[[Tensor, int], Fit]
"""An image (1, C, H, W) in network units and a seed -> a fit that has learned nothing yet."""


class OneImage(nn.Module):
    """Make a fit for an image, let it learn for its budget, take its result, one image after the other.

    Parameters
    ----------
    config
        The method's settings, with the budget of an image.
    stride
        Of the network that learns.
    make
        Makes a fit.

    Attributes
    ----------
    progress
        Called with the share of the work that is done, in 0..1, as it goes on; None for silence.
    """

    whole_image = True
    seed: Tensor

    def __init__(self, config: OneImageConfig, stride: int, make: MakeFit) -> None:
        super().__init__()
        self.config = config
        self.stride = stride
        self.make = make
        self.progress: Tell | None = None
        self.register_buffer("seed", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Noisy images (B, C, H, W), network units -> same."""
        with _gradients():
            made = [self._learn_image(x, index) for index in range(len(x))]
            return torch.cat(made)

    def whole_bytes(self, channels: int) -> tuple[float, float]:
        """Memory that learning an image takes, from what the backward pass of a small one holds.

        A fit whose steps learn from all of an image holds that of all of it; one that learns from pieces that
        of a piece, and of the image what predicting it takes.

        Parameters
        ----------
        channels
            Of the image.

        Returns
        -------
        tuple of float
            Bytes beside the image's size, and bytes for each pixel.
        """
        side = max(PROBE_PX, LEAST_CELLS * self.stride)
        fit, saved = self._measure_step(channels, side)
        weights = 0
        for group in fit.optimizer.param_groups:
            weights += sum(parameter.nbytes for parameter in group["params"])
        if fit.step_px == side**2:
            return STATES * weights, LEARNING * saved / fit.step_px
        beside = STATES * weights + LEARNING * saved
        return beside, PREDICTING * saved / fit.step_px

    def _measure_step(self, channels: int, side: int) -> tuple[Fit, int]:
        """A fit of a black square image, and the bytes that its backward pass holds."""
        held: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            held[storage.data_ptr()] = storage.nbytes()
            return tensor

        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        with _gradients(), hooks:
            fit = self._make_black(channels, side, side)
            fit.loss(At(0, 0, "image", 0, 1))
        return fit, sum(held.values())

    def _make_black(self, channels: int, height: int, width: int) -> Fit:
        y = torch.zeros(1, channels, height, width, device=self.seed.device)
        return self.make(y, 0)

    def seconds(self, channels: int, height: int, width: int) -> float:
        """What an image takes at most: its minutes, or, from the fastest of a few steps, all and the result.

        Parameters
        ----------
        channels, height, width
            Of the image.

        Returns
        -------
        float
            Seconds.
        """
        if self.config.minutes:
            return 60.0 * self.config.minutes
        took = []
        with _gradients():
            fit = self._make_black(channels, self._grow(height), self._grow(width))
            for step in range(TIMED_STEPS):
                began = time.monotonic()
                fit.step(At(0, step, "image", step, self.config.steps))
                took.append(time.monotonic() - began)
        return min(took) * (self.config.steps + fit.finishing)

    def _grow(self, side: int) -> int:
        """The side that an image is predicted with: a multiple of the stride, not too small."""
        cells = -(-side // self.stride)
        return max(LEAST_CELLS, cells) * self.stride

    def _learn_image(self, x: Tensor, index: int) -> Tensor:
        """Image ``index`` of (B, C, H, W), denoised: (1, C, H, W)."""
        height, width = x.shape[-2:]
        seed = int(self.seed)
        image = x[index : index + 1]
        fit = self.make(self._pad(image), seed)
        spent = Spent(self.config.minutes, self.config.steps, fit.finishing)

        def tell(share: float) -> None:
            if self.progress is not None:
                self.progress((index + min(1.0, share)) / len(x))

        def tell_result(share: float) -> None:
            tell(spent.learning + (1.0 - spent.learning) * share)

        while spent.share < 1.0 and not fit.settled:
            steps = max(spent.step + 1, spent.expect_steps())
            fit.step(At(seed, spent.step, "image", spent.step, steps))
            spent.count_step()
            tell(spent.learning * min(1.0, spent.share))
        made = fit.result(tell_result, spent.until)
        return made.detach()[..., :height, :width]

    def _pad(self, image: Tensor) -> Tensor:
        """A copy in float32, of at least the smallest size that can be learned."""
        height, width = image.shape[-2:]
        least = LEAST_CELLS * self.stride
        right = max(0, least - width)
        bottom = max(0, least - height)
        copied = image.clone().float()
        return nn.functional.pad(copied, (0, right, 0, bottom), mode="replicate")


@contextmanager
def _gradients() -> Iterator[None]:
    """Learning also inside of ``torch.inference_mode``."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


class OneImageMethod(Untrained):
    """A method whose network is a ``OneImage``; the run's seed is kept in it.

    Parameters
    ----------
    config
        The method's settings.
    stride
        Of the network that learns.
    make
        Makes a fit.
    device
        Where images are learned.
    net
        A user's own network, which is refused.
    """

    one_image = True
    net: OneImage
    config: OneImageConfig

    def __init__(
        self,
        config: OneImageConfig,
        stride: int,
        make: MakeFit,
        device: torch.device | str,
        net: nn.Module | None,
    ) -> None:
        self.refuse_network(net)
        self.config = config
        self.place = torch.device(device)
        self.net = OneImage(config, stride, make).to(self.place)
        self.networks = {"net": self.net}

    def prepare(self, data: TrainingData, seed: int) -> None:
        """Keep the seed."""
        self.net.seed.fill_(seed)

    @property
    def device(self) -> torch.device:
        """Where images are learned; the network has no weights before."""
        return self.place


def make_seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network whose first weights follow from the seed, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()
