"""The table of file formats, and the one place where a file becomes an Image or a clear refusal.

``open_image`` maps every exception of the decoders to InputError. ``save_image`` and sinks write
whole files or nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pairfree.errors import InputError, OutputError, PairfreeError
from pairfree.files.atomic import atomic_folder, atomic_path, require_space
from pairfree.files.formats import nifti_files
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
from pairfree.files.formats.ome_zarr import is_zarr, read_zarr
from pairfree.files.formats.packing import RATIOS, packing_of
from pairfree.files.formats.pictures import read_bmp, read_jpeg, read_png, write_png
from pairfree.files.formats.quiet import quiet_readers
from pairfree.files.formats.tiff import read_tiff
from pairfree.files.formats.tiff_write import write_tiff
from pairfree.files.formats.vendors import ELECTRON, LIGHT, read_vendor
from pairfree.files.formats.zarr_write import write_zarr
from pairfree.files.image import Image
from pairfree.files.limits import DEFAULT, Limits
from pairfree.files.messages import reason, shown, size_text


@dataclass(frozen=True)
class Format:
    """One format family."""

    family: str
    """Key of ``FORMATS``."""
    suffixes: tuple[str, ...]
    """Of its input files, lower case, with the dot."""
    read: Callable[[Path, Limits], Image]
    """Makes an image of a file."""
    write: Callable[..., None]
    """Writes an image to a path of a temporary name, which says nothing; with ``beside`` also to that of a
    second file."""
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
    owns: Callable[[Path], bool] = lambda path: True
    """Whether a file with one of the suffixes is of this format: other programs have some of them too."""
    extra: str = ""
    """Of pairfree's optional packages, what reading needs."""


