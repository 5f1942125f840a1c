"""Networks; they know nothing of methods. ``build`` makes one from its name and settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from pairfree.config import find_closest
from pairfree.errors import ConfigError
from pairfree.nets.dncnn import DnCNN
from pairfree.nets.shuffle_unet import ShuffleUNet
from pairfree.nets.unet import UNet


class Net(NamedTuple):
    """width, predict   its defaults;  make   channels, width and predict -> a fresh network"""

    width: int
    predict: str
    make: Callable[[int, int, str], nn.Module]


NETS = {
    "shuffle-unet": Net(
        32,
        "residual",
        lambda channels, width, predict: ShuffleUNet(channels, width, predict=predict),
    ),
    "unet": Net(
        32, "image", lambda channels, width, predict: UNet(channels, width, predict=predict)
    ),
    "blur-unet": Net(
        32,
        "image",
        lambda channels, width, predict: UNet(channels, width, predict=predict, blurred=True),
    ),
    "plain-dncnn": Net(
        64,
        "image",
        lambda channels, width, predict: DnCNN(channels, width, predict=predict, normed=False),
    ),
    "dncnn": Net(
        64,
        "residual",
        lambda channels, width, predict: DnCNN(channels, width, depth=17, predict=predict),
    ),
}


def build(name: str, channels: int, width: int = 0, predict: str = "") -> nn.Module:
    """A fresh network. width 0 and predict "" mean the network's own default; predict is "residual" (y - f(y)) or "image" (f(y))."""
    if name not in NETS:
        close = find_closest(name.lower(), NETS)
        meant = "" if close is None else f", did you mean {close!r}?"
        raise ConfigError(f"no network named {name!r}{meant}; there are {', '.join(sorted(NETS))}")
    if predict not in ("", "residual", "image"):
        raise ConfigError(f"predict = {predict!r}: must be 'residual' or 'image'")
    return NETS[name].make(channels, width or NETS[name].width, predict or NETS[name].predict)
