"""Images -> training planes.

Which pixels of a file are trained on, what is refused, and how partners are matched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from pairfree.data.crops import draw_crops, training_bytes
from pairfree.data.missing import check_range, check_treatment, complete_plane
from pairfree.data.place import Place
from pairfree.data.slices import inner_slices, stack_axis, stack_slices
from pairfree.errors import ConfigError, InputError, NoImageError
from pairfree.files.image import Image
from pairfree.files.intensity import UNKNOWN_UNIT, common_unit, intensity_unit
from pairfree.files.limits import DEFAULT
from pairfree.files.listing import Entry
from pairfree.files.masked import fill_masked
from pairfree.files.messages import size_text
from pairfree.files.unchanged import Watch

MOST_BYTES = 2_000_000_000
"""Of a set's pixels as float32, which is what training holds."""
BESIDE_BYTES = 8e8
"""Of a bound for the whole process: what Python, torch and a step take."""
SHARE = 0.4
"""Share of the rest that pixels as float32 are given.

Beside them lie those of the files, in their own type, and what a normalised plane takes on the way.
"""
MOST_AROUND = 8
"""Slices on each side, at most."""


@dataclass(frozen=True)
class Reading:
    """How pixels of files become training planes."""

    nan: str = "error"
    """"error": NaN and Inf are refused; "mask": they are filled (``missing.complete_plane``)."""
    slices_around: int = 0
    """Slices of a stack on each side that are put together with each (``data.slices``)."""
    scene: int | str | None = None
    """Of files that hold several images: the number of one, from 0, or "all"; None for the first."""
    max_bytes: float | None = None
    """Of memory for a process that trains, None for sets of ``MOST_BYTES`` each.

    Of more pixels crops are taken.
    """

    def __post_init__(self) -> None:
        check_treatment(self.nan)
        if not 0 <= self.slices_around <= MOST_AROUND:
            raise ConfigError(
                f"`slices_around` = {self.slices_around}: must lie in 0..{MOST_AROUND}"
            )
        least = 1.25 * BESIDE_BYTES
        if self.max_bytes is not None and self.max_bytes <= least:
            raise ConfigError(
                f"{size_text(int(self.max_bytes))} of memory are too little to train: give `max_bytes` above "
                f"{size_text(int(least))}"
            )

    def set_bytes(self, sets: int) -> int:
        """What the pixels of one of ``sets`` sets may take as float32."""
        if self.max_bytes is None:
            return MOST_BYTES
        return int(SHARE * (self.max_bytes - BESIDE_BYTES) / sets)

    def changes(self) -> dict[str, Any]:
        """What differs from the usual, by name."""
        usual = vars(USUAL)
        return {name: value for name, value in vars(self).items() if value != usual[name]}


USUAL = Reading()


@dataclass
class ImageSet:
    """All planes of one domain."""

    planes: list[np.ndarray] = field(default_factory=list)
    """(C, H, W) in the file's dtype; C is 1 for grey, 3 for colour; alpha is left out."""
    names: list[str] = field(default_factory=list)
    """A name per plane: relative path, with the plane's index for stacks."""
    stems: list[str] = field(default_factory=list)
    """Relative path without suffix, per plane, for matching partners."""
    places: list[Place] = field(default_factory=list)
    """Where each plane comes from."""
    warnings: list[str] = field(default_factory=list)
    """One line each."""
    reading: Reading = USUAL
    """How they were made of files."""
    unit: str = UNKNOWN_UNIT
    """Of the intensities, in the plural; "intensity units" where it is not known, or not the same."""

    @property
    def dtypes(self) -> list[np.dtype[Any]]:
        """Of each plane."""
        return [plane.dtype for plane in self.planes]

    @property
    def channels(self) -> int:
        """Of every plane."""
        return int(self.planes[0].shape[0])

    @property
    def pixels(self) -> int:
        """Of all planes together; channels share them."""
        return sum(plane.shape[1] * plane.shape[2] for plane in self.planes)

    @property
    def nbytes(self) -> int:
        """That the planes take as they are held."""
        return sum(plane.nbytes for plane in self.planes)

    def add(self, image: Image, name: str, stem: str, share: float = 1.0) -> None:
        """Append the planes of one image.

        Parameters
        ----------
        image
            What is added.
        name, stem
            Of the image; its planes add their index.
        share
            Crops of that share of the planes are added instead of the planes, where it is below 1.

        Raises
        ------
        InputError
            For non-finite pixels and a mix of grey and colour.
        """
        around = self.reading.slices_around
        axis = stack_axis(image, 2 * around, name) if around else 0
        self.note_unit(intensity_unit(image))
        for index in inner_slices(image, axis, around) if around else image.planes():
            place = "[" + ",".join(map(str, index)) + "]" if index else ""
            for rows, columns in draw_crops(stem + place, image.height, image.width, share):
                read = partial(_read_part, image, rows=rows, columns=columns)
                plane = stack_slices(read, image, index, axis, around) if around else read(index)
                origin = (rows.start, columns.start)
                cut = place
                if share < 1:
                    cut += f" from row {rows.start}, column {columns.start}"
                axes = image.axes[: len(index)]
                self.append(plane, name + cut, stem + cut, Place(name, axes, index, origin))

    def note_unit(self, unit: str) -> None:
        """Of an image whose planes come next."""
        self.unit = common_unit([self.unit, unit]) if self.planes else unit

    def append(self, plane: np.ndarray, label: str, stem: str, place: Place) -> None:
        """Append one plane.

        Parameters
        ----------
        plane
            (C, H, W), of as many channels as those before.
        label, stem
            Its name, and that which its partner has.
        place
            Where it comes from.

        Raises
        ------
        InputError
            For non-finite pixels and a mix of grey and colour.
        """
        if self.reading.nan == "mask":
            plane, line = complete_plane(plane, label)
            if line:
                self.warnings.append(line)
        else:
            check_finite(plane, label, place.origin)
        if self.planes and plane.shape[0] != self.channels:
            raise InputError(
                f"{label}: is {_kind(plane.shape[0])}, but {self.names[0]} is {_kind(self.channels)}; train "
                "grey and colour images apart"
            )
        if plane.min() == plane.max():
            self.warnings.append(
                f"{label}: all pixels are {plane.flat[0]}; nothing to learn from it"
            )
        self.planes.append(plane)
        self.names.append(label)
        self.stems.append(stem)
        self.places.append(place)


