"""DICOM images: intensities (HU for CT) in, the same kind of object back with new UIDs, marked as derived.

Read: single and multi-frame, native and RLE, grey and RGB; grey ones also in the JPEG family. Written
uncompressed. Intensities are stored values times RescaleSlope plus RescaleIntercept. Padding, which is no
measurement, is filled with the image's lowest measured value on reading and restored on writing. pydicom is
imported when a DICOM file is met.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError, NoImageError, OutputError
from pairfree.files.formats import dicom_codecs
from pairfree.files.image import DType, Image, Spacing, rescaled_dtype
from pairfree.files.limits import PACKBITS, UNCOMPRESSED, Limits, check_declared
from pairfree.files.messages import shown

LOWEST_HU = -1500.0
"""A lower value that fills a share of a CT image is padding, even where no tag says so: air reads -1000."""
PADDED_SHARE = 0.005
"""That share."""
STACKS = {
    "CT": "Z",
    "MR": "Z",
    "PT": "Z",
    "NM": "Z",
    "US": "T",
    "XA": "T",
    "RF": "T",
}
"""Axis of the frames by modality; Q for any other."""
LONG_STRING = 64
"""Characters of a series' description at most (LO)."""
LONG_TEXT = 1024
"""Characters of a derivation's description at most (ST)."""
NEEDED = (
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "SamplesPerPixel",
    "PixelData",
)
"""Elements of every image."""


@dataclass(frozen=True)
class Carried:
    """What writing a DICOM object back needs."""

    dataset: Any
    """All elements but the pixels."""
    slope: float
    intercept: float
    """Intensity = stored * slope + intercept."""
    dtype: DType
    """Of the stored values."""
    low: int
    high: int
    """Range of the stored values by BitsStored."""
    padding: tuple[np.ndarray, np.ndarray] | None
    """Stored values where the image is padding, and a mask of where that is; None without padding."""

    @property
    def rescale(self) -> tuple[float, float]:
        """Slope and intercept."""
        return self.slope, self.intercept

    @property
    def stored_range(self) -> tuple[int, int]:
        """Least and greatest stored value."""
        return self.low, self.high

    @property
    def limits(self) -> tuple[float, float]:
        """Least and greatest intensity that BitsStored can hold."""
        least, greatest = sorted(end * self.slope + self.intercept for end in self.stored_range)
        return least, greatest


def is_marked(path: Path) -> bool:
    """Whether a file bears DICOM's mark, whatever its name: archives export objects without a suffix."""
    try:
        if not path.is_file():  # a pipe would never answer
            return False
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except (OSError, ValueError):
        return False


def read_dicom(path: Path, limits: Limits) -> Image:
    """Read one DICOM file; InputError for what is none, or is not understood."""
    dataset = _read_dataset(path)
    ratio = _check(dataset, path)
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    samples = int(dataset.SamplesPerPixel)
    shape = (frames, int(dataset.Rows), int(dataset.Columns), samples)
    dtype = _stored_dtype(dataset)
    check_declared(path, shape, dtype, limits, len(dataset.PixelData), ratio)
    stored = _decode(dataset, shape, dtype, path)
    slope, intercept = _rescale(dataset, path)
    intensity = _intensity(stored, slope, intercept)
    mask = _padding(dataset, stored, slope, intercept)
    padding = None
    if mask is not None:
        padding = stored[mask], mask
        intensity[mask] = intensity[~mask].min()
    axes = "YX" if samples == 1 else "YXS"
    if frames > 1:
        axes = STACKS.get(str(dataset.get("Modality", "")), "Q") + axes
    bits = int(dataset.BitsStored)
    low, high = _range_of(bits, dtype)
    del dataset.PixelData
    carried = Carried(dataset, slope, intercept, dtype, low, high, padding)
    return Image(
        intensity if frames > 1 else intensity[0],
        axes,
        _spacing(dataset, axes),
        bit_depth=bits,
        source=path,
        family="dicom",
        metadata={"dicom": carried, "warnings": []},
        alpha=False,
        limits=carried.limits,
    )


def _read_dataset(path: Path) -> Any:
    import pydicom
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_file_meta_info

    try:
        _check_syntax(read_file_meta_info(path).get("TransferSyntaxUID"), path)
        return pydicom.dcmread(path)
    except InvalidDicomError:
        raise InputError(
            f"{shown(path)}: is no DICOM file (its mark DICM is missing); "
            "check the name, or export it again"
        ) from None


def _stored_dtype(dataset: Any) -> DType:
    kind = "i" if int(dataset.get("PixelRepresentation", 0)) else "u"
    return np.dtype(f"{kind}{int(dataset.BitsAllocated) // 8}")


def _range_of(bits: int, dtype: DType) -> tuple[int, int]:
    """Least and greatest value of so many bits."""
    if dtype.kind == "i":
        half = 2 ** (bits - 1)
        return -half, half - 1
    return 0, 2**bits - 1


