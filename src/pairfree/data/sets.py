"""Images -> training planes: which pixels of a file are trained on, what is refused, and how partners are matched."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pairfree.data.missing import check_treatment, usable
from pairfree.data.slices import inner, stack_axis, together
from pairfree.errors import ConfigError, InputError
from pairfree.files.formats.table import open_image
from pairfree.files.image import Image
from pairfree.files.intensity import UNKNOWN_UNIT, common_unit, intensity_unit
from pairfree.files.limits import DEFAULT
from pairfree.files.listing import Entry
from pairfree.files.messages import size_text

MOST_BYTES = 2_000_000_000
"""Of a set's pixels as float32, which is what training holds."""
BESIDE_BYTES, SHARE = 8e8, 0.4
"""Of a bound for the whole process: what Python, torch and a step take, and the share of the rest that pixels as float32 are given; beside
them lie those of the files, in their own type, and what a normalised plane takes on the way."""
CROP_PX = 512
MOST_AROUND = 8


@dataclass(frozen=True)
class Reading:
    """How pixels of files become training planes.

    nan             "error": NaN and Inf are refused; "mask": they are made up (``missing.usable``)
    slices_around   slices of a stack on each side that are put together with each (``data.slices``)
    max_bytes       of memory for a process that trains, None for sets of ``MOST_BYTES`` each; of more pixels crops are taken
    """

    nan: str = "error"
    slices_around: int = 0
    max_bytes: float | None = None

    def __post_init__(self) -> None:
        check_treatment(self.nan)
        if not 0 <= self.slices_around <= MOST_AROUND:
            raise ConfigError(f"slices_around = {self.slices_around}: must lie in 0..{MOST_AROUND}")
        if self.max_bytes is not None and self.max_bytes <= 1.25 * BESIDE_BYTES:
            raise ConfigError(
                f"{size_text(int(self.max_bytes))} of memory are too little to train: give --max-memory above "
                f"{size_text(int(1.25 * BESIDE_BYTES))}"
            )

    def set_bytes(self, sets: int) -> int:
        """What the pixels of one of ``sets`` sets may take as float32."""
        return MOST_BYTES if self.max_bytes is None else int(SHARE * (self.max_bytes - BESIDE_BYTES) / sets)

    def chosen(self) -> dict[str, Any]:
        """What differs from the usual."""
        return {key: value for key, value in vars(self).items() if value != getattr(USUAL, key)}


USUAL = Reading()


