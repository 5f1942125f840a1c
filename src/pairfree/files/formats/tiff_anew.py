"""How an image that was no TIFF, or changed, is described in one: pixel size and OME's words."""

from __future__ import annotations

from typing import Any

from pairfree.files.image import Image

MICROMETRES = {
    "m": 1e6,
    "cm": 1e4,
    "mm": 1e3,
    "µm": 1.0,
    "nm": 1e-3,
    "Å": 1e-4,
    "pm": 1e-6,
}
"""In one of each unit of length."""
COARSEST_UM = 1e9
"""The greatest pixel that the integers of the resolution tag are written for, in µm."""


def in_um(image: Image) -> tuple[float, float] | None:
    """Pixel width and height in µm where both are known lengths."""
    found = []
    for axis in "XY":
        step, unit = image.spacing.get(axis, (0.0, ""))
        if unit not in MICROMETRES:
            return None
        found.append(step * MICROMETRES[unit])
    width, height = found
    return width, height


def ome_metadata(image: Image) -> dict[str, Any]:
    """What tifffile puts into the OME-XML that it makes."""
    metadata: dict[str, Any] = {"axes": image.axes}
    for axis in "XYZ":
        if axis in image.spacing:
            step, unit = image.spacing[axis]
            metadata[f"PhysicalSize{axis}"] = step
            metadata[f"PhysicalSize{axis}Unit"] = unit
    if "T" in image.spacing:
        step, unit = image.spacing["T"]
        metadata["TimeIncrement"] = step
        metadata["TimeIncrementUnit"] = unit
    if image.bit_depth is not None:
        metadata["SignificantBits"] = image.bit_depth
    if image.channel_names:
        metadata["Channel"] = {"Name": list(image.channel_names)}
    return metadata
