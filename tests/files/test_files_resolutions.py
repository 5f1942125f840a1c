"""Lower resolutions of a result are means of its pixels, or ``verify`` says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from pairfree.files import Image, open_image, save_image
from pairfree.files.fidelity import compare
from pairfree.files.resolutions import NAME

RNG = np.random.default_rng(0)
PYRAMID = {"plain": (96, 132), "stack": (4, 96, 132), "colour": (96, 132, 3), "odd": (97, 131)}


def told(first: Path, second: Path) -> dict[str, bool | None]:
    return {one.name: one.kept for one in compare(first, second)}


def write_tiff(path: Path, shape: tuple[int, ...]) -> Path:
    pixels = RNG.integers(0, 4000, shape).astype(np.uint16)
    options = {"photometric": "rgb" if shape[-1] == 3 else "minisblack"}
    with tifffile.TiffWriter(path) as writer:
        writer.write(pixels, subifds=2, metadata=None, **options)
        for factor in (2, 4):
            rows, columns = (slice(None, None, factor),) * 2
            part = (
                pixels[rows, columns]
                if shape[-1] == 3 or len(shape) == 2
                else pixels[:, rows, columns]
            )
            writer.write(part, subfiletype=1, metadata=None, **options)
    return path


def write_zarr(path: Path, dtype: str = "uint16") -> Path:
    pixels = RNG.integers(0, 4000, (2, 96, 132)).astype(dtype)
    root = zarr.open_group(str(path), mode="w")
    axes = [{"name": name, "type": "space"} for name in "zyx"]
    datasets = []
    for number, part in enumerate((pixels, pixels[:, ::2, ::2], pixels[:, ::4, ::4])):
        root.create_array(f"{number}", shape=part.shape, chunks=(1, 24, 33), dtype=dtype)[...] = (
            part
        )
        change = {"type": "scale", "scale": [1.0, 2.0**number, 2.0**number]}
        datasets.append({"path": f"{number}", "coordinateTransformations": [change]})
    root.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    return path


@pytest.mark.parametrize("kind", PYRAMID)
def test_lower_resolutions_of_tiff_are_judged(tmp_path: Path, kind: str) -> None:
    path = write_tiff(tmp_path / "a.tif", PYRAMID[kind])
    out = tmp_path / "b.tif"
    save_image(open_image(path), out)
    assert told(path, out)[NAME] is True
    with tifffile.TiffFile(out) as file:
        level = file.series[0].levels[2]
        places = [(page.dataoffsets[0], page.databytecounts[0]) for page in level.pages]
    content = bytearray(out.read_bytes())
    start, size = places[-1]
    content[start : start + size // 2] = bytes(size // 2)
    out.write_bytes(content)
    (check,) = [one for one in compare(path, out) if one.name == NAME]
    assert check.kept is False
    assert "number 2 is off by up to" in check.after
    assert "number 1" not in check.after


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_lower_resolutions_of_zarr_are_judged(tmp_path: Path, dtype: str) -> None:
    path = write_zarr(tmp_path / "a.zarr", dtype)
    out = tmp_path / "b.zarr"
    save_image(open_image(path), out)
    assert told(path, out)[NAME] is True
    level = zarr.open_array(str(out / "1"), mode="r+")
    level[1, 10:20, 10:20] = 0
    (check,) = [one for one in compare(path, out) if one.name == NAME]
    assert check.kept is False
    assert "number 1 is off by up to" in check.after


def test_every_second_pixel_is_no_mean(tmp_path: Path) -> None:
    """Levels of another program, taken over from the input, show the noise that the full one has lost."""
    path = write_tiff(tmp_path / "a.tif", PYRAMID["plain"])
    out = tmp_path / "b.tif"
    with tifffile.TiffFile(path) as file, tifffile.TiffWriter(out) as writer:
        for number, level in enumerate(file.series[0].levels):
            pixels = level.asarray()
            if number == 0:
                pixels[5, 5] += 1
            writer.write(
                pixels, subifds=0 if number else 2, subfiletype=min(number, 1), metadata=None
            )
    assert told(path, out)[NAME] is False
    assert told(path, path)[NAME] is None  # of a copy nothing can be wrong


def test_one_resolution_states_nothing(tmp_path: Path) -> None:
    for name in ("a.tif", "a.zarr"):
        save_image(Image(np.zeros((20, 30), np.uint8), "YX"), tmp_path / name)
        assert NAME not in told(tmp_path / name, tmp_path / name)