@dataclass
class ImageSet:
    """All planes of one domain.

    planes    (C, H, W) in the file's dtype; C is 1 for grey, 3 for colour; alpha is left out
    names     a name per plane: relative path, with the plane's index for stacks
    stems     relative path without suffix, per plane, for matching partners
    warnings  one line each
    reading   how they were made of files
    unit      of the intensities, in the plural; "intensity units" where it is not known, or not the same
    """

    planes: list[np.ndarray] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    stems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    reading: Reading = USUAL
    unit: str = UNKNOWN_UNIT

    @property
    def dtypes(self) -> list[np.dtype]:
        return [plane.dtype for plane in self.planes]

    @property
    def channels(self) -> int:
        return self.planes[0].shape[0]

    @property
    def pixels(self) -> int:
        return sum(plane.shape[1] * plane.shape[2] for plane in self.planes)

    @property
    def nbytes(self) -> int:
        return sum(plane.nbytes for plane in self.planes)

    def add(self, image: Image, name: str, stem: str, share: float = 1.0) -> None:
        """Append the planes of one image, or crops of that share of them. InputError for non-finite pixels and a mix of grey and colour."""
        around = self.reading.slices_around
        axis = stack_axis(image, 2 * around, name) if around else 0
        self.note_unit(intensity_unit(image))
        for index in inner(image, axis, around) if around else image.planes():
            place = "[" + ",".join(map(str, index)) + "]" if index else ""
            for rows, columns in _crops(stem + place, image.height, image.width, share):

                def read(index: tuple[int, ...], rows: slice = rows, columns: slice = columns) -> np.ndarray:
                    return to_channels_first(image.region(index, rows, columns), image.colours)

                plane = together(read, image, index, axis, around) if around else read(index)
                cut = f"{place} from row {rows.start}, column {columns.start}" if share < 1 else place
                self.append(plane, name + cut, stem + cut, (rows.start, columns.start))

    def note_unit(self, unit: str) -> None:
        """Of an image whose planes come next."""
        self.unit = common_unit([self.unit, unit]) if self.planes else unit

    def append(self, plane: np.ndarray, label: str, stem: str, origin: tuple[int, int] = (0, 0)) -> None:
        """A plane (C, H, W), or a part of one that begins at ``origin``."""
        if self.reading.nan == "mask":
            plane, line = usable(plane, label)
            self.warnings += [line] if line else []
        else:
            check_finite(plane, label, origin)
        if self.planes and plane.shape[0] != self.channels:
            kind = {1: "grey", 3: "colour"}
            here, before = (
                kind.get(plane.shape[0], f"{plane.shape[0]}-channel"),
                kind.get(self.channels, f"{self.channels}-channel"),
            )
            raise InputError(
                f"{label}: is {here}, but {self.names[0]} is {before}; train grey and colour images apart"
            )
        if plane.min() == plane.max():
            self.warnings.append(f"{label}: all pixels are {plane.flat[0]}; nothing to learn from it")
        self.planes.append(plane)
        self.names.append(label)
        self.stems.append(stem)


def to_channels_first(plane: np.ndarray, colours: int) -> np.ndarray:
    """(H, W) or (H, W, S) -> (C, H, W), the first ``colours`` samples; a view."""
    return plane[None] if plane.ndim == 2 else np.moveaxis(plane[..., :colours], -1, 0)


def check_finite(plane: np.ndarray, label: str, origin: tuple[int, int] = (0, 0)) -> None:
    """InputError with the count and first place of NaN or Inf pixels. ``origin`` is the row and column where a part of a plane begins."""
    if plane.dtype.kind != "f" or np.isfinite(plane).all():
        return
    bad = ~np.isfinite(plane)
    place = tuple(int(i) + start for i, start in zip(np.argwhere(bad)[0][-2:], origin, strict=True))
    raise InputError(
        f"{label}: {int(bad.sum())} of {bad.size} pixels are NaN or Inf, the first at row {place[0]}, column {place[1]}; mend or "
        "remove it, or use --nan mask"
    )