def _kind(channels: int) -> str:
    return {1: "grey", 3: "colour"}.get(channels, f"{channels}-channel")


def _read_part(image: Image, index: tuple[int, ...], rows: slice, columns: slice) -> np.ndarray:
    """(C, h, w) of one plane."""
    return to_channels_first(image.region(index, rows, columns), image.colours)


def to_channels_first(plane: np.ndarray, colours: int) -> np.ndarray:
    """(H, W) or (H, W, S) -> (C, H, W), the first ``colours`` samples; a view."""
    if plane.ndim == 2:
        return plane[None]
    return np.moveaxis(plane[..., :colours], -1, 0)


def check_finite(plane: np.ndarray, label: str, origin: tuple[int, int] = (0, 0)) -> None:
    """Refuse NaN, Inf, and what is too large or too small to be computed with.

    Parameters
    ----------
    plane
        (C, H, W) of any dtype.
    label
        What it is called in messages.
    origin
        Row and column where a part of a plane begins.

    Raises
    ------
    InputError
        With the count and first place of NaN or Inf pixels; as ``check_range``.
    """
    if plane.dtype.kind != "f" or np.isfinite(plane).all():
        return check_range(plane, label)
    bad = ~np.isfinite(plane)
    row, column = (int(at) for at in np.argwhere(bad)[0][-2:])
    raise InputError(
        f"{label}: {int(bad.sum())} of {bad.size} pixels are NaN or Inf, the first at row {row + origin[0]}, "
        f"column {column + origin[1]}; mend or remove it, or use `nan` mask"
    )


