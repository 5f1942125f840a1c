"""Real files of microscopes, where they are present: read and written as another reader sees them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from pairfree.files import SUFFIXES, differences, open_image, save_image

DATA = Path(os.environ.get("PAIRFREE_DATA", Path(__file__).parents[3] / "shared" / "data"))
SETS = (
    "io",
    "em/vnc_sstem",
    "em/tem_lowdose",
    "em/sem_rat_axon",
    "em/sem_charging_yeast",
    "em/cryo_apoferritin",
    "fluo/pn2v_16bit",
    "ct/mayo_L506",
    "ct/covid_ny_sbu",
    "ct/philips_phantom",
)
FILES = sorted(
    p
    for one in SETS
    if (DATA / one).is_dir()
    for p in (DATA / one).rglob("*")
    if p.suffix.lower() in SUFFIXES and p.is_file()
)
pytestmark = pytest.mark.skipif(not FILES, reason="no data folder (PAIRFREE_DATA)")
# Tags that say where in the file something lies, or that state the default which is also meant without them.
PLACES = {254, 273, 278, 279, 284, 324, 325, 339, 50838}


@pytest.mark.parametrize("path", FILES[:60], ids=lambda p: p.name)
def test_real_file_survives(path: Path, tmp_path: Path) -> None:
    image = open_image(path)
    out = tmp_path / path.name
    save_image(image, out)
    again = open_image(out)
    assert differences(image, again) == []
    np.testing.assert_array_equal(image.pixels, again.pixels)
    if image.family == "tiff":
        with tifffile.TiffFile(path) as a, tifffile.TiffFile(out) as b:
            np.testing.assert_array_equal(a.asarray().squeeze(), image.pixels.squeeze())
            for tag in a.pages[0].tags:
                kept = b.pages[0].tags.get(tag.code)
                if tag.code in (282, 283):
                    assert kept is not None
                    assert np.isclose(tag.value[0] / tag.value[1], kept.value[0] / kept.value[1])
                elif tag.code not in PLACES and str(tag.value) not in ("", "b''"):
                    assert kept is not None, tag.name
                    assert str(kept.value) == str(tag.value), tag.name
