"""What the methods that train one network share: network, Adam, schedule, precision. Their files add a config, a loss and a docstring."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pairfree.errors import ConfigError
from pairfree.methods.base import At, Method, check_positive, flat_then_linear, set_rate, update, warm_cosine
from pairfree.nets import build
from pairfree.nets.blocks import channels_last

SCHEDULES = {"warm-cosine": warm_cosine, "flat-then-linear": flat_then_linear}


@dataclass(frozen=True)
class SingleConfig:
    """Settings of a method with one network.

    net         name in ``nets.NETS``
    width       channels of its first level; 0 is the network's default
    predict     "residual": output y - f(y); "image": output f(y); "" is the network's default
    patch_px    side of the square training patches, pixels
    batch_size  patches a step
    lr          peak learning rate of Adam
    beta1       Adam's first decay; beta2 its second
    max_norm    gradients are scaled down to this joint norm
    schedule    "warm-cosine" (short budgets) or "flat-then-linear" (the papers')
    precision   "auto": bfloat16 convolutions where the device has them in hardware, else float32; weights and losses are always float32
    minutes     budget when none is given on the command line; 0 means ``steps`` counts
    steps       likewise
    """

    net: str = "shuffle-unet"
    width: int = 0
    predict: str = ""
    patch_px: int = 64
    batch_size: int = 16
    lr: float = 2e-3
    beta1: float = 0.9
    beta2: float = 0.99
    max_norm: float = 1.0
    schedule: str = "warm-cosine"
    precision: str = "auto"
    minutes: float = 10.0
    steps: int = 0

    def __post_init__(self) -> None:
        check_positive(type(self).__name__, [(key, getattr(self, key)) for key in ("patch_px", "batch_size", "lr", "max_norm")])
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"schedule = {self.schedule!r}: must be one of {', '.join(SCHEDULES)}")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision = {self.precision!r}: must be one of {', '.join(PRECISIONS)}")


PRECISIONS = ("auto", "float32", "bfloat16")


def resolve_precision(precision: str, device: torch.device) -> str:
    """ "auto" -> what this device computes fastest without losing quality: bfloat16 with AVX512-BF16, AMX or a recent GPU, else float32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    hardware = device.type == "cpu" and any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)
    return "bfloat16" if hardware else "float32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


class SingleNetwork(Method):
    """A method whose denoiser is its one trained network ``net``."""

    def __init__(self, config: SingleConfig, channels: int, device: torch.device | str = "cpu", net: nn.Module | None = None) -> None:
        self.config = config
        self.patch_px, self.batch_size = config.patch_px, config.batch_size
        place = torch.device(device)
        self.precision = resolve_precision(config.precision, place)
        made = net if net is not None else build(config.net, channels, config.width, config.predict)
        self.net = made.to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.networks = {"net": self.net}
        self.optimizers = {"net": torch.optim.Adam(self.net.parameters(), lr=config.lr, betas=(config.beta1, config.beta2), foreach=True)}

    @property
    def denoiser(self) -> nn.Module:
        return self.net

    def f(self, x: Tensor) -> Tensor:
        """The network in training precision; float32 in and out."""
        with autocast(x.device, self.precision):
            out: Tensor = self.net(channels_last(x))
        return out.float()

    @torch.no_grad()
    def f_fixed(self, x: Tensor) -> Tensor:
        """The network's output as a constant."""
        return self.f(x)

    def denoise(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(channels_last(x))
        return out

    def descend(self, loss: Tensor, at: At, scale: float = 1.0) -> dict[str, Tensor]:
        """Set the scheduled rate, take one guarded step."""
        set_rate(self.optimizers["net"], self.config.lr * scale * SCHEDULES[self.config.schedule](at.progress))
        update(self.optimizers["net"], loss, at, "net", self.config.max_norm)
        return {"loss": loss.detach()}
