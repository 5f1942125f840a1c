"""The table of file formats, and the one place where a file becomes an Image or a clear refusal.

``open_image`` maps every exception of the decoders to InputError. ``save_image`` and sinks write whole files or nothing.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from pairfree.errors import InputError, OutputError, PairfreeError
from pairfree.files.atomic import atomic_path, require_space
from pairfree.files.dicom import is_marked, read_dicom, write_dicom
from pairfree.files.image import Image, check_index
from pairfree.files.limits import DEFAULT, Limits
from pairfree.files.mrc import read_mrc, write_mrc
from pairfree.files.nifti import read_nifti, write_nifti
from pairfree.files.npy import read_npy, write_npy
from pairfree.files.png import read_bmp, read_jpeg, read_png, write_png
from pairfree.files.tiff import read_tiff
from pairfree.files.tiff_write import write_tiff
from pairfree.files.words import reason, shown, size_text


@dataclass(frozen=True)
class Format:
    """One format family.

    suffixes       of its input files, lower case, with the dot
    output_suffix  None: outputs keep the suffix of their input
    """

    family: str
    suffixes: tuple[str, ...]
    read: Callable[[Path, Limits], Image]
    write: Callable[[Image, Path], None]
    output_suffix: str | None = None


FORMATS: dict[str, Format] = {
    "tiff": Format("tiff", (".tif", ".tiff"), read_tiff, write_tiff),
    "png": Format("png", (".png",), read_png, write_png),
    "jpeg": Format("jpeg", (".jpg", ".jpeg"), read_jpeg, write_png, output_suffix=".png"),
    "bmp": Format("bmp", (".bmp",), read_bmp, write_png, output_suffix=".png"),
    "npy": Format("npy", (".npy",), read_npy, write_npy),
    "dicom": Format("dicom", (".dcm", ".dicom"), read_dicom, write_dicom),
    "mrc": Format("mrc", (".mrc", ".mrcs", ".map", ".rec", ".st", ".ali"), read_mrc, write_mrc),
    "nifti": Format("nifti", (".nii", ".nii.gz"), read_nifti, write_nifti),
}
SUFFIXES = tuple(suffix for one in FORMATS.values() for suffix in one.suffixes)


def suffix_of(path: Path) -> str:
    """The suffix of a supported format that a name ends with, the longest of them (.nii.gz); else whatever follows its last dot."""
    name = path.name.lower()
    return max((one for one in SUFFIXES if name.endswith(one) and name != one), key=len, default=path.suffix.lower())


def format_of(path: Path) -> Format:
    """The format of a file by its suffix, in any case, or DICOM by its mark. InputError listing the supported suffixes otherwise."""
    suffix = suffix_of(path)
    for one in FORMATS.values():
        if suffix in one.suffixes:
            return one
    if is_marked(path):
        return FORMATS["dicom"]
    kind = f"suffix {shown(suffix)!r}" if suffix else "a name without suffix"
    raise InputError(f"{shown(path)}: {kind} is not supported; use one of {', '.join(SUFFIXES)}")


def is_supported(path: Path) -> bool:
    return suffix_of(path) in SUFFIXES or is_marked(path)


class _Drop(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return False


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the readers' lines about odd files off the terminal: what matters reaches the user as InputError."""
    drop = _Drop()
    loggers = [logging.getLogger(name) for name in ("tifffile", "PIL", "pydicom", "nibabel")]
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
    """Read one image file. Raises InputError, and nothing else, in one line: the file, what was found, what to do."""
    path = Path(path)
    one = format_of(path)
    try:
        if not path.is_file():
            found = "is a folder" if path.is_dir() else "is no regular file" if path.exists() else "does not exist"
            raise InputError(f"{shown(path)}: {found}; name an image file")
        with _quiet():
            return one.read(path, limits)
    except PairfreeError:
        raise
    except MemoryError as error:
        raise InputError(f"{shown(path)}: not enough memory to read it; close other programs, or crop or split the file") from error
    except ImportError as error:
        raise InputError(f"{shown(path)}: reading it needs the package {error.name}: pip install {error.name}") from error
    except PermissionError as error:
        raise InputError(f"{shown(path)}: no permission to read it; change its permissions or copy it") from error
    except RecursionError as error:
        raise InputError(f"{shown(path)}: its metadata are nested too deeply; export it again") from error
    # Decoders raise what they like on damaged files (measured: 12 classes); all of it is one answer to the user.
    except Exception as error:
        raise InputError(
            f"{shown(path)}: cannot be read as {one.family.upper()} ({reason(error)}); it may be damaged, export it again"
        ) from error


def _check_output(image: Image, path: Path) -> Format:
    one = FORMATS.get(image.family)
    if one is None:
        raise OutputError(f"{shown(path)}: unknown format family {image.family!r}; use one of {', '.join(FORMATS)}")
    allowed = (one.output_suffix,) if one.output_suffix else one.suffixes
    bare = image.family == "dicom" and suffix_of(path) not in SUFFIXES  # archives name their objects by numbers
    if suffix_of(path) not in allowed and not bare:
        raise OutputError(f"{shown(path)}: a {one.family} image is written as {' or '.join(allowed)}; change the suffix")
    return one


