"""The noise generator of CVF-SID: what was taken off an image, split into two.

A part of it follows the signal, the other does not.
"""

from __future__ import annotations

from torch import Tensor, nn

from pairfree.nets.batch_instance_norm import full_precision


class NoiseParts(nn.Module):
    """Residual (B, channels, H, W) -> signal-dependent and signal-independent noise, both of that shape.

    Both have zero mean per image and channel. 3x3 convolutions + ReLU: ``body`` shared ones, then ``head``
    for each part and a 1x1 one. The authors' code: width 64, body 10, head 4.

    Parameters
    ----------
    channels
        Of the images.
    width
        Channels of the layers between.
    body
        Layers that both parts share.
    head
        Layers of each part.
    """

    def __init__(
        self,
        channels: int = 1,
        width: int = 64,
        body: int = 10,
        head: int = 4,
    ) -> None:
        super().__init__()
        self.body = _stack_layers(channels, width, body)
        self.dependent = _make_head(channels, width, head)
        self.independent = _make_head(channels, width, head)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Split the residual."""
        h = self.body(residual)
        dependent = full_precision(self.dependent(h))
        independent = full_precision(self.independent(h))
        return _centre(dependent), _centre(independent)


def _centre(x: Tensor) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return x - mean


def _make_head(channels: int, width: int, layers: int) -> nn.Sequential:
    last = nn.Conv2d(width, channels, 1)
    inner = _stack_layers(width, width, layers)
    return nn.Sequential(inner, last)


def _stack_layers(inputs: int, width: int, layers: int) -> nn.Sequential:
    made: list[nn.Module] = []
    for _ in range(layers):
        convolution = nn.Conv2d(inputs, width, 3, padding=1)
        made.append(convolution)
        made.append(nn.ReLU(inplace=True))
        inputs = width
    return nn.Sequential(*made)
