"""Networks of GAN2GAN: noise generator, rough denoiser, critic; and noise that is drawn by a copula."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from pairfree.nets.batch_instance_norm import full_precision
from pairfree.nets.blocks import normal_init
from pairfree.nets.dncnn import DnCNN
from pairfree.nets.traits import total_stride

LATENT = 128
"""Numbers that g1 makes a block of noise from."""
SLOPE = 0.2
"""Of the leaky ReLU."""
OVERLAP_PX = 16
"""Of neighbouring blocks in noise that is larger than one."""
SPAN_TAIL = 1e-4
"""Share of the pixels at either end that the sigmoid of g2 need not reach."""
SPAN_SAMPLE = 4_000_000
"""Pixels that its span is measured on, at most."""


class NoiseGenerator(nn.Module):
    """g1, the DCGAN generator: z (B, 128) -> noise (B, channels, px, px) in [-1, 1], network units.

    Parameters
    ----------
    channels
        Of the noise.
    width
        Channels before the last convolution, twice as many a level before.
    px
        Side of what is made, a power of two from 16 up.

    Notes
    -----
    Transposed 4x4 convolutions, 4 -> 8 -> ... -> px; batch norm, ReLU, tanh; no biases. The paper has 64 px
    and 64, 32, 16, 8 channels.
    """

    def __init__(
        self,
        channels: int = 1,
        width: int = 8,
        px: int = 64,
    ) -> None:
        super().__init__()
        self.px = px
        levels = round(math.log2(px / 4))
        widths = [width * 2**level for level in range(levels)]
        widths.reverse()
        layers = make_level(LATENT, widths[0], stride=1, padding=0)
        for inputs, outputs in pairwise(widths):
            layers += make_level(inputs, outputs)
        last = nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False)
        layers.append(last)
        self.body = nn.Sequential(*layers)
        normal_init(self)

    def forward(self, z: Tensor) -> Tensor:
        """Numbers z (B, 128) -> noise (B, channels, px, px)."""
        pixels = z[:, :, None, None]
        grown = self.body(pixels)
        return torch.tanh(full_precision(grown))

    def sample(self, shape: tuple[int, int, int], generator: Generator) -> Tensor:
        """Noise of any size: independent blocks of px x px that overlap, on a grid that begins anywhere.

        Parameters
        ----------
        shape
            (B, H, W).
        generator
            What it is drawn with.

        Returns
        -------
        Tensor
            (B, C, H, W), network units.

        Notes
        -----
        Across an overlap the weights of two blocks are cosine and sine of an angle that goes from 0 to a
        right one: the variances of independent noises then add up to that of either, and a correlation at a
        distance of d pixels is kept up to cos(pi d / (2 OVERLAP_PX)). There is no seam, and nothing is used
        twice. What is not Gaussian becomes a little more so there.
        """
        count, height, width = shape
        place = next(self.parameters()).device
        rows = self.count_blocks(height)
        columns = self.count_blocks(width)
        blocks = count * rows * columns
        z = torch.randn(blocks, LATENT, generator=generator, device=place)
        made: Tensor = self(z)
        if rows == columns == 1:
            return made[..., :height, :width]
        whole = self.join_blocks(made, rows, columns)
        shifts = torch.randint(self.step_px, (2,), generator=generator, device=place)
        down, right = shifts.tolist()
        top = OVERLAP_PX + down if rows > 1 else 0
        left = OVERLAP_PX + right if columns > 1 else 0
        return whole[..., top : top + height, left : left + width]

    @property
    def step_px(self) -> int:
        """From block to block."""
        return self.px - OVERLAP_PX

    def count_blocks(self, side: int) -> int:
        """Blocks along a side of so many pixels: one, or enough to begin at any place of the grid."""
        if side <= self.px:
            return 1
        return math.ceil((side + self.px) / self.step_px)

    def join_blocks(self, made: Tensor, rows: int, columns: int) -> Tensor:
        """Sums of weighted blocks, (B * rows * columns, C, px, px) -> (B, C, H, W)."""
        blocks = rows * columns
        count = len(made) // blocks
        down = self.block_weights(rows)
        across = self.block_weights(columns)
        weights = torch.outer(down, across)
        weighted = made * weights.to(made)
        flat = weighted.reshape(count, blocks, -1)
        height = self.step_px * rows + OVERLAP_PX
        width = self.step_px * columns + OVERLAP_PX
        size = (height, width)
        unfolded = flat.transpose(1, 2)
        return F.fold(unfolded, size, self.px, stride=self.step_px)

    def block_weights(self, blocks: int) -> Tensor:
        """Weights of a block's pixels along a side of so many blocks."""
        if blocks == 1:
            return torch.ones(self.px)
        return ramp_ends(self.px, OVERLAP_PX)