FORMATS: dict[str, Format] = {
    "tiff": Format("tiff", (".tif", ".tiff"), read_tiff, write_tiff),
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
    "zarr": Format("zarr", (".zarr",), read_zarr, write_zarr, folder=True),
    "vendor": Format(
        "vendor",
        (*LIGHT, *ELECTRON),
        read_vendor,
        write_tiff,
        output_suffix=".tif",
        extra="vendors",
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
PLAIN_NAMES = ", ".join(suffix for suffix in SUFFIXES if suffix.count(".") == 1)
SUFFIX_TEXT = f"{PLAIN_NAMES} (those of NIfTI and MRC also with .gz, of MRC with .bz2)"
"""The suffixes in words."""


def suffix_of(path: Path) -> str:
    """The suffix of a supported format that a name ends with, the longest of them (.nii.gz).

    Else whatever follows its last dot.
    """
    name = path.name.lower()
    found = [one for one in SUFFIXES if name.endswith(one) and name != one]
    return max(found, key=len, default=path.suffix.lower())


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
    if path.is_dir():
        return is_zarr(path)
    named = _named(path)
    return (named is not None and named.owns(path)) or is_marked(path)


def _named(path: Path) -> Format | None:
    """The format that has the suffix of a name."""
    suffix = suffix_of(path)
    return next((one for one in FORMATS.values() if suffix in one.suffixes), None)


def read_from(path: Path) -> tuple[Path, ...]:
    """All files that the image at ``path`` is read from."""
    named = _named(path)
    return (path,) if named is None else named.files(path)


def written_to(path: Path) -> tuple[Path, ...]:
    """All files that an image of that name is written to."""
    named = _named(path)
    second = None if named is None else named.beside(path)
    return (path,) if second is None else (path, second)


def open_image(path: str | Path, limits: Limits = DEFAULT) -> Image:
    """Read one image file.

    Parameters
    ----------
    path
        Of a file, or of a folder of a format that has folders.
    limits
        What it may declare.

    Returns
    -------
    Image
        Pixels, axes, spacing and metadata; of large formats the pixels stay in the file until asked for.

    Raises
    ------
    InputError
        And nothing else, in one line: the file, what was found, what to do.
    """
    path = Path(path)
    one = format_of(path)
    try:
        _check_kind(path, one)
        with quiet_readers():
            return _tell_transparency(one.read(path, limits))
    except PairfreeError:
        raise
    # Decoders raise what they like on damaged files (measured: 12 classes); all of it is one answer
    # to the user.
    except Exception as error:
        raise InputError(f"{shown(path)}: {_words_for(error, one)}") from error


def _tell_transparency(image: Image) -> Image:
    """The image; where a sample is no intensity, a warning says that it is passed through."""
    if image.colours < image.samples:
        image.metadata.setdefault("warnings", []).append(
            f"sample {image.samples} of {image.samples} is transparency, which stays as it is"
        )
    return image


def _check_kind(path: Path, one: Format) -> None:
    """InputError for a folder where a file is read, and the other way round."""
    if one.folder and path.is_dir():
        return
    if not one.folder and path.is_file():
        return
    found = "does not exist"
    if path.is_dir():
        found = "is a folder"
    elif path.exists():
        found = "is no regular file"
    raise InputError(f"{shown(path)}: {found}; name an image file")


def _words_for(error: Exception, one: Format) -> str:
    """What went wrong when a file of a format was read, and what to do."""
    if isinstance(error, MemoryError):
        return "not enough memory to read it; close other programs, or crop or split the file"
    if isinstance(error, ImportError):
        wanted = f"'pairfree[{one.extra}]'" if one.extra else error.name
        return f"reading it needs the package {error.name}: pip install {wanted}"
    if isinstance(error, PermissionError):
        return "no permission to read it; change its permissions or copy it"
    if isinstance(error, RecursionError):
        return "its metadata are nested too deeply; export it again"
    return (
        f"cannot be read as {one.family.upper()} ({reason(error)}); "
        "it may be damaged, export it again"
    )


def check_output(image: Image, path: Path) -> Format:
    """The format that an image is written in.

    Parameters
    ----------
    image
        Of any origin.
    path
        Where it is written to.

    Raises
    ------
    OutputError
        For a suffix that is not that of the image's format.
    """
    one = FORMATS.get(image.family)
    if one is None:
        raise OutputError(
            f"{shown(path)}: unknown format family {image.family!r}; "
            f"use one of {', '.join(FORMATS)}"
        )
    allowed = (one.output_suffix,) if one.output_suffix else one.suffixes
    suffix = suffix_of(path)
    # Names of objects in archives and of images in plates are numbers, or end with .img.
    not_its_own = suffix not in SUFFIXES or suffix in nifti_files.PAIR_SUFFIXES
    bare = image.family in ("dicom", "zarr") and not_its_own
    if suffix not in allowed and not bare:
        raise OutputError(
            f"{shown(path)}: a {one.family} image is written as {' or '.join(allowed)}; "
            "change the suffix"
        )
    return one


def save_image(image: Image, path: str | Path, overwrite: bool = False) -> None:
    """Write an image in its family's format: the whole file or nothing.

    Parameters
    ----------
    image
        Of any origin. One that was made from an array, ``Image(pixels, "YX")``, is written in the format that
        the suffix says.
    path
        Where to.
    overwrite
        What is there may be replaced.

    Raises
    ------
    OutputError
        For what the format cannot hold, and what cannot be written.
    """
    if not isinstance(image, Image):
        kind = type(image).__name__
        raise InputError(
            f"{path}: expected a pairfree.Image, found {kind}; wrap an array, Image(pixels, 'YX')"
        )
    path = Path(path)
    if image.family == Image.family and not image.metadata and is_supported(path):
        image = replace(image, family=format_of(path).family)
    one = check_output(image, path)
    require_space(path.parent, image.nbytes)
    if one.folder and path.is_dir() and not is_zarr(path):
        raise OutputError(
            f"cannot write {shown(path)}: it is a folder that holds something else; "
            "choose another name"
        )
    second = one.beside(path)
    make = atomic_folder if one.folder else atomic_path
    with _undone(second), ExitStack() as files:
        temporary = files.enter_context(make(path, overwrite, image.nbytes))
        beside = []
        if second is not None:  # renamed first
            beside.append(files.enter_context(atomic_path(second, overwrite, image.nbytes)))
        try:
            with quiet_readers():
                one.write(image, temporary, *beside, **one.told(path))
        except OSError:
            raise
        except OutputError as error:
            raise OutputError(str(error).replace(shown(temporary), shown(path))) from error
        except MemoryError as error:
            raise OutputError(
                f"cannot write {shown(path)}: not enough memory "
                f"({size_text(image.nbytes)} of pixels)"
            ) from error
        except Exception as error:
            raise OutputError(
                f"cannot write {shown(path)} as {one.family.upper()}: {reason(error)}; "
                "write TIFF or .npy instead"
            ) from error


@contextmanager
def _undone(second: Path | None) -> Iterator[None]:
    """Where the block fails, a second file that was not there before is gone again."""
    before = second is None or os.path.lexists(second)
    try:
        yield
    except BaseException:
        if second is not None and not before:
            with suppress(OSError):
                second.unlink()
        raise
