"""DICOM: what comes back of a file, what is refused.

Files are written with pydicom and read again with it.
"""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_objects import values, written
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)

from pairfree.errors import InputError, OutputError
from pairfree.files import Image, open_image, save_image
from pairfree.files.dtypes import to_dtype
from pairfree.files.formats import dicom_rescale
from pairfree.files.limits import Limits
from pairfree.files.listing import find_images, plan_outputs
from pairfree.files.partners import partners
from pairfree.noise.files import simulate


def round_trip(path: Path) -> tuple[Image, Dataset, Dataset]:
    """The image as read; the object before and after it was written unchanged."""
    image, out = open_image(path), path.with_name("out.dcm")
    save_image(image, out)
    return image, pydicom.dcmread(path), pydicom.dcmread(out)


@pytest.mark.parametrize(
    ("dtype", "bits", "rescale", "kind"),
    [
        ("uint16", 12, (1, -1024), "int32"),
        ("uint16", 16, (1, -1024), "int32"),
        ("int16", 16, (1, 0), "int32"),
        ("int16", 12, (1, -500), "int32"),
        ("uint16", 12, (0.5, -1024), "float32"),
        ("uint16", 16, (1.25, 0.125), "float32"),
        ("uint8", 8, (1, 0), "uint8"),
        ("int16", 16, (-1, 10), "float32"),
    ],
)
def test_intensities_and_stored_values_come_back(tmp_path, dtype, bits, rescale, kind):
    low = -(2 ** (bits - 1)) if dtype.startswith("i") else 0
    stored = values(low=low, high=low + 2**bits, dtype=dtype)
    stored[0, :2] = low, low + 2**bits - 1
    path = written(
        tmp_path / "in.dcm",
        stored,
        bits,
        RescaleSlope=rescale[0],
        RescaleIntercept=rescale[1],
        Modality="MR",
    )
    image, before, after = round_trip(path)
    assert image.dtype == kind
    np.testing.assert_allclose(
        image.pixels, stored.astype(np.float64) * rescale[0] + rescale[1], rtol=1e-6
    )
    np.testing.assert_array_equal(after.pixel_array, before.pixel_array)
    assert (image.axes, image.spacing, image.bit_depth) == (
        "YX",
        {"Y": (0.7, "mm"), "X": (0.6, "mm")},
        bits,
    )


@pytest.mark.parametrize(("big", "implicit"), [(False, True), (True, False)])
def test_other_native_transfer_syntaxes(tmp_path, big, implicit):
    stored = values()
    image, _, after = round_trip(
        written(tmp_path / "in.dcm", stored, 12, big=big, implicit=implicit)
    )
    np.testing.assert_array_equal(image.pixels, stored.astype(np.int32) - 1024)
    np.testing.assert_array_equal(after.pixel_array, stored)


def test_run_length_encoding(tmp_path):
    stored = values()
    path = written(tmp_path / "in.dcm", stored, 12)
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(path)
    image, _, after = round_trip(path)
    np.testing.assert_array_equal(image.pixels, stored.astype(np.int32) - 1024)
    np.testing.assert_array_equal(after.pixel_array, stored)
    assert not after.file_meta.TransferSyntaxUID.is_compressed


