"""What the methods that train one network share: network, optimiser, schedule, precision.

Their files add a config, a loss and a docstring.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pairfree.config import architecture
from pairfree.data.patches import TrainingData
from pairfree.errors import ConfigError
from pairfree.methods.base import (
    At,
    Method,
    check_positive,
    flat_then_linear,
    halvings,
    set_rate,
    update,
    warm_cosine,
)
from pairfree.methods.parts.optim import MUON, MuonAdam
from pairfree.nets import NETS, build
from pairfree.nets.blocks import channels_last, placed
from pairfree.nets.start import SCENES
from pairfree.nets.traits import GRID_PATCHES, settle_grid, total_stride

SCHEDULES = {"warm-cosine": warm_cosine, "flat-then-linear": flat_then_linear, "halvings": halvings}
COLOURS = 3
"""Channels of colour images."""
OPTIMIZERS = ("muon", "adam")
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class SingleConfig:
    """Settings of a method with one network."""

    net: str = architecture("shuffle-unet")
    """Name of the network f in ``nets.NETS``."""

    width: int = architecture(0)
    """Channels of the network's first level; 0 is the network's own default."""

    predict: str = architecture("")
    """What comes of y: "residual", y - f(y); "image", f(y); "" is the network's own default."""

    even: bool = False
    """Whether the noise of each plane is measured and made even before the network sees it: of one size at
    all brightnesses and in all files. Results come back through the exact unbiased inverse."""

    patch_px: int = 64
    """Side of the square training patches, pixels."""

    batch_size: int = 16
    """Patches a step."""

    optimizer: str = "muon"
    """Muon for inner kernels, Adam for the rest ("muon", short budgets); Adam alone ("adam", the papers)."""

    lr: float = 2e-3
    """Peak learning rate of Adam."""

    muon_ratio: float = 5.0
    """Muon's rate as a multiple of ``lr``."""

    beta1: float = 0.9
    """Adam's first decay."""

    beta2: float = 0.99
    """Adam's second decay."""

    max_norm: float = 1.0
    """Gradients are scaled down to this joint norm."""

    schedule: str = "warm-cosine"
    """Of the rate: "warm-cosine" (short budgets), "flat-then-linear" (the papers) or "halvings" (GAN2GAN)."""

    precision: str = "auto"
    """Of the convolutions: "float32", "bfloat16", or "auto", bfloat16 where the device is faster with it.

    Weights and losses are float32 always.
    """

    minutes: float = 10.0
    """Budget in minutes, where none is given beside the settings; with 0 ``steps`` counts."""

    steps: int = 0
    """Budget in steps, where none is given beside the settings and ``minutes`` is 0."""

    started_minutes: float = 0.0
    """Budget in minutes of a network that begins from the shipped start, where none is given; 0 is
    ``minutes``."""

    colour_rate: float = 1.0
    """Share of ``lr`` for colour images where the network begins from the shipped start."""

    def __post_init__(self) -> None:
        positive = ("patch_px", "batch_size", "lr", "muon_ratio", "max_norm", "colour_rate")
        check_positive(type(self).__name__, [(name, getattr(self, name)) for name in positive])
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise ConfigError(f"beta1 = {self.beta1}, beta2 = {self.beta2}: must lie in [0, 1)")
        for name in ("width", "minutes", "steps", "started_minutes"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} = {getattr(self, name)}: must not be negative")
        _check_choice("schedule", self.schedule, SCHEDULES)
        _check_choice("optimizer", self.optimizer, OPTIMIZERS)
        _check_choice("precision", self.precision, PRECISIONS)

    @property
    def predicts(self) -> str:
        """What the network predicts: "residual" or "image"; "" of a user's own network, which settles it."""
        if self.net not in NETS:
            return ""
        return self.predict or NETS[self.net].predict

    @property
    def smallest_px(self) -> int:
        """Side of the smallest image that the network sees in training: a patch, or a sub-image of one."""
        return self.patch_px


def _check_choice(name: str, value: str, options: Iterable[str]) -> None:
    if value not in options:
        raise ConfigError(f"{name} = {value!r}: must be one of {', '.join(options)}")


PUBLISHED: dict[str, Any] = {
    "net": "unet",
    "optimizer": "adam",
    "beta2": 0.999,
    "max_norm": 1e9,
    "schedule": "flat-then-linear",
    "precision": "float32",
    "minutes": 0.0,
}
"""What the ``paper`` presets have in common."""
STARTED: dict[str, Any] = {
    "net": "even-unet",
    "even": True,
    "started_minutes": 0.75,
    "colour_rate": 0.25,
}
"""What presets ``cpu`` have in common that begin from the shipped start.

With reading and the report, the budget is a minute; ten times as long gains less than 0.1 dB. At the full
rate colour photographs come out no better than without training (60 training images of BSD300 that were left
out, 290 steps of ``iddp``, seeds 0, 2 and 3: 30.53, 30.54, 30.58 dB; at a quarter 30.73, 30.71, 30.72;
untrained 30.58).
"""


