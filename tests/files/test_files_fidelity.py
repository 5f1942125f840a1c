"""``pairfree verify``: planted losses are found, each by its own check; what was only denoised passes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import mrcfile
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
import tifffile
import zarr
from PIL import Image as Picture
from PIL.PngImagePlugin import PngInfo
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy.ndimage import gaussian_filter

from pairfree.files import FORMATS, Image, open_image, save_image, to_dtype
from pairfree.files.checks import Check
from pairfree.files.fidelity import compare, verify
from pairfree.files.formats.table import format_of, result_family
from pairfree.files.metadata_checks import METADATA
from pairfree.files.scale import GAINS, check_intensities

RNG = np.random.default_rng(0)


def scenes(count: int, side: int = 160, sigma: float = 8.0) -> tuple[np.ndarray, np.ndarray]:
    """Noisy stacks and their smoothed selves, uint16."""
    clean = gaussian_filter(RNG.normal(0, 1, (count, side, side)), (0, 6, 6))
    clean = np.clip(8000 + 1500 * clean / clean.std(), 2000, 14000)
    noisy = clean + RNG.normal(0, 25 * sigma, clean.shape)
    return noisy.astype(np.uint16), gaussian_filter(noisy, (0, 1.2, 1.2)).astype(np.uint16)


def lost(checks: list[Check]) -> list[str]:
    return [one.name for one in checks if one.kept is False]


def make(path: Path, pixels: np.ndarray) -> Path:
    """A file of each format with much to lose."""
    kind = path.name.partition(".")[2]
    if kind == "ome.tif":
        metadata = {
            **{
                "axes": "TYX",
                "PhysicalSizeX": 0.1,
                "PhysicalSizeXUnit": "µm",
                "PhysicalSizeY": 0.1,
                "PhysicalSizeYUnit": "µm",
            },
            **{
                "TimeIncrement": 2.0,
                "TimeIncrementUnit": "s",
                "Channel": {"Name": ["DAPI"]},
                "SignificantBits": 12,
            },
            "Plane": {"DeltaT": [2.0 * i for i in range(len(pixels))]},
        }
        tifffile.imwrite(path, pixels, metadata=metadata, datetime="2026:01:01 00:00:00")
    elif kind == "tif":
        tifffile.imwrite(
            path,
            pixels,
            imagej=True,
            resolution=(10, 10),
            metadata={"axes": "TYX", "unit": "um", "finterval": 2.0},
        )
    elif kind in ("mrc", "mrc.gz"):
        with mrcfile.new(path, compression="gzip" if kind == "mrc.gz" else None) as made:
            made.set_data(pixels.astype(np.int16))
            made.voxel_size = 1.3
            made.set_extended_header(np.frombuffer(b"tilt" * 32, "V1"))
    elif kind in ("nii", "nii.gz", "img"):
        of_files = nibabel.Nifti1Pair if kind == "img" else nibabel.Nifti1Image
        made = of_files(pixels.T.astype(np.int16), np.diag([0.5, 0.5, 3.0, 1.0]))
        made.header.set_xyzt_units("mm")
        made.header.set_slope_inter(0.5, -10.0)
        nibabel.save(made, path)
    elif kind == "mgz":
        nibabel.MGHImage(pixels.T.astype(np.int32), np.diag([0.5, 0.5, 3.0, 1.0])).to_filename(path)
    elif kind == "mhd":
        made = SimpleITK.GetImageFromArray(pixels)
        made.SetSpacing((0.5, 0.5, 3.0))
        made.SetMetaData("ScannerName", "7")
        SimpleITK.WriteImage(made, str(path))
    elif kind in ("ome.zarr", "ozx"):
        spacing = {"T": (2.0, "s"), "Y": (0.1, "µm"), "X": (0.1, "µm")}
        image = Image(pixels, "TYX", spacing, family=kind.removeprefix("ome."))
        save_image(image, path)
    elif kind == "dcm":
        write_dicom(path, pixels[0])
    elif kind in ("png", "jpg", "bmp"):
        write_picture(path, (pixels[0] // 64).astype(np.uint8))
    else:
        np.save(path, pixels)
    return path


def write_picture(path: Path, pixels: np.ndarray) -> None:
    options: dict[str, Any] = {"dpi": (25_400, 25_400)}
    if path.suffix == ".png":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_text("Title", "cells")
        options["pnginfo"].add_text("Author", "someone")
    elif path.suffix == ".jpg":
        options |= {"quality": 95, "comment": b"cells", "icc_profile": b"profile " * 9}
    Picture.fromarray(pixels).save(path, **options)


def write_dicom(path: Path, pixels: np.ndarray) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = (
        CTImageStorage,
        generate_uid(),
        ExplicitVRLittleEndian,
    )
    made = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    made.SeriesInstanceUID, made.StudyInstanceUID, made.FrameOfReferenceUID = (
        generate_uid(),
        generate_uid(),
        generate_uid(),
    )
    made.PatientID, made.Modality, made.ImageType = "someone", "CT", ["ORIGINAL", "PRIMARY"]
    made.Rows, made.Columns = pixels.shape
    (
        made.BitsAllocated,
        made.BitsStored,
        made.HighBit,
        made.PixelRepresentation,
        made.SamplesPerPixel,
    ) = (
        16,
        16,
        15,
        0,
        1,
    )
    made.PhotometricInterpretation, made.RescaleSlope, made.RescaleIntercept = (
        "MONOCHROME2",
        1,
        -1024,
    )
    made.PixelSpacing, made.SliceThickness, made.ImagePositionPatient = [0.7, 0.7], 3, [1, 2, 3]
    made.AcquisitionTime, made.PixelData = "101112", pixels.tobytes()
    made.save_as(path, enforce_file_format=True)


def result(path: Path, pixels: np.ndarray, out: Path, **changes: Any) -> Path:
    """What pairfree writes for ``path`` with other pixels, and what a careless program would write.

    The second has something changed beside the pixels.
    """
    image = open_image(path)
    if image.family == "dicom":
        pixels = pixels[0].astype(np.int32) - 1024
    if image.family == "nifti":
        pixels = pixels * 0.5 - 10
    if "chunks" in image.metadata:
        pixels = pixels[0] // 64
    values, _ = to_dtype(pixels, image.dtype, image.limits)
    made = replace(
        image,
        data=values.reshape(image.shape),
        metadata={**image.metadata, "derivation": "smoothed", "derived": "smoothed"},
    )
    out.parent.mkdir(exist_ok=True)
    save_image(replace(made, **changes), out)
    return out


KINDS = (
    *("ome.tif", "tif", "mrc", "mrc.gz", "nii", "img", "mgz", "mhd"),
    *("ome.zarr", "ozx", "dcm", "npy", "png", "jpg", "bmp"),
)
BECOME_PNG = ("jpg", "bmp")


def named_after(kind: str) -> str:
    """The name of a result of that kind."""
    return "a.png" if kind in BECOME_PNG else f"a.{kind}"


def test_every_format_has_checks_of_its_own() -> None:
    """A format without a row in ``METADATA`` could lose what its files state, and verify would not tell."""
    assert METADATA.keys() == FORMATS.keys()
    assert all(one.family == key for key, one in FORMATS.items())
    assert {result_family(key) for key in FORMATS} == {
        key for key, one in FORMATS.items() if not one.output_suffix
    }


def test_every_format_is_compared_here() -> None:
    """Makers' files come back as OME-TIFF; the tests of their formats compare some."""
    made = {format_of(Path(f"a.{kind}")).family for kind in KINDS}
    assert made == FORMATS.keys() - {"vendor", "electron", "makers_tiff"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_only_smoothed_passes(tmp_path: Path, kind: str) -> None:
    noisy, smooth = scenes(4)
    path = make(tmp_path / f"a.{kind}", noisy)
    checks = compare(path, result(path, smooth, tmp_path / "out" / named_after(kind)))
    assert not lost(checks)
    assert {"format", "pixel type", "shape", "frames", "pixel size", "gain by frame", "scene"} <= {
        one.name for one in checks
    }


def scaled(noisy: np.ndarray, smooth: np.ndarray) -> np.ndarray:
    return smooth * 1.03


def swapped(noisy: np.ndarray, smooth: np.ndarray) -> np.ndarray:
    return smooth[[1, 0, 2, 3]]


def repeated(noisy: np.ndarray, smooth: np.ndarray) -> np.ndarray:
    return smooth[[0, 0, 2, 3]]


def one_frame_scaled(noisy: np.ndarray, smooth: np.ndarray) -> np.ndarray:
    return smooth * np.array([1, 1, 1.05, 1])[:, None, None]


def stretched(noisy: np.ndarray, smooth: np.ndarray) -> np.ndarray:
    low, high = smooth.min((1, 2), keepdims=True), smooth.max((1, 2), keepdims=True)
    return (smooth - low) / (high - low) * 60000


def mirrored(noisy: np.ndarray, smooth: np.ndarray) -> np.ndarray:
    return smooth[..., ::-1]


def wrapped(noisy: np.ndarray, smooth: np.ndarray) -> np.ndarray:
    return smooth % 8192


@pytest.mark.parametrize(
    ("plant", "name"),
    [
        (scaled, "gain by frame"),
        (one_frame_scaled, "gain by frame"),
        (stretched, "gain by frame"),
        (swapped, "scene"),
        (repeated, "scene"),
        (mirrored, "scene"),
        (wrapped, "scene"),
    ],
)
@pytest.mark.parametrize("kind", ["ome.tif", "npy"])
def test_changed_intensities_and_frames_are_found(
    tmp_path: Path, plant: Any, name: str, kind: str
) -> None:
    noisy, smooth = scenes(4)
    path = make(tmp_path / f"a.{kind}", noisy)
    assert name in lost(
        compare(path, result(path, plant(noisy, smooth), tmp_path / f"out/a.{kind}"))
    )


@pytest.mark.parametrize("plant", [scaled, one_frame_scaled, stretched])
def test_a_scale_that_was_restored_is_stated(tmp_path: Path, plant: Any) -> None:
    noisy, smooth = scenes(4)
    path = make(tmp_path / "a.npy", noisy)
    checks = compare(
        path, result(path, plant(noisy, smooth), tmp_path / "out/a.npy"), any_scale=True
    )
    assert {one.name: one.kept for one in checks if one.name in GAINS} == dict.fromkeys(GAINS)
    assert not lost(checks)


def test_blank_frames_and_tiles_are_lost_at_any_scale() -> None:
    noisy, smooth = scenes(2, 1100)
    smooth[0, 512:768, 256:512] = 100
    smooth[1] = 100
    assert lost(
        check_intensities(Image(noisy, "QYX"), Image(smooth, "QYX"), any_scale=True)
    ) == list(GAINS)


@pytest.mark.parametrize("fault", ["blank", "scaled", "lifted"])
def test_one_bad_tile_of_a_large_image_is_found(tmp_path: Path, fault: str) -> None:
    noisy, smooth = scenes(1, 1100)
    part = smooth[0, 512:768, 256:512]
    part[...] = {"blank": 0 * part, "scaled": part * 1.2, "lifted": part + 400}[fault]
    checks = check_intensities(Image(noisy, "QYX"), Image(smooth, "QYX"))
    assert "gain by tile" in lost(checks)


METADATA_LOSSES: list[tuple[str, dict[str, Any], str]] = [
    ("ome.tif", {"spacing": {}}, "pixel size"),
    ("ome.tif", {"spacing": {"X": (0.1, "nm"), "Y": (0.1, "nm"), "T": (2.0, "s")}}, "pixel size"),
    ("ome.tif", {"metadata": {}}, "time stamps"),
    ("tif", {"metadata": {}}, "kind of TIFF"),
    ("tif", {"axes": "ZYX", "spacing": {"X": (0.1, "µm"), "Y": (0.1, "µm")}}, "axes"),
    ("mrc", {"metadata": {}}, "extended header"),
    ("ome.zarr", {"spacing": {}, "metadata": {}}, "attributes"),
    ("png", {"metadata": {}}, "chunks"),
    ("jpg", {"metadata": {}}, "chunks"),
    ("bmp", {"metadata": {}, "spacing": {}}, "chunks"),
]


@pytest.mark.parametrize(("kind", "changes", "name"), METADATA_LOSSES)
def test_lost_metadata_is_found(
    tmp_path: Path, kind: str, changes: dict[str, Any], name: str
) -> None:
    noisy, smooth = scenes(4)
    path = make(tmp_path / f"a.{kind}", noisy)
    assert name in lost(
        compare(path, result(path, smooth, tmp_path / "out" / named_after(kind), **changes))
    )


def test_one_of_several_lines_of_text_is_missed(tmp_path: Path) -> None:
    noisy, smooth = scenes(1)
    path = make(tmp_path / "a.png", noisy)
    chunks = [
        (name, content)
        for name, content in open_image(path).metadata["chunks"]
        if b"Title" not in content
    ]
    out = result(path, smooth, tmp_path / "out/a.png", metadata={"chunks": chunks})
    assert lost(compare(path, out)) == ["chunks"]


def test_pixel_type_shape_and_format(tmp_path: Path) -> None:
    noisy, smooth = scenes(4)
    path = make(tmp_path / "a.npy", noisy)
    for number, (pixels, names) in enumerate(
        [
            (smooth.astype(np.float32), {"pixel type"}),
            (smooth[:3], {"shape", "frames"}),
            (smooth[:, :80], {"shape"}),
        ]
    ):
        np.save(tmp_path / f"{number}.npy", pixels)
        assert set(lost(compare(path, tmp_path / f"{number}.npy"))) == names
    save_image(Image(smooth, "QYX", family="tiff"), tmp_path / "a.tif")
    assert lost(compare(path, tmp_path / "a.tif")) == ["format"]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda one: one.__setattr__("RescaleIntercept", 0), "rescale"),
        (lambda one: one.__delattr__("PixelSpacing"), "geometry"),
        (lambda one: one.__setattr__("ImagePositionPatient", [0, 0, 0]), "geometry"),
        (lambda one: one.__setattr__("PatientID", "nobody"), "patient and study"),
        (lambda one: one.__delattr__("AcquisitionTime"), "time stamps"),
        (lambda one: one.__setattr__("ImageType", ["ORIGINAL", "PRIMARY"]), "image type"),
    ],
)
def test_lost_elements_of_dicom_are_found(tmp_path: Path, change: Any, name: str) -> None:
    noisy, smooth = scenes(1)
    path = make(tmp_path / "a.dcm", noisy)
    out = result(path, smooth, tmp_path / "out/a.dcm")
    made = pydicom.dcmread(out)
    change(made)
    made.save_as(out)
    assert name in lost(compare(path, out))