def test_the_result_is_a_derived_object_of_its_own(tmp_path):
    """New instance and series UID, DERIVED, its source and what was done; everything else as it was."""
    series = generate_uid()
    first = written(
        tmp_path / "1.dcm",
        values(),
        12,
        series=series,
        SeriesDescription="thorax " * 8,
        SmallestImagePixelValue=0,
    )
    second = written(tmp_path / "2.dcm", values(), 12, series=series)
    made = {}
    for path in (first, second):
        for text in ("denoised with A", "denoised with B"):
            image = open_image(path)
            image.metadata.update(derivation=text, derived="denoised")
            save_image(image, tmp_path / "out.dcm", overwrite=True)
            made[path.stem, text[-1]] = pydicom.dcmread(tmp_path / "out.dcm")
    before, after = pydicom.dcmread(first), made["1", "A"]
    assert after.SOPInstanceUID != before.SOPInstanceUID
    assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
    assert after.SeriesInstanceUID != series
    assert after.SeriesInstanceUID == made["2", "A"].SeriesInstanceUID
    assert len({one.SeriesInstanceUID for one in made.values()}) == 2
    assert len({one.SOPInstanceUID for one in made.values()}) == 4
    assert list(after.ImageType) == ["DERIVED", "PRIMARY", "AXIAL"]
    assert after.DerivationDescription == "denoised with A"
    assert after.SourceImageSequence[0].ReferencedSOPInstanceUID == before.SOPInstanceUID
    assert after.SeriesDescription.endswith(" (denoised)")
    assert len(after.SeriesDescription) <= 64
    assert after.SmallestImagePixelValue == after.pixel_array.min()
    changed = {
        "SOPInstanceUID",
        "SeriesInstanceUID",
        "ImageType",
        "DerivationDescription",
        "SourceImageSequence",
        "SeriesDescription",
        "SmallestImagePixelValue",
        "PixelData",
    }
    same = {element.keyword for element in before} - changed
    assert {element.keyword for element in after} - changed == same
    assert all(before[name].value == after[name].value for name in same)


@pytest.mark.parametrize("tagged", ["value", "range", "untagged"])
def test_padding_is_filled_and_restored(tmp_path, tagged):
    """Corners at -2000 are no measurement: read as the lowest measured value, written as they were."""
    stored = values(low=-900, high=3000, dtype="int16")
    corner = np.zeros(stored.shape, bool)
    corner[:6, :6] = True
    stored[corner] = -2000
    tags = {
        "value": {"PixelPaddingValue": -2000},
        "range": {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1990},
    }.get(tagged, {})
    if tagged == "range":
        stored[0, 0] = -1995
    path = written(tmp_path / "in.dcm", stored, 16, RescaleIntercept=0, **tags)
    image = open_image(path)
    assert (image.pixels[corner] == stored[~corner].min()).all()
    np.testing.assert_array_equal(image.pixels[~corner], stored[~corner])
    save_image(image.with_pixels(image.pixels + np.int32(7)), tmp_path / "out.dcm")
    after = pydicom.dcmread(tmp_path / "out.dcm").pixel_array
    np.testing.assert_array_equal(after[corner], stored[corner])
    np.testing.assert_array_equal(after[~corner], stored[~corner] + 7)


def test_a_few_low_pixels_are_no_padding(tmp_path):
    stored = values(low=-900, high=3000, dtype="int16")
    stored[0, 0] = -2000
    image, _, after = round_trip(written(tmp_path / "in.dcm", stored, 16, RescaleIntercept=0))
    np.testing.assert_array_equal(image.pixels, stored)
    np.testing.assert_array_equal(after.pixel_array, stored)


def test_values_beyond_the_stored_bits_are_clipped_not_wrapped(tmp_path):
    image = open_image(written(tmp_path / "in.dcm", values(), 12))
    save_image(
        image.with_pixels(np.where(np.indices(image.shape)[0] % 2, 32000, -32000).astype(np.int32)),
        tmp_path / "out.dcm",
    )
    after = pydicom.dcmread(tmp_path / "out.dcm").pixel_array
    assert set(np.unique(after)) == {0, 4095}


@pytest.mark.parametrize(("modality", "axes"), [("CT", "ZYX"), ("US", "TYX"), ("OT", "QYX")])
def test_frames_become_a_stack(tmp_path, modality, axes):
    stored = values((3, 9, 11))
    path = written(tmp_path / "in.dcm", stored, 12, Modality=modality, SpacingBetweenSlices=2.5)
    image, _, after = round_trip(path)
    assert (image.axes, image.shape) == (axes, (3, 9, 11))
    assert ("Z" in image.spacing) == (axes == "ZYX")
    np.testing.assert_array_equal(after.pixel_array, stored)


