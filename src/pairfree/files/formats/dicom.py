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

from pairfree.errors import InputError, OutputError
from pairfree.files.formats import dicom_codecs
from pairfree.files.image import Image, rescaled_dtype
from pairfree.files.limits import PACKBITS, UNCOMPRESSED, Limits, check_declared
from pairfree.files.messages import shown

LOWEST_HU = -1500.0
"""Below this, a value that fills a share of a CT image is padding even where no tag says so: air reads -1000.
"""
PADDED_SHARE = 0.005
STACKS = {"CT": "Z", "MR": "Z", "PT": "Z", "NM": "Z", "US": "T", "XA": "T", "RF": "T"}
"""Axis of the frames by modality; Q for any other."""
LONG_STRING = 64


@dataclass(frozen=True)
class Carried:
    """What writing a DICOM object back needs.

    dataset      all elements but the pixels
    slope, intercept   intensity = stored * slope + intercept
    dtype        of the stored values;  low, high   their range by BitsStored
    padding      (values, mask): stored values where the image is padding, and where that is; None without padding
    """

    dataset: Any
    slope: float
    intercept: float
    dtype: np.dtype[Any]
    low: int
    high: int
    padding: tuple[np.ndarray, np.ndarray] | None

    @property
    def limits(self) -> tuple[float, float]:
        """Least and greatest intensity that BitsStored can hold."""
        ends = sorted(stored * self.slope + self.intercept for stored in (self.low, self.high))
        return ends[0], ends[1]


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
    """Read one DICOM file. Raises InputError."""
    import pydicom
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_file_meta_info

    try:
        _check_syntax(read_file_meta_info(path).get("TransferSyntaxUID"), path)
        dataset = pydicom.dcmread(path)
    except InvalidDicomError:
        raise InputError(
            f"{shown(path)}: is no DICOM file (its mark DICM is missing); check the name, or export it again"
        ) from None
    ratio = _check(dataset, path)
    dtype = np.dtype(
        f"{'i' if int(dataset.get('PixelRepresentation', 0)) else 'u'}{int(dataset.BitsAllocated) // 8}"
    )
    frames, samples = int(dataset.get("NumberOfFrames", 1) or 1), int(dataset.SamplesPerPixel)
    shape = (frames, int(dataset.Rows), int(dataset.Columns), samples)
    check_declared(path, shape, dtype, limits, len(dataset.PixelData), ratio)
    if dataset.file_meta.TransferSyntaxUID in dicom_codecs.CODECS:
        stored = dicom_codecs.decode(dataset, shape[:3], dtype, path)
    else:
        stored = np.ascontiguousarray(dataset.pixel_array).reshape(shape).astype(dtype, copy=False)
        stored = stored[..., 0] if samples == 1 else stored
    slope, intercept = _rescale(dataset, path)
    padded = _padding(dataset, stored, slope, intercept)
    bits = int(dataset.BitsStored)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dtype.kind == "i" else (0, 2**bits - 1)
    intensity = _intensity(stored, slope, intercept)
    if padded is not None:
        intensity[padded] = intensity[~padded].min()
    axes = "YX" if samples == 1 else "YXS"
    if frames > 1:
        axes = STACKS.get(str(dataset.get("Modality", "")), "Q") + axes
    del dataset.PixelData
    carried = Carried(
        dataset,
        slope,
        intercept,
        dtype,
        low,
        high,
        None if padded is None else (stored[padded], padded),
    )
    return Image(
        intensity if frames > 1 else intensity[0], axes, _spacing(dataset, axes), bit_depth=bits, source=path, family="dicom",
        metadata={"dicom": carried, "warnings": []}, alpha=False, limits=carried.limits,
    )  # fmt: skip