def test_an_old_uid_is_found(tmp_path: Path) -> None:
    noisy, smooth = scenes(1)
    path = make(tmp_path / "a.dcm", noisy)
    out = result(path, smooth, tmp_path / "out/a.dcm")
    made = pydicom.dcmread(out)
    made.SOPInstanceUID = pydicom.dcmread(path).SOPInstanceUID
    made.save_as(out)
    assert lost(compare(path, out)) == ["UIDs of image and series"]


def test_a_lost_affine_of_nifti_is_found(tmp_path: Path) -> None:
    noisy, smooth = scenes(4)
    path = make(tmp_path / "a.nii", noisy)
    made = nibabel.Nifti1Image(smooth.T.astype(np.int16), np.eye(4))
    nibabel.save(made, tmp_path / "b.nii")
    assert {"affine", "intensity scale", "pixel size"} <= set(
        lost(compare(path, tmp_path / "b.nii"))
    )


@pytest.mark.parametrize(
    ("line", "name"), [("ScannerName = 7", "header"), ("Offset = 0 0 0", "header")]
)
def test_a_lost_line_of_a_metaimage_is_found(tmp_path: Path, line: str, name: str) -> None:
    noisy, smooth = scenes(2)
    path = make(tmp_path / "a.mhd", noisy)
    out = result(path, smooth, tmp_path / "out/a.mhd")
    text = out.read_text()
    assert line in text
    out.write_text(text.replace(line, "Comment = gone"))
    assert lost(compare(path, out)) == [name]