def resolve_precision(precision: str, device: torch.device) -> str:
    """Say what "auto" stands for: what this device computes fastest at no loss of quality.

    Parameters
    ----------
    precision
        "auto", "float32" or "bfloat16".
    device
        Where the networks are.

    Returns
    -------
    str
        "bfloat16" with AMX, AMD's AVX512-BF16 or a recent GPU, else "float32"; a named one as it is.

    Notes
    -----
    Intel's AVX512-BF16 is slower than its float32. Measured on a Xeon without AMX (family 6 model 207), a
    convolution with 64 channels, one thread: 79 GFLOP/s against 139; training IDDP: 3.4 steps/s against 5.6.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:
        fast = device.type == "cpu" and _bfloat16_is_fast()
    return "bfloat16" if fast else "float32"


def _bfloat16_is_fast() -> bool:
    """Whether this CPU has AMX, or an AVX512-BF16 that is not Intel's."""
    if _cpu_has("amx_tile"):
        return True
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return _cpu_has("avx512_bf16") and "Intel" not in str(known.get("cpu_name"))


def _cpu_has(instructions: str) -> bool:
    ask = getattr(torch.cpu, f"_is_{instructions}_supported", None)
    return ask is not None and bool(ask())


def make_optimizer(config: SingleConfig, net: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of ``net`` that the settings name."""
    betas = (config.beta1, config.beta2)
    if config.optimizer == "muon":
        return MuonAdam(net.parameters(), config.lr, betas, muon_ratio=config.muon_ratio)
    return torch.optim.Adam(net.parameters(), lr=config.lr, betas=betas, foreach=True)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """A context in which convolutions are computed in ``precision``, "float32" or "bfloat16"."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def run_network(net: nn.Module, x: Tensor, precision: str) -> Tensor:
    """A forward pass in training precision: (B, C, H, W), network units; float32 comes out."""
    with autocast(x.device, precision):
        out: Tensor = net(channels_last(x))
    return out.float()


class SingleNetwork(Method):
    """A method whose denoiser is its one trained network ``net``.

    Parameters
    ----------
    config
        The method's settings.
    channels
        Channels of the images.
    device
        Where the network is trained.
    net
        A user's own network; default: the one that ``config`` names.

    Raises
    ------
    ConfigError
        For patches whose side is no multiple of the network's stride.
    """

    config: SingleConfig

    def __init__(
        self,
        config: SingleConfig,
        channels: int,
        device: torch.device | str = "cpu",
        net: nn.Module | None = None,
    ) -> None:
        self.config = config
        self.channels = channels
        self.patch_px = config.patch_px
        self.batch_size = config.batch_size
        place = torch.device(device)
        self.precision = resolve_precision(config.precision, place)
        if net is None:
            net = build(config.net, channels, config.width, config.predict)
        _check_patch(config, total_stride(net))
        self.net = placed(net, place)
        self.networks = {"net": self.net}

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """One, of the one network."""
        return {"net": make_optimizer(self.config, self.net)}

    @property
    def sources(self) -> tuple[str, ...]:
        """The method's paper, those of Muon and of the shipped start where they are used."""
        found = [self.citation]
        if self.config.optimizer == "muon":
            found.append(MUON)
        if self.started:
            found.append(SCENES)
        return tuple(found)

    @property
    def rate(self) -> float:
        """Peak learning rate, of Adam; Muon's is a multiple of it."""
        is_colour = self.channels == COLOURS
        return self.config.lr * (self.config.colour_rate if self.started and is_colour else 1.0)

    @property
    def denoiser(self) -> nn.Module:
        """The network itself."""
        return self.net

    def f(self, x: Tensor) -> Tensor:
        """The network in training precision; float32 in and out."""
        return run_network(self.net, x, self.precision)

    @torch.no_grad()
    def finish(self, data: TrainingData, seed: int) -> None:
        """Take off the grid of the denoiser, where it is a network that can."""
        if self.patch_px < 5 * total_stride(self.denoiser):
            return  # too small for it
        places = data.noisy.draw(seed, 0, GRID_PATCHES, "patches for the grid")
        settle_grid(self.denoiser, data.noisy.gather(places))

    @torch.no_grad()
    def f_fixed(self, x: Tensor) -> Tensor:
        """The network's output as a constant."""
        return self.f(x)

    def denoise(self, x: Tensor) -> Tensor:
        """What the denoiser makes of (B, C, H, W), network units."""
        out: Tensor = self.denoiser(channels_last(x))
        return out

    def descend(self, loss: Tensor, at: At, rate: float | None = None) -> dict[str, Tensor]:
        """Set the learning rate (the scheduled one unless given), take one guarded step.

        Parameters
        ----------
        loss
            Scalar.
        at
            Where the step stands.
        rate
            Of Adam, instead of the scheduled one.

        Returns
        -------
        dict
            The loss, detached, to be logged.
        """
        if rate is None:
            rate = self.rate * SCHEDULES[self.config.schedule](at.progress)
        set_rate(self.optimizers["net"], rate)
        update(self.optimizers["net"], loss, at, "net", self.config.max_norm)
        return {"loss": loss.detach()}


def _check_patch(config: SingleConfig, stride: int) -> None:
    """ConfigError where the network cannot take the smallest image of training."""
    if config.smallest_px % stride == 0:
        return
    multiple = stride * (config.patch_px // config.smallest_px)
    raise ConfigError(
        f"patch_px = {config.patch_px}: must be a multiple of {multiple} with the network {config.net!r}"
    )
