"""Files -> noisy files: ``simulate`` over folders, with a record of what was drawn for each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pairfree.errors import OutputError
from pairfree.files.atomic import write_text
from pairfree.files.formats import open_image, save_image, to_dtype
from pairfree.files.listing import find_images, plan_outputs
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


def simulate_files(
    inputs: Sequence[str | Path], spec: str, out_dir: Path, *, seed: int = 0, overwrite: bool = False, as_float: bool = False
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
        unit = grey_levels(image.dtype)
        out = np.empty(image.shape, np.float32 if as_float else image.dtype)
        clipped = 0
        name = entry.relative.with_suffix("").as_posix()
        for index in image.planes():
            label = name if not index else f"{name}{list(index)}"
            plane = image.plane(index).astype(np.float64)
            colours = plane[..., : image.colours] if plane.ndim == 3 else plane  # a view: transparency stays
            noisy, drawn = simulate(colours / unit, model, image_rng(seed, label))
            colours[...] = noisy * unit
            out[index], count = to_dtype(plane, out.dtype)
            clipped += count
            record[label] = spec_of(drawn)
        made = replace(image, pixels=out, family="tiff", metadata={}) if as_float else replace(image, pixels=out)
        save_image(made, path, overwrite)
        done.append(Simulated(path, record[label], clipped))
    text = json.dumps({"noise": spec, "seed": seed, "unit": "8-bit grey levels", "drawn": record}, indent=1)
    write_text(notes, text + "\n", overwrite=True)
    return done