def read_set(
    entries: Sequence[Entry], most_bytes: int = MOST_BYTES, reading: Reading = USUAL
) -> ImageSet:
    """Read every file of a set.

    Of a set whose pixels would take more than ``most_bytes`` as float32, crops spread over all planes are
    read. The crops of a plane are a function of its name, its shape and the size of the whole set: partners
    get the same ones.

    Parameters
    ----------
    entries
        The files.
    most_bytes
        That the planes may take as float32.
    reading
        How pixels become planes.

    Raises
    ------
    InputError
        For a file that cannot be read or trained on, one that changes meanwhile, and where no image shows
        anything.
    """
    limits = replace(DEFAULT, resident_bytes=min(DEFAULT.resident_bytes, most_bytes // 16))
    opened: list[Image | None] = []
    total = 0
    shown_by: list[tuple[Entry, Watch]] = []
    without: list[NoImageError] = []
    for entry in entries:
        watch = Watch(entry.path)
        try:
            with watch.telling():
                image = entry.open(limits)
        except NoImageError as error:  # a report among the images of a study
            without.append(error)
            continue
        shown_by.append((entry, watch))
        total += training_bytes(image) * (2 * reading.slices_around + 1)
        fits = total <= most_bytes
        # the others are opened again when their turn comes
        opened.append(image if fits else None)
    if without and not shown_by:
        raise without[0]
    share = min(1.0, most_bytes / total) if total else 1.0
    images = ImageSet(reading=reading)
    images.warnings += [f"left out: {error}" for error in without]
    for number, (entry, watch) in enumerate(shown_by):
        with watch.telling():
            image = opened[number] or entry.open(limits)
            opened[number] = None
            for line in image.metadata.get("warnings", []):
                images.warnings.append(f"{entry.relative}: {line}")
            images.add(image, str(entry.relative), entry.stem, share)
        watch.check()
    if share < 1:
        images.warnings.append(
            f"the images take {size_text(total)} in training, more than {size_text(most_bytes)}: "
            f"{len(images.planes)} crops spread over all of them are used, {images.pixels / 1e6:,.0f} "
            "megapixels"
        )
    _check_not_blank(images)
    return images


def array_set(
    arrays: Sequence[np.ndarray], what: str = "array", reading: Reading = USUAL
) -> ImageSet:
    """A set from arrays in memory.

    Parameters
    ----------
    arrays
        Each (H, W) or (C, H, W); with slices around each, stacks (Z, H, W). What is masked in masked arrays
        of floats is NaN.
    what
        What one is called in messages.
    reading
        How pixels become planes.

    Raises
    ------
    InputError
        For other shapes, for what cannot be trained on, and where no array shows anything.
    """
    images = ImageSet(reading=reading)
    for number, array in enumerate(arrays):
        name = f"{what} {number}"
        _add_array(images, fill_masked(array, name), name, str(number))
    if not images.planes:
        raise InputError(f"no {what}s given: expected at least one array")
    _check_not_blank(images)
    return images


def _add_array(images: ImageSet, values: np.ndarray, name: str, stem: str) -> None:
    if images.reading.slices_around and values.ndim == 3:
        images.add(Image(values, "ZYX"), name, stem)
        return
    if values.ndim not in (2, 3):
        raise InputError(f"{name} has shape {values.shape}; expected (H, W) or (C, H, W)")
    check_channels_first(values, name)
    if values.ndim == 2:
        images.add(Image(values, "YX"), name, stem)
        return
    image = Image(np.moveaxis(values, 0, -1), "YXS")
    images.note_unit(intensity_unit(image))
    # channels of an array are all meant: nothing is taken for alpha
    images.append(values, name, stem, Place(name))


def check_channels_first(values: np.ndarray, name: str) -> None:
    """InputError for an array (H, W, C), which is given where (C, H, W) is expected."""
    if values.ndim == 3 and values.shape[2] <= 4 < values.shape[0]:
        raise InputError(
            f"{name} has shape {values.shape}; channels come first: np.moveaxis(array, -1, 0)"
        )


def _check_not_blank(images: ImageSet) -> None:
    if images.planes and all(plane.min() == plane.max() for plane in images.planes):
        raise InputError(
            f"{images.names[0]}: every image is constant: there is no noise to learn from; check "
            "the input files"
        )


def match_partners(noisy: ImageSet, target: ImageSet) -> ImageSet:
    """The planes of ``target`` in the order of ``noisy``, matched by relative path without suffix.

    Raises
    ------
    InputError
        Naming two images of one name, and an image without a partner or with one of another shape.
    """
    _check_unique(noisy, "noisy")
    _check_unique(target, "target")
    by_stem = {stem: index for index, stem in enumerate(target.stems)}
    ordered = ImageSet(warnings=target.warnings)
    for stem, name, plane in zip(noisy.stems, noisy.names, noisy.planes, strict=True):
        if stem not in by_stem:
            raise InputError(
                f"{name}: no partner with the same name in the target set (for example {target.names[0]}); "
                "names must match"
            )
        index = by_stem[stem]
        partner = target.planes[index]
        if partner.shape != plane.shape:
            raise InputError(
                f"{name}: shape {plane.shape}, its partner {target.names[index]} {partner.shape}; partners "
                "must be registered"
            )
        ordered.planes.append(partner)
        ordered.names.append(target.names[index])
        ordered.stems.append(stem)
        ordered.places.append(target.places[index])
    return ordered


def _check_unique(images: ImageSet, what: str) -> None:
    """InputError naming the first two images of one name."""
    for stem, count in Counter(images.stems).items():
        if count == 1:
            continue
        pairs = zip(images.names, images.stems, strict=True)
        one, other, *_ = (name for name, its_stem in pairs if its_stem == stem)
        raise InputError(
            f"{one} and {other}: two {what} images share the name {stem!r}; names must be unique to be "
            "matched"
        )
