"""Files -> noisy files: ``simulate`` over folders, with a record of what was drawn for each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import ConfigError, OutputError
from pairfree.files.atomic import write_text
from pairfree.files.dtypes import to_dtype
from pairfree.files.image import Image
from pairfree.files.listing import find_images, plan_outputs, without_suffix
from pairfree.files.named import named_inputs
from pairfree.files.opening import open_image, save_image
from pairfree.noise.ct import LowDoseCT
from pairfree.noise.measured import Measured
from pairfree.noise.model import GREY_MAX, NoiseModel
from pairfree.noise.simulate import add_noise, image_rng, parse_noise, spec_of
from pairfree.scenes.series import PREFIX, parse_scenes

LEVELS = "8-bit grey levels; of DICOM files HU"
CT_LOW_HU, CT_WIDTH_HU = -1024.0, 3072.0
"""What a CT file's grey scale spans for low-dose noise: from air to dense bone."""


@dataclass(frozen=True)
class Simulated:
    """A noisy file that was written."""

    written: Path
    """Its path."""
    spec: str
    """The noise of its last plane, with all ranges resolved to the numbers that were drawn."""
    clipped: int
    """Pixels that were clipped to the range of the pixel type."""


def simulate(
    clean: str | Path | Sequence[str | Path],
    noise: str | NoiseModel,
    out: str | Path,
    seed: int = 0,
    *,
    overwrite: bool = False,
    as_float: bool = False,
) -> list[Simulated]:
    """Write a noisy copy of each clean file, and ``noise.json`` with what was drawn.

    Parameters
    ----------
    clean
        Files, folders or globs: one, or several. Or "scenes:N": clean images that are drawn, see
        ``pairfree.scenes``.
    noise
        A SPEC such as "gaussian:sigma=25", "gaussian:sigma=0..50" (drawn for each plane), "poisson:lam=30" or
        "film"; or a model. Levels are those of 8-bit files: a 16-bit file's range counts as 255 of them,
        floats count as they are, and DICOM files in HU.
    out
        Folder for the noisy files; each keeps its relative path and name. Scenes go into its folder
        ``clean``, and their noisy copies into ``noisy``.
    seed
        Everything random follows from it: the generator of a plane is a function of seed, relative path
        without suffix and plane.
    overwrite
        Replace files that exist.
    as_float
        Write unclipped float32 TIFF instead of the input's format and type.

    Returns
    -------
    list of Simulated
        One for each file, in the order in which they were found.

    Raises
    ------
    ConfigError
        For a noise that is not known, and a negative seed.
    InputError
        For files that do not exist or cannot be read.
    OutputError
        For files that exist already or cannot be written.
    """
    model = parse_noise(noise) if isinstance(noise, str) else noise
    given: Sequence[str | Path] = named_inputs(clean)
    folder = Path(out)
    if any(is_series(one) for one in given):
        given, folder = draw_files(given, folder, seed, overwrite)
    entries = find_images(given, without=folder)
    planned = plan_outputs(entries, folder, overwrite, ".tif" if as_float else None)
    notes = folder / "noise.json"
    if notes.exists() and not overwrite:
        raise OutputError(
            f"{notes}: exists already; add `overwrite` to replace it, or name another folder"
        )
    done = []
    drawn: dict[str, str] = {}
    for entry, path in planned:
        image = open_image(entry.path)
        name = without_suffix(entry.relative).as_posix()
        noisy, of_planes, clipped = simulate_image(image, name, model, seed, as_float)
        save_image(noisy, path, overwrite)
        drawn |= of_planes
        done.append(Simulated(path, list(of_planes.values())[-1], clipped))
    spec = noise if isinstance(noise, str) else spec_of(noise)
    _write_record(notes, spec, seed, drawn)
    return done


def _write_record(path: Path, spec: str, seed: int, drawn: dict[str, str]) -> None:
    """What was asked for, and what was drawn for each plane."""
    record = {
        "noise": spec,
        "seed": seed,
        "unit": "those of the diagnosed files" if spec.startswith("law:") else LEVELS,
        "drawn": drawn,
    }
    write_text(path, json.dumps(record, indent=1) + "\n", overwrite=True)


def is_series(given: str | Path) -> bool:
    """Whether an input names scenes that are to be drawn, and no file."""
    return str(given).startswith(PREFIX) and not Path(given).exists()


