"""Networks; they know nothing of methods. ``build`` makes one from its name and settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from pairfree.config import find_closest
from pairfree.errors import ConfigError
from pairfree.nets.dncnn import DnCNN
from pairfree.nets.even_unet import EvenUNet
from pairfree.nets.shuffle_unet import ShuffleUNet
from pairfree.nets.unet import UNet


@dataclass(frozen=True)
class Net:
    """A network that has a name, and its defaults."""

    make: Callable[..., nn.Module]
    """(channels, width, predict=...) -> a fresh network."""
    width: int
    """Channels of its first level."""
    predict: str
    """"residual", y - f(y), or "image", f(y)."""


NETS = {
    "even-unet": Net(EvenUNet, 32, "residual"),
    "shuffle-unet": Net(ShuffleUNet, 32, "residual"),
    "unet": Net(UNet, 32, "image"),
    "blur-unet": Net(partial(UNet, blurred=True), 32, "image"),
    "plain-dncnn": Net(partial(DnCNN, normed=False), 64, "image"),
    "dncnn": Net(partial(DnCNN, depth=17), 64, "residual"),
}


def build(
    name: str,
    channels: int,
    width: int = 0,
    predict: str = "",
) -> nn.Module:
    """A fresh network.

    Parameters
    ----------
    name
        One of ``NETS``.
    channels
        Of the images.
    width
        Channels of its first level; 0 for the network's own default.
    predict
        "residual" (y - f(y)) or "image" (f(y)); "" for the network's own default.

    Raises
    ------
    ConfigError
        For another name, and another word for what is predicted.
    """
    if name not in NETS:
        close = find_closest(name.lower(), NETS)
        meant = "" if close is None else f", did you mean {close!r}?"
        raise ConfigError(f"no network named {name!r}{meant}; there are {', '.join(sorted(NETS))}")
    if predict not in ("", "residual", "image"):
        raise ConfigError(f"predict = {predict!r}: must be 'residual' or 'image'")
    net = NETS[name]
    return net.make(channels, width or net.width, predict=predict or net.predict)
