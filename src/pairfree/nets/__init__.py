"""Networks; they know nothing of methods. ``build`` makes one from its name and settings."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from pairfree.errors import ConfigError
from pairfree.nets.dncnn import DnCNN
from pairfree.nets.shuffle_unet import ShuffleUNet
from pairfree.nets.unet import UNet

NETS: dict[str, Callable[[int, int, str], nn.Module]] = {
    "shuffle-unet": lambda channels, width, predict: ShuffleUNet(channels, width or 32, predict=predict or "residual"),
    "unet": lambda channels, width, predict: UNet(channels, width or 32, predict=predict or "image"),
    "blur-unet": lambda channels, width, predict: UNet(channels, width or 32, predict=predict or "image", blurred=True),
    "plain-dncnn": lambda channels, width, predict: DnCNN(channels, width or 64, predict=predict or "image", normed=False),
    "dncnn": lambda channels, width, predict: DnCNN(channels, width or 64, depth=17, predict=predict or "residual"),
}


def build(name: str, channels: int, width: int = 0, predict: str = "") -> nn.Module:
    """A fresh network. width 0 and predict "" mean the network's own default; predict is "residual" (y - f(y)) or "image" (f(y))."""
    if name not in NETS:
        raise ConfigError(f"no network named {name!r}; there are {', '.join(sorted(NETS))}")
    if predict not in ("", "residual", "image"):
        raise ConfigError(f"predict = {predict!r}: must be 'residual' or 'image'")
    return NETS[name](channels, width, predict)
