"""The table of file formats, and which of them a file is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pairfree.errors import InputError
from pairfree.files.formats import nifti_files, tiff_makers
from pairfree.files.formats.dicom import is_marked, read_dicom, write_dicom
from pairfree.files.formats.metaimage import (
    files_of,
    pixel_file,
    pixels_name,
    read_metaimage,
    write_metaimage,
)
from pairfree.files.formats.mgh import packing_of_mgh, read_mgh, write_mgh
from pairfree.files.formats.mrc import read_mrc, write_mrc
from pairfree.files.formats.mrc_header import PLAIN_SUFFIXES
from pairfree.files.formats.nifti import read_nifti, write_nifti
from pairfree.files.formats.npy import read_npy, write_npy
from pairfree.files.formats.oif_files import files_of_oif
from pairfree.files.formats.ome_zarr import (
    is_zarr,
    read_zarr,
    read_zipped_zarr,
)
from pairfree.files.formats.packing import RATIOS, packing_of
from pairfree.files.formats.pictures import read_bmp, read_jpeg, read_png, write_png
from pairfree.files.formats.tiff import count_scenes as count_tiff
from pairfree.files.formats.tiff import read_tiff
from pairfree.files.formats.tiff_rehearsal import rehearse_tiff
from pairfree.files.formats.tiff_write import write_tiff
from pairfree.files.formats.vendors import ELECTRON, LIGHT, read_vendor
from pairfree.files.formats.vendors import count_scenes as count_vendor
from pairfree.files.formats.zarr_images import count_images
from pairfree.files.formats.zarr_write import rehearse_zarr, write_zarr, write_zipped_zarr
from pairfree.files.image import Image
from pairfree.files.limits import Limits
from pairfree.files.messages import address_of, shown

ZARR = ".zarr"
"""Of folders, and of zip archives that kept their folder's name."""


@dataclass(frozen=True)
class Format:
    """One format family."""

    family: str
    """Key of ``FORMATS``."""
    suffixes: tuple[str, ...]
    """Of its input files, lower case, with the dot."""
    also: tuple[str, ...] = field(default=(), kw_only=True)
    """Suffixes of other formats that its files may have as well."""
    read: Callable[..., Image]
    """Makes an image of a file: of a path, limits and, where files may hold several, the number of one."""
    write: Callable[..., None]
    """Writes an image to a path of a temporary name, which says nothing; with ``beside`` also to that of a
    second file."""
    rehearse: Callable[[Image, Path], None] = lambda image, path: None
    """For an output of that path, raises what ``write`` would, without the pixels, where a format does not
    always hold what it gave."""
    told: Callable[[Path], dict[str, Any]] = lambda path: {}
    """What the final path decides, as arguments of ``write``."""
    output_suffix: str | None = None
    """None: outputs keep the suffix of their input."""
    folder: bool = False
    """An image is a folder of files."""
    beside: Callable[[Path], Path | None] = lambda path: None
    """The second file that an image of this name is written to, if any."""
    files: Callable[[Path], tuple[Path, ...]] = lambda path: (path,)
    """All files that an image of this name consists of."""
    count: Callable[[Path, Limits], int] | None = None
    """Tells how many images a file holds; None for formats of one image."""
    owns: Callable[[Path], bool] = lambda path: True
    """Whether a file with one of the suffixes is of this format: other programs have some of them too."""
    extra: str = ""
    """Of pairfree's optional packages, what reading needs."""


