"""What an experiment is: cells, the data of a cell, and how outputs are scored.

One file an experiment; the harness knows none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError
from pairfree.files.listing import find_images
from pairfree.files.opening import open_image
from pairfree.noise.simulate import add_noise, image_rng

NOISE_SEED = 2026
"""Noise is drawn once, as a function of this seed, the set and the file's name.

It is the same for every method, seed and machine."""
GREY_LEVELS = {"intensity": "0,255"}
"""Setting of methods whose unit is the grey level, not the range of the images."""

Images = Sequence[np.ndarray]
"""(C, H, W) each."""
Planes = dict[str, np.ndarray]
"""Likewise, by name."""
Numbers = Mapping[str, float]
"""By name with unit."""


@dataclass(frozen=True)
class Cell:
    """One number of a table, and what it takes to measure it."""

    column: str
    """What the method is tried on, such as "gaussian:sigma=25"."""
    method: str
    """A key of METHODS, or of ``baselines.BASELINES`` (nothing is trained)."""
    preset: str
    """Of the method."""
    seed: int = 0
    """Of the training."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Changes to the preset."""
    label: str = ""
    """Row of the table; the method's name unless settings make it another row."""
    start: str = "none"
    """What the network begins from: "none", random weights, in plain intensities, as all rows were measured
    before there was a start; "shipped", and what the preset is today."""
    minutes: float | None = None
    """Another training budget than the preset's.

    Such a cell is a trial and never stands in a table of the preset.
    """

    @property
    def row(self) -> str:
        """Row of the table."""
        return self.label or self.method

    @property
    def name(self) -> str:
        """Column, row, preset and seed; no two cells of an experiment share it."""
        trial = "" if self.minutes is None else f"/{self.minutes:g}min"
        return f"{self.column}/{self.row}/{self.preset}/seed{self.seed}{trial}"

    @property
    def slug(self) -> str:
        """The name as files and folders carry it."""
        return file_name(self.name)


@dataclass(frozen=True)
class Scored:
    """One test image."""

    name: str
    """Stem of its file."""
    noisy: np.ndarray
    """(C, H, W), grey levels or HU."""
    clean: np.ndarray | None
    """Its ground truth, alike; None where there is none: then nothing is scored."""
    group: str = "all"
    """Which mean of the table it counts in."""
    low: float = 0.0
    """Black; both sides are clipped to black and white before scoring."""
    data_range: float = 255.0
    """White minus black."""


@dataclass(frozen=True)
class Task:
    """The data of a cell: planes (C, H, W), grey levels, one pixel type."""

    noisy: Images
    """What is trained on."""
    test: Sequence[Scored]
    """What is denoised and scored."""
    clean: Images = ()
    """Clean partners of ``noisy``, in its order."""
    second_noisy: Images = ()
    """Noisy partners of ``noisy``, in its order."""
    unpaired: Images = ()
    """Clean images of other scenes."""
    noise_images: Images = ()
    """Images of the noise alone."""


Evidence = Callable[[Sequence[Scored], Images], Numbers]
"""Numbers of the test images and the outputs, in their order."""
Texts = Mapping[str, Mapping[str, str]]
"""Row -> column -> text."""


@dataclass(frozen=True)
class Experiment:
    """A table: its cells, their data, and what stands beside them."""

    name: str
    """Of the experiment on the command line."""
    title: str
    """Heading of its tables."""
    statement: str
    """How scores are computed: data range, colour space, clipping, noise."""
    cells: Callable[[str], list[Cell]]
    """Of a preset, in table order."""
    task: Callable[[Path, Cell], Task]
    """The data of a cell under a data folder."""
    luma: bool = False
    """Score the Y channel of colour images too."""
    published: Texts = field(default_factory=dict)
    """Numbers of the paper that cells stand beside."""
    no_cell: Texts = field(default_factory=dict)
    """Further numbers of those papers' tables, that no cell stands for."""
    after: Mapping[str, str] = field(default_factory=dict)
    """Table or figure of a paper, "GAN2GAN Table 2" -> regular expression of the names of its cells."""
    evidence: Evidence | None = None
    """Gives further columns."""
    statistics: Callable[[Task, Cell], Numbers] | None = None
    """For an experiment without test images: the numbers of a cell from its data."""
    probes: int = 0
    """How many times a run is stopped on its way, evenly spaced, scored, and let go on."""
    cpu_minutes: float | None = None
    """Training budget of a cell of preset cpu, where it is not the preset's own."""


def file_name(text: str) -> str:
    """The text as a name of a file: letters, digits and "=.-" stay, all else becomes "_"."""
    return "".join(c if c.isalnum() or c in "=.-" else "_" for c in text)


