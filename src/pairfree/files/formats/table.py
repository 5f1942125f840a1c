"""The table of file formats, and the one place where a file becomes an Image or a clear refusal.

``open_image`` maps every exception of the decoders to InputError. ``save_image`` and sinks write whole files
or nothing.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError, OutputError, PairfreeError
from pairfree.files.atomic import atomic_folder, atomic_path, require_space
from pairfree.files.formats.dicom import is_marked, read_dicom, write_dicom
from pairfree.files.formats.metaimage import files_of, pixel_file, read_metaimage, write_metaimage
from pairfree.files.formats.mrc import read_mrc, write_mrc
from pairfree.files.formats.nifti import read_nifti, write_nifti
from pairfree.files.formats.npy import read_npy, write_npy
from pairfree.files.formats.ome_zarr import is_zarr, read_zarr
from pairfree.files.formats.pictures import read_bmp, read_jpeg, read_png, write_png
from pairfree.files.formats.tiff import read_tiff
from pairfree.files.formats.tiff_write import write_tiff
from pairfree.files.formats.vendors import ELECTRON, LIGHT, read_vendor
from pairfree.files.formats.zarr_write import write_zarr
from pairfree.files.image import Image
from pairfree.files.limits import DEFAULT, Limits
from pairfree.files.messages import reason, shown, size_text


@dataclass(frozen=True)
class Format:
    """One format family.

    suffixes       of its input files, lower case, with the dot
    output_suffix  None: outputs keep the suffix of their input
    folder         an image is a folder of files
    beside         the second file that an image of this name is written to, if any: ``write(image, path, second, its final name)``
    files          all files that an image of this name consists of
    extra          of pairfree's optional packages, what reading needs
    """

    family: str
    suffixes: tuple[str, ...]
    read: Callable[[Path, Limits], Image]
    write: Callable[..., None]
    output_suffix: str | None = None
    folder: bool = False
    beside: Callable[[Path], Path | None] = lambda path: None
    files: Callable[[Path], tuple[Path, ...]] = lambda path: (path,)
    extra: str = ""


FORMATS: dict[str, Format] = {
    "tiff": Format("tiff", (".tif", ".tiff"), read_tiff, write_tiff),
    "png": Format("png", (".png",), read_png, write_png),
    "jpeg": Format("jpeg", (".jpg", ".jpeg"), read_jpeg, write_png, output_suffix=".png"),
    "bmp": Format("bmp", (".bmp",), read_bmp, write_png, output_suffix=".png"),
    "npy": Format("npy", (".npy",), read_npy, write_npy),
    "dicom": Format("dicom", (".dcm", ".dicom"), read_dicom, write_dicom),
    "mrc": Format("mrc", (".mrc", ".mrcs", ".map", ".rec", ".st", ".ali"), read_mrc, write_mrc),
    "metaimage": Format(
        "metaimage",
        (".mhd", ".mha"),
        read_metaimage,
        write_metaimage,
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
    "nifti": Format("nifti", (".nii", ".nii.gz"), read_nifti, write_nifti),
}
SUFFIXES = tuple(suffix for one in FORMATS.values() for suffix in one.suffixes)


def suffix_of(path: Path) -> str:
    """The suffix of a supported format that a name ends with, the longest of them (.nii.gz); else whatever
    follows its last dot."""
    name = path.name.lower()
    return max(
        (one for one in SUFFIXES if name.endswith(one) and name != one),
        key=len,
        default=path.suffix.lower(),
    )


def result_family(family: str) -> str:
    """The family of what an image of ``family`` is written as: its own, or that of the output's suffix."""
    suffix = FORMATS[family].output_suffix
    if suffix is None:
        return family
    return next(one.family for one in FORMATS.values() if suffix in one.suffixes)


def format_of(path: Path) -> Format:
    """The format of a file by its suffix, in any case, or DICOM or Zarr by their marks.

    InputError with the suffixes otherwise.
    """
    if is_zarr(path):
        return FORMATS["zarr"]
    suffix = suffix_of(path)
    for one in FORMATS.values():
        if suffix in one.suffixes:
            return one
    if is_marked(path):
        return FORMATS["dicom"]
    kind = f"suffix {shown(suffix)!r}" if suffix else "a name without suffix"
    raise InputError(f"{shown(path)}: {kind} is not supported; use one of {', '.join(SUFFIXES)}")


def is_supported(path: Path) -> bool:
    """Whether ``path`` is an image, by its name or its mark: a file, or a folder of a format that has
    folders."""
    return is_zarr(path) if path.is_dir() else suffix_of(path) in SUFFIXES or is_marked(path)


def read_from(path: Path) -> tuple[Path, ...]:
    """All files that the image at ``path`` is read from."""
    return format_of(path).files(path) if is_supported(path) else (path,)


def written_to(path: Path) -> tuple[Path, ...]:
    """All files that an image of that name is written to."""
    found = next(
        (one.beside(path) for one in FORMATS.values() if suffix_of(path) in one.suffixes), None
    )
    return (path,) if found is None else (path, found)


