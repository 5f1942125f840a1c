"""The shipped start: the default network, trained on scenes that a program draws.

    python benchmarks/start.py white --steps 12000      trains, or goes on where a killed run stood
    python benchmarks/start.py white --export           puts the weights into the package

Nothing photographed is in it. The network sees intensities whose noise has one size, ``NOISE``, as `even`
intensities have (docs/noise.md): a scene of any contrast, with noise of any level, is scaled so.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

import pairfree as pf
from pairfree.data.patches import Batch
from pairfree.methods.base import At, Needs, follow
from pairfree.methods.n2c import supervised_loss
from pairfree.methods.parts.single import SingleConfig, SingleNetwork
from pairfree.nets.even_unet import EvenUNet
from pairfree.nets.start import load_start
from pairfree.scenes import draw_scene

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "benchmarks" / "runs" / "start"
SHIPPED = ROOT / "src" / "pairfree" / "assets" / "start"

NOISE = 0.1
"""Deviation of the noise in network units; 25 grey levels of 255 are 0.098."""
MISJUDGED = 0.12
"""Deviation of the logarithm of (true level / measured level)."""
LEVELS = (1.5, 70.0)
"""Of the noise, in 255ths of the scene's range, log-uniform: most scenes use less than the whole range."""
PHOTONS = (2.0, 3000.0)
"""Of the brightest pixel, log-uniform."""
READ_NOISE = (0.5, 10.0)
"""Of a camera, in photons, log-uniform; half of the scenes have none."""
COPIES = 4
"""Noisy copies whose transforms are averaged for the target of counted photons."""
STRAIGHT = 2.5
"""As in ``pairfree.measure.even_transform``."""
FOLLOW = 1e-3
"""How far the average goes towards the weights with each step."""
RATE = 1e-3
"""Peak of the learning rate, half of the short presets'.

2e-3 was too restless: 27.4 dB after 12,000 of 30,000 steps where 27.7 dB stood after 1,300 (40 crops of
BSD400, sigma 25, one seed)."""
FLAT = 0.125
"""Share of patches that show nothing, or a slope: noise alone has to come out flat."""
SEED = 20261129


def draw_log(rng: torch.Generator, low: float, high: float, count: int) -> Tensor:
    """Numbers whose logarithm is uniform from ``low`` to ``high``, (count, 1, 1, 1)."""
    share = torch.rand(count, 1, 1, 1, generator=rng)
    return low * (high / low) ** share


def draw_misjudgement(rng: torch.Generator, count: int, deviation: float = MISJUDGED) -> Tensor:
    """True value / measured value, (count, 1, 1, 1), log-normal."""
    return torch.exp(deviation * torch.randn(count, 1, 1, 1, generator=rng))


def place(target: Tensor, rng: torch.Generator) -> Tensor:
    """An offset that each scene is moved by, (B, 1, 1, 1): the network shall not know brightnesses.

    The predictor takes the median of a file off; here any value that stands in the scene may be the one.
    """
    count = len(target)
    low = target.amin((1, 2, 3), keepdim=True)
    high = target.amax((1, 2, 3), keepdim=True)
    return low + (high - low) * torch.rand(count, 1, 1, 1, generator=rng)


def flatten_some(clean: Tensor, rng: torch.Generator) -> Tensor:
    """Turn ``FLAT`` of the scenes (B, C, H, W) into their mean, half of these with a slope on it."""
    count, channels, height, width = clean.shape
    mean = clean.mean((-2, -1), keepdim=True)
    rows = torch.linspace(-1.0, 1.0, height)[:, None]
    columns = torch.linspace(-1.0, 1.0, width)[None, :]
    down, across = 0.1 * torch.randn(2, count, channels, 1, 1, generator=rng)
    sloped = torch.rand(count, 1, 1, 1, generator=rng) < 0.5
    empty = mean + sloped * (down * rows + across * columns)
    chosen = torch.rand(count, 1, 1, 1, generator=rng) < FLAT
    return torch.where(chosen, empty.clamp(0.0, 1.0), clean)


