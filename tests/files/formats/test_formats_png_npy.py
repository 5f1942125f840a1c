"""PNG, JPEG, BMP and .npy: what comes back, what is kept, what is refused."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest

from pairfree.errors import InputError, OutputError
from pairfree.files import Image, differences, open_image, save_image
from pairfree.files.fidelity import compare
from pairfree.files.formats.png_chunks import insert_chunks


def noise(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.random.default_rng(1).integers(
        0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True
    )


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_png_of_every_kind(tmp_path: Path, samples: int, dtype: str) -> None:
    pixels = noise((13, 17) if samples == 1 else (13, 17, samples), dtype)
    (tmp_path / "in.png").write_bytes(imagecodecs.png_encode(pixels))
    image = open_image(tmp_path / "in.png")
    np.testing.assert_array_equal(image.pixels, pixels)
    save_image(image, tmp_path / "out.png")
    assert differences(image, open_image(tmp_path / "out.png")) == []
    np.testing.assert_array_equal(
        imagecodecs.png_decode((tmp_path / "out.png").read_bytes()), pixels
    )


def test_png_density_text_and_profile_are_kept(tmp_path: Path) -> None:
    text = PIL.PngImagePlugin.PngInfo()
    text.add_text("Microscope", "EM 7")
    text.add_itxt("Maß", "5 µm", zip=True)
    PIL.Image.fromarray(noise((9, 8), "uint8")).save(
        tmp_path / "in.png", dpi=(2_540_000, 2_540_000), pnginfo=text, icc_profile=b"x" * 99
    )
    image = open_image(tmp_path / "in.png")
    assert image.spacing["X"] == (pytest.approx(0.01), "µm")
    save_image(image, tmp_path / "out.png")
    with PIL.Image.open(tmp_path / "in.png") as a, PIL.Image.open(tmp_path / "out.png") as b:
        a.load()
        b.load()
        assert a.info == b.info
        assert b.info["Maß"] == "5 µm"


def test_png_print_density_is_kept_but_is_no_pixel_size(tmp_path: Path) -> None:
    PIL.Image.fromarray(noise((9, 8), "uint8")).save(tmp_path / "in.png", dpi=(300, 300))
    image = open_image(tmp_path / "in.png")
    save_image(image, tmp_path / "out.png")
    assert image.spacing == {}
    with PIL.Image.open(tmp_path / "out.png") as again:
        assert round(again.info["dpi"][0]) == 300


def test_new_pixel_size_reaches_the_png(tmp_path: Path) -> None:
    image = Image(
        noise((9, 8), "uint8"), "YX", {"Y": (20.0, "nm"), "X": (10.0, "nm")}, family="png"
    )
    save_image(image, tmp_path / "out.png")
    assert open_image(tmp_path / "out.png").spacing == {
        "Y": (pytest.approx(0.02), "µm"),
        "X": (pytest.approx(0.01), "µm"),
    }


def test_palette_becomes_rgb_with_a_note_and_masks_are_refused(tmp_path: Path) -> None:
    PIL.Image.fromarray(noise((9, 8, 3), "uint8")).quantize(16).save(tmp_path / "p.png")
    image = open_image(tmp_path / "p.png")
    assert image.axes == "YXS"
    assert "RGB" in image.metadata["warnings"][0]
    PIL.Image.fromarray(np.eye(9) > 0).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match="mask"):
        open_image(tmp_path / "mask.png")


def test_interlaced_png(tmp_path: Path) -> None:
    """One pixel of Adam7: Pillow cannot write interlaced files, so the smallest is made by hand.

    Larger ones only differ in passes.
    """
    stream = zlib.compress(b"\0\x7b")
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 1)),
        (b"IDAT", stream),
        (b"IEND", b""),
    ]
    body = b"".join(
        struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks
    )
    (tmp_path / "i.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert open_image(tmp_path / "i.png").pixels.tolist() == [[123]]


@pytest.mark.parametrize(("mode", "axes"), [("L", "YX"), ("RGB", "YXS")])
@pytest.mark.parametrize("kind", ["jpeg", "bmp"])
def test_jpeg_and_bmp_become_png(tmp_path: Path, kind: str, mode: str, axes: str) -> None:
    picture = PIL.Image.fromarray(noise((9, 8, 3), "uint8")).convert(mode)
    picture.save(tmp_path / f"in.{kind}", dpi=(300, 300))
    image = open_image(tmp_path / f"in.{kind}")
    with PIL.Image.open(tmp_path / f"in.{kind}") as independent:
        np.testing.assert_array_equal(image.pixels, np.asarray(independent))
    assert (image.family, image.axes) == (kind, axes)
    save_image(image, tmp_path / "out.png")
    np.testing.assert_array_equal(open_image(tmp_path / "out.png").pixels, image.pixels)
    with pytest.raises(OutputError, match=r"\.png"):
        save_image(image, tmp_path / f"out.{kind}")


def test_png_refuses_floats_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"out\.png.*float32") as caught:
        save_image(Image(np.ones((4, 4), np.float32), "YX", family="png"), tmp_path / "out.png")
    assert "\n" not in str(caught.value)
    assert ".partial-" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["uint8", ">u2", "<i2", ">f4", "float16", "float64", "int32"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((7, 9), "YX"),
        ((3, 7, 9), "QYX"),
        ((7, 9, 3), "YXS"),
        ((4, 4, 4), "QYX"),
        ((2, 3, 7, 9), "QQYX"),
    ],
)
def test_npy(tmp_path: Path, dtype: str, order: str, shape: tuple[int, ...], axes: str) -> None:
    pixels = np.asarray(np.random.default_rng(0).integers(0, 100, shape), dtype=dtype, order=order)
    np.save(tmp_path / "in.npy", pixels)
    image = open_image(tmp_path / "in.npy")
    assert image.axes == axes
    save_image(image, tmp_path / "out.npy")
    again = np.load(tmp_path / "out.npy")
    assert again.dtype == pixels.dtype
    np.testing.assert_array_equal(again, pixels)
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "in.npy").read_bytes()


def test_an_npy_in_another_order_of_axes_is_a_loss(tmp_path: Path) -> None:
    pixels = noise((7, 9), "uint8")
    np.save(tmp_path / "in.npy", np.asfortranarray(pixels))
    np.save(tmp_path / "out.npy", pixels)
    checks = compare(tmp_path / "in.npy", tmp_path / "out.npy")
    assert [one.name for one in checks if one.kept is False] == ["order of axes"]


def test_npy_with_objects_runs_nothing(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (Path(tmp_path / "marker"),)  # type: ignore[return-value]

    np.save(tmp_path / "in.npy", np.array([[Payload()]], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="object"):
        open_image(tmp_path / "in.npy")
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    "array",
    [np.zeros(5, "u1"), np.zeros((0, 5), "u1"), np.zeros((5, 5), bool), np.full((5, 5), 2**40)],
)
def test_npy_that_are_no_images(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "in.npy", array)
    with pytest.raises(InputError) as caught:
        open_image(tmp_path / "in.npy")
    assert "in.npy" in str(caught.value)


def test_wrong_suffix_says_so(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    PIL.Image.fromarray(noise((4, 4), "uint8")).save(buffer, "PNG")
    for name in ("a.tif", "a.npy", "a.jpg"):
        (tmp_path / name).write_bytes(buffer.getvalue())
        with pytest.raises(InputError, match=name):
            open_image(tmp_path / name)
    (tmp_path / "a.xyz").touch()
    with pytest.raises(InputError, match=r"\.tiff.*\.npy"):
        open_image(tmp_path / "a.xyz")


def test_chunks_that_stay_true_are_kept_and_others_told(tmp_path):
    chunks = [
        (b"sCAL", b"\x01" + b"1e-6\x002e-6"),
        (b"prIv", b"1"),
        (b"bKGD", b"\0\0"),
        (b"maKE", b"2"),
    ]
    plain = bytes(imagecodecs.png_encode(np.ones((8, 9), np.uint8)))
    (tmp_path / "a.png").write_bytes(insert_chunks(plain, chunks))
    image = open_image(tmp_path / "a.png")
    assert image.metadata["warnings"] == ["chunk bKGD is left out", "chunk maKE is left out"]
    save_image(image, tmp_path / "b.png")
    kept = open_image(tmp_path / "b.png").metadata["chunks"]
    assert chunks[0] in kept
