"""Microscope makers' files, written by the packages of others where such exist.

CI leaves out what is not installed.
"""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from pairfree.errors import InputError
from pairfree.files import Limits, open_image, save_image
from pairfree.files.fidelity import compare

RNG = np.random.default_rng(0)


@pytest.fixture
def czi(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """Two channels of three slices, with pixel size and names."""
    made = pytest.importorskip("pylibCZIrw.czi")
    pytest.importorskip("bioio_czi")
    pixels = RNG.integers(0, 4000, (2, 3, 40, 50)).astype(np.uint16)
    with made.create_czi(str(tmp_path / "a.czi")) as document:
        for channel in range(2):
            for z in range(3):
                document.write(pixels[channel, z, :, :, None], plane={"C": channel, "Z": z, "T": 0})
        document.write_metadata(
            document_name="a",
            channel_names={0: "DAPI", 1: "GFP"},
            scale_x=1e-7,
            scale_y=1e-7,
            scale_z=5e-7,
        )
    return tmp_path / "a.czi", pixels


@pytest.mark.parametrize("resident_bytes", [2**30, 10])
def test_czi(czi: tuple[Path, np.ndarray], tmp_path: Path, resident_bytes: int) -> None:
    path, pixels = czi
    image = open_image(path, Limits(resident_bytes=resident_bytes))
    assert (image.axes, image.channel_names) == ("CZYX", ("DAPI", "GFP"))
    assert image.stored == (resident_bytes == 10)
    spacing = {axis: (round(step, 9), unit) for axis, (step, unit) in image.spacing.items()}
    assert spacing == {"Z": (0.5, "µm"), "Y": (0.1, "µm"), "X": (0.1, "µm")}
    np.testing.assert_array_equal(image.pixels, pixels)
    np.testing.assert_array_equal(
        image.region((1, 2), slice(3, 9), slice(40, 50)), pixels[1, 2, 3:9, 40:50]
    )
    save_image(image, tmp_path / "out/a.tif")
    with tifffile.TiffFile(tmp_path / "out/a.tif") as file:
        assert file.is_ome
        assert file.series[0].axes == "CZYX"
        np.testing.assert_array_equal(file.asarray(), pixels)
    assert [one for one in compare(path, tmp_path / "out/a.tif") if one.kept is False] == []


def test_emd(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    emd = pytest.importorskip("rsciio.emd")
    pixels = RNG.normal(0, 1, (4, 30, 20)).astype(np.float32)
    common = {"offset": 0.0, "units": "nm", "_type": "UniformDataAxis"}
    axes = [
        {"name": "z", "size": 4, "scale": 2.0, "index_in_array": 0, "navigate": True, **common},
        {"name": "y", "size": 30, "scale": 0.5, "index_in_array": 1, "navigate": False, **common},
        {"name": "x", "size": 20, "scale": 0.5, "index_in_array": 2, "navigate": False, **common},
    ]
    signal = {
        "data": pixels,
        "axes": axes,
        "metadata": {"General": {"title": "a"}, "Signal": {"signal_type": ""}},
        "original_metadata": {},
        "package": "",
        "package_version": "",
    }
    emd.file_writer(tmp_path / "a.emd", signal)
    image = open_image(tmp_path / "a.emd")
    assert (image.axes, image.spacing) == (
        "ZYX",
        {"Z": (2.0, "nm"), "Y": (0.5, "nm"), "X": (0.5, "nm")},
    )
    np.testing.assert_array_equal(image.pixels, pixels)
    save_image(image, tmp_path / "out/a.tif")
    assert [
        one for one in compare(tmp_path / "a.emd", tmp_path / "out/a.tif") if one.kept is False
    ] == []


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("a.czi", "bioio"),
        ("a.nd2", "bioio"),
        ("a.lif", "bioio"),
        ("a.dm4", "rsciio"),
        ("a.emd", "rsciio"),
    ],
)
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    kept = builtins.__import__

    def without(module: str, *arguments: Any, **options: Any) -> Any:
        if module.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return kept(module, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(InputError, match=r"pip install 'pairfree\[vendors\]'"):
        open_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.czi", "a.nd2", "a.lif", "a.dm3", "a.dm4", "a.emd"])
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str) -> None:
    for package in ("bioio_czi", "bioio_nd2", "bioio_lif", "rsciio"):
        pytest.importorskip(package)
    (tmp_path / name).write_bytes(RNG.bytes(5000))
    with pytest.raises(InputError, match=rf"{name.replace('.', '[.]')}: cannot be read") as caught:
        open_image(tmp_path / name)
    assert "\n" not in str(caught.value)