def read_set(entries: Sequence[Entry], most_bytes: int = MOST_BYTES, reading: Reading = USUAL) -> ImageSet:
    """Read every file of a set; of a set whose pixels would take more than ``most_bytes`` as float32, crops spread over all planes.

    The crops of a plane are a function of its name, its shape and the size of the whole set: partners get the same ones.
    """
    limits = replace(DEFAULT, resident_bytes=min(DEFAULT.resident_bytes, most_bytes // 16))
    opened: list[Image | None] = []
    total = 0
    for entry in entries:
        image = open_image(entry.path, limits)
        total += _bytes(image) * (2 * reading.slices_around + 1)
        opened.append(
            image if total <= most_bytes else None
        )  # the others are opened again when their turn comes
    share = min(1.0, most_bytes / total) if total else 1.0
    found = ImageSet(reading=reading)
    for number, entry in enumerate(entries):
        image = opened[number] or open_image(entry.path, limits)
        opened[number] = None
        found.warnings += [f"{entry.relative}: {line}" for line in image.metadata.get("warnings", [])]
        found.add(image, str(entry.relative), entry.stem, share)
    if share < 1:
        held = sum(plane.shape[1] * plane.shape[2] for plane in found.planes)
        found.warnings.append(
            f"the images take {size_text(total)} in training, more than {size_text(most_bytes)}: {len(found.planes)} crops spread over all "
            f"of them are used, {held / 1e6:,.0f} megapixels"
        )
    _check_not_blank(found)
    return found


def _bytes(image: Image) -> int:
    """What the pixels take in training."""
    return 4 * image.colours * image.width * image.height * math.prod(image.leading)


def _crops(name: str, height: int, width: int, share: float) -> list[tuple[slice, slice]]:
    """Squares of ``CROP_PX`` that make up about that share of a plane, anywhere in it; at random, one more or less."""
    if share >= 1:
        return [(slice(0, height), slice(0, width))]
    rng = np.random.default_rng(list(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()))
    high, wide = min(CROP_PX, height), min(CROP_PX, width)
    wanted = int(share * height * width / (high * wide) + rng.random())
    tops, lefts = rng.integers(0, height - high + 1, wanted), rng.integers(0, width - wide + 1, wanted)
    return [
        (slice(int(y), int(y) + high), slice(int(x), int(x) + wide)) for y, x in zip(tops, lefts, strict=True)
    ]


def array_set(arrays: Sequence[np.ndarray], what: str = "array", reading: Reading = USUAL) -> ImageSet:
    """A set from arrays in memory, each (H, W) or (C, H, W); with slices around each, stacks (Z, H, W)."""
    found = ImageSet(reading=reading)
    for number, array in enumerate(arrays):
        values = np.asarray(array)
        if reading.slices_around and values.ndim == 3:
            found.add(Image(values, "ZYX"), f"{what} {number}", str(number))
            continue
        if values.ndim not in (2, 3):
            raise InputError(f"{what} {number} has shape {values.shape}; expected (H, W) or (C, H, W)")
        if values.ndim == 3 and values.shape[2] <= 4 < values.shape[0]:
            raise InputError(
                f"{what} {number} has shape {values.shape}; channels come first: np.moveaxis(array, -1, 0)"
            )
        image = Image(
            values if values.ndim == 2 else np.moveaxis(values, 0, -1), "YX" if values.ndim == 2 else "YXS"
        )
        name = f"{what} {number}"
        if values.ndim == 3:
            # channels of an array are all meant: nothing is taken for alpha
            found.note_unit(intensity_unit(image))
            found.append(values, name, str(number))
        else:
            found.add(image, name, str(number))
    if not found.planes:
        raise InputError(f"no {what}s given: expected at least one array")
    _check_not_blank(found)
    return found


def _check_not_blank(found: ImageSet) -> None:
    if found.planes and all(plane.min() == plane.max() for plane in found.planes):
        raise InputError(
            f"{found.names[0]}: every training image is constant: there is no noise to learn from; check the input files"
        )


def matched(noisy: ImageSet, target: ImageSet) -> ImageSet:
    """The planes of ``target`` in the order of ``noisy``, matched by relative path without suffix; InputError names what has none."""
    for found, what in ((noisy, "noisy"), (target, "target")):
        twice = [stem for stem, count in Counter(found.stems).items() if count > 1]
        if twice:
            one, other, *_ = (
                name for name, stem in zip(found.names, found.stems, strict=True) if stem == twice[0]
            )
            raise InputError(
                f"{one} and {other}: two {what} images share the name {twice[0]!r}; names must be unique to be matched"
            )
    by_stem = {stem: index for index, stem in enumerate(target.stems)}
    ordered = ImageSet(warnings=target.warnings)
    for stem, name, plane in zip(noisy.stems, noisy.names, noisy.planes, strict=True):
        if stem not in by_stem:
            raise InputError(
                f"{name}: no partner with the same name in the target set (for example {target.names[0]}); names must match"
            )
        partner = target.planes[by_stem[stem]]
        if partner.shape != plane.shape:
            raise InputError(
                f"{name}: shape {plane.shape}, its partner {target.names[by_stem[stem]]} {partner.shape}; partners must be registered"
            )
        ordered.planes.append(partner)
        ordered.names.append(target.names[by_stem[stem]])
        ordered.stems.append(stem)
    return ordered
