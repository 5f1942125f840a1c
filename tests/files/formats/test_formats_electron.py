"""EMD and DM3: axes by name and unit, what is an image and what a spectrum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from makers_electron import write_dm3, write_emd

from pairfree.errors import InputError
from pairfree.files import Limits, open_image, save_image
from pairfree.files.fidelity import compare
from pairfree.files.opening import count_scenes

pytest.importorskip("rsciio")
RNG = np.random.default_rng(0)
NM = (("y", 0.5, "nm"), ("x", 0.5, "nm"))
PIXEL = {"Y": (0.5, "nm"), "X": (0.5, "nm")}


def values(*shape: int) -> np.ndarray:
    return RNG.normal(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("axes", "letters", "spacing"),
    [
        (NM, "YX", PIXEL),
        ((("z", 2.0, "nm"), *NM), "ZYX", {"Z": (2.0, "nm"), **PIXEL}),
        ((("Time", 0.8, "s"), *NM), "TYX", {"T": (0.8, "s"), **PIXEL}),
        ((("a", 0.8, "s"), *NM), "TYX", {"T": (0.8, "s"), **PIXEL}),
        ((("", 1.0, ""), ("", 1.0, ""), *NM), "QQYX", {"Y": (0.0005, "µm"), "X": (0.0005, "µm")}),
        (
            (("y", 1.0, "nm"), ("x", 1.0, "nm"), ("ky", 0.5, "1 / nm"), ("kx", 0.5, "1 / nm")),
            "QQYX",
            {},
        ),
        ((("ky", 0.17, "1 / nm"), ("kx", 0.17, "1 / nm")), "YX", {}),
    ],
)
@pytest.mark.parametrize("resident_bytes", [2**30, 10])
def test_axes_steps_and_the_result(
    tmp_path: Path,
    axes: tuple[tuple[str, float, str], ...],
    letters: str,
    spacing: dict[str, tuple[float, str]],
    resident_bytes: int,
) -> None:
    pixels = values(*range(2, len(axes)), 30, 20)
    path = write_emd(tmp_path / "a.emd", [(pixels, axes)])
    image = open_image(path, Limits(resident_bytes=resident_bytes))
    assert (image.axes, image.spacing) == (letters, spacing)
    assert (image.stored, image.family) == (resident_bytes == 10, "electron")
    np.testing.assert_array_equal(image.pixels, pixels)
    save_image(image, tmp_path / "out/a.tif")
    assert [one for one in compare(path, tmp_path / "out/a.tif") if one.kept is False] == []


def test_steps_that_are_no_lengths_are_told(tmp_path: Path) -> None:
    axes = (("ky", 0.17, "1 / nm"), ("kx", 0.17, "1 / nm"))
    path = write_emd(tmp_path / "a.emd", [(values(30, 20), axes)])
    assert open_image(path).metadata["warnings"] == [
        "its steps along ky and kx (0.17 1 / nm) are left out: OME-TIFF has no place for them"
    ]


@pytest.mark.parametrize(("name", "unit"), [("Energy", "keV"), ("Wavelength", "nm"), ("a", "eV")])
def test_spectra_are_refused(tmp_path: Path, name: str, unit: str) -> None:
    axes = (("x", 20.0, "nm"), (name, 0.09, unit))
    path = write_emd(tmp_path / "a.emd", [(values(30, 20), axes)])
    with pytest.raises(InputError, match=f"holds spectra .an axis in {unit}., no images"):
        open_image(path)


def test_the_largest_image_comes_first_and_spectra_not_at_all(tmp_path: Path) -> None:
    small, large = values(8, 8), values(30, 20)
    spectra = (values(40, 50), (("x", 20.0, "nm"), ("Energy", 0.09, "eV")))
    path = write_emd(tmp_path / "a.emd", [(small, NM), spectra, (large, NM)])
    assert count_scenes(path) == 2
    image = open_image(path)
    assert image.metadata["warnings"] == [
        "holds 2 images; only the largest is used (choose with `scene`)"
    ]
    np.testing.assert_array_equal(image.pixels, large)
    np.testing.assert_array_equal(open_image(path, Limits(), 1).pixels, small)
    with pytest.raises(InputError, match="has no image of number 2; it holds 2 images"):
        open_image(path, Limits(), 2)


def test_dm3(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 4000, (3, 30, 20)).astype(np.uint16)
    path = write_dm3(tmp_path / "a.dm3", pixels, (("", 0.8, "s"), *NM))
    image = open_image(path)
    assert (image.axes, image.spacing) == ("TYX", {"T": (0.8, "s"), **PIXEL})
    np.testing.assert_array_equal(image.pixels, pixels)


@pytest.mark.parametrize("alpha", [0, None])
def test_dm3_in_colour(tmp_path: Path, alpha: int | None) -> None:
    """An alpha that is the same everywhere means nothing."""
    pixels = RNG.integers(0, 255, (30, 20, 4)).astype(np.uint8)
    if alpha is not None:
        pixels[..., 3] = alpha
    image = open_image(write_dm3(tmp_path / "a.dm3", pixels, NM))
    assert (image.axes, image.spacing) == ("YXS", PIXEL)
    expected = pixels[..., [2, 1, 0]] if alpha is not None else pixels[..., [2, 1, 0, 3]]
    np.testing.assert_array_equal(image.pixels, expected)


def test_a_dm3_that_declares_more_than_it_has_is_refused(tmp_path: Path) -> None:
    path = write_dm3(tmp_path / "a.dm3", values(30, 20), NM)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"a\.dm3") as caught:
        open_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["data", "dim1"])
def test_an_emd_that_declares_more_than_it_has_is_refused(tmp_path: Path, name: str) -> None:
    h5py = pytest.importorskip("h5py")
    path = write_emd(tmp_path / "a.emd", [(values(30, 20), NM)])
    with h5py.File(path, "r+") as file:
        group = file["experimental/a0"]
        attributes = dict(group[name].attrs)
        shape = (10**5,) * group[name].ndim if name == "data" else (10**9,)
        del group[name]
        made = group.create_dataset(name, shape, np.float32, chunks=(100,) * len(shape))
        made.attrs.update(attributes)
    with pytest.raises(InputError, match=f"its array experimental/a0/{name} declares"):
        open_image(path)
