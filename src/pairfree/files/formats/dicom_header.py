"""The header of a DICOM object: repaired where it can be, tried when read, written as a derived object's.

Reading writes the header to memory with the functions that the writer uses, so that what cannot be written
back is refused before anything is computed.
"""

from __future__ import annotations

import copy
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError
from pairfree.files.messages import shown

OF_PIXEL_VALUES = (
    "SmallestValidPixelValue",
    "LargestValidPixelValue",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "SmallestImagePixelValueInPlane",
    "LargestImagePixelValueInPlane",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
)
"""Elements that have the pixels' sign: SS where these are signed, else US (PS3.5, annex A)."""
EXTREMES = ("SmallestImagePixelValue", "LargestImagePixelValue")
LONG_STRING = 64
"""Characters of a series' description at most (LO)."""
LONG_TEXT = 1024
"""Characters of a derivation's description at most (ST)."""
LONGEST_REASON = 160
"""Characters of what pydicom says."""


def repair_signs(dataset: Any) -> list[str]:
    """Give elements that hold pixel values the sign of the pixels; what is to be told."""
    wanted = _sign_of(dataset)
    repaired = []
    for name in OF_PIXEL_VALUES:
        if name in dataset and _set_sign(dataset, name, wanted):
            repaired.append(name)
    if not repaired:
        return []
    kind = "signed" if wanted == "SS" else "unsigned"
    names = ", ".join(repaired)
    return [f"does not give {names} the sign of its pixels; written back as {kind}"]


def _sign_of(dataset: Any) -> str:
    return "SS" if int(dataset.get("PixelRepresentation", 0)) else "US"


def _set_sign(dataset: Any, name: str, wanted: str) -> bool:
    """Whether an element was of the other sign; it has the same bits with the right one."""
    from pydicom.dataelem import DataElement

    element = dataset[name]
    value = element.value
    if element.VR not in ("US", "SS") or wanted == element.VR or not isinstance(value, int):
        return False
    bits = np.uint16(value % 2**16)
    right = bits.view(np.int16) if wanted == "SS" else bits
    dataset[name] = DataElement(element.tag, wanted, int(right))
    return True


def check_writable(dataset: Any, path: Path) -> None:
    """Write the header of a derived object to memory.

    Raises
    ------
    InputError
        For a header that cannot be written.
    """
    try:
        trial = derive(dataset, "processed with pairfree", " (derived)", path.name)
        save_dataset(trial, BytesIO())
    # pydicom raises what it likes on values that do not fit, and adds its traceback to the words.
    except Exception as error:
        words = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InputError(
            f"{shown(path)}: its header cannot be written back ({shown(words[:LONGEST_REASON])}); "
            "correct it, for example with dcmodify, or export it again"
        ) from error


def derive(dataset: Any, derivation: str, suffix: str, name: str) -> Any:
    """A copy of a data set as that of a derived object, uncompressed, still without pixels.

    Parameters
    ----------
    dataset
        Of the original.
    derivation
        What was done.
    suffix
        Of the series' description.
    name
        Of the file, for an object without a UID.
    """
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    made = copy.deepcopy(dataset)
    _mark_derived(made, derivation, suffix)
    _renew_uids(made, derivation, name)
    made.file_meta.pop("FileMetaInformationGroupLength", None)  # counted anew when written
    if made.file_meta.TransferSyntaxUID not in (ExplicitVRBigEndian, ImplicitVRLittleEndian):
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made


def set_pixels(dataset: Any, keyword: str, words: np.ndarray) -> None:
    """The pixels of a derived data set, in the byte order of its syntax."""
    syntax = dataset.file_meta.TransferSyntaxUID
    big, little = words.dtype.newbyteorder(">"), words.dtype.newbyteorder("<")
    in_order = words.astype(little if syntax.is_little_endian else big)
    filling = b"\0" * (words.nbytes % 2)
    setattr(dataset, keyword, in_order.tobytes() + filling)
    if keyword == "PixelData":
        one_byte = words.dtype.itemsize == 1
        dataset[keyword].VR = "OB" if one_byte and not syntax.is_implicit_VR else "OW"
    if "PlanarConfiguration" in dataset:
        dataset.PlanarConfiguration = 0


def set_extremes(dataset: Any, stored: np.ndarray) -> None:
    """The least and the greatest stored value, where the data set states them.

    Values of 32-bit pixels that these 16-bit elements cannot hold are left out.
    """
    from pydicom.dataelem import DataElement

    kind = _sign_of(dataset)
    bounds = np.iinfo(np.int16 if kind == "SS" else np.uint16)
    for name, value in zip(EXTREMES, (int(stored.min()), int(stored.max())), strict=True):
        if name not in dataset:
            continue
        tag = dataset[name].tag
        del dataset[tag]
        if bounds.min <= value <= bounds.max:
            dataset[tag] = DataElement(tag, kind, value)


def save_dataset(dataset: Any, file: Any) -> None:
    """Write a derived data set to a path or to memory, in its transfer syntax."""
    _name_first_kind(dataset)
    syntax = dataset.file_meta.TransferSyntaxUID
    dataset.save_as(
        file,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        enforce_file_format=True,
    )


def _name_first_kind(dataset: Any) -> None:
    """The first element becomes of unknown kind (UN) where its kind of value does not exist.

    Readers tell from that element whether a data set names kinds at all.
    """
    from pydicom.dataelem import DataElement
    from pydicom.valuerep import VR

    tag = min(dataset.keys())
    element = dataset.get_item(tag)
    if element.is_raw and element.VR is not None and element.VR not in set(VR):
        dataset[tag] = DataElement(tag, "UN", element.value)


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
