"""What a DICOM header states of its pixels, why some are refused, and the words as they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError, NoImageError
from pairfree.files.formats import dicom_codecs
from pairfree.files.formats.dicom_colour import PALETTE, YBR
from pairfree.files.formats.dicom_words import Words
from pairfree.files.image import DType, Shape
from pairfree.files.limits import PACKBITS, UNCOMPRESSED
from pairfree.files.messages import shown

SIZE = ("Rows", "Columns")
OF_INTEGERS = ("BitsAllocated", "BitsStored", "SamplesPerPixel")
"""Elements of every image of integers."""
FLOATS: dict[str, DType] = {
    "FloatPixelData": np.dtype(np.float32),
    "DoubleFloatPixelData": np.dtype(np.float64),
}
"""Elements with pixels of floats."""
PIXELS = ("PixelData", *FLOATS)
"""Elements with pixels, an object has one of them."""
GREY = ("MONOCHROME1", "MONOCHROME2")
SAMPLES = {**dict.fromkeys(GREY, 1), PALETTE: 1, "RGB": 3, **dict.fromkeys(YBR, 3)}
"""Samples a pixel by photometric interpretation; others are refused."""
HALF_CHROMA = "YBR_FULL_422"
"""Two pixels share their chrominance."""
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""SOP classes of masks and labels."""
SPECTRA = "1.2.840.10008.5.1.4.1.1.4.2"


@dataclass(frozen=True)
class Layout:
    """The pixels as the header states them."""

    keyword: str
    """One of ``PIXELS``."""
    kind: str
    """Photometric interpretation."""
    shape: tuple[int, int, int, int]
    """Frames, rows, columns, samples."""
    words: Words
    ratio: float
    """Largest ratio of decoded to stored bytes, where each sample is stored."""

    def full_size(self, stored_bytes: int) -> int:
        """Bytes of pixels that are stored, once each has all of its samples."""
        return stored_bytes * 3 // 2 if self.kind == HALF_CHROMA else stored_bytes


def find_layout(dataset: Any, path: Path) -> Layout:
    """The layout of the pixels of a data set.

    Raises
    ------
    NoImageError
        For what is no image: reports, documents, spectra, masks.
    InputError
        For pixels that are missing, not understood, or stated in contradictory ways.
    """
    keyword = _find_pixels(dataset, path)
    kind = str(dataset.get("PhotometricInterpretation", ""))
    samples = int(dataset.get("SamplesPerPixel", 1))
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in dicom_codecs.CODECS and samples != 1:
        raise InputError(
            f"{shown(path)}: is a colour image compressed as {syntax.name}; "
            "decompress it first, with gdcmconv --raw"
        )
    words = _float_words(dataset, keyword, path)
    if words is None:
        words = _integer_words(dataset, path)
    if kind not in SAMPLES or (words.dtype.kind == "f" and kind not in GREY):
        raise InputError(
            f"{shown(path)}: its pixels are {shown(kind) or 'of no stated kind'}, not intensities; "
            "convert it to grey or RGB"
        )
    if samples != SAMPLES[kind]:
        raise InputError(
            f"{shown(path)}: states {samples} samples a pixel, {kind} has {SAMPLES[kind]}; "
            "export it again"
        )
    if "ModalityLUTSequence" in dataset:
        raise InputError(
            f"{shown(path)}: its intensities are given by a lookup table, which cannot be inverted; "
            "convert it with a rescale"
        )
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    shape = (frames, int(dataset.Rows), int(dataset.Columns), samples)
    if samples == 3:
        _check_colours(dataset, kind, shape, words, path)
    ratio = PACKBITS if syntax.is_compressed else UNCOMPRESSED
    if syntax in dicom_codecs.CODECS:
        ratio = dicom_codecs.RATIO
        _check_alignment(words, syntax, path)
    return Layout(keyword, kind, shape, words, ratio)


def _find_pixels(dataset: Any, path: Path) -> str:
    """The element with the pixels; an error that says why there is none."""
    held = _held_instead(dataset)
    if held:
        raise NoImageError(f"{shown(path)}: holds {held}: it holds no image; name an image object")
    found = [name for name in PIXELS if name in dataset]
    missing = _missing(dataset, found)
    if missing == ["PixelData"] and "PixelDataProviderURL" in dataset:
        raise InputError(
            f"{shown(path)}: its pixels are not in the file, but at an address; "
            "export it with its pixels"
        )
    if missing:
        # with a size and without pixels it is an image that was cut off
        is_image = "Image Storage" in str(getattr(dataset.get("SOPClassUID"), "name", ""))
        if is_image:
            raise InputError(
                f"{shown(path)}: is a {dataset.SOPClassUID.name.removesuffix(' Storage')} without "
                f"{', '.join(missing)}: it was cut off or damaged; copy or export it again"
            )
        refusal = NoImageError if set(SIZE) <= set(missing) else InputError
        raise refusal(
            f"{shown(path)}: DICOM object without {', '.join(missing)}: it holds no image; "
            "name an image object"
        )
    if len(found) > 1:
        raise InputError(
            f"{shown(path)}: has {' and '.join(found)}, expected one of them; export it again"
        )
    return found[0]


