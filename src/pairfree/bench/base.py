"""What an experiment is: cells, the data of a cell, and how outputs are scored. One file an experiment; the harness knows none of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError
from pairfree.files.formats.table import open_image
from pairfree.files.listing import find_images
from pairfree.noise.simulate import add_noise, image_rng

NOISE_SEED = 2026
"""Noise is drawn once, as a function of this seed, the set and the file's name; it is the same for every method, seed and machine."""


@dataclass(frozen=True)
class Cell:
    """One number of a table, and what it takes to measure it.

    column     what the method is tried on, such as "gaussian:sigma=25"
    method     a key of METHODS, or of ``baselines.BASELINES`` (nothing is trained)
    settings   changes to the preset
    label      row of the table; the method's name unless settings make it another row
    minutes    another training budget than the preset's; such a cell is a trial and never stands in a table of the preset
    """

    column: str
    method: str
    preset: str
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    minutes: float | None = None

    @property
    def row(self) -> str:
        return self.label or self.method

    @property
    def name(self) -> str:
        trial = "" if self.minutes is None else f"/{self.minutes:g}min"
        return f"{self.column}/{self.row}/{self.preset}/seed{self.seed}{trial}"

    @property
    def slug(self) -> str:
        """The name as files and folders carry it."""
        return file_name(self.name)


@dataclass(frozen=True)
class Scored:
    """One test image.

    name     file stem;  group   which mean of the table it counts in
    noisy    (C, H, W), grey levels or HU;  clean   its ground truth alike, or None where there is none: then nothing is scored
    low, data_range   black, and white minus black: both sides are clipped to them before scoring
    """

    name: str
    noisy: np.ndarray
    clean: np.ndarray | None
    group: str = "all"
    low: float = 0.0
    data_range: float = 255.0


@dataclass(frozen=True)
class Task:
    """The data of a cell. Training planes (C, H, W), grey levels, one pixel type.

    clean, second_noisy   partners of ``noisy``, in its order;  unpaired   clean images of other scenes;  noise_images   of the noise alone
    """

    noisy: Sequence[np.ndarray]
    test: Sequence[Scored]
    clean: Sequence[np.ndarray] = ()
    second_noisy: Sequence[np.ndarray] = ()
    unpaired: Sequence[np.ndarray] = ()
    noise_images: Sequence[np.ndarray] = ()


Evidence = Callable[[Sequence[Scored], Sequence[np.ndarray]], Mapping[str, float]]


@dataclass(frozen=True)
class Experiment:
    """name, title    of the table
    statement      how scores are computed: data range, colour space, clipping, noise
    cells          of a preset, in table order
    task           the data of a cell under a data folder
    luma           score the Y channel of colour images too
    published      row -> column -> text, from the paper
    no_cell        further numbers of those papers' tables, that no cell stands for: row -> what on -> text
    after          table or figure of a paper, "GAN2GAN Table 2" -> regular expression: the names of the cells that stand for it
    evidence       further columns: name with unit -> value, of the test images and the outputs (C, H, W) in their order
    statistics     for an experiment without test images: the numbers of a cell from its data, name with unit -> value
    probes         how many times a run is stopped on its way, evenly spaced, scored, and let go on
    cpu_minutes    training budget of a cell of preset cpu, where it is not the preset's own
    """

    name: str
    title: str
    statement: str
    cells: Callable[[str], list[Cell]]
    task: Callable[[Path, Cell], Task]
    luma: bool = False
    published: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    no_cell: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    after: Mapping[str, str] = field(default_factory=dict)
    evidence: Evidence | None = None
    statistics: Callable[[Task, Cell], Mapping[str, float]] | None = None
    probes: int = 0
    cpu_minutes: float | None = None


def file_name(text: str) -> str:
    """The text as a name of a file: letters, digits and "=.-" stay, all else becomes "_"."""
    return "".join(c if c.isalnum() or c in "=.-" else "_" for c in text)


def filter_cells(
    column: str, preset: str, gaussians_px: Sequence[float], bm3d: bool = True
) -> list[Cell]:
    """The rows that nothing is trained for: the noisy images, Gaussian filters, and BM3D with an estimated level."""
    found = [Cell(column, "noisy", preset)]
    found += [
        Cell(
            column, "gaussian-filter", preset, settings={"sigma_px": px}, label=f"gaussian {px} px"
        )
        for px in gaussians_px
    ]
    return found + [Cell(column, "bm3d", preset, label="bm3d, estimated sigma")] * bm3d


def trained(column: str, method: str, preset: str, seed: int = 0) -> Cell:
    """The row of a method as it comes. Those that put noise on images have grey levels as units: rule (3) and the levels up to 55 speak of
    them, and the range of noisy float images would stretch them."""
    return Cell(
        column,
        method,
        preset,
        seed,
        settings={"intensity": "0,255"} if method in ("gcbd", "dncnn-b") else {},
    )


def later_noise2void(column: str, preset: str) -> list[Cell]:
    """Noise2Void's later options: N2V2, and a mask that hides the neighbours too."""
    changes: dict[str, dict[str, Any]] = {
        "n2v2": {"replacement": "median", "net": "blur-unet", "predict": "image"},
        "n2v, structured mask": {"struct": "square", "struct_px": 1, "spacing_px": 8},
    }
    return [
        Cell(column, "n2v", preset, settings=change, label=row) for row, change in changes.items()
    ]


def files_of(folder: Path, pattern: str) -> list[Path]:
    """Files of a data set, sorted. InputError where there are none."""
    found = sorted(folder.glob(pattern))
    if not found:
        raise InputError(
            f"{folder}: holds no {pattern}; this experiment needs that data set, see docs/results.md"
        )
    return found


def read_planes(folder: Path, channels: int) -> dict[str, np.ndarray]:
    """The 8-bit images of a folder by stem, (C, H, W) float64 grey levels; colour becomes grey (BT.601) when one channel is asked for."""
    found = {}
    for entry in find_images([folder]):
        pixels = open_image(entry.path).pixels.astype(np.float64)
        if pixels.ndim == 3 and channels == 1:
            pixels = pixels[..., :3] @ [0.299, 0.587, 0.114]
        if pixels.ndim == 2 and channels == 3:
            raise InputError(f"{entry.path}: is grey, this experiment needs colour")
        found[entry.relative.with_suffix("").as_posix()] = (
            pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
        )
    return found


def make_noisy(
    clean: Mapping[str, np.ndarray], spec: str, purpose: str, clip: bool = False
) -> dict[str, np.ndarray]:
    """One noisy copy of each image, float32 grey levels, or 8-bit rounded and clipped. ``purpose`` keeps copies independent."""
    noisy = {}
    for name, image in clean.items():
        made, _ = add_noise(
            np.moveaxis(image, 0, -1), spec, image_rng(NOISE_SEED, f"{purpose}/{name}")
        )
        planes = np.moveaxis(made, -1, 0)
        noisy[name] = (
            np.clip(np.rint(planes), 0, 255).astype(np.uint8) if clip else planes.astype(np.float32)
        )
    return noisy


def noise_alone(
    shapes: Mapping[str, tuple[int, ...]], level: float, spec: str, clip: bool = False
) -> list[np.ndarray]:
    """Images of the noise alone around a constant ``level``, one for each name; other draws than those of the noisy images."""
    blank = {name: np.full(shape, level, dtype=np.float64) for name, shape in shapes.items()}
    return list(make_noisy(blank, spec, "noise alone", clip).values())