def _decode(dataset: Any, shape: tuple[int, int, int, int], dtype: DType, path: Path) -> np.ndarray:
    """The stored values: (frames, rows, columns), and the samples of colour."""
    if dataset.file_meta.TransferSyntaxUID in dicom_codecs.CODECS:
        return dicom_codecs.decode(dataset, shape[:3], dtype, path)
    pixels = np.ascontiguousarray(dataset.pixel_array)
    stored = pixels.reshape(shape).astype(dtype, copy=False)
    return stored[..., 0] if shape[3] == 1 else stored


def _check(dataset: Any, path: Path) -> float:
    """The largest ratio of decoded to stored bytes.

    InputError for what is no image, or none that is understood.
    """
    missing = [name for name in NEEDED if name not in dataset]
    if missing:
        # with a size and without pixels it is an image that was cut off
        refusal = NoImageError if {"Rows", "Columns"} <= set(missing) else InputError
        raise refusal(
            f"{shown(path)}: DICOM object without {', '.join(missing)}: it holds no image; "
            "name an image object"
        )
    kind = str(dataset.get("PhotometricInterpretation", ""))
    if kind not in ("MONOCHROME1", "MONOCHROME2", "RGB"):
        raise InputError(
            f"{shown(path)}: its pixels are {kind or 'of no stated kind'}, not intensities; "
            "convert it to grey or RGB"
        )
    if int(dataset.BitsAllocated) not in (8, 16, 32):
        raise InputError(
            f"{shown(path)}: {dataset.BitsAllocated} bits a pixel are not supported; "
            "8, 16 and 32 are"
        )
    if "ModalityLUTSequence" in dataset:
        raise InputError(
            f"{shown(path)}: its intensities are given by a lookup table, which cannot be inverted; "
            "convert it with a rescale"
        )
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in dicom_codecs.CODECS:
        if int(dataset.SamplesPerPixel) != 1:
            raise InputError(
                f"{shown(path)}: is a colour image compressed as {syntax.name}; "
                "decompress it first, with gdcmconv --raw"
            )
        return dicom_codecs.RATIO
    return PACKBITS if syntax.is_compressed else UNCOMPRESSED


def _check_syntax(syntax: Any, path: Path) -> None:
    """InputError for a transfer syntax that is not read.

    Before the data set is: a deflated one would be inflated without bound.
    """
    from pydicom.uid import RLELossless

    if syntax is None:
        raise InputError(f"{shown(path)}: states no transfer syntax; export it again")
    read = not syntax.is_compressed or syntax == RLELossless or syntax in dicom_codecs.CODECS
    if syntax.is_deflated or not read:
        raise InputError(
            f"{shown(path)}: is compressed as {syntax.name}; "
            "decompress it first, for example with gdcmconv --raw"
        )


def _groups(dataset: Any, name: str) -> list[Any]:
    """The functional group ``name`` of a multi-frame object: the shared one, or one a frame.

    Empty where there is none.
    """
    for sequence in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        found = []
        for group in dataset.get(sequence) or []:
            if name in group:
                found.append(group[name].value[0])
        if found:
            return found
    return []


def _rescale(dataset: Any, path: Path) -> tuple[float, float]:
    """Slope and intercept of all frames."""
    sources = [dataset]
    if "RescaleSlope" not in dataset and "RescaleIntercept" not in dataset:
        sources = _groups(dataset, "PixelValueTransformationSequence")
    found = set()
    for one in sources:
        slope = float(one.get("RescaleSlope", 1))
        intercept = float(one.get("RescaleIntercept", 0))
        found.add((slope, intercept))
    if len(found) > 1:
        raise InputError(
            f"{shown(path)}: its frames have {len(found)} different rescales; "
            "export each frame as a file of its own"
        )
    slope, intercept = found.pop() if found else (1.0, 0.0)
    if slope == 0 or not (math.isfinite(slope) and math.isfinite(intercept)):
        raise InputError(
            f"{shown(path)}: rescale slope {slope} and intercept {intercept} are no intensity map; "
            "export it again"
        )
    return slope, intercept


