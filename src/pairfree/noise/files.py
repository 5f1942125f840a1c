"""Files -> noisy files: ``simulate`` over folders, with a record of what was drawn for each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pairfree.errors import OutputError
from pairfree.files.atomic import write_text
from pairfree.files.formats.table import open_image, save_image, to_dtype
from pairfree.files.image import Image
from pairfree.files.listing import find_images, plan_outputs, without_suffix
from pairfree.noise.ct import LowDoseCT
from pairfree.noise.model import GREY_MAX, NoiseModel
from pairfree.noise.simulate import image_rng, parse_noise, simulate, spec_of


@dataclass(frozen=True)
class Simulated:
    """written   path;  spec   the noise with its ranges resolved;  clipped   pixels clipped to the pixel type's range"""

    written: Path
    spec: str
    clipped: int


def grey_levels(dtype: np.dtype) -> float:
    """Intensity units per 8-bit grey level: 1 for 8 bits, 257 for uint16 (full range = 255 levels); floats count in grey levels."""
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max) / (127.0 if dtype.kind == "i" else 255.0)


def physical(image: Image, model: NoiseModel) -> tuple[NoiseModel, float, float]:
    """The model as it acts on this image, and the map intensity = offset + unit * level to its grey levels.

    DICOM intensities are physical: a level is 1 HU (or 1 of whatever the file's unit is). Low-dose CT is a model of the scan itself: there
    all of -1024..2048 HU is its window, so that air, lung and bone attenuate as they do, and the pixel size is the file's.
    """
    if image.family != "dicom":
        return model, grey_levels(image.dtype), 0.0
    if not isinstance(model, LowDoseCT):
        return model, 1.0, 0.0
    step = image.spacing.get("X", (model.pixel_mm, "mm"))[0]
    low, width = -1024.0, 3072.0
    return replace(model, level=low + width / 2.0, width=width, pixel_mm=step), width / GREY_MAX, low


def simulate_pixels(
    image: Image, pixels: np.ndarray, model: NoiseModel, rng: np.random.Generator
) -> tuple[np.ndarray, NoiseModel]:
    """``pixels`` of ``image``, (H, W) or (H, W, S) intensities, with noise: float64 intensities, not clipped; and the model as drawn."""
    acting, unit, offset = physical(image, model)
    noisy, drawn = simulate((pixels - offset) / unit, acting, rng)
    return noisy * unit + offset, drawn


def simulate_files(
    inputs: Sequence[str | Path],
    spec: str,
    out_dir: Path,
    *,
    seed: int = 0,
    overwrite: bool = False,
    as_float: bool = False,
) -> list[Simulated]:
    """Write a noisy copy of each file, in its own format and type (or unclipped float32 TIFF), and ``noise.json`` with what was drawn.

    Planes of a stack get noise of their own: the generator is a function of (seed, relative path without suffix, plane).
    """
    model = parse_noise(spec)
    entries = find_images(inputs)
    planned = plan_outputs(entries, out_dir, overwrite, ".tif" if as_float else None)
    notes = out_dir / "noise.json"
    if notes.exists() and not overwrite:
        raise OutputError(f"{notes}: exists already; add --overwrite to replace it, or name another folder")
    done, record = [], {}
    for entry, path in planned:
        image = open_image(entry.path)
        out = np.empty(image.shape, np.float32 if as_float else image.dtype)
        clipped = 0
        name = without_suffix(entry.relative).as_posix()
        for index in image.planes():
            label = name if not index else f"{name}{list(index)}"
            plane = image.plane(index).astype(np.float64)
            colours = plane[..., : image.colours] if plane.ndim == 3 else plane  # a view: transparency stays
            colours[...], drawn = simulate_pixels(image, colours, model, image_rng(seed, label))
            out[index], count = to_dtype(plane, out.dtype, None if as_float else image.limits)
            clipped += count
            record[label] = spec_of(drawn)
        made = replace(
            image,
            data=out,
            metadata={
                **image.metadata,
                "derivation": f"noise {record[label]}, seed {seed}",
                "derived": "noisy",
            },
        )
        if as_float:
            made = replace(made, family="tiff", metadata={}, limits=None)
        save_image(made, path, overwrite)
        done.append(Simulated(path, record[label], clipped))
    text = json.dumps(
        {"noise": spec, "seed": seed, "unit": "8-bit grey levels; of DICOM files HU", "drawn": record},
        indent=1,
    )
    write_text(notes, text + "\n", overwrite=True)
    return done