def save_image(image: Image, path: str | Path, overwrite: bool = False) -> None:
    """Write ``image`` to ``path`` in its family's format: the whole file or nothing. Raises OutputError."""
    path = Path(path)
    one = _check_output(image, path)
    require_space(path.parent, image.pixels.nbytes)
    with atomic_path(path, overwrite, image.pixels.nbytes) as temporary:
        try:
            with _quiet():
                one.write(image, temporary)
        except OSError:
            raise
        except OutputError as error:
            raise OutputError(str(error).replace(shown(temporary), shown(path))) from error
        except MemoryError as error:
            raise OutputError(f"cannot write {shown(path)}: not enough memory ({size_text(image.pixels.nbytes)} of pixels)") from error
        except Exception as error:
            raise OutputError(f"cannot write {shown(path)} as {one.family.upper()}: {reason(error)}; write TIFF or .npy instead") from error


class Sink(Protocol):
    """Where a result is written plane by plane. Nothing has the final name before ``commit``.

    As a context manager it aborts when its block raises or ends without ``commit``.
    """

    def write(self, index: tuple[int, ...], plane: np.ndarray) -> None: ...
    def commit(self) -> None: ...
    def abort(self) -> None: ...
    def __enter__(self) -> Sink: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class MemorySink:
    """Sink that holds the output in memory and writes it in one piece on commit.

    Raises InputError for a plane that does not exist or fit, OutputError on commit when planes are missing or the write fails.
    """

    def __init__(self, like: Image, path: Path, overwrite: bool) -> None:
        self._like, self._path, self._overwrite = like, path, overwrite
        self._pixels: np.ndarray | None = np.empty(like.shape, like.dtype)
        self._written: set[tuple[int, ...]] = set()

    def write(self, index: tuple[int, ...], plane: np.ndarray) -> None:
        """Store one plane, (H, W) or (H, W, S), of the output's type (see ``to_dtype``)."""
        pixels = self._open()
        check_index(index, self._like.leading)
        expected = pixels.shape[len(index) :]
        if plane.shape != expected or plane.dtype != pixels.dtype:
            raise InputError(f"plane {tuple(index)} is {plane.dtype} {plane.shape}, expected {pixels.dtype} {expected}; convert it first")
        pixels[tuple(index)] = plane
        self._written.add(tuple(int(i) for i in index))

    def commit(self) -> None:
        """Write the file; every plane must have been written."""
        pixels = self._open()
        total = int(np.prod(self._like.leading, dtype=np.int64))
        if len(self._written) != total:
            raise OutputError(f"{shown(self._path)}: {len(self._written)} of {total} planes were written; nothing is saved")
        save_image(self._like.with_pixels(pixels), self._path, self._overwrite)
        self._pixels = None

    def abort(self) -> None:
        """Drop what was written; no file appears."""
        self._pixels = None

    def _open(self) -> np.ndarray:
        if self._pixels is None:
            raise OutputError(f"{shown(self._path)}: this output was committed or aborted already")
        return self._pixels

    def __enter__(self) -> MemorySink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.abort()


def open_sink(like: Image, path: str | Path, overwrite: bool = False) -> Sink:
    """A sink for an output with the shape, type and metadata of ``like``. Refuses what cannot be written before any work."""
    path = Path(path)
    _check_output(like, path)
    if path.exists() and not overwrite:
        raise OutputError(f"{shown(path)} exists already; pass overwrite (--overwrite) to replace it, or choose another folder")
    require_space(path.parent, like.pixels.nbytes)
    return MemorySink(like, path, overwrite)


def to_dtype(values: np.ndarray, dtype: np.dtype[Any] | type | str, within: tuple[float, float] | None = None) -> tuple[np.ndarray, int]:
    """``values`` in an image's type, and how many of them had to be clipped. Rounded to even and clipped, never wrapped.

    within   narrower bounds, of a file that cannot hold the whole range of its type (``Image.limits``)
    Integer types refuse NaN (InputError). Float types keep NaN and infinity; finite values beyond their range are clipped.
    """
    values, target = np.asarray(values), np.dtype(dtype)
    if within is not None:
        half = 0.5 if target.kind in "iu" else 0.0  # what is rounded back into the bounds is not clipped
        outside = (values < within[0] - half) | (values > within[1] + half)
        return to_dtype(np.clip(values, *within), target)[0], int(np.count_nonzero(outside))
    if target.kind == "f":
        largest = float(np.finfo(target).max)
        with np.errstate(over="ignore", invalid="ignore"):
            outside = (np.abs(values) > largest) & np.isfinite(values)
        clipped = int(np.count_nonzero(outside))
        return (np.where(outside, np.sign(values) * largest, values) if clipped else values).astype(target), clipped
    if target.kind not in "iu":
        raise InputError(f"cannot write pixels as {target.name}; use an integer or float type")
    if values.dtype.kind == "f" and bool(np.isnan(values).any()):
        count = int(np.count_nonzero(np.isnan(values)))
        raise InputError(f"{count} pixels are NaN and cannot be written as {target.name}; look for NaN in the input, or write floats")
    bounds = np.iinfo(target)
    if values.dtype.kind in "iu":
        outside = (values < bounds.min) | (values > bounds.max)
        return np.clip(values, max(bounds.min, np.iinfo(values.dtype).min), min(bounds.max, np.iinfo(values.dtype).max)).astype(
            target
        ), int(np.count_nonzero(outside))
    # float32 cannot hold the bounds of 32-bit integers; float64 can
    rounded = np.rint(values.astype(np.float64) if target.itemsize > 2 else values.astype(np.promote_types(values.dtype, np.float32)))
    outside = (rounded < bounds.min) | (rounded > bounds.max)
    return np.clip(rounded, bounds.min, bounds.max).astype(target), int(np.count_nonzero(outside))