def make_level(
    inputs: int,
    outputs: int,
    stride: int = 2,
    padding: int = 1,
) -> list[nn.Module]:
    """A transposed 4x4 convolution from ``inputs`` to ``outputs`` channels, its norm and its ReLU."""
    return [
        nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


def ramp_ends(px: int, overlap: int) -> Tensor:
    """Weights w that rise from 0 to 1 and fall at the end: w(x)^2 + w(x + px - overlap)^2 = 1."""
    centres = torch.arange(overlap) + 0.5
    angle = centres * (math.pi / 2 / overlap)
    rise = torch.sin(angle)
    flat = torch.ones(px - 2 * overlap)
    return torch.cat([rise, flat, rise.flip(0)])


class RoughDenoiser(nn.Module):
    """g2: sigmoid(x - f(x)), f a DnCNN.

    (B, channels, H, W) network units -> same shape in [0, 1], or in the span that was set.

    Parameters
    ----------
    channels
        Of the image.
    width, depth
        Channels and layers of f.
    bounded
        Whether the sigmoid is there.
    """

    stride = 1

    def __init__(
        self,
        channels: int = 1,
        width: int = 64,
        depth: int = 15,
        bounded: bool = True,
    ) -> None:
        super().__init__()
        self.body = DnCNN(channels, width, depth)
        self.bounded = bounded
        normal_init(self)
        self.register_buffer("ends", torch.tensor([0.0, 1.0]))
        self.ends: Tensor

    def set_span(self, values: Tensor) -> None:
        """Let the sigmoid reach from the darkest to the brightest of these pixels, and over [0, 1] at least.

        One pixel in ten thousand at either end is left out.
        """
        every = max(1, len(values) // SPAN_SAMPLE)
        sample = values[::every].float().cpu()
        shares = [SPAN_TAIL, 1.0 - SPAN_TAIL]
        darkest, brightest = np.quantile(sample.numpy(), shares)
        low = min(0.0, float(darkest))
        high = max(1.0, float(brightest))
        self.ends.copy_(torch.tensor([low, high]))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same."""
        out: Tensor = self.body(x)
        if not self.bounded:
            return out
        low, high = self.ends.unbind()
        share = torch.sigmoid(out)
        return low + (high - low) * share


class Chosen(nn.Module):
    """The rough denoiser until G2G begins, then the denoiser. ``refined`` says which, and is saved."""

    def __init__(
        self,
        rough: nn.Module,
        net: nn.Module,
        refined: Refined,
    ) -> None:
        super().__init__()
        self.rough = rough
        self.net = net
        self.refined = refined
        self.stride = total_stride(net)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        chosen = self.net if bool(self.refined.value) else self.rough
        out: Tensor = chosen(x)
        return out


class Refined(nn.Module):
    """A flag that is saved with the weights of its own run; another run begins with its own."""

    measured_from_data = True

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.tensor(0.0))
        self.value: Tensor


class WassersteinCritic(nn.Module):
    """f1 and f2: (B, channels, P, P) -> scores (B, 1, P/8 - 3, P/8 - 3), not bounded; P at least 32.

    Parameters
    ----------
    channels
        Of the image.
    width
        Channels of the first level.

    Notes
    -----
    4x4 convolutions of stride 2 with 1, 2 and 4 times ``width`` channels, batch norm but on the first, leaky
    ReLU, a last 4x4 convolution to scores.
    """

    def __init__(self, channels: int = 1, width: int = 128) -> None:
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width]
        self.levels = nn.ModuleList()
        for inputs, outputs in pairwise(widths):
            level = nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)
            self.levels.append(level)
        self.norms = nn.ModuleList(map(nn.BatchNorm2d, widths[2:]))
        self.last = nn.Conv2d(widths[-1], 1, 4, bias=False)
        normal_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, P, P) -> scores."""
        first, *others = self.levels
        h = F.leaky_relu(first(x), SLOPE)
        for level, norm in zip(others, self.norms, strict=True):
            h = norm(level(h))
            h = F.leaky_relu(h, SLOPE)
        return full_precision(self.last(h))


class CopulaNoise(nn.Module):
    """White normal noise (B, C, H + 2 r, W + 2 r) -> noise (B, C, H, W): a filter, then a table of values.

    Nothing in it is trained.

    Parameters
    ----------
    filters
        (C, C, 2 r + 1, 2 r + 1), to normal channels of unit variance.
    table
        (C, T) noise at T equal steps of the normal variable over -end..end.
    end
        Where the table ends.
    """

    def __init__(self, filters: np.ndarray, table: np.ndarray, end: float) -> None:
        super().__init__()
        self.register_buffer("filters", torch.from_numpy(filters).float())
        self.register_buffer("table", torch.from_numpy(table).float())
        self.filters: Tensor
        self.table: Tensor
        self.reach = filters.shape[-1] // 2
        self.end = end

    def forward(self, z: Tensor) -> Tensor:
        """Noise of white normal noise, between the entries of the table and not beyond its ends."""
        whole = self.correlate(z)
        normal = whole.clamp(-self.end, self.end)
        last = self.table.shape[1] - 1
        entries_a_unit = last / (2.0 * self.end)
        position = (normal + self.end) * entries_a_unit
        before = position.floor().clamp_max(last - 1)
        entry = before.long()
        low = self.look_up(entry)
        high = self.look_up(entry + 1)
        return torch.lerp(low, high, position - before)

    def look_up(self, entry: Tensor) -> Tensor:
        """The table's value of each channel at these entries (B, C, H, W)."""
        by_channel = entry.transpose(0, 1)
        values = self.table.gather(1, by_channel.flatten(1))
        return values.view(by_channel.shape).transpose(0, 1)

    def correlate(self, z: Tensor) -> Tensor:
        """A convolution with the filters, without padding, by Fourier transform in float64.

        Direct ones are slowest for wide filters of few channels.
        """
        height, width = z.shape[-2:]
        wave = torch.fft.rfft2(z.double())
        turned = self.filters.flip((-2, -1)).double()
        response = torch.fft.rfft2(turned, (height, width))
        product = torch.einsum("bihw,oihw->bohw", wave, response.conj())
        whole = torch.fft.irfft2(product, (height, width))
        margin = 2 * self.reach
        inside: Tensor = whole[..., : height - margin, : width - margin]
        return inside.float()

    def sample(self, shape: tuple[int, int, int], generator: Generator) -> Tensor:
        """Noise (B, C, H, W) for ``shape`` = (B, H, W)."""
        count, height, width = shape
        margin = 2 * self.reach
        channels = len(self.table)
        wide = (count, channels, height + margin, width + margin)
        white = torch.randn(wide, generator=generator, device=self.table.device)
        out: Tensor = self(white)
        return out
