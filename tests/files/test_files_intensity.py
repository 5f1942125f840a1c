"""What the numbers of an image count, as far as its file says."""

from types import SimpleNamespace

import numpy as np
import pytest
from pydicom.dataset import Dataset

from pairfree.data.sets import array_set
from pairfree.files.image import Image
from pairfree.files.intensity import UNKNOWN_UNIT, common_unit, intensity_unit


def dicom(dtype: str = "int32", **elements: str) -> Image:
    """An image that came with this DICOM object."""
    dataset = Dataset()
    for name, value in elements.items():
        setattr(dataset, name, value)
    return Image(
        np.zeros((4, 4), dtype),
        "YX",
        family="dicom",
        metadata={"dicom": SimpleNamespace(dataset=dataset)},
    )


@pytest.mark.parametrize(
    ("elements", "unit"),
    [
        ({"Modality": "CT", "RescaleType": "HU"}, "HU"),
        ({"Modality": "CT"}, "HU"),
        ({"Modality": "CT", "RescaleType": "MGML"}, "mg/ml"),
        ({"Modality": "CT", "RescaleType": "US"}, UNKNOWN_UNIT),
        ({"Modality": "PT", "Units": "BQML"}, "Bq/ml"),
        ({"Modality": "PT", "Units": "CNTS"}, "counts"),
        ({"Modality": "MR"}, UNKNOWN_UNIT),
    ],
)
def test_a_dicom_file_states_its_unit(elements, unit):
    assert intensity_unit(dicom(**elements)) == unit


def test_eight_bits_are_grey_levels_and_more_bits_could_be_anything():
    for dtype, unit in (
        ("uint8", "grey levels"),
        ("uint16", UNKNOWN_UNIT),
        ("float32", UNKNOWN_UNIT),
    ):
        assert intensity_unit(Image(np.zeros((4, 4), dtype), "YX")) == unit
    assert intensity_unit(dicom("uint8", Modality="US")) == "grey levels"
    assert intensity_unit(dicom("uint8", Modality="CT")) == "HU"


def test_images_of_several_units_have_none_together():
    assert common_unit(["HU", "HU"]) == "HU"
    assert common_unit(["HU", "counts"]) == UNKNOWN_UNIT
    assert common_unit([]) == UNKNOWN_UNIT


def test_a_set_knows_the_unit_of_all_its_images():
    rng = np.random.default_rng(0)
    small = [rng.integers(0, 255, (8, 8)).astype(np.uint8) for _ in range(3)]
    colour = rng.integers(0, 255, (3, 8, 8)).astype(np.uint8)
    assert array_set(small).unit == "grey levels"
    assert array_set([colour]).unit == "grey levels"
    assert array_set([*small, small[0].astype(np.uint16)]).unit == UNKNOWN_UNIT
    assert array_set([small[0].astype(np.float32), *small]).unit == UNKNOWN_UNIT
