"""OME-TIFF whose pages lie in another order than the axes, or are described twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from pairfree.files import open_image, save_image
from pairfree.files.fidelity import compare

HEAD = (
    '<?xml version="1.0"?><{p}OME xmlns{c}="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
    '<{p}Instrument ID="Instrument:0"><{p}Objective ID="Objective:0" NominalMagnification="63"/>'
    '</{p}Instrument><{p}Image ID="Image:0" Name="a"><{p}AcquisitionDate>2020-01-02T03:04:05'
    '</{p}AcquisitionDate><{p}Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="40" '
    'SizeY="32" SizeC="2" SizeZ="3" SizeT="2" PhysicalSizeX="0.2" PhysicalSizeY="0.2" '
    'BigEndian="false">'
)
CHANNEL = '<{p}Channel ID="Channel:0:{c}" SamplesPerPixel="1"/>'
TAIL = "</{p}Pixels></{p}Image></{p}OME>"


def describe(where: list[tuple[int, int, int]], prefix: str, pages: list[int]) -> bytes:
    """OME-XML of pages that hold these (t, z, c)."""
    parts = [HEAD.format(p=prefix, c=":ome" if prefix else "")]
    parts += [CHANNEL.format(p=prefix, c=number) for number in range(2)]
    for page, (t, z, c) in zip(pages, where, strict=True):
        parts.append(
            f'<{prefix}TiffData FirstT="{t}" FirstZ="{z}" FirstC="{c}" IFD="{page}" PlaneCount="1"/>'
        )
    for t, z, c in where:
        parts.append(f'<{prefix}Plane TheT="{t}" TheZ="{z}" TheC="{c}" DeltaT="{t + z / 8}"/>')
    return ("".join(parts) + TAIL.format(p=prefix)).encode()


@pytest.mark.parametrize("prefix", ["", "ome:"])
@pytest.mark.parametrize("thumbnails", [False, True])
def test_what_the_xml_states_stays_where_planes_were_in_another_order(
    tmp_path: Path, prefix: str, thumbnails: bool
) -> None:
    values = np.random.default_rng(0).integers(0, 4000, (2, 2, 3, 32, 40), dtype=np.uint16)  # TCZYX
    where = [(t, z, c) for t in range(2) for z in (2, 0, 1) for c in (1, 0)]
    step = 2 if thumbnails else 1
    pages = [step * number for number in range(len(where))]
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=False) as writer:
        for number, (t, z, c) in enumerate(where):
            text = describe(where, prefix, pages) if number == 0 else None
            writer.write(values[t, c, z], description=text, metadata=None, contiguous=False)
            if thumbnails:
                writer.write(values[t, c, z, ::4, ::4], subfiletype=1, metadata=None)
    before = open_image(path)
    expected = np.transpose(values, ["TCZYX".index(axis) for axis in before.axes])
    assert np.array_equal(before.pixels, expected)
    told = any("are left out" in line for line in before.metadata["warnings"])
    assert told is thumbnails
    save_image(before, tmp_path / "b.ome.tif")
    after = open_image(tmp_path / "b.ome.tif")
    assert (after.axes, after.spacing) == (before.axes, before.spacing)
    assert np.array_equal(after.pixels, expected)
    with tifffile.TiffFile(tmp_path / "b.ome.tif") as tiff:
        text = tiff.ome_metadata or ""
        by_tifffile = tiff.series[0]
        found = np.transpose(
            by_tifffile.asarray(), [by_tifffile.axes.index(axis) for axis in before.axes]
        )
    assert np.array_equal(found, expected)
    for word in ('NominalMagnification="63"', 'DeltaT="1.125"', "2020-01-02T03:04:05"):
        assert word in text
    assert [one.name for one in compare(path, tmp_path / "b.ome.tif") if one.kept is False] == []


def test_a_second_description_stays_with_the_axis_that_it_names(tmp_path: Path) -> None:
    xml = describe([(0, 0, 0)], "", [0]).replace(b'SizeT="2"', b'SizeT="1"')
    path = tmp_path / "two.ome.tif"
    values = np.random.default_rng(0).integers(0, 4000, (1, 2, 3, 32, 40), dtype=np.uint16)
    with tifffile.TiffWriter(path, ome=False) as writer:
        writer.write(values, description=xml, metadata={"axes": "TCZYX"}, photometric="minisblack")
    save_image(open_image(path), tmp_path / "b.ome.tif")
    assert open_image(tmp_path / "b.ome.tif").axes == open_image(path).axes == "TCZYX"
    with tifffile.TiffFile(tmp_path / "b.ome.tif") as tiff:
        texts = [tag.value for tag in tiff.pages.first.tags if tag.code == 270]
    assert len(texts) == 2
    assert texts[0].startswith("<?xml")
