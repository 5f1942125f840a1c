"""What the methods that train one network share: network, Adam, schedule, precision. Their files add a config, a loss and a docstring."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

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
from pairfree.nets.blocks import channels_last, placed, total_stride

SCHEDULES = {"warm-cosine": warm_cosine, "flat-then-linear": flat_then_linear, "halvings": halvings}


@dataclass(frozen=True)
class SingleConfig:
    """Settings of a method with one network.

    net         name in ``nets.NETS``
    width       channels of its first level; 0 is the network's default
    predict     "residual": output y - f(y); "image": output f(y); "" is the network's default
    patch_px    side of the square training patches, pixels
    batch_size  patches a step
    optimizer   "muon": Muon for the inner kernels, Adam for the rest (short budgets); "adam": Adam alone (the papers)
    lr          peak learning rate of Adam
    muon_ratio  Muon's rate as a multiple of lr
    beta1       Adam's first decay; beta2 its second
    max_norm    gradients are scaled down to this joint norm
    schedule    "warm-cosine" (short budgets), "flat-then-linear" (the papers') or "halvings" (GAN2GAN's)
    precision   "auto": bfloat16 convolutions where the device is faster with them, else float32; weights and losses are always float32
    minutes     budget when none is given on the command line; 0 means ``steps`` counts
    steps       likewise
    """

    net: str = "shuffle-unet"
    width: int = 0
    predict: str = ""
    patch_px: int = 64
    batch_size: int = 16
    optimizer: str = "muon"
    lr: float = 2e-3
    muon_ratio: float = 5.0
    beta1: float = 0.9
    beta2: float = 0.99
    max_norm: float = 1.0
    schedule: str = "warm-cosine"
    precision: str = "auto"
    minutes: float = 10.0
    steps: int = 0

    def __post_init__(self) -> None:
        check_positive(
            type(self).__name__,
            [(key, getattr(self, key)) for key in ("patch_px", "batch_size", "lr", "muon_ratio", "max_norm")],
        )
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise ConfigError(f"beta1 = {self.beta1}, beta2 = {self.beta2}: must lie in [0, 1)")
        if min(self.width, self.minutes, self.steps) < 0:
            raise ConfigError(
                f"width = {self.width}, minutes = {self.minutes}, steps = {self.steps}: must not be negative"
            )
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"schedule = {self.schedule!r}: must be one of {', '.join(SCHEDULES)}")
        if self.optimizer not in OPTIMIZERS:
            raise ConfigError(f"optimizer = {self.optimizer!r}: must be one of {', '.join(OPTIMIZERS)}")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision = {self.precision!r}: must be one of {', '.join(PRECISIONS)}")

    @property
    def predicts(self) -> str:
        """What the network predicts: "residual" or "image"; "" of a user's own network, which settles that itself."""
        return (self.predict or NETS[self.net].predict) if self.net in NETS else ""

    @property
    def smallest_px(self) -> int:
        """Side of the smallest image that the network sees in training: a patch, or a sub-image of one."""
        return self.patch_px


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
OPTIMIZERS = ("muon", "adam")
PRECISIONS = ("auto", "float32", "bfloat16")


def resolve_precision(precision: str, device: torch.device) -> str:
    """ "auto" -> what this device computes fastest at no loss of quality: bfloat16 with AMX, AMD's AVX512-BF16, a recent GPU; else float32.

    Intel's AVX512-BF16 is slower than its float32. Measured on a Xeon without AMX (family 6 model 207), a convolution with 64 channels, one
    thread: 79 GFLOP/s against 139; training of IDDP: 3.4 steps/s against 5.6.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if device.type == "cpu" and _bfloat16_is_fast() else "float32"


def _bfloat16_is_fast() -> bool:
    amx, avx = (
        getattr(torch.cpu, f"_is_{name}_supported", lambda: False)() for name in ("amx_tile", "avx512_bf16")
    )
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(amx or (avx and "Intel" not in str(known.get("cpu_name"))))


def optimizer_of(config: SingleConfig, net: nn.Module) -> torch.optim.Optimizer:
    betas = (config.beta1, config.beta2)
    if config.optimizer == "muon":
        return MuonAdam(net.parameters(), config.lr, betas, muon_ratio=config.muon_ratio)
    return torch.optim.Adam(net.parameters(), lr=config.lr, betas=betas, foreach=True)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def run(net: nn.Module, x: Tensor, precision: str) -> Tensor:
    """A forward pass in training precision; float32 out."""
    with autocast(x.device, precision):
        out: Tensor = net(channels_last(x))
    return out.float()


class SingleNetwork(Method):
    """A method whose denoiser is its one trained network ``net``."""

    def __init__(
        self,
        config: SingleConfig,
        channels: int,
        device: torch.device | str = "cpu",
        net: nn.Module | None = None,
    ) -> None:
        self.config = config
        self.patch_px, self.batch_size = config.patch_px, config.batch_size
        place = torch.device(device)
        self.precision = resolve_precision(config.precision, place)
        made = net if net is not None else build(config.net, channels, config.width, config.predict)
        stride = total_stride(made)
        if config.smallest_px % stride:
            multiple = stride * (config.patch_px // config.smallest_px)
            raise ConfigError(
                f"patch_px = {config.patch_px}: must be a multiple of {multiple} with the network {config.net!r}"
            )
        self.net = placed(made, place)
        self.networks = {"net": self.net}

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"net": optimizer_of(self.config, self.net)}

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.citation, MUON) if self.config.optimizer == "muon" else (self.citation,)

    @property
    def denoiser(self) -> nn.Module:
        return self.net

    def f(self, x: Tensor) -> Tensor:
        """The network in training precision; float32 in and out."""
        return run(self.net, x, self.precision)

    @torch.no_grad()
    def f_fixed(self, x: Tensor) -> Tensor:
        """The network's output as a constant."""
        return self.f(x)

    def denoise(self, x: Tensor) -> Tensor:
        out: Tensor = self.denoiser(channels_last(x))
        return out

    def descend(self, loss: Tensor, at: At, rate: float | None = None) -> dict[str, Tensor]:
        """Set the learning rate (the scheduled one unless given), take one guarded step."""
        scheduled = self.config.lr * SCHEDULES[self.config.schedule](at.progress)
        set_rate(self.optimizers["net"], scheduled if rate is None else rate)
        update(self.optimizers["net"], loss, at, "net", self.config.max_norm)
        return {"loss": loss.detach()}
