"""Where the values lie in DICOM's words: BitsStored bits up to HighBit, and what the other bits carry.

Old objects keep overlays (drawings, text) in the bits beside the values. These bits are no intensity and come
back as they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pairfree.files.image import DType

OVERLAYS = range(0x6000, 0x6020, 2)
"""Groups of elements that describe overlays."""
OVERLAY_BITS, OVERLAY_POSITION, OVERLAY_DATA = 0x0100, 0x0102, 0x3000
"""Elements of such a group: the bits that hold it, which of them, and its pixels where they stand apart."""


@dataclass(frozen=True)
class Words:
    """How the values of an image are stored."""

    dtype: DType
    """Of the values; as many bytes as a word."""
    bits: int
    """That a value has; all of the word for floats."""
    shift: int = 0
    """Bits of the word below those of the value."""
    beside: np.ndarray | None = None
    """The other bits of all words (unsigned), or None where they only repeat the sign."""

    @property
    def stored_range(self) -> tuple[int, int] | None:
        """Least and greatest value of so many bits; None for floats."""
        if self.dtype.kind == "f":
            return None
        if self.dtype.kind == "i":
            half = 2 ** (self.bits - 1)
            return -half, half - 1
        return 0, 2**self.bits - 1

    @property
    def unsigned(self) -> DType:
        """Type of a word."""
        return np.dtype(f"u{self.dtype.itemsize}")

    def within(self, word: int) -> int | None:
        """The value of a word that repeats its sign in the bits above, or leaves them empty.

        None for a word that is no value of so many bits.
        """
        whole = word % 2 ** (8 * self.dtype.itemsize)
        value = whole % 2**self.bits
        empty = whole == value
        if self.dtype.kind == "i" and value >= 2 ** (self.bits - 1):
            value -= 2**self.bits
        repeated = whole == value % 2 ** (8 * self.dtype.itemsize)
        return value if empty or repeated else None

    def join(self, values: np.ndarray) -> np.ndarray:
        """Words that hold ``values`` (of ``dtype``, in range), beside the other bits as they were."""
        if self.dtype.kind == "f":
            return values
        words = np.asarray(np.left_shift(values, self.shift)).view(self.unsigned)
        if self.beside is None:
            return words
        return np.asarray((words & self.own_bits) | self.beside)

    @property
    def own_bits(self) -> np.ndarray:
        """The bits of a word that are the value's: a word, ()."""
        mask = (2**self.bits - 1) << self.shift
        return np.array(mask, self.unsigned)


def split_words(words: np.ndarray, layout: Words) -> tuple[np.ndarray, Words]:
    """Values of words, and the same layout with the bits that lie beside them.

    Parameters
    ----------
    words
        Unsigned, or floats, which are values already. Any shape.
    layout
        Without bits beside.
    """
    width = 8 * layout.dtype.itemsize
    if layout.dtype.kind == "f" or layout.bits == width:
        return words.view(layout.dtype), layout
    above = width - layout.bits - layout.shift
    raised = np.left_shift(words, above).view(layout.dtype)
    values = np.right_shift(raised, width - layout.bits)
    beside = None
    if not np.array_equal(layout.join(values), words):
        beside = words & ~layout.own_bits
    return values, Words(layout.dtype, layout.bits, layout.shift, beside)


def true_layout(words: np.ndarray, layout: Words) -> tuple[Words, list[str]]:
    """The layout of values that a header puts into higher bits than they are in; and what is to be told.

    All words are values of so many bits without a shift, and with one they would have something below them.
    """
    if not layout.shift:
        return layout, []
    lowest = Words(layout.dtype, layout.bits)
    below = words & words.dtype.type(2**layout.shift - 1)
    if not below.any() or split_words(words, lowest)[1].beside is not None:
        return layout, []
    stated = f"{layout.shift} to {layout.shift + layout.bits - 1}"
    told = f"states values in bits {stated}; they are read from the lowest {layout.bits}, where all are"
    return lowest, [told]


def bits_in_use(words: Words) -> int:
    """How many words have a bit set beside their value."""
    if words.beside is None:
        return 0
    return int(np.count_nonzero(words.beside))


def tell_bits(dataset: Any, words: Words) -> list[str]:
    """A warning where bits beside the values are set that no overlay explains."""
    used = bits_in_use(words)
    if not used or _has_overlay(dataset):
        return []
    return [
        f"{used} pixels have bits set beside the {words.bits} that are stored; "
        "they stay as they are, and are no part of the intensities"
    ]


def _has_overlay(dataset: Any) -> bool:
    """Whether an overlay is described whose pixels are bits of the image's words."""
    for group in OVERLAYS:
        described = (group, OVERLAY_BITS) in dataset or (group, OVERLAY_POSITION) in dataset
        if described and (group, OVERLAY_DATA) not in dataset:
            return True
    return False
