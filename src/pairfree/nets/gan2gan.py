"""The networks of GAN2GAN's generative model: noise generators, rough denoiser and its inverse, critics."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairfree.nets.batch_instance_norm import full_precision
from pairfree.nets.blocks import normal_init
from pairfree.nets.dncnn import DnCNN

LATENT = 128
SLOPE = 0.2
OVERLAP_PX = 16
"""Of neighbouring blocks in noise that is larger than one."""
SPAN_TAIL, SPAN_SAMPLE = 1e-4, 4_000_000


class NoiseGenerator(nn.Module):
    """g1, the DCGAN generator: z (B, 128) -> noise (B, channels, px, px) in [-1, 1], network units; px a power of two from 16 up.

    Transposed 4x4 convolutions, 4 -> 8 -> ... -> px, the last with ``width`` channels before it and twice as many a level before; batch
    norm, ReLU, tanh; no biases. The paper has 64 px and 64, 32, 16, 8 channels.
    """

    def __init__(self, channels: int = 1, width: int = 8, px: int = 64) -> None:
        super().__init__()
        self.px = px
        widths = [LATENT, *(width * 2**level for level in reversed(range(round(math.log2(px / 4)))))]
        layers: list[nn.Module] = []
        for level, (a, b) in enumerate(pairwise(widths)):
            layers += [
                nn.ConvTranspose2d(a, b, 4, 2 if level else 1, 1 if level else 0, bias=False),
                nn.BatchNorm2d(b),
                nn.ReLU(inplace=True),
            ]
        self.body = nn.Sequential(*layers, nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False))
        normal_init(self)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(full_precision(self.body(z[:, :, None, None])))

    def sample(self, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
        """(B, C, H, W) for ``shape`` = (B, H, W), any size: independent blocks of px x px that overlap, on a grid that begins anywhere.

        Across an overlap the weights of two blocks are cosine and sine of an angle that goes from 0 to a right one: the variances of
        independent noises then add up to that of either, and a correlation at a distance of d pixels is kept up to
        cos(pi d / (2 OVERLAP_PX)). There is no seam, and nothing is used twice. What is not Gaussian becomes a little more so there.
        """
        count, *sides = shape
        step, place = self.px - OVERLAP_PX, next(self.parameters()).device
        blocks = [1 if side <= self.px else -(-(side + self.px) // step) for side in sides]
        made: Tensor = self(torch.randn(count * math.prod(blocks), LATENT, generator=generator, device=place))
        if blocks == [1, 1]:
            return made[..., : sides[0], : sides[1]]
        weights = [torch.ones(self.px) if many == 1 else _ramps(self.px, OVERLAP_PX) for many in blocks]
        made = made * torch.outer(*weights).to(made)
        columns = made.reshape(count, math.prod(blocks), -1).transpose(1, 2)
        whole = F.fold(columns, tuple(step * many + OVERLAP_PX for many in blocks), self.px, stride=step)
        shifts = torch.randint(step, (2,), generator=generator, device=place).tolist()
        first = [0 if many == 1 else OVERLAP_PX + shift for many, shift in zip(blocks, shifts, strict=True)]
        return whole[..., first[0] : first[0] + sides[0], first[1] : first[1] + sides[1]]


def _ramps(px: int, overlap: int) -> Tensor:
    """Weights that rise from 0 to 1 over ``overlap`` pixels and fall at the end, so that w(x)^2 + w(x + px - overlap)^2 = 1."""
    rise = torch.sin((torch.arange(overlap) + 0.5) * (math.pi / 2 / overlap))
    return torch.cat([rise, torch.ones(px - 2 * overlap), rise.flip(0)])


class RoughDenoiser(nn.Module):
    """g2: sigmoid(x - f(x)), f a DnCNN of ``depth`` layers; (B, channels, H, W) network units -> same shape in [0, 1], or in ``span``."""

    stride = 1

    def __init__(self, channels: int = 1, width: int = 64, depth: int = 15, bounded: bool = True) -> None:
        super().__init__()
        self.body = DnCNN(channels, width, depth)
        self.bounded = bounded
        normal_init(self)
        self.register_buffer("ends", torch.tensor([0.0, 1.0]))
        self.ends: Tensor

    def span(self, values: Tensor) -> None:
        """Let the sigmoid reach from the darkest to the brightest of these pixels but one in ten thousand, and over [0, 1] at least."""
        some = values[:: max(1, len(values) // SPAN_SAMPLE)].float().cpu().numpy()
        low, high = np.quantile(some, [SPAN_TAIL, 1.0 - SPAN_TAIL])
        self.ends.copy_(torch.tensor([min(0.0, float(low)), max(1.0, float(high))]))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return self.ends[0] + (self.ends[1] - self.ends[0]) * torch.sigmoid(out) if self.bounded else out


class WassersteinCritic(nn.Module):
    """f1 and f2: 4x4 convolutions of stride 2 with 1, 2 and 4 times ``width`` channels, batch norm but on the first, leaky ReLU, a last 4x4
    convolution to scores. (B, channels, P, P) -> (B, 1, P/8 - 3, P/8 - 3), not bounded; P at least 32.
    """

    def __init__(self, channels: int = 1, width: int = 128) -> None:
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width]
        self.levels = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1, bias=False) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in widths[2:])
        self.last = nn.Conv2d(widths[-1], 1, 4, bias=False)
        normal_init(self)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.levels[0](x), SLOPE)
        for level, norm in zip(list(self.levels)[1:], self.norms, strict=True):
            h = F.leaky_relu(norm(level(h)), SLOPE)
        return full_precision(self.last(h))


class CopulaNoise(nn.Module):
    """White normal noise (B, C, H + 2 r, W + 2 r) -> noise (B, C, H, W): a filter, then a table of values. Nothing in it is trained.

    filters   (C, C, 2 r + 1, 2 r + 1), to normal channels of unit variance
    table     (C, T) noise at T equal steps of the normal variable over -end..end
    """

    def __init__(self, filters: np.ndarray, table: np.ndarray, end: float) -> None:
        super().__init__()
        self.register_buffer("filters", torch.from_numpy(filters).float())
        self.register_buffer("table", torch.from_numpy(table).float())
        self.filters: Tensor
        self.table: Tensor
        self.reach, self.end = filters.shape[-1] // 2, end

    def forward(self, z: Tensor) -> Tensor:
        normal = self._filtered(z)
        last = self.table.shape[1] - 1
        at = (normal.clamp(-self.end, self.end) + self.end) * (last / (2.0 * self.end))
        below = at.floor().clamp_max(last - 1)
        index = below.long().transpose(0, 1).flatten(1)
        low, high = (
            self.table.gather(1, index + step).view(normal.transpose(0, 1).shape).transpose(0, 1)
            for step in (0, 1)
        )
        return torch.lerp(low, high, at - below)

    def _filtered(self, z: Tensor) -> Tensor:
        """A convolution without padding, by Fourier transform in float64: direct ones are slowest for wide filters of few channels."""
        height, width = z.shape[-2:]
        wave = torch.fft.rfft2(z.double())
        response = torch.fft.rfft2(self.filters.flip((-2, -1)).double(), (height, width)).conj()
        whole = torch.fft.irfft2(torch.einsum("bihw,oihw->bohw", wave, response), (height, width))
        return whole[..., : height - 2 * self.reach, : width - 2 * self.reach].float()

    def sample(self, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
        """(B, C, H, W) for ``shape`` = (B, H, W)."""
        count, height, width = shape
        wide = (count, len(self.table), height + 2 * self.reach, width + 2 * self.reach)
        out: Tensor = self(torch.randn(wide, generator=generator, device=self.table.device))
        return out
