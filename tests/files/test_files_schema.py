"""What is written, read by the models of the standards' own communities: OME's schema and OME-NGFF's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ome_types
import ome_zarr_models
import pytest
import zarr

from pairfree.files import Image, open_image, save_image

SPACING = {"T": (2.0, "s"), "Z": (0.5, "µm"), "Y": (0.1, "µm"), "X": (0.1, "µm")}


@pytest.fixture
def stack() -> Image:
    pixels = np.random.default_rng(0).integers(0, 999, (2, 3, 4, 64, 70)).astype(np.uint16)
    return Image(pixels, "TCZYX", SPACING, ("DAPI", "GFP & <RFP>", "Cy5"), family="tiff")


def test_ome_tiff_follows_the_schema(stack: Image, tmp_path: Path) -> None:
    save_image(stack, tmp_path / "a.ome.tif")
    pixels = ome_types.from_tiff(tmp_path / "a.ome.tif").images[0].pixels
    assert tuple(getattr(pixels, f"size_{axis}") for axis in "tczyx") == stack.shape
    assert (pixels.physical_size_x, pixels.physical_size_x_unit.value) == (0.1, "µm")
    assert pixels.time_increment == 2.0
    assert [channel.name for channel in pixels.channels] == list(stack.channel_names)


def test_ome_zarr_follows_the_specification(stack: Image, tmp_path: Path) -> None:
    save_image(replace(stack, family="zarr"), tmp_path / "a.ome.zarr")
    found: Any = ome_zarr_models.open_ome_zarr(
        zarr.open_group(str(tmp_path / "a.ome.zarr"), mode="r")
    )
    assert type(found).__module__.startswith("ome_zarr_models.v05")
    (multiscale,) = found.attributes.ome.multiscales
    assert [axis.name for axis in multiscale.axes] == list("tczyx")
    assert [axis.unit for axis in multiscale.axes] == ["second", None, *3 * ["micrometer"]]
    assert multiscale.datasets[0].coordinateTransformations[0].scale == [2.0, 1.0, 0.5, 0.1, 0.1]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_pyramid_of_either_version_comes_back_as_one(version: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 999, (2, 96, 80)).astype(np.uint16)
    root = zarr.open_group(
        str(tmp_path / "in.zarr"), mode="w", zarr_format=2 if version == "0.4" else 3
    )
    datasets = []
    for level in range(3):
        small = pixels[:, :: 2**level, :: 2**level]
        names = {} if version == "0.4" else {"dimension_names": ("c", "y", "x")}
        root.create_array(
            str(level), shape=small.shape, chunks=(1, 32, 32), dtype="uint16", **names
        )[...] = small
        scale = [1.0, 0.2 * 2**level, 0.2 * 2**level]
        datasets.append(
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
    axes = [
        {"name": "c", "type": "channel"},
        *({"name": name, "type": "space", "unit": "micrometer"} for name in "yx"),
    ]
    multiscales = [{"axes": axes, "datasets": datasets, "name": "pyramid"}]
    if version == "0.4":
        root.attrs["multiscales"] = [{**multiscales[0], "version": "0.4"}]
    else:
        root.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    kinds = []
    save_image(open_image(tmp_path / "in.zarr"), tmp_path / "out.zarr")
    for name in ("in.zarr", "out.zarr"):
        found: Any = ome_zarr_models.open_ome_zarr(zarr.open_group(str(tmp_path / name), mode="r"))
        kinds.append(type(found))
        described = found.attributes if version == "0.4" else found.attributes.ome
        assert len(described.multiscales[0].datasets) == 3
    assert kinds[0] is kinds[1]