def test_rescale_and_spacing_of_functional_groups(tmp_path):
    def group(name: str, **elements: Any) -> Dataset:
        inner, outer = Dataset(), Dataset()
        for key, value in elements.items():
            setattr(inner, key, value)
        setattr(outer, name, Sequence([inner]))
        return outer

    shared = group("PixelValueTransformationSequence", RescaleSlope=2, RescaleIntercept=-50)
    shared.PixelMeasuresSequence = group(
        "PixelMeasuresSequence", PixelSpacing=[0.3, 0.2], SpacingBetweenSlices=1.5
    ).PixelMeasuresSequence
    stored = values((2, 9, 11))
    bare = {"RescaleSlope": None, "RescaleIntercept": None, "PixelSpacing": None}
    image = open_image(
        written(
            tmp_path / "in.dcm",
            stored,
            12,
            SharedFunctionalGroupsSequence=Sequence([shared]),
            **bare,
        )
    )
    np.testing.assert_allclose(image.pixels, stored * 2.0 - 50)
    assert image.spacing == {"Y": (0.3, "mm"), "X": (0.2, "mm"), "Z": (1.5, "mm")}


def test_colour(tmp_path):
    colours = values((9, 11, 3), high=256, dtype="uint8")
    path = written(tmp_path / "in.dcm", colours[..., 0], 8, Modality="OT")
    dataset = pydicom.dcmread(path)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = (
        3,
        "RGB",
        1,
    )
    dataset.RescaleIntercept = 0
    dataset.PixelData = np.moveaxis(colours, -1, 0).tobytes() + b"\0"
    dataset.save_as(path)
    image, _, after = round_trip(path)
    assert (image.axes, image.colours) == ("YXS", 3)
    np.testing.assert_array_equal(image.pixels, colours)
    np.testing.assert_array_equal(after.pixel_array, colours)


@pytest.mark.parametrize(
    ("elements", "says"),
    [
        ({"Rows": None}, "without Rows"),
        ({"PhotometricInterpretation": "HSV"}, "HSV, not intensities"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "table of colours is missing"),
        ({"RescaleSlope": 0}, "no intensity map"),
        ({"ModalityLUTSequence": Sequence([Dataset()])}, "lookup table"),
        ({"Rows": 60000}, "truncated"),
    ],
)
def test_what_cannot_be_understood_is_refused(tmp_path, elements, says):
    with pytest.raises(InputError, match=says):
        open_image(written(tmp_path / "in.dcm", values(), 12, **elements))


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "in.dcm"
    path.write_bytes(b"not a DICOM file at all " * 20)
    with pytest.raises(InputError, match="no DICOM file"):
        open_image(path)
    dataset = pydicom.dcmread(written(path, values(), 12))
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51" * 30])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    with pytest.raises(InputError, match="compressed as an image of"):
        open_image(path)
    with pytest.raises(OutputError, match="only be written from a DICOM file"):
        save_image(Image(values(), "YX", family="dicom"), tmp_path / "out.dcm")


def test_many_frames_pass_no_limit_that_one_frame_keeps(tmp_path):
    """Bytes count for the whole file: as it is stored, and as intensities, which may be wider."""
    stored = np.arange(200 * 16 * 16, dtype=np.uint16).reshape(200, 16, 16)
    path = written(tmp_path / "in.dcm", stored, RescaleSlope=0.5, Modality="MR")
    as_stored, as_floats = stored.nbytes, 2 * stored.nbytes
    with pytest.raises(InputError, match=r"in\.dcm: has .* may be read whole"):
        open_image(path, Limits(max_bytes=as_stored))
    with pytest.raises(InputError, match=r"declares 200x16x16 float32 .* may be read whole"):
        open_image(path, Limits(max_bytes=as_floats - 1))
    assert open_image(path, Limits(max_bytes=as_floats)).dtype == np.float32


