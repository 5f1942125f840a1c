"""Which page of an OME-TIFF holds which plane, told anew where results lie in another order."""

from __future__ import annotations

import re

from pairfree.files.image import Image

_TIFF_DATA = re.compile(rb"<(?:\w+:)?TiffData\b[^>]*?(?:/>|>.*?</(?:\w+:)?TiffData\s*>)", re.DOTALL)
_PREFIX = re.compile(rb"<(\w+:)?Pixels\b")
_OF_OME = frozenset("TZC")
"""Axes in front of Y that OME-XML has names for."""


def can_reorder(kind: str, axes: str) -> bool:
    """Whether a description of that kind can tell the order of pages, and has names for these axes."""
    return kind == "ome" and set(axes.rstrip("SYX")) <= _OF_OME


def reorder_planes(xml: bytes, image: Image) -> bytes:
    """OME-XML of one image whose planes lie in the order of the axes from now on, the last fastest.

    All else that it states stays byte for byte.
    """
    found = _PREFIX.search(xml)
    prefix = (found.group(1) or b"").decode() if found else ""
    told = []
    for page, index in enumerate(image.planes()):
        places = dict(zip(image.axes, index, strict=False))
        channel = places.get("C", 0) * image.samples
        told.append(
            f'<{prefix}TiffData FirstT="{places.get("T", 0)}" FirstZ="{places.get("Z", 0)}" '
            f'FirstC="{channel}" IFD="{page}" PlaneCount="1"/>'
        )
    first = _TIFF_DATA.search(xml)
    if first is None:
        return xml
    rest = _TIFF_DATA.sub(b"", xml[first.end() :])
    return xml[: first.start()] + "".join(told).encode() + rest