def test_a_lost_resolution_of_zarr_is_found(tmp_path: Path) -> None:
    noisy, smooth = scenes(4)
    path = make(tmp_path / "a.ome.zarr", noisy)
    root = zarr.open_group(str(path), mode="a")
    words = json.loads(json.dumps(root.attrs["ome"]))
    words["multiscales"][0]["datasets"].append(
        {**words["multiscales"][0]["datasets"][0], "path": "1"}
    )
    root.create_array("1", shape=(4, 80, 80), chunks=(1, 80, 80), dtype="uint16")[...] = noisy[
        :, ::2, ::2
    ]
    root.attrs["ome"] = words
    out = result(path, smooth, tmp_path / "out/a.ome.zarr")
    assert not lost(compare(path, out))
    words["multiscales"][0]["datasets"].pop()
    zarr.open_group(str(out), mode="a").attrs["ome"] = words
    assert set(lost(compare(path, out))) == {"attributes", "resolutions"}


def test_folders_and_missing_results(tmp_path: Path) -> None:
    noisy, smooth = scenes(2)
    (tmp_path / "in/deep").mkdir(parents=True)
    for name in ("a.npy", "deep/b.npy"):
        make(tmp_path / "in" / name, noisy)
    (tmp_path / "out").mkdir()
    np.save(tmp_path / "out/a.npy", smooth)
    found = verify(tmp_path / "in", tmp_path / "out")
    assert {name: lost(checks) for name, checks in found.files.items()} == {
        "a.npy": [],
        "deep/b.npy": ["file"],
    }
    assert [(name, check.name, check.after) for name, check in found.lost] == [
        ("deep/b.npy", "file", "missing")
    ]
    assert not found.kept
    assert not found.scale_changed
    assert found.as_dict()["deep/b.npy"] == [
        {"name": "file", "before": "b.npy", "after": "missing", "kept": False}
    ]