def draw_files(
    given: Sequence[str | Path], folder: Path, seed: int, overwrite: bool = False
) -> tuple[list[Path], Path]:
    """Draw scenes into ``folder / "clean"``, as TIFF.

    Parameters
    ----------
    given
        One series, as ``pairfree.scenes.series.parse_scenes`` reads it.
    folder
        What is written into.
    seed
        Of the series.
    overwrite
        Replace files that exist.

    Returns
    -------
    tuple
        What takes the place of the inputs, and the folder of the noisy copies.

    Raises
    ------
    ConfigError
        For a wrong series, further inputs beside it, and a negative seed.
    OutputError
        For folders that exist and hold files already.
    """
    if len(given) > 1:
        raise ConfigError(f"{PREFIX}N is given alone, not beside files and folders")
    spec = str(given[0])
    series = parse_scenes(spec)
    for part in (folder / "clean", folder / "noisy"):
        if not overwrite and part.is_dir() and any(part.iterdir()):
            raise OutputError(
                f"{part}: holds files already; add `overwrite` to replace those of the same name, or "
                "name another folder"
            )
    axes = "YX" if series.channels == 1 else "YXS"
    for number, pixels in enumerate(series.draw(seed)):
        path = folder / "clean" / f"scene-{number:05d}.tif"
        metadata = {"derivation": f"scene {number} of {spec}, seed {seed}, drawn with pairfree"}
        save_image(Image(pixels, axes, family="tiff", metadata=metadata), path, overwrite)
    return [folder / "clean"], folder / "noisy"


def simulate_image(
    image: Image, name: str, model: NoiseModel, seed: int, as_float: bool = False
) -> tuple[Image, dict[str, str], int]:
    """A noisy copy of an image in memory.

    Parameters
    ----------
    image
        Clean, of any number of planes: each gets noise of its own, transparency gets none.
    name
        Relative path without suffix, from which its noise follows.
    model
        The noise; its ranges are drawn for each plane.
    seed, as_float
        See ``simulate``.

    Returns
    -------
    tuple
        The copy; the SPEC that was drawn for each plane, by ``name``, or ``name[index]`` in a stack; the
        number of clipped pixels.
    """
    pixels = np.empty(image.shape, np.float32 if as_float else image.dtype)
    limits = None if as_float else image.limits
    drawn: dict[str, str] = {}
    clipped = 0
    for index in image.planes():
        label = f"{name}{list(index)}" if index else name
        plane = image.plane(index).astype(np.float64)
        colours = plane
        if plane.ndim == 3:
            colours = plane[..., : image.colours]  # a view: transparency stays
        rng = image_rng(seed, label)
        colours[...], acting = simulate_pixels(image, colours, model, rng)
        pixels[index], count = to_dtype(plane, pixels.dtype, limits)
        clipped += count
        drawn[label] = spec_of(acting)
    if as_float:
        return replace(image, data=pixels, family="tiff", metadata={}, limits=None), drawn, clipped
    last = list(drawn.values())[-1]
    derivation = {"derivation": f"noise {last}, seed {seed}", "derived": "noisy"}
    return replace(image, data=pixels, metadata={**image.metadata, **derivation}), drawn, clipped


def simulate_pixels(
    image: Image, pixels: np.ndarray, model: NoiseModel, rng: np.random.Generator
) -> tuple[np.ndarray, NoiseModel]:
    """Pixels of an image with noise.

    Parameters
    ----------
    image
        Says what the intensities mean.
    pixels
        Of it, (H, W) or (H, W, S), intensity units.
    model
        The noise.
    rng
        What it is drawn with.

    Returns
    -------
    tuple
        float64 intensities, not clipped; the model as drawn.
    """
    acting, unit, offset = place_on_scale(image, model)
    noisy, drawn = add_noise((pixels - offset) / unit, acting, rng)
    return noisy * unit + offset, drawn


def place_on_scale(image: Image, model: NoiseModel) -> tuple[NoiseModel, float, float]:
    """The model as it acts on this image, and the map intensity = offset + unit * level to its grey levels.

    DICOM intensities are physical: a level is 1 HU (or 1 of whatever the file's unit is). Low-dose CT is a
    model of the scan itself: there all of -1024..2048 HU is its window, so that air, lung and bone attenuate
    as they do, and the pixel size is the file's. A measured law has the intensities of its own files.
    """
    if isinstance(model, Measured):
        return model, 1.0, 0.0
    if image.family != "dicom":
        return model, units_per_level(image.dtype), 0.0
    if not isinstance(model, LowDoseCT):
        return model, 1.0, 0.0
    step_mm, _ = image.spacing.get("X", (model.pixel_mm, "mm"))
    acting = replace(
        model, level=CT_LOW_HU + CT_WIDTH_HU / 2.0, width=CT_WIDTH_HU, pixel_mm=step_mm
    )
    return acting, CT_WIDTH_HU / GREY_MAX, CT_LOW_HU


def units_per_level(dtype: np.dtype[Any]) -> float:
    """Intensity units per 8-bit grey level.

    1 for 8 bits, 257 for uint16 (full range = 255 levels); floats count in grey levels.
    """
    if dtype.kind == "f":
        return 1.0
    levels = 127.0 if dtype.kind == "i" else 255.0
    return float(np.iinfo(dtype).max) / levels
