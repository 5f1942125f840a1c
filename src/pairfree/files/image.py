"""Image: pixels with their axes, pixel size, channel names and where they came from; and the comparison of two of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError
from pairfree.files.words import shown

AXES = "TZCQYXS"
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")
_REMEDIES = {
    "b": "it is a mask, not an intensity image; convert it to uint8 if you mean to denoise it",
    "c": "save its magnitude or its real and imaginary parts as float32",
    "i": "convert it to int32 or float64",
    "u": "convert it to uint32 or float64",
    "f": "convert it to float64",
}


@dataclass(frozen=True, eq=False)
class Image:
    """Pixels of one file (or one array) and what they mean.

    pixels         array of ``len(axes)`` dimensions, native byte order, one of ``DTYPES``
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

    pixels: np.ndarray
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
        pixels = np.asarray(self.pixels)
        where = shown(self.source) if self.source is not None else "array"
        check_dtype(pixels.dtype, where)
        _check_axes(pixels.shape, self.axes, where)
        for axis, (step, _unit) in self.spacing.items():
            if not (math.isfinite(step) and step > 0):
                raise InputError(f"{where}: spacing along {axis} is {step}; expected a positive number; leave it out where it is unknown")
        if self.channel_names and "C" in self.axes and len(self.channel_names) != pixels.shape[self.axes.index("C")]:
            found, size = len(self.channel_names), pixels.shape[self.axes.index("C")]
            raise InputError(f"{where}: {found} channel names for {size} channels; give one name per channel, or none")
        if not pixels.dtype.isnative:
            pixels = pixels.astype(pixels.dtype.newbyteorder("="))
        object.__setattr__(self, "pixels", pixels)
        object.__setattr__(self, "channel_names", tuple(self.channel_names))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pixels.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.pixels.dtype

    @property
    def height(self) -> int:
        return self.pixels.shape[self.axes.index("Y")]

    @property
    def width(self) -> int:
        return self.pixels.shape[self.axes.index("X")]

    @property
    def samples(self) -> int:
        """Values per pixel: the size of S, 1 without it."""
        return self.pixels.shape[-1] if self.axes.endswith("S") else 1

    @property
    def colours(self) -> int:
        """Samples that carry intensity: all but transparency."""
        return {2: 1, 4: 3}.get(self.samples, self.samples) if self.alpha else self.samples

    @property
    def leading(self) -> tuple[int, ...]:
        """Sizes of the axes in front of Y; ``()`` for a single plane."""
        return self.pixels.shape[: self.axes.index("Y")]

    def planes(self) -> Iterator[tuple[int, ...]]:
        """Index tuples over the leading axes, last one fastest; a single ``()`` for a single plane."""
        return itertools.product(*(range(n) for n in self.leading))

    def plane(self, index: tuple[int, ...]) -> np.ndarray:
        """The plane at ``index``: (H, W) or (H, W, S), a view. Raises InputError for an index that does not exist."""
        check_index(index, self.leading)
        return self.pixels[tuple(index)]

    def with_pixels(self, pixels: np.ndarray) -> Image:
        """The same image with other pixels of the same shape. Raises InputError when the shape differs."""
        if np.shape(pixels) != self.shape:
            raise InputError(f"new pixels have shape {np.shape(pixels)}, expected {self.shape} (axes {self.axes}); reshape them first")
        return replace(self, pixels=pixels)


def check_index(index: tuple[int, ...], leading: tuple[int, ...]) -> None:
    """InputError unless ``index`` names one plane of a stack with ``leading`` sizes."""
    if len(index) != len(leading) or not all(0 <= i < n for i, n in zip(index, leading)):
        raise InputError(f"plane index {tuple(index)} does not exist; the axes in front of Y have sizes {leading}")


def check_dtype(dtype: np.dtype[Any], where: str) -> None:
    """InputError with a remedy unless ``dtype`` is one of ``DTYPES`` (in any byte order)."""
    if dtype.newbyteorder("=").name in DTYPES:
        return
    remedy = _REMEDIES.get(dtype.kind, "save it as plain numbers")
    raise InputError(f"{where}: pixel type {dtype.name} is not supported ({', '.join(DTYPES)} are); {remedy}")


def _check_axes(shape: tuple[int, ...], axes: str, where: str) -> None:
    if len(axes) != len(shape):
        raise InputError(f"{where}: axes {axes!r} name {len(axes)} dimensions, the pixels have {len(shape)} {shape}; give one letter each")
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
    for axis in sorted(set(a.spacing) | set(b.spacing)):
        lines += _spacing_difference(axis, a.spacing.get(axis), b.spacing.get(axis))
    return lines


def _spacing_difference(axis: str, x: tuple[float, str] | None, y: tuple[float, str] | None) -> list[str]:
    if x is None or y is None:
        return [f"spacing along {axis}: {_step_text(x)} -> {_step_text(y)}"]
    lines = []
    if not math.isclose(x[0], y[0], rel_tol=1e-6):
        lines.append(f"spacing along {axis}: {_step_text(x)} -> {_step_text(y)}")
    if x[1] != y[1]:
        lines.append(f"unit along {axis}: {x[1]} -> {y[1]}")
    return lines


def _step_text(step: tuple[float, str] | None) -> str:
    return "unknown" if step is None else f"{step[0]:.9g} {step[1]}"