def _intensity(stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Stored values as intensities.

    int32 where the rescale keeps them whole, so that all scanners' files come out as one type (8-bit ones
    without a rescale stay), else floats that hold every stored value.
    """
    if slope == 1 and intercept == int(intercept) and stored.dtype.itemsize <= 2:
        if stored.dtype.itemsize == 1 and intercept == 0:
            return stored.copy()
        return stored.astype(np.int32) + np.int32(intercept)
    wide = stored.astype(np.float64) * slope + intercept
    return wide.astype(rescaled_dtype(stored.dtype, slope, intercept))


def _padding(dataset: Any, stored: np.ndarray, slope: float, intercept: float) -> np.ndarray | None:
    """Where pixels are padding (stored's shape), or None.

    By PixelPaddingValue and its range, or, in CT, by a value far below air.
    """
    value = dataset.get("PixelPaddingValue")
    if value is not None:
        limit = dataset.get("PixelPaddingRangeLimit")
        first = _as_stored(value, stored.dtype)
        last = first if limit is None else _as_stored(limit, stored.dtype)
        low, high = sorted((first, last))
        mask = (stored >= low) & (stored <= high)
    elif dataset.get("Modality") == "CT":
        lowest = stored.min() if slope > 0 else stored.max()
        mask = stored == lowest
        if lowest * slope + intercept > LOWEST_HU or mask.mean() < PADDED_SHARE:
            return None
    else:
        return None
    return mask if mask.any() and not mask.all() else None


def _as_stored(value: Any, dtype: DType) -> int:
    """A value of the header as one of the pixels' type, whether it was written with a sign or without."""
    bits = int(value) % 2 ** (8 * dtype.itemsize)
    unsigned = np.array([bits], f"u{dtype.itemsize}")
    return int(unsigned.view(dtype)[0])


def _spacing(dataset: Any, axes: str) -> Spacing:
    """Millimetres a pixel, and between the frames of a volume, where they are stated."""
    measures = [dataset, *_groups(dataset, "PixelMeasuresSequence")]
    found: Spacing = {}
    for one in measures:
        sides = one.get("PixelSpacing") or one.get("ImagerPixelSpacing")
        if sides is not None and len(sides) == 2:
            down, across = sides
            found["Y"] = (float(down), "mm")
            found["X"] = (float(across), "mm")
        between = one.get("SpacingBetweenSlices")
        if "Z" in axes and between is not None:
            found["Z"] = (abs(float(between)), "mm")
    return {axis: step for axis, step in found.items() if step[0] > 0}


def write_dicom(image: Image, path: Path) -> None:
    """Write ``image`` as a derived object: new UIDs, padding restored, everything else kept.

    Stored values are found by the inverse rescale; those beyond the range of BitsStored are clipped.
    ``image.metadata["derivation"]`` says what was done ("derived" in one word, for the series' name); UIDs
    are a function of it and of the original's, so that slices of one series stay in one series.
    """
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    carried = image.metadata.get("dicom")
    if not isinstance(carried, Carried):
        raise OutputError(
            f"{shown(path)}: a DICOM file can only be written from a DICOM file; write TIFF instead"
        )
    dataset = copy.deepcopy(carried.dataset)
    derivation = str(image.metadata.get("derivation", "processed with pairfree"))
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax not in (ExplicitVRBigEndian, ImplicitVRLittleEndian):
        syntax = ExplicitVRLittleEndian
    big, implicit = syntax == ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
    _set_pixels(dataset, _stored_values(image, carried), big, implicit)
    _mark_derived(dataset, derivation, f" ({image.metadata.get('derived', 'derived')})")
    _renew_uids(dataset, derivation, path.name)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, implicit_vr=implicit, little_endian=not big, enforce_file_format=True)


def _stored_values(image: Image, carried: Carried) -> np.ndarray:
    """An image's intensities as they are stored."""
    wide = (image.pixels.astype(np.float64) - carried.intercept) / carried.slope
    rounded = np.rint(wide)
    stored = np.clip(rounded, carried.low, carried.high).astype(carried.dtype)
    if carried.padding is not None:
        values, mask = carried.padding
        stored[mask if stored.ndim == mask.ndim else mask[0]] = values
    return stored


def _set_pixels(dataset: Any, stored: np.ndarray, big: bool, implicit: bool) -> None:
    """The pixels of a data set, in the byte order of its syntax, and what it says of their values."""
    in_order = stored.astype(stored.dtype.newbyteorder(">" if big else "<"))
    filling = b"\0" * (stored.nbytes % 2)
    dataset.PixelData = in_order.tobytes() + filling
    one_byte = stored.dtype.itemsize == 1
    dataset["PixelData"].VR = "OB" if one_byte and not implicit else "OW"
    if "SmallestImagePixelValue" in dataset:
        dataset["SmallestImagePixelValue"].value = int(stored.min())
    if "LargestImagePixelValue" in dataset:
        dataset["LargestImagePixelValue"].value = int(stored.max())
    if "PlanarConfiguration" in dataset:
        dataset.PlanarConfiguration = 0


def _mark_derived(dataset: Any, derivation: str, suffix: str) -> None:
    """ImageType DERIVED, what was done, and from which object (PS3.3, C.7.6.1 and C.12.4)."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    kinds = list(dataset.get("ImageType") or ["ORIGINAL", "PRIMARY"])
    dataset.ImageType = ["DERIVED", *kinds[1:]]
    dataset.DerivationDescription = derivation[:LONG_TEXT]
    if "SOPInstanceUID" in dataset:
        source = Dataset()
        source.ReferencedSOPClassUID = dataset.get("SOPClassUID", "")
        source.ReferencedSOPInstanceUID = dataset.SOPInstanceUID
        dataset.SourceImageSequence = Sequence([source])
    series = str(dataset.get("SeriesDescription", ""))[: LONG_STRING - len(suffix)]
    dataset.SeriesDescription = (series + suffix).strip()


def _renew_uids(dataset: Any, derivation: str, name: str) -> None:
    """New UIDs of object and series, from the old ones; for an object without one, from its file's name."""
    from pydicom.uid import generate_uid

    for element in ("SOPInstanceUID", "SeriesInstanceUID"):
        if element in dataset:
            old = str(dataset[element].value)
            dataset[element].value = generate_uid(entropy_srcs=[old, derivation])
    of_name = generate_uid(entropy_srcs=[derivation, name])
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", of_name)