def _held_instead(dataset: Any) -> str:
    """What an object holds that is no image, in words; empty for one that may be an image."""
    sop_class = str(dataset.get("SOPClassUID", ""))
    if sop_class in SEGMENTATIONS:
        return "a segmentation, which is a mask or labels, not intensities"
    if sop_class == SPECTRA or "SpectroscopyData" in dataset:
        return "spectra"
    if "EncapsulatedDocument" in dataset:
        stated = str(dataset.get("MIMETypeOfEncapsulatedDocument", "")) or "of no stated kind"
        return f"a document ({shown(stated[:40])})"
    return ""


def _missing(dataset: Any, found: list[str]) -> list[str]:
    """Elements that an image has, with pixels of the kind that was found."""
    needed = list(SIZE)
    if not found:
        needed.append("PixelData")
    elif found == ["PixelData"]:
        needed += OF_INTEGERS
    return [name for name in needed if name not in dataset]


def _float_words(dataset: Any, keyword: str, path: Path) -> Words | None:
    """The words of pixels of floats; None for those of integers."""
    dtype = FLOATS.get(keyword)
    if dtype is None:
        return None
    bits = 8 * dtype.itemsize
    stated = int(dataset.get("BitsAllocated", bits))
    if stated != bits or dataset.file_meta.TransferSyntaxUID.is_compressed:
        raise InputError(
            f"{shown(path)}: its {keyword} has {stated} bits a pixel, expected {bits}, uncompressed; "
            "export it again"
        )
    return Words(dtype, bits)


def _integer_words(dataset: Any, path: Path) -> Words:
    allocated = int(dataset.BitsAllocated)
    if allocated == 1:
        raise InputError(
            f"{shown(path)}: its pixels have 1 bit: it is a mask, not an intensity image; "
            "name an image object"
        )
    if allocated not in (8, 16, 32):
        raise InputError(
            f"{shown(path)}: {allocated} bits a pixel are not supported; 8, 16 and 32 are"
        )
    bits = int(dataset.BitsStored)
    high = int(dataset.get("HighBit", bits - 1))
    if not 0 < bits <= allocated or not bits - 1 <= high < allocated:
        raise InputError(
            f"{shown(path)}: states {bits} bits up to bit {high} of {allocated}, which do not fit; "
            "export it again"
        )
    kind = "i" if int(dataset.get("PixelRepresentation", 0)) else "u"
    return Words(np.dtype(f"{kind}{allocated // 8}"), bits, high + 1 - bits)


def _check_colours(
    dataset: Any, kind: str, shape: tuple[int, int, int, int], words: Words, path: Path
) -> None:
    """InputError for colours that are stated in a way that makes no sense."""
    planar = dataset.get("PlanarConfiguration")
    if planar not in (0, 1):
        raise InputError(
            f"{shown(path)}: states planar configuration {planar} of its colours, expected 0 or 1; "
            "export it again"
        )
    if kind not in YBR:
        return
    whole = words.dtype == np.uint8 and words.bits == 8
    if not whole:
        raise InputError(
            f"{shown(path)}: its {kind} colours have {words.bits} bits as {words.dtype.name}; "
            "those of 8 unsigned bits are read; convert it to RGB"
        )
    if kind == HALF_CHROMA and (planar != 0 or shape[2] % 2):
        raise InputError(
            f"{shown(path)}: its colours cannot be {kind} with planar configuration {planar} and "
            f"{shape[2]} columns, expected 0 and an even number; export it again"
        )


def _check_alignment(words: Words, syntax: Any, path: Path) -> None:
    if words.shift:
        last = words.shift + words.bits - 1
        raise InputError(
            f"{shown(path)}: is compressed as {syntax.name} with values in bits {words.shift} to "
            f"{last}; decompress it first, with gdcmconv --raw"
        )


def decode_words(dataset: Any, layout: Layout, path: Path) -> np.ndarray:
    """The words of all pixels: (frames, rows, columns), and the samples of colour.

    Unsigned integers with all bits that are stored, or floats; in native byte order.

    Raises
    ------
    InputError
        For compressed frames that are damaged; the decoders of native ones raise what they like.
    """
    from pydicom.pixels.decoders.base import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    dtype = layout.words.dtype
    shape: Shape = layout.shape
    if syntax in dicom_codecs.CODECS:
        found = dicom_codecs.decode(dataset, shape[:3], dtype, path)
    else:
        decoder: Any = get_decoder(syntax)
        found, _ = decoder.as_array(dataset, raw=True, correct_unused_bits=False, view_only=True)
    words = np.ascontiguousarray(found, found.dtype.newbyteorder("=")).astype(dtype, copy=False)
    words = words.reshape(shape if shape[3] > 1 else shape[:3])
    return words if dtype.kind == "f" else words.view(layout.words.unsigned)
