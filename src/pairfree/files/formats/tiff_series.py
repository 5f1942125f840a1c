"""Which pages of a TIFF make an image: its scenes, and what of them is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tifffile

from pairfree.errors import InputError
from pairfree.files.formats import tiff_meta
from pairfree.files.formats.tiff_order import OME_IMAGE, present_pages
from pairfree.files.limits import check_scene
from pairfree.files.messages import shown

RGB = 2
"""Of PhotometricInterpretation."""
SEPARATE = 2
"""Of PlanarConfiguration: samples are stored one after the other."""
UNASSOCIATED = (2,)
"""ExtraSamples of what is taken for colours and transparency because there are four."""
NAMED = 3
"""Of several files or images, so many are named."""


@dataclass(frozen=True)
class Scene:
    """One image of a file."""

    series: tifffile.TiffPageSeries
    images: tuple[int, ...]
    """Numbers of the images of its OME-XML that the pages belong to, such as the positions of a stage."""


def open_tiff(path: Path, warnings: list[str]) -> tuple[tifffile.TiffFile, set[str]]:
    """The file alone, and the names of the others of its set.

    Of an OME-TIFF that is one of several: its own pages, in their order. Micro-Manager's files are read by
    their OME-XML where that describes all pages.

    Parameters
    ----------
    path
        Of the file.
    warnings
        Gets a line about a set.
    """
    tiff = tifffile.TiffFile(path)
    try:
        first = tiff.pages[0].aspage()
        if not first.is_ome:
            return tiff, set()
        beside = tiff_meta.files_of_ome(first.description or "")
    except BaseException:
        tiff.close()
        raise
    beside.discard(path.name)
    if not beside:
        return _prefer_ome(tiff, path), beside
    tiff.close()
    named = ", ".join(sorted(beside)[:NAMED])
    more = ", ..." if len(beside) > NAMED else ""
    warnings.append(f"is one file of a set ({named}{more}): keep their results together")
    return tifffile.TiffFile(path, is_ome=False, is_mmstack=False), beside


def _prefer_ome(tiff: tifffile.TiffFile, path: Path) -> tifffile.TiffFile:
    """A file of Micro-Manager opened again, so that its OME-XML says what the pages are."""
    if not tiff.is_mmstack:
        return tiff
    by_ome = tifffile.TiffFile(path, is_mmstack=False)
    pages = sum(len(present_pages(one)) for one in by_ome.series)
    described = sum(len(one.pages) for one in by_ome.series)
    if pages == described == len(by_ome.pages):
        tiff.close()
        return by_ome
    by_ome.close()
    return tiff


def find_companions(path: Path, beside: set[str]) -> list[Path]:
    """Those files of a set that hold metadata and no pixels."""
    found = []
    for name in sorted(beside):
        is_plain = Path(name).name == name
        if name.lower().endswith(".ome") and is_plain and (path.parent / name).is_file():
            found.append(path.parent / name)
    return found


def find_scenes(tiff: tifffile.TiffFile) -> list[Scene]:
    """All images of a file, in its order.

    Images of an OME-TIFF that are alike in size, type and what is stated of them are one: the positions of a
    stage, along an axis of their own.
    """
    series = tiff.series
    if tiff.is_lsm:  # each page has a thumbnail
        series = [one for one in series if not one.keyframe.is_reduced]
    description = tiff.pages[0].aspage().description or "" if tiff.is_ome else ""
    count = len(OME_IMAGE.findall(description.encode("utf-8", "replace")))
    if len(series) == 1:
        return [Scene(series[0], tuple(range(max(1, count))))]
    if tiff.is_ome and count == len(series) and _are_alike(series, description):
        return [Scene(_put_together(series), tuple(range(count)))]
    if not tiff.is_ome:
        return [Scene(one, (number,)) for number, one in enumerate(series)]
    numbers = _match_images(series, tiff_meta.images_from_ome(description))
    return [Scene(one, (number,)) for one, number in zip(series, numbers, strict=True)]


def _match_images(
    series: Sequence[tifffile.TiffPageSeries], stated: Sequence[tiff_meta.Stated]
) -> list[int]:
    """Numbers of the images of OME-XML that series are: tifffile leaves out those without pages.

    A number beyond the last image where none has the size of a series.
    """
    found: list[int] = []
    after = 0
    for one in series:
        sizes = dict(zip(one.axes, one.shape, strict=True))
        wanted = (sizes.get("Y"), sizes.get("X"))
        left = len(stated) - after
        alike = [n for n in range(after, len(stated)) if stated[n].plane == wanted]
        if left > len(series) - len(found):  # some have no pages: only their size tells which
            number = alike[0] if len(alike) == 1 else len(stated)
        else:
            number = after
        found.append(number)
        after = min(number, len(stated) - 1) + 1
    return found


def _are_alike(series: Sequence[tifffile.TiffPageSeries], description: str) -> bool:
    """Whether images have one size, type and number of resolutions, and are stated to be alike."""
    first = series[0]
    stated = tiff_meta.images_from_ome(description)
    if any(one != stated[0] for one in stated):
        return False
    for one in series:
        here = (one.shape, one.axes, one.dtype, len(one.levels), one.keyframe.hash)
        if here != (first.shape, first.axes, first.dtype, len(first.levels), first.keyframe.hash):
            return False
    return len(first.levels) == 1 and "Q" not in first.axes


def _put_together(series: Sequence[tifffile.TiffPageSeries]) -> tifffile.TiffPageSeries:
    """Images that are alike as one, along a new axis in front."""
    first = series[0]
    pages = [page for one in series for page in one.pages]
    shape = (len(series), *first.shape)
    return tifffile.TiffPageSeries(pages, shape, first.dtype, f"Q{first.axes}", kind=first.kind)


def choose_scene(
    tiff: tifffile.TiffFile, path: Path, scene: int | None, pages: int, warnings: list[str]
) -> Scene:
    """The image that is read; lines in ``warnings`` say what is not, where none was chosen.

    Parameters
    ----------
    tiff, path
        The file.
    scene
        Number of the image, from 0; None for the first.
    pages
        Of the file.
    warnings
        Gets the lines.

    Raises
    ------
    InputError
        For a file without an image, or without one of that number.
    """
    scenes = find_scenes(tiff)
    if not scenes:
        raise InputError(f"{shown(path)}: TIFF without any image; was it written completely?")
    check_scene(scene or 0, len(scenes), path)
    one = scenes[scene or 0]
    if len(scenes) == 1:
        _tell_pages_left_out(tiff, one.series, pages, warnings)
    elif scene is None:
        sizes = ["x".join(map(str, other.series.shape)) for other in scenes[1:]]
        more = ", ..." if len(sizes) > NAMED else ""
        warnings.append(
            f"the file holds {len(scenes)} images; only the first is used "
            f"({', '.join(sizes[:NAMED])}{more} left out; choose with `scene`)"
        )
    return one


def _tell_pages_left_out(
    tiff: tifffile.TiffFile, one: tifffile.TiffPageSeries, pages: int, warnings: list[str]
) -> None:
    """A line about pages that are no part of the one image of a file."""
    below_pages = bool(tiff.pages[0].aspage().subifds)
    lower = [] if below_pages else [page for level in one.levels[1:] for page in level.pages]
    pages -= sum(page is not None and page.aspage().is_reduced for page in lower)
    if pages <= len(one.pages) or tiff.is_lsm or (tiff.is_imagej and not tiff.is_ome):
        return
    if tiff.is_ome:
        warnings.append(f"{pages - len(one.pages)} pages that are no planes of it are left out")
        return
    warnings.append(
        f"the file holds {pages} pages; only the first {len(one.pages)} of one size and type are used"
    )


def name_axes(series: tifffile.TiffPageSeries, first: tifffile.TiffPage) -> str:
    """Axes of a series, Q for S where samples are slices.

    tifffile, scikit-image and imageio store three or four slices as the samples of one page; their text says
    that the first axis has this size, and not the last, as it does of colours.
    """
    planar = int(first.planarconfig) == SEPARATE and int(first.photometric) == RGB
    by_itself = tuple(int(kind) for kind in first.extrasamples) in ((), UNASSOCIATED)
    named = '"axes"' in (first.description or "")
    axes: str = series.axes
    slices = first.is_shaped and planar and by_itself and not named
    return axes.replace("S", "Q") if slices else axes