def test_a_changed_scale_is_told_apart(tmp_path: Path) -> None:
    noisy, smooth = scenes(2)
    path = make(tmp_path / "a.npy", noisy)
    out = result(path, scaled(noisy, smooth), tmp_path / "out/a.npy")
    assert verify(path, out).scale_changed
    stated = verify(path, out, any_scale=True)
    assert stated.kept
    assert not stated.scale_changed
    assert list(stated.files) == ["a.npy"]


@pytest.mark.parametrize("side", [6, 20, 40, 97])
@pytest.mark.parametrize("value", ["noise", "constant", "two values"])
def test_small_and_plain_images_pass(side: int, value: str) -> None:
    pixels = {
        "noise": RNG.normal(100, 9, (side, side)),
        "constant": np.full((side, side), 7.0),
        "two values": np.eye(side),
    }[value]
    image = Image(pixels, "YX")
    assert not lost(check_intensities(image, image))
    assert not lost(check_intensities(image, image.with_pixels(gaussian_filter(pixels, 1.0))))


def test_missing_pixels_do_not_hide_a_changed_scale() -> None:
    """One NaN: the blocks around it say nothing, all others do."""
    noisy, smooth = (stack[0].astype(np.float32) for stack in scenes(1))
    noisy[40, 50] = np.nan
    kept, changed = smooth.copy(), 3 * smooth
    kept[40, 50] = changed[40, 50] = np.nan
    assert not lost(check_intensities(Image(noisy, "YX"), Image(kept, "YX")))
    assert GAINS[0] in lost(check_intensities(Image(noisy, "YX"), Image(changed, "YX")))


