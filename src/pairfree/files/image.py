"""Image: pixels with their axes, pixel size, channel names and where they came from."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError
from pairfree.files.masked import fill_masked
from pairfree.files.messages import shown
from pairfree.files.reading import pixels_in_one_line
from pairfree.files.spans import split_into_spans, spread_spans
from pairfree.files.type_names import native_name
from pairfree.sampling import spaced_indices

DType = np.dtype[Any]
Shape = tuple[int, ...]
Index = tuple[int, ...]
"""Of a plane: a place along each axis in front of Y."""
Step = tuple[float, str]
"""Size of one step along an axis, and its unit."""
Spacing = dict[str, Step]
"""Steps by the letter of their axis, such as ``{"X": (0.1, "µm")}``."""

AXES = "TZCQYXS"
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")
"""Pixel types that are read and written."""
WIDE = ("int64", "uint64")
"""Pixel types of files whose values must fit into fewer bits (``files.wide_integers``)."""
_REMEDIES = {
    "b": "it is a mask, not an intensity image; convert it to uint8 if you mean to denoise it",
    "c": "save its magnitude or its real and imaginary parts as float32",
    "i": "convert it to int32 or float64",
    "u": "convert it to uint32 or float64",
    "f": "convert it to float64",
}
PART_BYTES = 2**26
"""Of what is written at once."""
SAMPLED_PLANES = 16
"""Planes that values are taken from where an image stays in its file."""
SAMPLED_BLOCKS = 4
"""Blocks a side of each such plane."""


class Stored(ABC):
    """Pixels that stay in their file until a region of a plane is asked for.

    Several threads may read them at once.
    """

    shape: Shape
    """Of the array that they would make."""
    dtype: DType
    """Of that array, in native byte order."""
    plane_axes = 2
    """Dimensions of a plane: 2, or 3 with samples."""
    piece_bytes: int = 0
    """Of the largest part that is decoded in one piece, where that is more than what is asked for."""
    deep: tuple[int, ...] = ()
    """How many planes the file keeps together along each leading axis; empty: each by itself."""

    @abstractmethod
    def region(self, index: Index, rows: slice, columns: slice) -> np.ndarray:
        """A part of a plane.

        Parameters
        ----------
        index
            Of the plane.
        rows, columns
            With a start and a stop within the plane, and no step.

        Returns
        -------
        ndarray
            (h, w) or (h, w, S).

        Raises
        ------
        InputError
            Where the file does not hold what it declared.
        """

    def whole(self) -> np.ndarray:
        """All pixels as one array."""
        out = np.empty(self.shape, self.dtype)
        leading = self.shape[: len(self.shape) - self.plane_axes]
        height, width, *_ = self.shape[len(leading) :]
        rows, columns = slice(0, height), slice(0, width)
        for index in _places([range(n) for n in leading]):
            out[index] = self.region(index, rows, columns)
        return out


@dataclass(frozen=True, eq=False)
class Image:
    """Pixels of one file (or one array) and what they mean.

    Raises
    ------
    InputError
        For 0 pixels, axes that do not fit the array, unsupported dtypes, and masked whole numbers.
    """

    data: np.ndarray | Stored
    """``len(axes)`` dimensions, native byte order, one of ``DTYPES``: an array, or what stays in its file.

    What is masked in a masked array of floats becomes NaN.
    """
    axes: str
    """One letter a dimension, ending with YX or YXS.

    T time, Z depth, C channel, Q other stack (may repeat), S samples: RGB, RGBA, grey and alpha.
    """
    spacing: Spacing = field(default_factory=dict)
    """Size of one step along an axis; only what the file states."""
    channel_names: tuple[str, ...] = ()
    """One name per channel, or empty."""
    bit_depth: int | None = None
    """Bits that carry signal where the file states it (12 in a 16-bit container), else None."""
    source: Path | None = None
    """The file, or None for an array."""
    family: str = "npy"
    """Key of ``formats.table.FORMATS``: how it is written."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """What a format needs to write the file back as it was.

    ``metadata["warnings"]`` is a list of text lines.
    """
    alpha: bool = True
    """The last of 2 or 4 samples is transparency, not intensity; False where the file says otherwise."""
    limits: tuple[float, float] | None = None
    """Least and greatest intensity that the file can hold, where that is less than the type's range."""
    scene: int | None = None
    """Number in a file that holds several images, from 0; None where it was not asked for."""

    def __post_init__(self) -> None:
        where = shown(self.source) if self.source is not None else "array"
        data = self.data if isinstance(self.data, Stored) else fill_masked(self.data, where)
        check_dtype(data.dtype, where)
        _check_axes(data.shape, self.axes, where)
        _check_spacing(self.spacing, where)
        _check_channel_names(self.channel_names, data.shape, self.axes, where)
        if isinstance(data, np.ndarray) and not data.dtype.isnative:
            data = data.astype(data.dtype.newbyteorder("="))
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "channel_names", tuple(self.channel_names))

    @property
    def pixels(self) -> np.ndarray:
        """All pixels; read anew each time where they stay in their file."""
        if not isinstance(self.data, Stored):
            return self.data
        with pixels_in_one_line(self.source):
            return self.data.whole()

    @property
    def stored(self) -> bool:
        """Whether the pixels stay in their file until a region is asked for."""
        return isinstance(self.data, Stored)

    @property
    def shape(self) -> Shape:
        """Sizes of all dimensions, in the order of ``axes``."""
        return self.data.shape

    @property
    def dtype(self) -> DType:
        """Of the pixels, in native byte order."""
        return self.data.dtype

    @property
    def size(self) -> int:
        """Number of values, samples of a pixel counted each."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return self.size * self.dtype.itemsize

    @property
    def height(self) -> int:
        """Rows of a plane."""
        return self.shape[self.axes.index("Y")]

    @property
    def width(self) -> int:
        """Columns of a plane."""
        return self.shape[self.axes.index("X")]

    @property
    def samples(self) -> int:
        """Values per pixel: the size of S, 1 without it."""
        return self.shape[-1] if self.axes.endswith("S") else 1

    @property
    def colours(self) -> int:
        """Samples that carry intensity: all but transparency."""
        if not self.alpha:
            return self.samples
        return {2: 1, 4: 3}.get(self.samples, self.samples)

    @property
    def leading(self) -> Shape:
        """Sizes of the axes in front of Y; ``()`` for a single plane."""
        return self.shape[: self.axes.index("Y")]

    def planes(self) -> Iterator[Index]:
        """Indices of all planes, the last axis fastest; a single ``()`` for a single plane."""
        return _places([range(n) for n in self.leading])

    def plane_groups(self) -> Iterator[list[Index]]:
        """Indices of all planes, those together that lie in the same chunks of a file."""
        deep = (1,) * len(self.leading)
        if isinstance(self.data, Stored) and self.data.deep:
            deep = self.data.deep
        along = list(zip(self.leading, deep, strict=True))
        corners = [range(0, size, step) for size, step in along]
        for corner in _places(corners):
            group = []
            for start, (size, step) in zip(corner, along, strict=True):
                stop = min(start + step, size)
                group.append(range(start, stop))
            yield list(_places(group))

    def plane(self, index: Index) -> np.ndarray:
        """A whole plane, as ``region``."""
        return self.region(index, slice(0, self.height), slice(0, self.width))

    def region(self, index: Index, rows: slice, columns: slice) -> np.ndarray:
        """A part of a plane, a view where the pixels are an array.

        Parameters
        ----------
        index
            Of the plane: a place along each leading axis.
        rows, columns
            With a start and a stop within the plane, and no step.

        Returns
        -------
        ndarray
            (h, w) or (h, w, S).

        Raises
        ------
        InputError
            For an index that does not exist.
        """
        check_index(index, self.leading)
        if isinstance(self.data, Stored):
            with pixels_in_one_line(self.source):
                return self.data.region(tuple(index), rows, columns)
        plane: np.ndarray = self.data[tuple(index)]
        return plane[rows, columns]

    def parts(self) -> Iterator[np.ndarray]:
        """All pixels in their order, as whole rows of one plane after the other: (h, W) or (h, W, S).

        A part has so many rows as take little memory.
        """
        all_rows = self.height * math.prod(self.leading)
        rows = max(1, PART_BYTES * all_rows // self.nbytes)
        for index in self.planes():
            for band in split_into_spans(self.height, rows):
                yield self.region(index, band, slice(0, self.width))

    def sample(self, wanted: int = 1_000_000) -> np.ndarray:
        """About ``wanted`` values spread over the image, (n,).

        Of one that stays in its file they are blocks of some planes.
        """
        if isinstance(self.data, np.ndarray):
            values = self.data.reshape(-1)
            return values[:: max(1, values.size // wanted)]
        numbers = spaced_indices(math.prod(self.leading), SAMPLED_PLANES)
        blocks = len(numbers) * SAMPLED_BLOCKS**2
        side = math.isqrt(max(1, wanted // blocks))
        all_rows = spread_spans(self.height, side, SAMPLED_BLOCKS)
        all_columns = spread_spans(self.width, side, SAMPLED_BLOCKS)
        found = []
        for number in numbers:
            index = np.unravel_index(number, self.leading)
            plane = tuple(int(place) for place in index)
            for rows, columns in itertools.product(all_rows, all_columns):
                block = self.region(plane, rows, columns)
                found.append(block.reshape(-1))
        return np.concatenate(found)

    def with_pixels(self, pixels: np.ndarray) -> Image:
        """The same image with other pixels.

        Parameters
        ----------
        pixels
            Of the same shape; any of the supported types.

        Raises
        ------
        InputError
            Where the shape differs.
        """
        if np.shape(pixels) != self.shape:
            raise InputError(
                f"new pixels have shape {np.shape(pixels)}, expected {self.shape} (axes {self.axes}); "
                "reshape them first"
            )
        return replace(self, data=pixels)


def _places(ranges: Sequence[range]) -> Iterator[Index]:
    """Index tuples, the last one fastest; nothing is held, however many a header declares."""
    if not ranges:
        yield ()
        return
    for first in ranges[0]:
        for rest in _places(ranges[1:]):
            yield (first, *rest)


def volume_axes(dimensions: int) -> str:
    """Axes of a volume of so many dimensions, 2 or more: TZYX from its end, Q for any before."""
    return ("Q" * (dimensions - 4) + "TZYX")[-dimensions:]


def samples_last(planes: np.ndarray) -> np.ndarray:
    """(C, H, W) as a picture: (H, W) where there is one channel, else (H, W, C)."""
    return planes[0] if len(planes) == 1 else np.moveaxis(planes, 0, -1)


def check_index(index: Index, leading: Shape) -> None:
    """InputError unless ``index`` names one plane of a stack with ``leading`` sizes."""
    inside = all(0 <= place < size for place, size in zip(index, leading))
    if len(index) != len(leading) or not inside:
        raise InputError(
            f"plane index {tuple(index)} does not exist; the axes in front of Y have sizes {leading}"
        )


def rescaled_dtype(stored: DType, slope: float, intercept: float) -> DType:
    """Type for stored values times slope plus intercept.

    float32 where they have 16 bits at most, fit, and stay apart from one another, else float64.
    """
    most = 1.0
    if stored.kind in "iu":
        bounds = np.iinfo(stored)
        most = float(max(-bounds.min, bounds.max))
    largest = most * abs(slope) + abs(intercept)
    small = np.finfo(np.float32)
    apart = abs(slope) > max(float(small.tiny), largest * float(small.eps))
    if stored.itemsize <= 2 and largest < float(small.max) and apart:
        return np.dtype(np.float32)
    return np.dtype(np.float64)


def check_dtype(dtype: DType, where: str, wide: bool = False) -> None:
    """InputError with a remedy unless ``dtype`` is one of ``DTYPES``, or ``WIDE`` (in any byte order)."""
    name = native_name(dtype)
    if name in DTYPES or (wide and name in WIDE):
        return
    remedy = _REMEDIES.get(dtype.kind, "save it as plain numbers")
    raise InputError(
        f"{where}: pixel type {dtype.name} is not supported ({', '.join(DTYPES)} are); {remedy}"
    )


def _check_axes(shape: Shape, axes: str, where: str) -> None:
    if len(axes) != len(shape):
        raise InputError(
            f"{where}: axes {axes!r} name {len(axes)} dimensions, the pixels have {len(shape)} {shape}; "
            "give one letter each"
        )
    once = axes.replace("Q", "")
    known = set(axes) <= set(AXES) and len(set(once)) == len(once)
    in_order = axes.removesuffix("S").endswith("YX") and "S" not in axes[:-1]
    if not known or not in_order:
        raise InputError(
            f"{where}: axes {axes!r} are not understood; use letters of {AXES}, each once (Q may repeat), "
            "ending with YX or YXS"
        )
    if 0 in shape:
        raise InputError(f"{where}: holds no pixels (shape {shape}); was it written completely?")


def _check_spacing(spacing: Spacing, where: str) -> None:
    for axis, (step, _) in spacing.items():
        if not math.isfinite(step) or step <= 0:
            raise InputError(
                f"{where}: spacing along {axis} is {step}; expected a positive number; "
                "leave it out where it is unknown"
            )


def _check_channel_names(names: Sequence[str], shape: Shape, axes: str, where: str) -> None:
    if not names or "C" not in axes:
        return
    channels = shape[axes.index("C")]
    if len(names) != channels:
        raise InputError(
            f"{where}: {len(names)} channel names for {channels} channels; give one name per channel, or none"
        )
