"""TIFF under the suffixes of microscopes' and slide scanners' makers: read as TIFF, written as OME-TIFF."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from pairfree.files.formats.tiff import count_scenes, read_tiff
from pairfree.files.formats.tiff_meta import unit_name
from pairfree.files.formats.tiff_order import present_pages
from pairfree.files.image import Image, Spacing
from pairfree.files.limits import Limits

SUFFIXES = (".lsm", ".stk", ".svs", ".ndpi", ".scn", ".qptiff", ".bif")
"""Of Zeiss, MetaMorph, Aperio, Hamamatsu, Leica, Akoya and Ventana."""
FAMILY = "makers_tiff"
_MPP = re.compile(r"\bMPP\s*=\s*([0-9.]+)")
"""Micrometres a pixel, in Aperio's descriptions."""

DEPTH_TAG = 65424
"""Of Hamamatsu: distance of a page's focus from the slide's, nm."""


def read_slide(path: Path, limits: Limits, scene: int | None = None) -> Image:
    """Read an image of a maker's TIFF, with the pixel size, time step and channel names that it states.

    Parameters
    ----------
    path
        The file.
    limits
        What it may declare.
    scene
        Number of the image, from 0: slides hold a label and an overview besides. None for the first.

    Raises
    ------
    InputError
        As ``read_tiff``.
    """
    image = read_tiff(path, limits, scene)
    spacing = dict(image.spacing)
    names = image.channel_names
    with tifffile.TiffFile(path) as tiff:
        if tiff.is_lsm:
            of_zeiss = tiff.lsm_metadata or {}
            spacing |= _spacing_of_lsm(of_zeiss)
            names = _names_of_lsm(of_zeiss)
        elif tiff.is_stk:
            spacing |= _spacing_of_stk(tiff.stk_metadata or {})
        elif tiff.is_svs:
            page = tiff.series[scene or 0].keyframe
            spacing |= _spacing_of_svs(page.description or "")
        elif tiff.is_ndpi and "Z" in image.axes:
            spacing |= _spacing_of_ndpi(tiff.series[scene or 0])
    channels = image.shape[image.axes.index("C")] if "C" in image.axes else 1
    return replace(
        image,
        spacing={axis: step for axis, step in spacing.items() if axis in image.axes},
        channel_names=names if len(names) == channels else (),
        family=FAMILY,
        metadata={"warnings": image.metadata["warnings"]},
    )


count_slides = count_scenes
"""Number of the images of a maker's TIFF."""


def _spacing_of_lsm(stated: dict[str, Any]) -> Spacing:
    """Zeiss states metres and seconds."""
    found: Spacing = {}
    for axis in "ZYX":
        size = float(stated.get(f"VoxelSize{axis}", 0.0))
        if size > 0:
            found[axis] = (size * 1e6, "µm")
    interval = float(stated.get("TimeIntervall", 0.0))
    if interval > 0:
        found["T"] = (interval, "s")
    return found


def _names_of_lsm(stated: dict[str, Any]) -> tuple[str, ...]:
    colours = stated.get("ChannelColors") or {}
    return tuple(str(name) for name in colours.get("ColorNames", ()))


def _spacing_of_stk(stated: dict[str, Any]) -> Spacing:
    """MetaMorph states a size and its unit, and the distance of each plane from the last."""
    found: Spacing = {}
    unit = unit_name(str(stated.get("CalibrationUnits", "")))
    for axis in "YX":
        size = float(stated.get(f"{axis}Calibration", 0.0))
        if unit and size > 0:
            found[axis] = (size, unit)
    distances = np.atleast_1d(np.asarray(stated.get("ZDistance", ()), np.float64))
    if len(distances) and np.all(distances == distances[0]) and distances[0] > 0:
        found["Z"] = (float(distances[0]), unit or "µm")
    return found


def _spacing_of_svs(description: str) -> Spacing:
    stated = _MPP.search(description)
    size = 0.0 if stated is None else float(stated.group(1))
    return {"Y": (size, "µm"), "X": (size, "µm")} if size > 0 else {}


def _spacing_of_ndpi(series: tifffile.TiffPageSeries) -> Spacing:
    """Hamamatsu states at what depth each page is in focus."""
    stated = [page.aspage().tags.valueof(DEPTH_TAG) for page in present_pages(series)]
    if not all(isinstance(depth, int) for depth in stated):
        return {}
    steps = np.diff(np.array(stated, np.float64))
    if len(steps) and steps[0] > 0 and np.all(steps == steps[0]):
        return {"Z": (float(steps[0]) / 1000, "µm")}
    return {}
