"""Image: pixels with their axes, pixel size, channel names and where they came from; and the comparison of two of them."""

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
from pairfree.files.messages import shown
from pairfree.sampling import spaced_indices

AXES = "TZCQYXS"
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")
_REMEDIES = {
    "b": "it is a mask, not an intensity image; convert it to uint8 if you mean to denoise it",
    "c": "save its magnitude or its real and imaginary parts as float32",
    "i": "convert it to int32 or float64",
    "u": "convert it to uint32 or float64",
    "f": "convert it to float64",
}


PART_BYTES = 2**26
"""Of what is written at once."""


class Stored(ABC):
    """Pixels that stay in their file until a region of a plane is asked for; may be read from several threads.

    shape, dtype   of the array that they would make; native byte order
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    plane_axes = 2
    """Dimensions of a plane: 2, or 3 with samples."""
    deep: tuple[int, ...] = ()
    """How many planes the file keeps together along each leading axis; empty: each by itself."""

    @abstractmethod
    def region(self, index: tuple[int, ...], rows: slice, columns: slice) -> np.ndarray:
        """(h, w) or (h, w, S) of the plane at ``index``. Raises InputError where the file does not hold what it declared."""

    def whole(self) -> np.ndarray:
        out = np.empty(self.shape, self.dtype)
        leading = self.shape[: len(self.shape) - self.plane_axes]
        rows, columns = (slice(0, length) for length in self.shape[len(leading) : len(leading) + 2])
        for index in itertools.product(*(range(n) for n in leading)):
            out[index] = self.region(index, rows, columns)
        return out


@dataclass(frozen=True, eq=False)
class Image:
    """Pixels of one file (or one array) and what they mean.

    data           ``len(axes)`` dimensions, native byte order, one of ``DTYPES``: an array, or what stays in its file (``Stored``)
    axes           one letter a dimension: T time, Z depth, C channel, Q other stack, Y, X, S samples (RGB, RGBA, grey + alpha);
                   ends with YX or YXS; Q may repeat
    spacing        axis letter -> (size of one step, unit), such as ``{"X": (0.1, "µm")}``; only what the file states
    channel_names  one name per channel, or empty
    bit_depth      bits that carry signal where the file states it (12 in a 16-bit container), else None
    source         the file, or None for an array
    family         key of ``formats.FORMATS``: how it is written
    metadata       what a format needs to write the file back as it was; ``metadata["warnings"]`` is a list of text lines
    alpha          the last of 2 or 4 samples is transparency, not intensity; False where the file says otherwise
    limits         least and greatest intensity that the file can hold, where that is less than the type's range; None elsewhere

    Raises InputError for 0 pixels, axes that do not fit the array, and unsupported dtypes.
    """

    data: np.ndarray | Stored
    axes: str
    spacing: dict[str, tuple[float, str]] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    bit_depth: int | None = None
    source: Path | None = None
    family: str = "npy"
    metadata: dict[str, Any] = field(default_factory=dict)
    alpha: bool = True
    limits: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        data = self.data if isinstance(self.data, Stored) else np.asarray(self.data)
        where = shown(self.source) if self.source is not None else "array"
        check_dtype(data.dtype, where)
        _check_axes(data.shape, self.axes, where)
        for axis, (step, _unit) in self.spacing.items():
            if not (math.isfinite(step) and step > 0):
                raise InputError(
                    f"{where}: spacing along {axis} is {step}; expected a positive number; leave it out where it is unknown"
                )
        if (
            self.channel_names
            and "C" in self.axes
            and len(self.channel_names) != data.shape[self.axes.index("C")]
        ):
            found, size = len(self.channel_names), data.shape[self.axes.index("C")]
            raise InputError(
                f"{where}: {found} channel names for {size} channels; give one name per channel, or none"
            )
        if isinstance(data, np.ndarray) and not data.dtype.isnative:
            data = data.astype(data.dtype.newbyteorder("="))
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "channel_names", tuple(self.channel_names))

    @property
    def pixels(self) -> np.ndarray:
        """All pixels; read anew each time where they stay in their file."""
        return self.data.whole() if isinstance(self.data, Stored) else self.data

    @property
    def stored(self) -> bool:
        """Whether the pixels stay in their file until a region is asked for."""
        return isinstance(self.data, Stored)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.data.dtype

    @property
    def size(self) -> int:
        """Number of values, samples of a pixel counted each."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def height(self) -> int:
        return self.shape[self.axes.index("Y")]

    @property
    def width(self) -> int:
        return self.shape[self.axes.index("X")]

    @property
    def samples(self) -> int:
        """Values per pixel: the size of S, 1 without it."""
        return self.shape[-1] if self.axes.endswith("S") else 1

    @property
    def colours(self) -> int:
        """Samples that carry intensity: all but transparency."""
        return {2: 1, 4: 3}.get(self.samples, self.samples) if self.alpha else self.samples

    @property
    def leading(self) -> tuple[int, ...]:
        """Sizes of the axes in front of Y; ``()`` for a single plane."""
        return self.shape[: self.axes.index("Y")]

    def planes(self) -> Iterator[tuple[int, ...]]:
        """Index tuples over the leading axes, last one fastest; a single ``()`` for a single plane."""
        return _places([range(n) for n in self.leading])

    def plane_groups(self) -> Iterator[list[tuple[int, ...]]]:
        """The planes, those together that lie in the same chunks of a file."""
        deep = (
            self.data.deep if isinstance(self.data, Stored) and self.data.deep else (1,) * len(self.leading)
        )
        for first in _places([range(0, n, step) for n, step in zip(self.leading, deep, strict=True)]):
            yield list(
                _places(
                    [range(i, min(i + step, n)) for i, step, n in zip(first, deep, self.leading, strict=True)]
                )
            )

    def plane(self, index: tuple[int, ...]) -> np.ndarray:
        """The plane at ``index``: (H, W) or (H, W, S), a view of an array. Raises InputError for an index that does not exist."""
        return self.region(index, slice(0, self.height), slice(0, self.width))

    def region(self, index: tuple[int, ...], rows: slice, columns: slice) -> np.ndarray:
        """A part of a plane: (h, w) or (h, w, S). ``rows`` and ``columns`` have a start and a stop within the plane, and no step."""
        check_index(index, self.leading)
        if isinstance(self.data, Stored):
            return self.data.region(tuple(index), rows, columns)
        return self.data[tuple(index)][rows, columns]

    def parts(self) -> Iterator[np.ndarray]:
        """All pixels in their order, as whole rows of one plane after the other, so many at a time as take little memory: (h, W[, S])."""
        rows = max(1, PART_BYTES * self.height * math.prod(self.leading) // self.nbytes)
        for index in self.planes():
            for top in range(0, self.height, rows):
                yield self.region(index, slice(top, min(top + rows, self.height)), slice(0, self.width))

    def sample(self, wanted: int = 1_000_000) -> np.ndarray:
        """About that many values spread over the image, in one dimension; of an image that stays in its file, blocks of some planes."""
        if isinstance(self.data, np.ndarray):
            values = self.data.reshape(-1)
            return values[:: max(1, values.size // wanted)]
        total = math.prod(self.leading)
        planes = np.unravel_index(spaced_indices(total, 16), self.leading or (1,))
        side = math.isqrt(max(1, wanted // (16 * len(planes[0]))))
        found = []
        for index in zip(*planes, strict=True):
            for top in np.linspace(0, max(0, self.height - side), 4).astype(int):
                for left in np.linspace(0, max(0, self.width - side), 4).astype(int):
                    rows, columns = (
                        slice(top, min(top + side, self.height)),
                        slice(left, min(left + side, self.width)),
                    )
                    found.append(
                        self.region(
                            tuple(int(i) for i in index) if self.leading else (), rows, columns
                        ).reshape(-1)
                    )
        return np.concatenate(found)

    def with_pixels(self, pixels: np.ndarray) -> Image:
        """The same image with other pixels of the same shape. Raises InputError when the shape differs."""
        if np.shape(pixels) != self.shape:
            raise InputError(
                f"new pixels have shape {np.shape(pixels)}, expected {self.shape} (axes {self.axes}); reshape them first"
            )
        return replace(self, data=pixels)


def _places(ranges: Sequence[range]) -> Iterator[tuple[int, ...]]:
    """Index tuples, the last one fastest; nothing is held, however many a header declares."""
    if not ranges:
        yield ()
        return
    for first in ranges[0]:
        for rest in _places(ranges[1:]):
            yield (first, *rest)


def check_index(index: tuple[int, ...], leading: tuple[int, ...]) -> None:
    """InputError unless ``index`` names one plane of a stack with ``leading`` sizes."""
    if len(index) != len(leading) or not all(0 <= i < n for i, n in zip(index, leading)):
        raise InputError(
            f"plane index {tuple(index)} does not exist; the axes in front of Y have sizes {leading}"
        )


def rescaled_dtype(stored: np.dtype[Any], slope: float, intercept: float) -> np.dtype[Any]:
    """For stored values times slope plus intercept: float32 where they have 16 bits at most and fit, else float64."""
    most = (
        max(abs(float(end)) for end in (np.iinfo(stored).min, np.iinfo(stored).max))
        if stored.kind in "iu"
        else 1.0
    )
    fits = stored.itemsize <= 2 and most * abs(slope) + abs(intercept) < float(np.finfo(np.float32).max)
    return np.dtype(np.float32 if fits else np.float64)


def check_dtype(dtype: np.dtype[Any], where: str) -> None:
    """InputError with a remedy unless ``dtype`` is one of ``DTYPES`` (in any byte order)."""
    if dtype.newbyteorder("=").name in DTYPES:
        return
    remedy = _REMEDIES.get(dtype.kind, "save it as plain numbers")
    raise InputError(f"{where}: pixel type {dtype.name} is not supported ({', '.join(DTYPES)} are); {remedy}")


def _check_axes(shape: tuple[int, ...], axes: str, where: str) -> None:
    if len(axes) != len(shape):
        raise InputError(
            f"{where}: axes {axes!r} name {len(axes)} dimensions, the pixels have {len(shape)} {shape}; give one letter each"
        )
    without_q = axes.replace("Q", "")
    known = set(axes) <= set(AXES) and len(set(without_q)) == len(without_q)
    if not known or not axes.removesuffix("S").endswith("YX") or "S" in axes[:-1]:
        raise InputError(
            f"{where}: axes {axes!r} are not understood; use letters of {AXES}, each once (Q may repeat), ending with YX or YXS"
        )
    if 0 in shape:
        raise InputError(f"{where}: holds no pixels (shape {shape}); was it written completely?")


def differences(a: Image, b: Image) -> list[str]:
    """What ``b`` lost or changed against ``a`` apart from pixel values, one line each; empty when nothing.

    Compares family, pixel type, axes, shape, spacing (within 1e-6 of itself) and unit, channel names and bit depth.
    """
    lines = []
    for name, x, y in (
        ("format family", a.family, b.family),
        ("pixel type", a.dtype.name, b.dtype.name),
        ("axes", a.axes, b.axes),
        ("shape", a.shape, b.shape),
        ("channel names", a.channel_names, b.channel_names),
        ("bit depth", a.bit_depth, b.bit_depth),
    ):
        if x != y:
            lines.append(f"{name}: {x} -> {y}")
    return lines + spacing_differences(a, b)


def spacing_differences(a: Image, b: Image) -> list[str]:
    """``differences`` of the spacings alone."""
    axes = sorted(set(a.spacing) | set(b.spacing))
    return [
        line for axis in axes for line in _spacing_difference(axis, a.spacing.get(axis), b.spacing.get(axis))
    ]


def _spacing_difference(axis: str, x: tuple[float, str] | None, y: tuple[float, str] | None) -> list[str]:
    if x is None or y is None:
        return [f"spacing along {axis}: {_step_text(x)} -> {_step_text(y)}"]
    lines = []
    if not math.isclose(x[0], y[0], rel_tol=1e-6):
        lines.append(f"spacing along {axis}: {_step_text(x)} -> {_step_text(y)}")
    if x[1] != y[1]:
        lines.append(f"unit along {axis}: {x[1]} -> {y[1]}")
    return lines


def spacing_text(spacing: dict[str, tuple[float, str]]) -> str:
    """All steps in words; "not stated" where there is none."""
    return ", ".join(f"{axis} {_step_text(step)}" for axis, step in spacing.items()) or "not stated"


def _step_text(step: tuple[float, str] | None) -> str:
    return "unknown" if step is None else f"{step[0]:.9g} {step[1]}"
