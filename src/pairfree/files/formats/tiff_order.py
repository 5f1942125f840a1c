"""Which page of an OME-TIFF holds which plane, told anew where results hold others, or in another order."""

from __future__ import annotations

import re
from collections.abc import Sequence

import tifffile

from pairfree.files.image import Image

_TIFF_DATA = re.compile(rb"<(?:\w+:)?TiffData\b[^>]*?(?:/>|>.*?</(?:\w+:)?TiffData\s*>)", re.DOTALL)
OME_IMAGE = re.compile(rb"<(?:\w+:)?Image\b.*?</(?:\w+:)?Image\s*>", re.DOTALL)
"""An image of OME-XML with all that is in it."""
_PREFIX = re.compile(rb"<(\w+:)?Pixels\b")
_OF_OME = frozenset("TZC")
"""Axes in front of Y that OME-XML has names for."""


def can_reorder(kind: str, axes: str, images: int) -> bool:
    """Whether a description can tell the order of pages, and has names for these axes.

    Parameters
    ----------
    kind
        As in ``Carried``.
    axes
        Of the result; Q stands for the positions of several images.
    images
        That the description is about.
    """
    leading = axes.rstrip("SYX")
    if images > 1:
        leading = leading.replace("Q", "", 1)
    return kind == "ome" and set(leading) <= _OF_OME


def reorder_planes(xml: bytes, image: Image) -> bytes:
    """OME-XML whose planes lie in the order of the axes from now on, the last fastest.

    All else that it states stays byte for byte.
    """
    blocks = list(OME_IMAGE.finditer(xml))
    found = _PREFIX.search(xml)
    prefix = (found.group(1) or b"").decode() if found else ""
    told: list[list[str]] = [[] for _ in blocks]
    for page, index in enumerate(image.planes()):
        places = dict(zip(image.axes, index, strict=False))
        number = places.get("Q", 0) if len(blocks) > 1 else 0
        channel = places.get("C", 0) * image.samples
        if number < len(told):
            told[number].append(
                f'<{prefix}TiffData FirstT="{places.get("T", 0)}" FirstZ="{places.get("Z", 0)}" '
                f'FirstC="{channel}" IFD="{page}" PlaneCount="1"/>'
            )
    parts = []
    end = 0
    for block, lines in zip(blocks, told, strict=True):
        parts += [xml[end : block.start()], _retell(block.group(), "".join(lines).encode())]
        end = block.end()
    return b"".join([*parts, xml[end:]])


def _retell(image: bytes, lines: bytes) -> bytes:
    """The element of one image with other words about its planes."""
    first = _TIFF_DATA.search(image)
    if first is None:
        return image
    rest = _TIFF_DATA.sub(b"", image[first.end() :])
    return image[: first.start()] + lines + rest


def count_described(xml: bytes) -> int:
    """Number of the images that OME-XML describes."""
    return sum(1 for _ in OME_IMAGE.finditer(xml))


def cut_to_images(xml: bytes, numbers: Sequence[int]) -> bytes:
    """OME-XML without the images of other numbers: those are not read, and must not be described."""
    images = list(OME_IMAGE.finditer(xml))
    if len(images) < 2 or len(numbers) == len(images):
        return xml
    kept = [images[number].group() for number in numbers if number < len(images)]
    before = xml[: images[0].start()]
    after = xml[images[-1].end() :]
    return before + b"".join(kept) + after


def pages_in_order(numbers: Sequence[int], kind: str) -> bool:
    """Whether pages of these numbers may follow each other from the first on as the description says.

    Parameters
    ----------
    numbers
        Of the pages in the order of the axes.
    kind
        As in ``Carried``; OME-XML counts from the first page of the file.
    """
    first = numbers[0] if kind != "ome" and numbers else 0
    return list(numbers) == list(range(first, first + len(numbers)))


def present_pages(series: tifffile.TiffPageSeries) -> list[tifffile.TiffPage | tifffile.TiffFrame]:
    """Pages of a series without those that are missing."""
    return [page for page in series.pages if page is not None]