class _Drop(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return False


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the readers' lines about odd files off the terminal: what matters reaches the user as InputError."""
    drop = _Drop()
    loggers = [
        logging.getLogger(name) for name in ("tifffile", "PIL", "pydicom", "nibabel", "zarr")
    ]
    for logger in loggers:
        logger.addFilter(drop)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pydicom")
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(drop)


def open_image(path: str | Path, limits: Limits = DEFAULT) -> Image:
    """Read one image file.

    Raises InputError, and nothing else, in one line: the file, what was found, what to do.
    """
    path = Path(path)
    one = format_of(path)
    try:
        if not (path.is_dir() if one.folder else path.is_file()):
            found = (
                "is a folder"
                if path.is_dir()
                else "is no regular file"
                if path.exists()
                else "does not exist"
            )
            raise InputError(f"{shown(path)}: {found}; name an image file")
        with _quiet():
            return one.read(path, limits)
    except PairfreeError:
        raise
    except MemoryError as error:
        raise InputError(
            f"{shown(path)}: not enough memory to read it; close other programs, or crop or split the file"
        ) from error
    except ImportError as error:
        wanted = f"'pairfree[{one.extra}]'" if one.extra else error.name
        raise InputError(
            f"{shown(path)}: reading it needs the package {error.name}: pip install {wanted}"
        ) from error
    except PermissionError as error:
        raise InputError(
            f"{shown(path)}: no permission to read it; change its permissions or copy it"
        ) from error
    except RecursionError as error:
        raise InputError(
            f"{shown(path)}: its metadata are nested too deeply; export it again"
        ) from error
    # Decoders raise what they like on damaged files (measured: 12 classes); all of it is one answer to the
    # user.
    except Exception as error:
        raise InputError(
            f"{shown(path)}: cannot be read as {one.family.upper()} ({reason(error)}); it may be damaged, export it again"
        ) from error


def check_output(image: Image, path: Path) -> Format:
    one = FORMATS.get(image.family)
    if one is None:
        raise OutputError(
            f"{shown(path)}: unknown format family {image.family!r}; use one of {', '.join(FORMATS)}"
        )
    allowed = (one.output_suffix,) if one.output_suffix else one.suffixes
    bare = (
        image.family in ("dicom", "zarr") and suffix_of(path) not in SUFFIXES
    )  # objects of archives and images of plates are numbers
    if suffix_of(path) not in allowed and not bare:
        raise OutputError(
            f"{shown(path)}: a {one.family} image is written as {' or '.join(allowed)}; change the suffix"
        )
    return one


def save_image(image: Image, path: str | Path, overwrite: bool = False) -> None:
    """Write ``image`` to ``path`` in its family's format: the whole file or nothing. Raises OutputError."""
    path = Path(path)
    one = check_output(image, path)
    require_space(path.parent, image.nbytes)
    if one.folder and path.is_dir() and not is_zarr(path):
        raise OutputError(
            f"cannot write {shown(path)}: it is a folder that holds something else; choose another name"
        )
    second = one.beside(path)
    with _undone(second), ExitStack() as files:
        temporary = files.enter_context(
            (atomic_folder if one.folder else atomic_path)(path, overwrite, image.nbytes)
        )
        beside = (
            []
            if second is None
            else [files.enter_context(atomic_path(second, overwrite, image.nbytes)), second.name]
        )  # renamed first
        try:
            with _quiet():
                one.write(image, temporary, *beside)
        except OSError:
            raise
        except OutputError as error:
            raise OutputError(str(error).replace(shown(temporary), shown(path))) from error
        except MemoryError as error:
            raise OutputError(
                f"cannot write {shown(path)}: not enough memory ({size_text(image.nbytes)} of pixels)"
            ) from error
        except Exception as error:
            raise OutputError(
                f"cannot write {shown(path)} as {one.family.upper()}: {reason(error)}; write TIFF or .npy instead"
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


def to_dtype(
    values: np.ndarray, dtype: np.dtype[Any] | type | str, within: tuple[float, float] | None = None
) -> tuple[np.ndarray, int]:
    """``values`` in an image's type, and how many of them had to be clipped.

    Rounded to even and clipped, never wrapped.

    within   narrower bounds, of a file that cannot hold the whole range of its type (``Image.limits``)
    Integer types refuse NaN (InputError). Float types keep NaN and infinity; finite values beyond their range are clipped.
    """
    values, target = np.asarray(values), np.dtype(dtype)
    if within is not None:
        half = (
            0.5 if target.kind in "iu" else 0.0
        )  # what is rounded back into the bounds is not clipped
        outside = (values < within[0] - half) | (values > within[1] + half)
        return to_dtype(np.clip(values, *within), target)[0], int(np.count_nonzero(outside))
    if target.kind == "f":
        largest = float(np.finfo(target).max)
        with np.errstate(over="ignore", invalid="ignore"):
            outside = (np.abs(values) > largest) & np.isfinite(values)
        clipped = int(np.count_nonzero(outside))
        return (np.where(outside, np.sign(values) * largest, values) if clipped else values).astype(
            target
        ), clipped
    if target.kind not in "iu":
        raise InputError(f"cannot write pixels as {target.name}; use an integer or float type")
    if values.dtype.kind == "f" and bool(np.isnan(values).any()):
        count = int(np.count_nonzero(np.isnan(values)))
        raise InputError(
            f"{count} pixels are NaN and cannot be written as {target.name}; look for NaN in the input, or write floats"
        )
    bounds = np.iinfo(target)
    if values.dtype.kind in "iu":
        outside = (values < bounds.min) | (values > bounds.max)
        return np.clip(
            values,
            max(bounds.min, np.iinfo(values.dtype).min),
            min(bounds.max, np.iinfo(values.dtype).max),
        ).astype(target), int(np.count_nonzero(outside))
    # float32 cannot hold the bounds of 32-bit integers; float64 can
    rounded = np.rint(
        values.astype(np.float64)
        if target.itemsize > 2
        else values.astype(np.promote_types(values.dtype, np.float32))
    )
    outside = (rounded < bounds.min) | (rounded > bounds.max)
    return np.clip(rounded, bounds.min, bounds.max).astype(target), int(np.count_nonzero(outside))