def test_what_cannot_be_measured_is_not_said_to_be_kept() -> None:
    tiny = np.random.default_rng(0).normal(100, 20, (5, 5)).astype(np.float32)
    checks = {
        check.name: check for check in check_intensities(Image(tiny, "YX"), Image(5 * tiny, "YX"))
    }
    assert checks[GAINS[0]].kept is None
    assert "not measured" in checks[GAINS[0]].after


@pytest.mark.parametrize("kind", [*KINDS, "nii.gz"])
def test_the_length_of_a_name_changes_nothing_but_the_name(tmp_path: Path, kind: str) -> None:
    """Temporary names are shorter than final ones, and may end anywhere within a suffix."""
    path = make(tmp_path / f"a.{kind}", scenes(2, side=48)[0])
    image = open_image(path)
    first: dict[str, bytes] | None = None
    longest = 250 - len(kind)
    for length in sorted({*range(1, 46), 100, longest}):
        out = tmp_path / "out" / named_after(kind).replace("a.", "n" * length + ".", 1)
        save_image(image, out)
        found = contents(out)
        first = first or found
        assert found == first, length
        for file in out.parent.iterdir():
            shutil.rmtree(file) if file.is_dir() else file.unlink()


def contents(path: Path) -> dict[str, bytes]:
    """Of the files of an image by what follows its stem, without the line in which one names the other."""
    stem = path.name.partition(".")[0]
    found = {}
    for file in sorted(path.parent.rglob("*")):
        if file.is_file():
            name = str(file.relative_to(path.parent)).removeprefix(stem)
            found[name] = file.read_bytes().replace(f" = {stem}.raw".encode(), b"")
    return found


def test_a_copy_whose_frames_are_equal_passes(tmp_path: Path) -> None:
    """Rounding decides which of equal frames is nearest."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        page = np.full((100, 150), 255, np.uint8)
        page[rng.integers(0, 100, 60), rng.integers(0, 150, 60)] = rng.integers(0, 255, 60)
        for name in ("a.tif", "b.tif"):
            tifffile.imwrite(tmp_path / name, np.stack([page] * 3, -1), photometric="rgb")
        assert not lost(compare(tmp_path / "a.tif", tmp_path / "b.tif"))


def test_other_axes_of_the_same_sizes_are_told(tmp_path: Path) -> None:
    pixels = np.moveaxis(scenes(3, side=64)[0], 0, -1)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", metadata=None)
    with tifffile.TiffWriter(tmp_path / "b.tif") as writer:
        writer.write(pixels, photometric="minisblack", metadata=None)
    assert "axes" in lost(compare(tmp_path / "a.tif", tmp_path / "b.tif"))