def _check(dataset: Any, path: Path) -> float:
    """The largest ratio of decoded to stored bytes.

    InputError for what is no image, or none that is understood.
    """
    missing = [
        name
        for name in (
            "Rows",
            "Columns",
            "BitsAllocated",
            "BitsStored",
            "SamplesPerPixel",
            "PixelData",
        )
        if name not in dataset
    ]
    if missing:
        raise InputError(
            f"{shown(path)}: DICOM object without {', '.join(missing)}: it holds no image; name an image object"
        )
    kind = str(dataset.get("PhotometricInterpretation", ""))
    if kind not in ("MONOCHROME1", "MONOCHROME2", "RGB"):
        raise InputError(
            f"{shown(path)}: its pixels are {kind or 'of no stated kind'}, not intensities; convert it to grey or RGB"
        )
    if int(dataset.BitsAllocated) not in (8, 16, 32):
        raise InputError(
            f"{shown(path)}: {dataset.BitsAllocated} bits a pixel are not supported; 8, 16 and 32 are"
        )
    if "ModalityLUTSequence" in dataset:
        raise InputError(
            f"{shown(path)}: its intensities are given by a lookup table, which cannot be inverted; convert it with a rescale"
        )
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in dicom_codecs.CODECS:
        if int(dataset.SamplesPerPixel) != 1:
            raise InputError(
                f"{shown(path)}: is a colour image compressed as {syntax.name}; decompress it first, with gdcmconv --raw"
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
    if syntax.is_deflated or (
        syntax.is_compressed and syntax != RLELossless and syntax not in dicom_codecs.CODECS
    ):
        raise InputError(
            f"{shown(path)}: is compressed as {syntax.name}; decompress it first, for example with gdcmconv --raw"
        )


def _groups(dataset: Any, name: str) -> list[Any]:
    """The functional group ``name`` of a multi-frame object: the shared one, or one a frame; empty where
    there is none."""
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    found = [group[name].value[0] for group in shared if name in group]
    if found:
        return found
    return [
        group[name].value[0]
        for group in dataset.get("PerFrameFunctionalGroupsSequence") or []
        if name in group
    ]


def _rescale(dataset: Any, path: Path) -> tuple[float, float]:
    sources = (
        [dataset]
        if "RescaleSlope" in dataset or "RescaleIntercept" in dataset
        else _groups(dataset, "PixelValueTransformationSequence")
    )
    found = {
        (float(one.get("RescaleSlope", 1)), float(one.get("RescaleIntercept", 0)))
        for one in sources
    }
    if len(found) > 1:
        raise InputError(
            f"{shown(path)}: its frames have {len(found)} different rescales; export each frame as a file of its own"
        )
    slope, intercept = found.pop() if found else (1.0, 0.0)
    if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
        raise InputError(
            f"{shown(path)}: rescale slope {slope} and intercept {intercept} are no intensity map; export it again"
        )
    return slope, intercept


def _intensity(stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Stored values as intensities: int32 where the rescale keeps them whole, so that all scanners' files
    come out as one type (8-bit ones without a rescale stay), else floats that hold every stored value."""
    if slope == 1 and intercept == int(intercept) and stored.dtype.itemsize <= 2:
        plain = stored.dtype.itemsize == 1 and intercept == 0
        return stored.copy() if plain else stored.astype(np.int32) + np.int32(intercept)
    return (stored.astype(np.float64) * slope + intercept).astype(
        rescaled_dtype(stored.dtype, slope, intercept)
    )


def _padding(dataset: Any, stored: np.ndarray, slope: float, intercept: float) -> np.ndarray | None:
    """Where pixels are padding (stored's shape), or None.

    By PixelPaddingValue and its range, or, in CT, by a value far below air.
    """
    value, limit = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    if value is not None:
        ends = [int(np.array([int(end) % 2 ** (8 * stored.dtype.itemsize)], f"u{stored.dtype.itemsize}").view(stored.dtype)[0]) for end in
                (value, value if limit is None else limit)]  # fmt: skip
        mask = (stored >= min(ends)) & (stored <= max(ends))
    elif dataset.get("Modality") == "CT":
        lowest = stored.min() if slope > 0 else stored.max()
        mask = stored == lowest
        if lowest * slope + intercept > LOWEST_HU or mask.mean() < PADDED_SHARE:
            return None
    else:
        return None
    return mask if mask.any() and not mask.all() else None


def _spacing(dataset: Any, axes: str) -> dict[str, tuple[float, str]]:
    """Millimetres a pixel, and between the frames of a volume, where they are stated."""
    measures = [dataset, *_groups(dataset, "PixelMeasuresSequence")]
    found: dict[str, tuple[float, str]] = {}
    for one in measures:
        sides = one.get("PixelSpacing") or one.get("ImagerPixelSpacing")
        if sides is not None and len(sides) == 2:
            found.update(
                {axis: (float(side), "mm") for axis, side in zip("YX", sides, strict=True)}
            )
        between = one.get("SpacingBetweenSlices")
        if "Z" in axes and between is not None:
            found["Z"] = (abs(float(between)), "mm")
    return {axis: step for axis, step in found.items() if step[0] > 0}


def write_dicom(image: Image, path: Path) -> None:
    """Write ``image`` as a derived object: stored values by the inverse rescale, padding restored, new UIDs,
    everything else kept.

    Values beyond the range of BitsStored are clipped. ``image.metadata["derivation"]`` says what was done
    ("derived" in one word, for the series' name); UIDs are a function of it and of the original's, so that
    slices of one series stay in one series.
    """
    from pydicom.uid import (
        ExplicitVRBigEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        generate_uid,
    )

    carried = image.metadata.get("dicom")
    if not isinstance(carried, Carried):
        raise OutputError(
            f"{shown(path)}: a DICOM file can only be written from a DICOM file; write TIFF instead"
        )
    dataset, derivation = (
        copy.deepcopy(carried.dataset),
        str(image.metadata.get("derivation", "processed with pairfree")),
    )
    stored = np.rint((image.pixels.astype(np.float64) - carried.intercept) / carried.slope)
    stored = np.clip(stored, carried.low, carried.high).astype(carried.dtype)
    if carried.padding is not None:
        values, mask = carried.padding
        stored[mask if stored.ndim == mask.ndim else mask[0]] = values
    syntax = dataset.file_meta.TransferSyntaxUID
    syntax = (
        syntax
        if syntax in (ExplicitVRBigEndian, ImplicitVRLittleEndian)
        else ExplicitVRLittleEndian
    )
    big, implicit = syntax == ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
    dataset.PixelData = stored.astype(
        stored.dtype.newbyteorder(">" if big else "<")
    ).tobytes() + b"\0" * (stored.nbytes % 2)
    dataset["PixelData"].VR = "OB" if stored.dtype.itemsize == 1 and not implicit else "OW"
    for name, value in (
        ("SmallestImagePixelValue", stored.min()),
        ("LargestImagePixelValue", stored.max()),
    ):
        if name in dataset:
            dataset[name].value = int(value)
    if "PlanarConfiguration" in dataset:
        dataset.PlanarConfiguration = 0
    _mark_derived(dataset, derivation, f" ({image.metadata.get('derived', 'derived')})")
    for name in ("SOPInstanceUID", "SeriesInstanceUID"):
        if name in dataset:
            dataset[name].value = generate_uid(entropy_srcs=[str(dataset[name].value), derivation])
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get(
        "SOPInstanceUID", generate_uid(entropy_srcs=[derivation, path.name])
    )
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, implicit_vr=implicit, little_endian=not big, enforce_file_format=True)


def _mark_derived(dataset: Any, derivation: str, suffix: str) -> None:
    """ImageType DERIVED, what was done, and from which object (PS3.3, C.7.6.1 and C.12.4)."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    kinds = list(dataset.get("ImageType") or ["ORIGINAL", "PRIMARY"])
    dataset.ImageType = ["DERIVED", *kinds[1:]]
    dataset.DerivationDescription = derivation[:1024]
    if "SOPInstanceUID" in dataset:
        source = Dataset()
        source.ReferencedSOPClassUID = dataset.get("SOPClassUID", "")
        source.ReferencedSOPInstanceUID = dataset.SOPInstanceUID
        dataset.SourceImageSequence = Sequence([source])
    dataset.SeriesDescription = (
        str(dataset.get("SeriesDescription", ""))[: LONG_STRING - len(suffix)] + suffix
    ).strip()