FORMATS: dict[str, Format] = {
    "tiff": Format(
        "tiff",
        (".tif", ".tiff", ".btf"),
        read_tiff,
        write_tiff,
        rehearse=rehearse_tiff,
        count=count_tiff,
    ),
    "png": Format("png", (".png",), read_png, write_png),
    "jpeg": Format("jpeg", (".jpg", ".jpeg"), read_jpeg, write_png, output_suffix=".png"),
    "bmp": Format("bmp", (".bmp",), read_bmp, write_png, output_suffix=".png"),
    "npy": Format("npy", (".npy",), read_npy, write_npy),
    "dicom": Format("dicom", (".dcm", ".dicom"), read_dicom, write_dicom),
    "mrc": Format(
        "mrc",
        tuple(suffix + packing for suffix in PLAIN_SUFFIXES for packing in RATIOS),
        read_mrc,
        write_mrc,
        told=lambda path: {"packing": packing_of(path)},
    ),
    "metaimage": Format(
        "metaimage",
        (".mhd", ".mha"),
        read_metaimage,
        write_metaimage,
        told=lambda path: {"pixels_name": pixels_name(path)},
        beside=pixel_file,
        files=files_of,
    ),
    "zarr": Format(
        "zarr",
        (ZARR,),
        read_zarr,
        write_zarr,
        rehearse=rehearse_zarr,
        folder=True,
        count=count_images,
    ),
    "ozx": Format(
        "ozx",
        (".ozx", ".zarr.zip"),
        read_zipped_zarr,
        write_zipped_zarr,
        rehearse=rehearse_zarr,
        also=(ZARR,),
    ),
    tiff_makers.FAMILY: Format(
        tiff_makers.FAMILY,
        tiff_makers.SUFFIXES,
        tiff_makers.read_slide,
        write_tiff,
        rehearse=rehearse_tiff,
        output_suffix=".tif",
        count=tiff_makers.count_slides,
    ),
    "vendor": Format(
        "vendor",
        LIGHT,
        read_vendor,
        write_tiff,
        rehearse=rehearse_tiff,
        output_suffix=".tif",
        files=files_of_oif,
        count=count_vendor,
        extra="vendors",
    ),
    "electron": Format(
        "electron",
        ELECTRON,
        read_vendor,
        write_tiff,
        rehearse=rehearse_tiff,
        output_suffix=".tif",
        count=count_vendor,
        extra="vendors-gpl",
    ),
    "nifti": Format(
        "nifti",
        (*nifti_files.SINGLE_SUFFIXES, *nifti_files.PAIR_SUFFIXES),
        read_nifti,
        write_nifti,
        told=lambda path: {
            "packing": packing_of(path),
            "names_pixels": nifti_files.is_named_by_pixels(path),
        },
        beside=nifti_files.partner_of,
        files=nifti_files.files_of,
        owns=nifti_files.is_nifti,
    ),
    "mgh": Format(
        "mgh",
        (".mgz", ".mgh", ".mgh.gz"),
        read_mgh,
        write_mgh,
        told=lambda path: {"packing": packing_of_mgh(path)},
    ),
}
SUFFIXES = tuple(suffix for one in FORMATS.values() for suffix in one.suffixes)
_BY_SUFFIX = {suffix: one for one in reversed(FORMATS.values()) for suffix in one.suffixes}
"""The first of those that have a suffix."""
PLAIN_NAMES = ", ".join(suffix for suffix in SUFFIXES if suffix.count(".") == 1)
SUFFIX_TEXT = f"{PLAIN_NAMES} (those of NIfTI and MRC also with .gz, of MRC with .bz2)"
"""The suffixes in words."""


def suffix_of(path: Path) -> str:
    """The suffix of a supported format that a name ends with, the longest of them (.nii.gz).

    Else whatever follows its last dot.
    """
    return _suffix_of_name(path.name)


@functools.lru_cache(maxsize=2**10)
def _suffix_of_name(name: str) -> str:
    name = name.lower()
    dot = name.find(".", 1)
    while dot > 0:
        if name[dot:] in _BY_SUFFIX:
            return name[dot:]
        dot = name.find(".", dot + 1)
    return Path(name).suffix


def result_family(family: str) -> str:
    """The family of what an image of ``family`` is written as: its own, or that of the output's suffix."""
    suffix = FORMATS[family].output_suffix
    if suffix is None:
        return family
    return next(one.family for one in FORMATS.values() if suffix in one.suffixes)


def format_of(path: Path) -> Format:
    """The format of a file by its suffix, in any case, or DICOM or Zarr by their marks.

    Parameters
    ----------
    path
        Of a file or folder, which need not exist.

    Raises
    ------
    InputError
        For any other file, with the suffixes.
    """
    if is_zarr(path):
        return FORMATS["zarr"]
    suffix = suffix_of(path)
    if suffix == ZARR and path.is_file():
        return FORMATS["ozx"]  # a folder that was zipped and kept its name
    named = _named(path)
    if named is not None and named.owns(path):
        return named
    if is_marked(path):
        return FORMATS["dicom"]
    if named is not None:
        return named  # whose reader tells what the file is not
    kind = f"suffix {shown(suffix)!r}" if suffix else "a name without suffix"
    raise InputError(f"{shown(path)}: {kind} is not supported; use one of {SUFFIX_TEXT}")


def is_supported(path: Path) -> bool:
    """Whether ``path`` is an image, by its name or its mark.

    A file, or a folder of a format that has folders.
    """
    if path.is_dir() or address_of(path) is not None:
        return is_zarr(path)
    return is_image_file(path)


def is_image_file(path: Path) -> bool:
    """Whether what is no folder is an image, by its name or its mark."""
    named = _named(path)
    return (named is not None and named.owns(path)) or is_marked(path)


def _named(path: Path) -> Format | None:
    """The format that has the suffix of a name."""
    return _BY_SUFFIX.get(suffix_of(path))


def read_from(path: Path) -> tuple[Path, ...]:
    """All files that the image at ``path`` is read from."""
    named = _named(path)
    return (path,) if named is None else named.files(path)


def written_to(path: Path) -> tuple[Path, ...]:
    """All files that an image of that name is written to."""
    named = _named(path)
    second = None if named is None else named.beside(path)
    return (path,) if second is None else (path, second)
