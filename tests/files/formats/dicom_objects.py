"""DICOM objects for tests, written with pydicom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

from pairfree.files import open_image, save_image
from pairfree.files.fidelity import compare
from pairfree.files.image import Image

CT = "1.2.840.10008.5.1.4.1.1.2"


def written(
    path: Path,
    stored: np.ndarray,
    bits: int = 0,
    big: bool = False,
    implicit: bool = False,
    pixels: str = "PixelData",
    **elements: Any,
) -> Path:
    """A CT object with these stored values, (H, W) or (frames, H, W).

    Elements by keyword, None leaves one out; ``pixels`` names the one with the pixels.
    """
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.SeriesInstanceUID = (
        CT,
        generate_uid(),
        elements.pop("series", generate_uid()),
    )
    dataset.Modality, dataset.PatientID, dataset.StudyInstanceUID = "CT", "nobody", generate_uid()
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    if stored.ndim == 3:
        dataset.NumberOfFrames = len(stored)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = 8 * stored.dtype.itemsize
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelSpacing = [0.7, 0.6]
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    for name, value in elements.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    data = stored.astype(stored.dtype.newbyteorder(">" if big else "<")).tobytes()
    setattr(dataset, pixels, data + b"\0" * (len(data) % 2))
    if pixels == "PixelData":
        dataset[pixels].VR = "OW"
    if implicit:
        syntax = ImplicitVRLittleEndian
    elif big:
        syntax = ExplicitVRBigEndian
    else:
        syntax = ExplicitVRLittleEndian
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, implicit_vr=implicit, little_endian=not big, enforce_file_format=True)
    return path


def values(
    shape: tuple[int, ...] = (20, 24), low: int = 0, high: int = 4096, dtype: str = "uint16"
) -> np.ndarray:
    return np.random.default_rng(0).integers(low, high, shape).astype(dtype)


def as_colours(
    path: Path, data: np.ndarray, rows: int, columns: int, kind: str, planar: int = 0
) -> Path:
    """Make the object at ``path`` one of three samples a pixel, with these data."""
    dataset = pydicom.dcmread(path)
    dataset.Rows, dataset.Columns = rows, columns
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, kind
    dataset.PlanarConfiguration = planar
    dataset.RescaleIntercept = 0
    dataset.PixelData = data.tobytes() + b"\0" * (data.nbytes % 2)
    dataset.save_as(path)
    return path


def changed(path: Path, **elements: Any) -> Path:
    """The object at ``path`` with other elements, None leaves one out."""
    dataset = pydicom.dcmread(path)
    for name, value in elements.items():
        if value is None:
            delattr(dataset, name)
        elif name in dataset:
            dataset[name].value = value
        else:
            setattr(dataset, name, value)
    dataset.save_as(path)
    return path


def copied(path: Path, add: float = 0) -> tuple[Image, Dataset]:
    """The image as read and its copy, with values that are higher by ``add``; verify finds no more lost."""
    image = open_image(path)
    out = path.with_name(f"out-{path.name}")
    moved = image.pixels + np.array(add, image.dtype)
    save_image(image.with_pixels(moved), out, overwrite=True)
    assert set(lost(path, out)) <= ({"offset"} if add else set())
    return image, pydicom.dcmread(out)


def lost(path: Path, out: Path) -> list[str]:
    """What verify finds lost."""
    return [check.name for check in compare(path, out) if check.kept is False]
