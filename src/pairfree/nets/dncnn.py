"""DnCNN (Zhang et al., IEEE TIP 2017): a plain stack of 3x3 convolutions that predicts the noise."""

from __future__ import annotations

from torch import Tensor, nn

from pairfree.nets.blocks import he_init


class DnCNN(nn.Module):
    """``depth`` layers of ``width`` 3x3 convolutions, batch norm on the inner ones (or biases, if not ``normed``), ReLU; output y - f(y).

    Input and output (B, channels, H, W), network units, any H and W. Depth 17 for one noise level, 20 for blind levels (Zhang et al.).
    """

    stride = 1

    def __init__(
        self,
        channels: int = 1,
        width: int = 64,
        depth: int = 17,
        predict: str = "residual",
        normed: bool = True,
    ) -> None:
        super().__init__()
        self.predict = predict
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers.append(nn.Conv2d(width, width, 3, padding=1, bias=not normed))
            layers += [nn.BatchNorm2d(width)] if normed else []
            layers.append(nn.ReLU(inplace=True))
        layers.append(nn.Conv2d(width, channels, 3, padding=1))
        self.body = nn.Sequential(*layers)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x).float()
        return x - out if self.predict == "residual" else out
