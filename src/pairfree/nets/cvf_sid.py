"""The noise generator of CVF-SID: what was taken off an image, split into a part that follows the signal and one that does not."""

from __future__ import annotations

from torch import Tensor, nn

from pairfree.nets.batch_instance_norm import full_precision


class NoiseParts(nn.Module):
    """Residual (B, channels, H, W) -> signal-dependent and signal-independent noise, both of that shape, zero mean per image and channel.

    3x3 convolutions + ReLU: ``body`` shared ones, then ``head`` for each part and a 1x1 one. The authors' code: width 64, body 10, head 4.
    """

    def __init__(self, channels: int = 1, width: int = 64, body: int = 10, head: int = 4) -> None:
        super().__init__()
        self.body = _stack(channels, width, body)
        self.dependent = nn.Sequential(_stack(width, width, head), nn.Conv2d(width, channels, 1))
        self.independent = nn.Sequential(_stack(width, width, head), nn.Conv2d(width, channels, 1))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(residual)
        first, second = (full_precision(part(h)) for part in (self.dependent, self.independent))
        return first - first.mean((2, 3), keepdim=True), second - second.mean((2, 3), keepdim=True)


def _stack(inputs: int, width: int, layers: int) -> nn.Sequential:
    made: list[nn.Module] = []
    for index in range(layers):
        made += [nn.Conv2d(width if index else inputs, width, 3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*made)