def draw_white(clean: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Gaussian noise.

    Parameters
    ----------
    clean
        Scenes, (B, C, H, W), 0 to 1.
    rng
        Randomness of the noise.

    Returns
    -------
    tuple of Tensor
        The noisy scenes and what the network shall make of them, network units, likewise.
    """
    unit = NOISE * 255.0 / draw_log(rng, *LEVELS, len(clean))
    target = unit * clean
    noise = NOISE * draw_misjudgement(rng, len(clean)) * torch.randn(clean.shape, generator=rng)
    return target + noise, target


def draw_clipped(clean: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Gaussian noise in a file of 8 bits: rounded, and clipped to 0 and 255; see ``draw_white``."""
    level = draw_log(rng, 3.0, LEVELS[1], len(clean))
    unit = NOISE / level
    grey = 255.0 * clean
    noisy = grey + level * draw_misjudgement(rng, len(clean)) * torch.randn(
        clean.shape, generator=rng
    )
    return unit * noisy.round().clamp(0.0, 255.0), unit * grey


def draw_counts(clean: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Counted photons and read noise, made even by a gain and a floor that were measured, not quite rightly.

    The target is the expected value of the transformed counts, which the way back of the transform expects;
    it comes from ``COPIES`` further draws, less what they differ by to first order. See ``draw_white``.
    """
    count = len(clean)
    photons = clean * draw_log(rng, *PHOTONS, count)
    read = draw_log(rng, *READ_NOISE, count)
    read = read * (torch.rand(count, 1, 1, 1, generator=rng) < 0.5)
    gain = draw_misjudgement(rng, count)
    floor = read**2 * draw_misjudgement(rng, count, 2.0 * MISJUDGED)

    def draw() -> Tensor:
        return torch.poisson(photons, generator=rng) + read * torch.randn(
            clean.shape, generator=rng
        )

    read_variance = floor / gain**2
    knee = STRAIGHT * (1.0 + read_variance)

    def lift(counts: Tensor) -> Tensor:
        return counts / gain + 0.375 + read_variance

    def even(counts: Tensor) -> Tensor:
        lifted = lift(counts)
        root = 2.0 * torch.sqrt(torch.maximum(lifted, knee))
        return root + (lifted - knee).clamp_max(0.0) / torch.sqrt(knee)

    slope = 1.0 / (gain * torch.sqrt(torch.maximum(lift(photons), knee)))
    target = torch.zeros_like(clean)
    for _ in range(COPIES):
        counts = draw()
        target += even(counts) - slope * (counts - photons)
    return NOISE * even(draw()), NOISE * target / COPIES


Draw = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]
Mixture = tuple[tuple[float, Draw], ...]


class WhiteStart(SingleNetwork):
    """The default network learns to take off white noise of one size."""

    key = "white-start"
    title = "Start for white noise"
    needs = Needs.NOISY
    citation = "trained on scenes of pairfree"
    assumption = "noise is independent between pixels and of one size"
    config: SingleConfig
    mixture: Mixture = ((0.5, draw_white), (0.375, draw_counts), (0.125, draw_clipped))
    """Shares of a batch."""

    def __init__(
        self,
        config: SingleConfig,
        channels: int,
        device: torch.device | str = "cpu",
        net: nn.Module | None = None,
    ) -> None:
        super().__init__(config, channels, device, net)
        self.average = copy.deepcopy(self.net).requires_grad_(False)
        self.networks = {"net": self.net, "average": self.average}

    @property
    def denoiser(self) -> nn.Module:
        """The average of the network's weights over the last thousand steps or so."""
        return self.average

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        """Descend the mean squared error; ``batch.noisy`` are clean scenes."""
        rng = at.rng("noise")
        clean = flatten_some(batch.noisy.clamp(0.0, 1.0), rng)
        parts = []
        first = 0
        for share, draw in self.mixture:
            last = first + round(share * len(clean))
            parts.append(draw(clean[first:last], rng))
            first = last
        noisy = torch.cat([part for part, _ in parts])
        target = torch.cat([part for _, part in parts])
        offset = place(target, rng)
        loss = supervised_loss(self.f(noisy - offset), target - offset)
        logged = self.descend(loss, at)
        follow(self.average, self.net, max(FOLLOW, 1.0 / (at.step + 1)))
        return logged


def draw_gaussian_spectrum(height: int, width: int, rng: torch.Generator) -> Tensor:
    """Of noise that was blurred, more in one direction than in the other: optics, interpolation, (H, W)."""
    deviations = draw_log(rng, 0.3, 2.5, 2).flatten()
    along, across = turned_frequencies(height, width, rng)
    blurred = (deviations[0] * along) ** 2 + (deviations[1] * across) ** 2
    return torch.exp(-4.0 * math.pi**2 * blurred)


def draw_line_spectrum(height: int, width: int, rng: torch.Generator) -> Tensor:
    """Of noise that is the same along a part of a row, or of a column: readout, scanning."""
    length_px = float(draw_log(rng, 3.0, 60.0, 1))
    rows, columns = frequencies(height, width)
    along = rows if torch.rand(1, generator=rng) < 0.5 else columns
    return torch.exp(-4.0 * math.pi**2 * (length_px * along) ** 2).expand(height, width)


def draw_power_spectrum(height: int, width: int, rng: torch.Generator) -> Tensor:
    """1 / f^a: grain, drifts, and for a below 0 what a sharpening filter leaves (CT)."""
    exponent = -1.0 + 2.5 * torch.rand(1, generator=rng)
    rows, columns = frequencies(height, width)
    return (rows**2 + columns**2).clamp_min(1.0 / 32.0**2) ** (-exponent / 2.0)


def frequencies(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Cycles a pixel along rows and columns, (H, 1) and (1, W)."""
    return torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None, :]


def turned_frequencies(height: int, width: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """The same along two axes of any direction, (H, W) each."""
    angle = math.pi * torch.rand(1, generator=rng)
    rows, columns = frequencies(height, width)
    sine, cosine = torch.sin(angle), torch.cos(angle)
    return cosine * rows + sine * columns, cosine * columns - sine * rows


SPECTRA = [
    draw_gaussian_spectrum,
    draw_gaussian_spectrum,
    draw_gaussian_spectrum,
    draw_line_spectrum,
    draw_power_spectrum,
]
"""What one of is drawn for each scene; most have some white noise on top."""


def draw_correlated(clean: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Gaussian noise of a random spectrum; see ``draw_white``."""
    height, width = clean.shape[-2:]
    spectra = []
    for _ in clean:
        draw = SPECTRA[int(torch.randint(len(SPECTRA), (1,), generator=rng))]
        spectrum = draw(height, width, rng)
        spectrum = spectrum / spectrum.mean()
        white = float(torch.rand(1, generator=rng)) ** 2
        if torch.rand(1, generator=rng) < 0.3:
            white = 0.0
        spectra.append((1.0 - white) * spectrum + white)
    amplitude = torch.sqrt(torch.stack(spectra))[:, None]
    white_noise = torch.randn(clean.shape, generator=rng)
    noise = torch.fft.ifft2(amplitude * torch.fft.fft2(white_noise)).real
    unit = NOISE * 255.0 / draw_log(rng, *LEVELS, len(clean))
    target = unit * clean
    return target + NOISE * draw_misjudgement(rng, len(clean)) * noise, target


class CorrelatedStart(WhiteStart):
    """The default network learns to take off noise of one size and of any spectrum."""

    key = "correlated-start"
    title = "Start for correlated noise"
    assumption = "noise is of one size, its spectrum the same everywhere"
    mixture = ((0.875, draw_correlated), (0.125, draw_white))


def load_scenes(count: int, channels: int) -> list[np.ndarray]:
    """The scenes, from a file where they were drawn before."""
    path = RUNS / f"scenes-{count}-{channels}.npy"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".unfinished.npy")
        size = (256, 256) if channels == 1 else (256, 256, channels)
        drawn = np.lib.format.open_memmap(temporary, "w+", np.uint16, (count, *size))
        for index in range(count):
            drawn[index] = np.rint(65535.0 * draw_scene(index, SEED, channels=channels))
        drawn.flush()
        temporary.rename(path)
    scenes = np.load(path)
    return list(scenes if channels == 1 else np.moveaxis(scenes, -1, 1))


STARTS = {"white": WhiteStart, "correlated": CorrelatedStart}


def train(name: str, steps: int, scenes: int, channels: int, out: Path, init: str) -> None:
    """Train a start, or go on where a run stood."""
    method = make_method(name, channels, steps)
    given = {"noisy": load_scenes(scenes, channels), "out": out, "report": False}
    if (out / "checkpoints").is_dir():
        pf.train(method=method, resume=True, **given)
    else:
        weights = None
        if init == "shipped":
            weights = load_start(name, channels)
        elif init:
            weights = pf.load(init, method=make_method(name, channels)).method.denoiser.state_dict()
        elif channels > 1:
            weights = colour_from_grey(load_start(name, 1), channels)
        if weights is not None:
            method.net.load_state_dict(weights)
            method.average.load_state_dict(weights)
        pf.train(method=method, steps=steps, seed=SEED, **given)


def colour_from_grey(grey: dict[str, Tensor], channels: int) -> dict[str, Tensor]:
    """Weights of a network that denoises the brightness of colour images as the grey one does.

    It sees sum(channels) / sqrt(channels), whose noise has the size that the grey network knows, and what it
    takes off there it takes off each channel, over sqrt(channels): an orthonormal change of colours and back.
    """
    root = math.sqrt(channels)
    made = dict(grey)
    made["first.weight"] = grey["first.weight"].repeat(1, channels, 1, 1) / root
    made["last.weight"] = grey["last.weight"].repeat(channels, 1, 1, 1) / root
    made["last.bias"] = grey["last.bias"].repeat(channels) / root
    made["grid"] = grey["grid"].repeat(channels, 1, 1) / root
    return made


def make_method(name: str, channels: int, steps: int = 0) -> SingleNetwork:
    """A start that is not yet trained."""
    config = SingleConfig(patch_px=128, batch_size=8, lr=RATE, minutes=0.0, steps=steps)
    return STARTS[name](config, channels, net=EvenUNet(channels))


@torch.no_grad()
def settle_grid(method: SingleNetwork, channels: int, count: int = 48) -> None:
    """Measure the network's grid on noise alone, and take it off."""
    rng = torch.Generator().manual_seed(SEED)
    noise = NOISE * torch.randn(count, channels, 128, 128, generator=rng)
    net = method.denoiser
    assert isinstance(net, EvenUNet)
    net.eval()
    net.settle_grid(noise)


def export(name: str, channels: int, run: Path, before: int) -> None:
    """Put the weights of a run into the package, as half floats, with what made them.

    ``before`` are the steps of the weights that it began from.
    """
    model = pf.load(run, method=make_method(name, channels))
    settle_grid(model.method, channels)
    weights = {
        key: value.half().contiguous() for key, value in model.method.denoiser.state_dict().items()
    }
    target = SHIPPED / f"{name}-{channels}.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(weights, target)
    facts = {
        "network": "even-unet",
        "channels": channels,
        "noise": NOISE,
        "steps": before + model.record.step,
        "scenes": len(load_scenes(SCENES, channels)),
        "seed": SEED,
        "made by": f"benchmarks/start.py {name}",
        "versions": {
            "pairfree": pf.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
    }
    target.chmod(0o644)
    target.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


SCENES = 4000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=STARTS)
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--channels", type=int, default=1, choices=(1, 3))
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--init", default="", help="a run whose weights to begin from, or the ones that are shipped"
    )
    parser.add_argument("--export", action="store_true")
    parser.add_argument("--before", type=int, default=0, help="steps of the weights begun from")
    asked = parser.parse_args()
    out = asked.out or RUNS / f"{asked.name}-{asked.channels}"
    if asked.export:
        export(asked.name, asked.channels, out, asked.before)
    else:
        train(asked.name, asked.steps, asked.scenes, asked.channels, out, asked.init)


if __name__ == "__main__":
    main()
