"""DnCNN (Zhang et al., IEEE TIP 2017): a plain stack of 3x3 convolutions that predicts the noise."""

from __future__ import annotations

from torch import Tensor, nn

from pairfree.nets.blocks import he_init


class DnCNN(nn.Module):
    """3x3 convolutions, batch norm on the inner ones, ReLU; output y - f(y).

    Input and output (B, channels, H, W), network units, any H and W.

    Parameters
    ----------
    channels
        Of the images.
    width
        Channels of the inner layers.
    depth
        Layers: 17 for one noise level, 20 for blind levels (Zhang et al.).
    predict
        "residual": the output is y - f(y); "image": f(y).
    normed
        Batch norm on the inner layers; else biases.
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
        first = nn.Conv2d(channels, width, 3, padding=1)
        layers: list[nn.Module] = [first, nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers.append(nn.Conv2d(width, width, 3, padding=1, bias=not normed))
            if normed:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU(inplace=True))
        layers.append(nn.Conv2d(width, channels, 3, padding=1))
        self.body = nn.Sequential(*layers)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """Noisy images -> denoised ones."""
        out: Tensor = self.body(x).float()
        return x - out if self.predict == "residual" else out