def filter_cells(
    column: str, preset: str, gaussians_px: Sequence[float], bm3d: bool = True
) -> list[Cell]:
    """The rows that nothing is trained for.

    The noisy images, Gaussian filters, and BM3D with an estimated level.

    Parameters
    ----------
    column, preset
        Of the cells.
    gaussians_px
        Standard deviations of the filters.
    bm3d
        Whether there is a row of BM3D.
    """
    found = [Cell(column, "noisy", preset)]
    for px in gaussians_px:
        settings = {"sigma_px": px}
        label = f"gaussian {px} px"
        found.append(Cell(column, "gaussian-filter", preset, settings=settings, label=label))
    if bm3d:
        found.append(Cell(column, "bm3d", preset, label="bm3d, estimated sigma"))
    return found


def trained(column: str, method: str, preset: str, seed: int = 0) -> Cell:
    """The row of a method as it comes.

    Those that put noise on images have grey levels as units: rule (3) and the levels up to 55 speak of them,
    and the range of noisy float images would stretch them.
    """
    settings = GREY_LEVELS if method in ("gcbd", "dncnn-b") else {}
    return Cell(column, method, preset, seed, settings=settings)


def later_noise2void(column: str, preset: str) -> list[Cell]:
    """Noise2Void's later options: N2V2, and a mask that hides the neighbours too."""
    n2v2 = {"replacement": "median", "net": "blur-unet", "predict": "image"}
    mask = {"struct": "square", "struct_px": 1, "spacing_px": 8}
    return [
        Cell(column, "n2v", preset, settings=n2v2, label="n2v2"),
        Cell(column, "n2v", preset, settings=mask, label="n2v, structured mask"),
    ]


def files_of(folder: Path, pattern: str) -> list[Path]:
    """Files of a data set, sorted. InputError where there are none."""
    found = sorted(folder.glob(pattern))
    if not found:
        raise InputError(
            f"{folder}: holds no {pattern}; this experiment needs that data set, "
            "see docs/results.md"
        )
    return found


def read_planes(folder: Path, channels: int) -> Planes:
    """The 8-bit images of a folder by stem, float64 grey levels.

    Parameters
    ----------
    folder
        Of image files.
    channels
        1, then colour becomes grey (BT.601), or 3.

    Raises
    ------
    InputError
        Where colour is wanted of a grey image.
    """
    found = {}
    for entry in find_images([folder]):
        pixels = open_image(entry.path).pixels.astype(np.float64)
        if pixels.ndim == 3 and channels == 1:
            pixels = pixels[..., :3] @ [0.299, 0.587, 0.114]
        if pixels.ndim == 2 and channels == 3:
            raise InputError(f"{entry.path}: is grey, this experiment needs colour")
        name = entry.relative.with_suffix("").as_posix()
        found[name] = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    return found


def to_8_bit(planes: Mapping[str, np.ndarray]) -> Planes:
    """The images as bytes."""
    return {name: image.astype(np.uint8) for name, image in planes.items()}


def make_noisy(
    clean: Mapping[str, np.ndarray], spec: str, purpose: str, clip: bool = False
) -> Planes:
    """One noisy copy of each image.

    Parameters
    ----------
    clean
        The images, grey levels.
    spec
        The noise, such as "gaussian:sigma=25".
    purpose
        Keeps copies independent.
    clip
        Whether copies are rounded and clipped to 8 bits; else they are float32.
    """
    noisy = {}
    for name, image in clean.items():
        rng = image_rng(NOISE_SEED, f"{purpose}/{name}")
        made, _ = add_noise(np.moveaxis(image, 0, -1), spec, rng)
        planes = np.moveaxis(made, -1, 0)
        if clip:
            noisy[name] = np.clip(np.rint(planes), 0, 255).astype(np.uint8)
        else:
            noisy[name] = planes.astype(np.float32)
    return noisy


def noise_alone(
    shapes: Mapping[str, tuple[int, ...]], level: float, spec: str, clip: bool = False
) -> list[np.ndarray]:
    """Images of the noise alone, one for each name; other draws than those of the noisy images.

    Parameters
    ----------
    shapes
        Of the images, (C, H, W).
    level
        Constant grey level that the noise is put on.
    spec, clip
        As of ``make_noisy``.
    """
    blank = {}
    for name, shape in shapes.items():
        blank[name] = np.full(shape, level, dtype=np.float64)
    noisy = make_noisy(blank, spec, "noise alone", clip)
    return list(noisy.values())
