"""Methods without a training run: what they learn, they learn from each image as it is denoised. A run records their settings."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from pairfree.data.patches import Batch, TrainingData
from pairfree.data.seeding import generator
from pairfree.errors import ConfigError
from pairfree.methods.base import At, Method, check_positive, flat_then_linear, set_rate, update
from pairfree.methods.parts.optim import MuonAdam

PROBE_PX = 128
"""Side of the image that memory is measured on."""
LEARNING, PREDICTING = 2.0, 0.8
"""Memory of a step, and of a pass without gradients, as multiples of what a backward pass holds, with room above what was measured: on 256
to 1024 px a side the process grew by 1.1 to 1.8 and 0.35 to 0.6 of it."""
STATES = 5
"""Copies of the weights: themselves, gradients, Adam's moments, a running average."""
TIMED_STEPS = 3
LEAST_CELLS = 2
"""Smaller images are grown to this many times the network's stride: batch norm needs more than one value."""


class Untrained(Method):
    """A method whose ``step`` does nothing, so that every command works with it; its network denoises whole images."""

    trains = False
    net: nn.Module

    def refuse(self, net: nn.Module | None) -> None:
        """ConfigError for a user's network, which there is no place for."""
        if net is not None:
            raise ConfigError(f"{self.key}: trains no network before it denoises, and takes no net=")

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        return {"loss": torch.zeros(())}

    def denoise(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out

    @property
    def denoiser(self) -> nn.Module:
        return self.net


@dataclass(frozen=True)
class OneImageConfig:
    """minutes      spent on each image; 0: ``steps`` counts
    steps        optimiser steps on each image
    width        channels of the network's first level
    lr           learning rate of Adam
    muon_ratio   rate of Muon on inner kernels as a multiple of lr, Adam on the rest; 0: Adam alone, as in the papers
    falling      the rate falls to 0 over the second half of the budget; without it, it stays, as in the papers
    """

    minutes: float = 0.0
    steps: int = 2000
    width: int = 16
    lr: float = 1e-2
    muon_ratio: float = 0.0
    falling: bool = False

    def __post_init__(self) -> None:
        check_positive(type(self).__name__, [("width", self.width), ("lr", self.lr)])
        if min(self.minutes, self.steps) < 0 or not 0 < max(self.minutes, self.steps) < math.inf:
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


def with_budget(config: Any, minutes: float | None, steps: int | None) -> Any:
    """The config with the budget that is given, where a method learns each image; any other config as it is."""
    if not isinstance(config, OneImageConfig) or (minutes is None and steps is None):
        return config
    return replace(config, minutes=float(minutes or 0), steps=int(steps or 0))


def unused(method: Method, slices_around: int, budget: float | None) -> list[str]:
    """A line where a method that trains nothing makes no use of the budget. ConfigError for slices that it would not learn from either."""
    if method.trains:
        return []
    if slices_around:
        raise ConfigError(
            f"method {method.key} learns nothing from the slices around each: leave --slices-around out"
        )
    return (
        [f"method {method.key} learns nothing: the budget is not used"]
        if budget and not method.one_image
        else []
    )


class Fit(ABC):
    """One image being learned.

    y     the noisy image (1, C, H, W), network units; seed   of the run: everything random at step k follows from (seed, k)
    net   what learns it
    """

    config: OneImageConfig
    settled = False
    """True where more steps would only make it worse."""
    finishing = 0.0
    """What ``result`` takes, in steps."""

    def __init__(self, y: Tensor, seed: int, config: OneImageConfig, net: nn.Module) -> None:
        self.y, self.seed, self.config, self.net = y, seed, config, net
        self.optimizer: torch.optim.Optimizer
        if config.muon_ratio:
            self.optimizer = MuonAdam(
                net.parameters(), lr=config.lr, betas=(0.9, 0.99), muon_ratio=config.muon_ratio
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
    def result(self, tell: Callable[[float], None] = lambda share: None, until: float = math.inf) -> Tensor:
        """The image as it is denoised now, (1, C, H, W).

        tell   called with the share of it that is done;  until   ``time.monotonic()`` when it should be there
        """

    @property
    def step_px(self) -> int:
        """Pixels of the image that one step learns from."""
        return math.prod(self.y.shape[-2:])

    def rng(self, step: int, purpose: str) -> torch.Generator:
        return generator(self.seed, step, purpose, self.y.device)


class OneImage(nn.Module):
    """``make`` a fit for an image, let it learn for its budget, take its result: (B, C, H, W) -> same, one image after the other.

    progress   called with the share of the work that is done, in 0..1, as it goes on; None for silence
    """

    whole_image = True

    def __init__(self, config: OneImageConfig, stride: int, make: Callable[[Tensor, int], Fit]) -> None:
        super().__init__()
        self.config, self.stride, self.make = config, stride, make
        self.progress: Callable[[float], None] | None = None
        self.register_buffer("seed", torch.zeros((), dtype=torch.int64))
        self.seed: Tensor

    def forward(self, x: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            return torch.cat([self._learned(x, index) for index in range(len(x))])

    def whole_bytes(self, channels: int) -> tuple[float, float]:
        """Memory that learning an image takes, bytes: beside its size, and for each pixel. From what the backward pass of a small one
        holds: a fit whose steps learn from all of an image holds that of all of it, one that learns from pieces that of a piece, and of
        the image what predicting it takes."""
        side, held = max(PROBE_PX, LEAST_CELLS * self.stride), {}

        def keep(tensor: Tensor) -> Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        ):
            fit = self.make(torch.zeros(1, channels, side, side, device=self.seed.device), 0)
            fit.loss(At(0, 0, "image", 0, 1))
        weights = sum(
            parameter.nbytes for group in fit.optimizer.param_groups for parameter in group["params"]
        )
        saved = sum(held.values())
        if fit.step_px == side**2:
            return STATES * weights, LEARNING * saved / fit.step_px
        return STATES * weights + LEARNING * saved, PREDICTING * saved / fit.step_px

    def seconds(self, channels: int, height: int, width: int) -> float:
        """What an image of that size takes at most: its minutes, or its steps and its result, from the fastest of a few steps."""
        if self.config.minutes:
            return 60.0 * self.config.minutes
        sides, took = (
            [max(LEAST_CELLS, -(-side // self.stride)) * self.stride for side in (height, width)],
            [],
        )
        with torch.inference_mode(False), torch.enable_grad():
            fit = self.make(torch.zeros(1, channels, *sides, device=self.seed.device), 0)
            for step in range(TIMED_STEPS):
                began = time.monotonic()
                fit.step(At(0, step, "image", step, self.config.steps))
                took.append(time.monotonic() - began)
        return min(took) * (self.config.steps + fit.finishing)

    def _learned(self, x: Tensor, index: int) -> Tensor:
        height, width = x.shape[-2:]
        least = LEAST_CELLS * self.stride
        y = nn.functional.pad(
            x[index : index + 1].clone().float(),
            (0, max(0, least - width), 0, max(0, least - height)),
            mode="replicate",
        )
        fit = self.make(y, int(self.seed))
        began, limit_s = time.monotonic(), 60.0 * self.config.minutes

        def tell(share: float) -> None:
            if self.progress is not None:
                self.progress((index + min(1.0, share)) / len(x))

        step, share, learning = 0, 0.0, 1.0
        while share < 1.0 and not fit.settled:
            expected = round(step / share) if limit_s and share else self.config.steps
            fit.step(At(int(self.seed), step, "image", step, max(step + 1, expected)))
            step += 1
            spent_s = max(1e-9, time.monotonic() - began)  # a coarse clock may not have moved yet
            learning = _learning(
                fit, limit_s * step / spent_s if limit_s else self.config.steps + fit.finishing
            )
            share = spent_s / (learning * limit_s) if limit_s else step / self.config.steps
            tell(learning * min(1.0, share))
        made = fit.result(
            lambda done: tell(learning + (1.0 - learning) * done), began + limit_s if limit_s else math.inf
        )
        return made.detach()[..., :height, :width]


def _learning(fit: Fit, budget: float) -> float:
    """Share of a budget of so many steps that is spent on steps, the rest on the result: half of it at least."""
    return max(0.5, 1.0 - fit.finishing / budget)


class OneImageMethod(Untrained):
    """A method whose network is a ``OneImage``; the run's seed is kept in it."""

    one_image = True
    net: OneImage
    config: OneImageConfig

    def __init__(
        self,
        config: OneImageConfig,
        stride: int,
        make: Callable[[Tensor, int], Fit],
        device: torch.device | str,
        net: nn.Module | None,
    ) -> None:
        self.refuse(net)
        self.config = config
        self.place = torch.device(device)
        self.net = OneImage(config, stride, make).to(self.place)
        self.networks = {"net": self.net}

    def prepare(self, data: TrainingData, seed: int) -> None:
        self.net.seed.fill_(seed)

    @property
    def device(self) -> torch.device:
        return self.place


def fresh(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network whose first weights follow from the seed, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()
