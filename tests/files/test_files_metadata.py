"""Metadata survive reading and writing (reliability row R21).

600 drawn cases are checked with the readers of other packages.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import mrcfile
import nibabel
import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pydicom
import pytest
import SimpleITK
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from pairfree.files import differences, open_image, save_image
from pairfree.files.fidelity import compare

STEPS = st.floats(1e-4, 1e4).map(lambda step: float(f"{step:.6g}"))
NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=12
)
TYPES = st.sampled_from(["uint8", "uint16", "int16", "float32"])
SIZES = st.tuples(st.integers(3, 9), st.integers(3, 9))
DICOM_KINDS = [
    ("CT", "1.2.840.10008.5.1.4.1.1.2"),
    ("MR", "1.2.840.10008.5.1.4.1.1.4"),
    ("US", "1.2.840.10008.5.1.4.1.1.3.1"),
]
"""Modality and SOP class."""


def pixels(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 120, shape).astype(dtype)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


def there_and_back(path: Path) -> Path:
    """Read, written beside it with other values, and compared by all that pairfree knows."""
    image = open_image(path)
    out = path.with_name(f"out-{path.name}")
    values = np.clip(image.pixels.astype(np.float64) + 1, -(2**15), 2**15 - 1).astype(image.dtype)
    save_image(image.with_pixels(values), out, overwrite=True)
    assert differences(image, open_image(out)) == []
    lost = [one for one in compare(path, out) if one.kept is False]
    assert [one for one in lost if one.name != "offset"] == []
    return out


@given(
    axes=st.sampled_from(["YX", "ZYX", "TYX", "CYX", "TZYX", "ZCYX", "TCZYX"]),
    dtype=TYPES,
    size=SIZES,
    steps=st.tuples(STEPS, STEPS, STEPS),
    unit=st.sampled_from(["µm", "nm", "mm", "Å", "pixel"]),
    names=st.lists(NAMES, min_size=2, max_size=2),
    bits=st.integers(1, 8),
    interval=STEPS,
    big=st.booleans(),
    order=st.sampled_from("<>"),
)
@settings(max_examples=120, deadline=None)
def test_ome_tiff(
    folder: Path,
    axes: str,
    dtype: str,
    size: tuple[int, int],
    steps: tuple[float, ...],
    unit: str,
    names: list[str],
    bits: int,
    interval: float,
    big: bool,
    order: str,
) -> None:
    shape = (*(2 for _ in axes[:-2]), *size)
    metadata: dict[str, Any] = {"axes": axes, "SignificantBits": bits}
    metadata |= {f"PhysicalSize{axis}": step for axis, step in zip("XYZ", steps)}
    metadata |= {f"PhysicalSize{axis}Unit": unit for axis in "XYZ"}
    if "T" in axes:
        metadata |= {"TimeIncrement": interval, "TimeIncrementUnit": "s"}
    if "C" in axes:
        metadata["Channel"] = {"Name": names}
    path = folder / "a.ome.tif"
    tifffile.imwrite(
        path,
        pixels(shape, dtype),
        metadata=metadata,
        bigtiff=big,
        byteorder=order,
        photometric="minisblack",
        ome=True,
    )
    out = there_and_back(path)
    with tifffile.TiffFile(path) as before, tifffile.TiffFile(out) as after:
        series, expected = after.series[0], before.series[0]
        assert (series.axes, series.shape) == (expected.axes, expected.shape)
        assert (after.is_bigtiff, after.byteorder) == (big, order)
        ours, theirs = (_attributes(file.ome_metadata or "") for file in (after, before))
    assert ours == theirs


def _attributes(text: str) -> list[tuple[str, dict[str, str]]]:
    return [
        (element.tag, {key: value for key, value in element.attrib.items() if key != "UUID"})
        for element in ElementTree.fromstring(text).iter()
    ]


@given(
    axes=st.sampled_from(["YX", "ZYX", "TYX", "CYX", "TZYX", "TZCYX"]),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    size=SIZES,
    step=STEPS,
    depth=STEPS,
    unit=st.sampled_from(["um", "nm", "mm", "cm", "pixel"]),
    info=NAMES,
    ends=st.tuples(st.integers(0, 50), st.integers(60, 255)),
)
@settings(max_examples=80, deadline=None)
def test_imagej_tiff(
    folder: Path,
    axes: str,
    dtype: str,
    size: tuple[int, int],
    step: float,
    depth: float,
    unit: str,
    info: str,
    ends: tuple[int, int],
) -> None:
    metadata: dict[str, Any] = {
        "axes": axes,
        "unit": unit,
        "Info": info,
        "min": float(ends[0]),
        "max": float(ends[1]),
    }
    if "Z" in axes:
        metadata["spacing"] = depth
    if "T" in axes:
        metadata["finterval"] = depth
    path = folder / "a.tif"
    tifffile.imwrite(
        path,
        pixels((*(2 for _ in axes[:-2]), *size), dtype),
        imagej=True,
        resolution=(1 / step, 1 / step),
        metadata=metadata,
    )
    out = there_and_back(path)
    with tifffile.TiffFile(path) as before, tifffile.TiffFile(out) as after:
        assert after.imagej_metadata == before.imagej_metadata
        assert after.series[0].axes == before.series[0].axes
        for tag in ("XResolution", "YResolution"):
            a, b = (file.pages[0].tags[tag].value for file in (before, after))
            assert a[0] / a[1] == pytest.approx(b[0] / b[1], rel=1e-9)


@given(
    axes=st.sampled_from(["yx", "zyx", "tyx", "cyx", "tczyx"]),
    dtype=TYPES,
    size=SIZES,
    steps=st.lists(STEPS, min_size=5, max_size=5),
    unit=st.sampled_from(["micrometer", "nanometer", "millimeter", ""]),
    names=st.lists(NAMES, min_size=2, max_size=2),
    extra=NAMES,
    version=st.sampled_from(["0.4", "0.5"]),
    levels=st.integers(1, 2),
)
@settings(max_examples=60, deadline=None)
def test_ome_zarr(
    folder: Path,
    axes: str,
    dtype: str,
    size: tuple[int, int],
    steps: list[float],
    unit: str,
    names: list[str],
    extra: str,
    version: str,
    levels: int,
) -> None:
    path = folder / f"a{version}.ome.zarr"
    kinds = {"t": "time", "c": "channel"}
    described = [
        {
            "name": name,
            "type": kinds.get(name, "space"),
            **({"unit": unit} if unit and name in "zyx" else {}),
        }
        for name in axes
    ]
    root = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    datasets = []
    for level in range(levels):
        shape = (*(2 for _ in axes[:-2]), *(max(1, n // 2**level) for n in size))
        root.create_array(str(level), shape=shape, dtype=dtype, chunks=shape)[...] = pixels(
            shape, dtype
        )
        scale = [step * (2**level if name in "yx" else 1) for name, step in zip(axes, steps)]
        datasets.append(
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
    ome: dict[str, Any] = {
        "multiscales": [
            {"version": version, "axes": described, "datasets": datasets, "name": extra}
        ]
    }
    if "c" in axes:
        ome["omero"] = {
            "channels": [
                {"label": name, "color": "FF00FF", "window": {"start": 0, "end": 99}}
                for name in names
            ]
        }
    root.attrs.put(ome if version == "0.4" else {"ome": {"version": "0.5", **ome}})
    out = there_and_back(path)
    before, after = (dict(zarr.open_group(str(one), mode="r").attrs) for one in (path, out))
    assert {key: value for key, value in after.items() if key != "pairfree"} == before


@given(
    dimensions=st.integers(2, 4),
    dtype=st.sampled_from(["uint8", "int16", "uint16", "float32", "float64"]),
    size=SIZES,
    steps=st.lists(STEPS, min_size=4, max_size=4),
    units=st.tuples(st.sampled_from(["mm", "micron", "meter"]), st.sampled_from(["sec", "msec"])),
    offset=st.floats(-1e3, 1e3),
    text=st.text(st.characters(codec="ascii", exclude_categories=("C",)), max_size=70),
    scale=st.one_of(st.none(), st.tuples(st.floats(0.01, 10), st.floats(-100, 100))),
)
@settings(max_examples=80, deadline=None)
def test_nifti(
    folder: Path,
    dimensions: int,
    dtype: str,
    size: tuple[int, int],
    steps: list[float],
    units: tuple[str, str],
    offset: float,
    text: str,
    scale: tuple[float, float] | None,
) -> None:
    shape = (*size, 3, 2)[:dimensions]
    affine = np.diag([*steps[:3], 1.0])
    affine[:3, 3] = offset
    made = nibabel.Nifti1Image(pixels(shape, dtype), affine)
    made.header.set_xyzt_units(*units)
    made.header.set_zooms(steps[:dimensions])
    made.header["descrip"] = text.encode()
    if scale is not None and dtype in ("uint8", "int16", "uint16"):
        made.header.set_slope_inter(*scale)
    path = folder / "a.nii"
    made.to_filename(path)
    before, after = nibabel.load(path), nibabel.load(there_and_back(path))
    np.testing.assert_array_equal(before.affine, after.affine)
    for key in before.header:
        if key not in ("cal_max", "cal_min", "scl_slope", "scl_inter"):
            np.testing.assert_array_equal(before.header[key], after.header[key], err_msg=key)
    assert (before.dataobj.slope, before.dataobj.inter) == (
        after.dataobj.slope,
        after.dataobj.inter,
    )


@given(
    kind=st.sampled_from(["image", "stack", "volume"]),
    dtype=st.sampled_from(["int8", "int16", "uint16", "float32"]),
    size=SIZES,
    step=STEPS,
    origin=st.floats(-1e3, 1e3, width=32),
    start=st.integers(-99, 99),
    labels=st.lists(st.text("abc XYZ", max_size=60), max_size=9),
    extended=st.binary(max_size=300),
)
@settings(max_examples=80, deadline=None)
def test_mrc(
    folder: Path,
    kind: str,
    dtype: str,
    size: tuple[int, int],
    step: float,
    origin: float,
    start: int,
    labels: list[str],
    extended: bytes,
) -> None:
    path = folder / "a.mrc"
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(pixels(size if kind == "image" else (3, *size), dtype))
        if kind == "stack":
            file.set_image_stack()
        file.voxel_size = step
        file.header.origin.x, file.header.nxstart = origin, start
        file.set_extended_header(np.frombuffer(extended, "V1"))
        for label in labels:
            file.add_label(label)
    out = there_and_back(path)
    with mrcfile.open(path) as before, mrcfile.open(out) as after:
        assert after.extended_header.tobytes() == before.extended_header.tobytes()
        for name in (
            "cella",
            "cellb",
            "origin",
            "nxstart",
            "nystart",
            "nzstart",
            "mx",
            "my",
            "mz",
            "ispg",
            "exttyp",
        ):
            assert after.header[name].tobytes() == before.header[name].tobytes(), name


@given(
    dimensions=st.integers(2, 4),
    dtype=st.sampled_from(["uint8", "int16", "uint16", "float32", "float64"]),
    size=SIZES,
    steps=st.lists(STEPS, min_size=4, max_size=4),
    origin=st.floats(-1e3, 1e3),
    compress=st.booleans(),
    local=st.booleans(),
    word=st.text("abc XYZ019", min_size=1, max_size=30).map(str.strip).filter(bool),
)
@settings(max_examples=80, deadline=None)
def test_metaimage(
    folder: Path,
    dimensions: int,
    dtype: str,
    size: tuple[int, int],
    steps: list[float],
    origin: float,
    compress: bool,
    local: bool,
    word: str,
) -> None:
    path = folder / ("a.mha" if local else "a.mhd")
    made = SimpleITK.GetImageFromArray(pixels((2, 3, *size)[-dimensions:], dtype))
    made.SetSpacing(steps[:dimensions])
    made.SetOrigin([origin] * dimensions)
    made.SetMetaData("ScannerName", word)
    SimpleITK.WriteImage(made, str(path), compress)
    before, after = SimpleITK.ReadImage(str(path)), SimpleITK.ReadImage(str(there_and_back(path)))
    assert (after.GetSpacing(), after.GetOrigin(), after.GetDirection()) == (
        before.GetSpacing(),
        before.GetOrigin(),
        before.GetDirection(),
    )
    assert after.GetMetaData("ScannerName") == before.GetMetaData("ScannerName")
    np.testing.assert_array_equal(
        SimpleITK.GetArrayFromImage(after), SimpleITK.GetArrayFromImage(before) + 1
    )


@given(
    kind=st.sampled_from(DICOM_KINDS),
    frames=st.integers(1, 3),
    size=SIZES,
    signed=st.booleans(),
    bits=st.sampled_from([8, 12, 16]),
    slope=st.sampled_from([None, 1, 0.5, 4]),
    intercept=st.integers(-1024, 10),
    spacing=st.tuples(STEPS, STEPS),
    position=st.floats(-999, 999).map(lambda x: float(f"{x:.6g}")),
    patient=NAMES,
    words=NAMES,
    implicit=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_dicom(
    folder: Path,
    kind: tuple[str, str],
    frames: int,
    size: tuple[int, int],
    signed: bool,
    bits: int,
    slope: float | None,
    intercept: int,
    spacing: tuple[float, float],
    position: float,
    patient: str,
    words: str,
    implicit: bool,
) -> None:
    made, shape = Dataset(), (frames, *size) if frames > 1 else size
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = (
        ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    )
    made.SpecificCharacterSet = "ISO_IR 192"
    made.Modality, made.SOPClassUID, made.ImageType = *kind, ["ORIGINAL", "PRIMARY"]
    made.SOPInstanceUID, made.SeriesInstanceUID, made.StudyInstanceUID, made.FrameOfReferenceUID = (
        generate_uid() for _ in range(4)
    )
    made.PatientName, made.StudyDescription, made.SeriesNumber = (
        patient.replace("\\", "/"),
        words.replace("\\", "/"),
        7,
    )
    made.AcquisitionDate, made.AcquisitionTime = "20260102", "030405.678"
    made.PixelSpacing, made.ImagePositionPatient = list(spacing), [position, 0, 1]
    made.ImageOrientationPatient, made.SliceThickness = [1, 0, 0, 0, 1, 0], 2.5
    made.Rows, made.Columns = size
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = (
        8 if bits == 8 else 16,
        bits,
        bits - 1,
        int(signed),
    )
    if frames > 1:
        made.NumberOfFrames = frames
    if slope is not None:
        made.RescaleSlope, made.RescaleIntercept = slope, intercept
    stored = pixels(shape, f"{'int' if signed else 'uint'}{made.BitsAllocated}")
    made.PixelData = stored.tobytes() + b"\0" * (stored.nbytes % 2)
    made["PixelData"].VR = "OW" if implicit or bits > 8 else "OB"
    path = folder / "a.dcm"
    made.save_as(path, implicit_vr=implicit, little_endian=True, enforce_file_format=True)
    before, after = pydicom.dcmread(path), pydicom.dcmread(there_and_back(path))
    assert after.file_meta.TransferSyntaxUID == before.file_meta.TransferSyntaxUID
    changed = {
        element.keyword
        for element in before
        if element.keyword not in after or after[element.keyword].value != element.value
    }
    assert changed <= {"SOPInstanceUID", "SeriesInstanceUID", "ImageType", "PixelData"}
    assert list(after.ImageType) == ["DERIVED", "PRIMARY"]
    moved = after.pixel_array.astype(float) - before.pixel_array  # the intensities grew by 1
    assert np.abs(moved * (slope or 1) - 1).max() <= 0.5 * (slope or 1)


@given(
    samples=st.integers(1, 4),
    deep=st.booleans(),
    size=SIZES,
    dots=st.floats(1, 1e8),
    key=st.text("abc XYZ019", min_size=1, max_size=30).map(str.strip),
    word=NAMES,
    time=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_png(
    folder: Path,
    samples: int,
    deep: bool,
    size: tuple[int, int],
    dots: float,
    key: str,
    word: str,
    time: bool,
) -> None:
    """Density, text and times; 16 bits of grey, the only ones that Pillow writes."""
    stored = pixels(
        (*size, samples) if samples > 1 else size, "uint16" if deep and samples == 1 else "uint8"
    )
    text = PIL.PngImagePlugin.PngInfo()
    text.add_itxt(key or "Title", word)
    text.add_text("Comment", "made by hand", zip=True)
    if time:
        text.add(b"tIME", bytes([7, 234, 1, 2, 3, 4, 5]))
    path = folder / "a.png"
    PIL.Image.fromarray(stored).save(path, pnginfo=text, dpi=(dots, dots))
    with PIL.Image.open(path) as before, PIL.Image.open(there_and_back(path)) as after:
        before.load()
        after.load()
        assert after.info == before.info
        assert after.mode == before.mode
        colours = {2: 1, 4: 3}.get(samples, samples)
        moved = np.asarray(after).astype(int) - np.asarray(before)
        assert (moved.reshape(*size, samples)[..., :colours] == 1).all()