def test_frames_are_converted_few_at_a_time(tmp_path):
    """Beside stored values and intensities there is never the whole stack in float64."""
    stored = np.zeros((64, 400, 400), np.uint8)
    path = written(tmp_path / "in.dcm", stored, RescaleSlope=0.5, Modality="MR")
    tracemalloc.start()
    image = open_image(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert image.nbytes == 4 * stored.nbytes
    of_part = 8 * dicom_rescale.CONVERTED_PX
    assert peak < image.nbytes + 4 * stored.nbytes + 2 * of_part < 3 * 8 * stored.nbytes


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_truncated_files_are_refused(tmp_path, share):
    path = written(tmp_path / "in.dcm", values((64, 64)), 12)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError) as caught:
        open_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_range_of_the_stored_bits_is_known(tmp_path):
    """12 bits at slope -2 and intercept 100: 100 down to 100 - 2 * 4095."""
    image = open_image(
        written(tmp_path / "in.dcm", values(), 12, RescaleSlope=-2, RescaleIntercept=100)
    )
    assert image.limits == (100 - 2 * 4095, 100)
    assert to_dtype(np.array([101.0, 100.4, -8090.0, -8091.0]), np.float32, image.limits)[1] == 3
    whole = open_image(written(tmp_path / "whole.dcm", values(), 12))
    found, clipped = to_dtype(
        np.array([-1024.4, -1024.6, 3071.4, 3072.0]), whole.dtype, whole.limits
    )
    assert found.tolist() == [-1024, -1024, 3071, 3071]
    assert clipped == 2


@pytest.mark.parametrize(
    ("spec", "low", "high"),
    [("gaussian:sigma=25", 23.0, 27.0), ("lowdose-ct:dose=0.02", 5.0, 50.0)],
)
def test_simulated_noise_is_in_hounsfield_units(tmp_path, spec, low, high):
    """24 cm of water in air; marked as noisy, not as denoised, and another seed is another object."""
    away = np.hypot(*(np.indices((96, 96)) - 47.5))
    stored = np.where(away < 40, 1024, 24).astype(np.uint16)
    path = written(tmp_path / "in.dcm", stored, 12, PixelSpacing=[3.0, 3.0])
    made = []
    for seed in (0, 1):
        simulate([path], spec, tmp_path / str(seed), seed=seed)
        made.append(pydicom.dcmread(tmp_path / str(seed) / "in.dcm"))
    noise = open_image(tmp_path / "0" / "in.dcm").pixels[away < 30].astype(float)
    assert abs(noise.mean()) < 5
    assert low < noise.std() < high
    assert made[0].SeriesDescription.endswith("(noisy)")
    assert made[0].DerivationDescription.startswith(f"noise {spec.partition(':')[0]}:")
    assert made[0].SOPInstanceUID != made[1].SOPInstanceUID
    assert ("pixel_mm=3" in made[0].DerivationDescription) == spec.startswith("lowdose-ct")


@pytest.mark.posix
def test_objects_without_a_suffix_are_found_by_their_mark(tmp_path):
    """Archives name their objects by UIDs: the last number is no suffix.

    Other files beside them are passed over.
    """
    series = tmp_path / "series"
    series.mkdir()
    for number in (1, 2):
        written(series / f"1.2.840.{number}", values(), 12)
    (series / "README").write_text("no image")
    (series / "1.2.840.3").write_bytes(b"x" * 200)
    os.mkfifo(series / "1.2.840.4")
    entries = find_images([series])
    assert [entry.stem for entry in entries] == ["1.2.840.1", "1.2.840.2"]
    simulate([series], "gaussian:sigma=5", tmp_path / "noisy")
    assert sorted(path.name for path in (tmp_path / "noisy").iterdir()) == [
        "1.2.840.1",
        "1.2.840.2",
        "noise.json",
    ]
    assert open_image(tmp_path / "noisy/1.2.840.2").family == "dicom"
    planned = plan_outputs(entries, tmp_path / "maps", suffix=".tif")
    assert [target.name for _, target in planned] == ["1.2.840.1.tif", "1.2.840.2.tif"]
    assert partners(series, tmp_path / "noisy").keys() == {"1.2.840.1", "1.2.840.2"}
    with pytest.raises(InputError, match=r"1\.2\.840\.3.*not supported"):
        open_image(series / "1.2.840.3")
