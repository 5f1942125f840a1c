"""The start that is shipped: weights of ``EvenUNet``, trained on scenes that a program drew.

They lie in ``assets/start`` as half floats, with JSON beside them that says what made them
(benchmarks/start.py) and their digest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pairfree.errors import CheckpointError
from pairfree.facts import TEXT, WHOLE, Unreadable, check, read_json
from pairfree.nets.even_unet import EvenUNet
from pairfree.nets.loading import load_network, shapes_alone
from pairfree.nets.tensor_file import TensorFile

FOLDER = Path(__file__).resolve().parents[1] / "assets" / "start"
KINDS = ("white", "correlated")
"""Of noise that a start was trained on: independent between pixels, or of any spectrum."""
SHIPPED = (("white", 1), ("correlated", 1), ("white", 3))
"""What there is a start for: a kind of noise, and the channels of an image."""
COLOURS = 3
CHANNELS = (1, COLOURS)
"""Of the images that there may be starts for."""
SCENES = (
    "Achddou, Gousseau & Ladjal, Fully synthetic training for image restoration tasks, "
    "Computer Vision and Image Understanding 233, 2023"
)
"""Where the idea to train on drawn scenes is from."""
FACTS = {"sha256": TEXT, "network": TEXT, **dict.fromkeys(("steps", "scenes", "seed"), WHOLE)}
"""What is written beside the weights, of what is read."""
REMEDY = "install pairfree anew, or train with `start` none"


def has_start(kind: str, channels: int) -> bool:
    """Whether a start is shipped for images of so many channels, damaged or not."""
    return (kind, channels) in SHIPPED


def load_start(kind: str, channels: int) -> dict[str, Tensor]:
    """The weights of a start, float32, by name as in ``EvenUNet``.

    Parameters
    ----------
    kind
        One of ``KINDS``.
    channels
        Of the images.

    Raises
    ------
    CheckpointError
        Where its file is missing or damaged.
    """
    path = FOLDER / f"{kind}-{channels}.safetensors"
    facts = read_facts(kind, channels)
    try:
        stored = TensorFile(path)
        digest = stored.sha256()
    except (CheckpointError, OSError) as error:
        reason = str(error).split("; use an earlier")[0]
        raise CheckpointError(
            f"{path}: the shipped start cannot be read ({reason}); {REMEDY}"
        ) from None
    if digest != facts["sha256"]:
        raise CheckpointError(f"{path}: the shipped start is damaged; {REMEDY}")
    with shapes_alone():
        expected = EvenUNet(channels).state_dict()
    shapes = {name: tuple(value.shape) for name, value in expected.items()}
    if {name: declared.shape for name, declared in stored.declared.items()} != shapes:
        raise CheckpointError(f"{path}: the shipped start is of another version; {REMEDY}")
    return {name: value.float() for name, value in stored.items()}


def read_facts(kind: str, channels: int) -> dict[str, Any]:
    """What is written beside the weights: network, steps, scenes, seed, versions, digest."""
    path = FOLDER / f"{kind}-{channels}.json"
    try:
        return check(read_json(path), FACTS)
    except (OSError, Unreadable) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{path}: the shipped start cannot be read ({reason}); {REMEDY}"
        ) from None


def make_start(kind: str, channels: int = 1) -> EvenUNet:
    """The network of a start, with its weights."""
    net = EvenUNet(channels)
    load_network(net, load_start(kind, channels))
    return net


FIELD_PX = 46
"""Receptive field of a start's network: measuring it takes longer than a small image."""


class ShippedNet(nn.Module):
    """All starts: white noise of colour images by the one for colours, else each channel by itself.

    Input and output (B, C, H, W), any C, network units; H and W multiples of ``stride``.
    """

    stride = 8

    def __init__(self) -> None:
        super().__init__()
        self.white = make_start("white")
        self.correlated = make_start("correlated")
        self.colour = make_start("white", COLOURS)

    def receptive_field_px(self, channels: int) -> int:
        """How far an input pixel can change an output pixel, pixels."""
        return FIELD_PX

    def forward(self, x: Tensor, correlated: bool = False) -> Tensor:
        """Denoise by the starts for white noise, or that for ``correlated`` noise."""
        batch, channels, height, width = x.shape
        if channels > 1 and bool((x == x[:, :1]).all()):  # grey that is stored as colours
            return self.forward(x[:, :1], correlated).expand_as(x)
        if channels == COLOURS and not correlated:
            net, seen = self.colour, x
        else:
            net = self.correlated if correlated else self.white
            seen = x.reshape(batch * channels, 1, height, width)
        out: Tensor = net(seen)
        return out.reshape(x.shape)
