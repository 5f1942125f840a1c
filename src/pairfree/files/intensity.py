"""What the numbers of an image count, where its file says so: HU, counts, grey levels."""

from __future__ import annotations

from typing import Any

import numpy as np

from pairfree.files.image import Image

UNKNOWN_UNIT = "intensity units"
"""Where nothing is known."""
GREY_LEVELS = "grey levels"
DICOM_UNITS = {
    "HU": "HU",
    "MGML": "mg/ml",
    "CNTS": "counts",
    "BQML": "Bq/ml",
    "GML": "g/ml",
}
"""Of RescaleType (PS3.3, C.11.1.1.2) and of PET's Units (C.8.9.1)."""


def intensity_unit(image: Image) -> str:
    """The unit of an image's intensities, in the plural; ``UNKNOWN_UNIT`` where nothing is known.

    A DICOM file states it; 8-bit pixels are grey levels. Other formats do not tell, whatever their numbers
    look like.
    """
    carried = image.metadata.get("dicom")
    stated = "" if carried is None else read_dicom_unit(carried.dataset)
    if stated:
        return stated
    return GREY_LEVELS if image.dtype == np.uint8 else UNKNOWN_UNIT


def read_dicom_unit(dataset: Any) -> str:
    """The unit that a DICOM object states, ``UNKNOWN_UNIT`` for one that is not in the table, empty for none.

    CT need not state HU: a RescaleType is required only of other units (PS3.3, C.8.2.1).
    """
    code = str(dataset.get("RescaleType") or dataset.get("Units") or "")
    if code:
        return DICOM_UNITS.get(code, UNKNOWN_UNIT)
    return "HU" if dataset.get("Modality") == "CT" else ""


def common_unit(units: list[str]) -> str:
    """The unit of several images together: unknown where they differ, and of none."""
    return units[0] if len(set(units)) == 1 else UNKNOWN_UNIT
