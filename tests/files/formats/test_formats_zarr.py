"""OME-Zarr and Zarr: nothing lost, nothing silently wrong, nothing loaded that is large."""

from __future__ import annotations

import json
import math
import random
import re
import shutil
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numcodecs import Blosc

from pairfree.data.normalize import Normalizer
from pairfree.engine.model import Model
from pairfree.engine.predictor import Predictor
from pairfree.engine.record import Record
from pairfree.errors import InputError, OutputError
from pairfree.files import differences, find_images, open_image, save_image
from pairfree.files.fidelity import compare
from pairfree.files.formats.ome_zarr import is_zarr
from pairfree.files.image import Image
from pairfree.files.limits import DEFAULT, Limits

STAYS = replace(DEFAULT, resident_bytes=10)
SHAPE = (2, 3, 5, 70, 91)
AXES = [
    {"name": "t", "type": "time", "unit": "second"},
    {"name": "c", "type": "channel"},
    *({"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"),
]
DISPLAY = {
    "channels": [
        {"label": name, "color": "FF0000", "window": {"start": 0, "end": 9}}
        for name in ("DAPI", "GFP", "RFP")
    ]
}


def pyramid(
    path: Path,
    version: str,
    chunks: tuple[int, ...] = (1, 1, 2, 32, 40),
    levels: int = 3,
    **options: Any,
) -> np.ndarray:
    """A multiscale image of random pixels."""
    pixels = (
        np.random.default_rng(0).integers(0, 2**16, SHAPE).astype(options.pop("dtype", "uint16"))
    )
    zarr_format: Any = 3 if version == "0.5" else 2
    root = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
    datasets = []
    for level in range(levels):
        part = pixels[..., :: 2**level, :: 2**level]
        made = root.create_array(
            str(level), shape=part.shape, chunks=chunks, dtype=part.dtype, **options
        )
        made[...] = part
        scale = [2.5, 1.0, 0.8, 0.1 * 2**level, 0.2 * 2**level]
        datasets.append(
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
    ome = {
        "multiscales": [{"version": version, "name": "kept", "axes": AXES, "datasets": datasets}],
        "omero": DISPLAY,
    }
    root.attrs.put(
        {"ome": {"version": version, **ome}, "mine": 1} if version == "0.5" else {**ome, "mine": 1}
    )
    return pixels


@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize(
    ("version", "options"),
    [
        ("0.4", {}),
        ("0.4", {"compressors": Blosc()}),
        ("0.4", {"compressors": None, "dtype": ">u2"}),
        ("0.5", {}),
        ("0.5", {"compressors": None, "dtype": "float32"}),
        ("0.5", {"shards": (1, 1, 4, 64, 80)}),
        ("0.5", {"chunks": (1, 3, 5, 70, 91)}),
    ],
)
def test_round_trip(tmp_path: Path, version: str, options: dict[str, Any], stays: bool) -> None:
    pixels = pyramid(tmp_path / "a.ome.zarr", version, **options)
    image = open_image(tmp_path / "a.ome.zarr", STAYS if stays else DEFAULT)
    assert image.stored == stays
    assert image.axes == "TCZYX"
    assert image.spacing == {"T": (2.5, "s"), "Z": (0.8, "µm"), "Y": (0.1, "µm"), "X": (0.2, "µm")}
    assert image.channel_names == ("DAPI", "GFP", "RFP")
    np.testing.assert_array_equal(image.pixels, pixels)
    rows, columns = slice(11, 50), slice(33, 90)
    np.testing.assert_array_equal(
        image.region((1, 2, 3), rows, columns), pixels[1, 2, 3, rows, columns]
    )
    save_image(image, tmp_path / "b.ome.zarr")
    again = open_image(tmp_path / "b.ome.zarr")
    assert not differences(image, again)
    np.testing.assert_array_equal(again.pixels, pixels)
    before, after = (
        zarr.open_group(str(tmp_path / name), mode="r") for name in ("a.ome.zarr", "b.ome.zarr")
    )
    assert {key: value for key, value in after.attrs.items() if key != "pairfree"} == dict(
        before.attrs
    )
    for name, old in before.arrays():
        new = after[name]
        assert isinstance(new, zarr.Array)
        assert (new.shape, new.dtype) == (old.shape, old.dtype)
        assert (new.chunks, new.shards) == (old.chunks, old.shards)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.ome.zarr", "b.ome.zarr"]


def test_coarser_levels_are_means_of_the_denoised_one(tmp_path: Path) -> None:
    pyramid(tmp_path / "a.zarr", "0.5")
    image = open_image(tmp_path / "a.zarr")
    save_image(image.with_pixels(np.full(SHAPE, 7, np.uint16)), tmp_path / "flat.zarr")
    save_image(image, tmp_path / "b.zarr")
    for level in (1, 2):
        coarse = zarr.open_array(str(tmp_path / "flat.zarr" / str(level)), mode="r")
        assert np.all(np.asarray(coarse[...]) == 7)
    fine, coarse = (
        np.asarray(zarr.open_array(str(tmp_path / "b.zarr" / name), mode="r")[...]).astype(float)
        for name in "01"
    )
    np.testing.assert_allclose(
        coarse[..., 10, 20], fine[..., 20:22, 40:42].mean((-1, -2)), atol=0.5
    )
    # Of 91 columns the last stands alone.
    np.testing.assert_allclose(coarse[..., -1, -1], fine[..., 68:70, 90].mean(-1), atol=0.5)


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_flipped_bit_or_a_missing_chunk_of_ours_is_found(
    tmp_path: Path, version: str, empty: bool
) -> None:
    """R16, 200 bits in all. One of a codec's header may mean nothing; then the pixels are the same."""
    pyramid(tmp_path / "a.zarr", version, levels=1)
    image = open_image(tmp_path / "a.zarr")
    image = image.with_pixels(image.pixels * np.uint16(not empty))
    save_image(image, tmp_path / "b.zarr")
    chunks = sorted(
        path
        for path in (tmp_path / "b.zarr/0").rglob("*")
        if path.is_file() and not path.name.startswith((".", "zarr"))
    )
    assert len(chunks) == 2 * 3 * 3 * 3 * 3
    rng, unnoticed = random.Random(0), 0
    for _ in range(50):
        chunk = rng.choice(chunks)
        data = chunk.read_bytes()
        bad = bytearray(data)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        chunk.write_bytes(bytes(bad))
        try:
            np.testing.assert_array_equal(open_image(tmp_path / "b.zarr").pixels, image.pixels)
            unnoticed += 1
        except InputError as error:
            assert re.search("cannot be read|not what pairfree", str(error))  # noqa: PT017
        chunk.write_bytes(data)
    assert unnoticed <= (5 if empty else 0)
    for chunk in rng.sample(chunks, 5):
        data = chunk.read_bytes()
        chunk.unlink()
        with pytest.raises(
            InputError,
            match=f"chunk 0/{chunk.relative_to(tmp_path / 'b.zarr/0').as_posix()} is missing",
        ):
            open_image(tmp_path / "b.zarr")
        chunk.write_bytes(data)
    open_image(tmp_path / "b.zarr")


def test_the_first_image_of_a_converted_file(tmp_path: Path) -> None:
    """The layout of bioformats2raw: images 0, 1, ... and the file's own XML."""
    root = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=2)
    root.attrs.put({"bioformats2raw.layout": 3})
    (tmp_path / "a.zarr/OME").mkdir()
    (tmp_path / "a.zarr/OME/METADATA.ome.xml").write_text("<OME/>")
    pixels = pyramid(tmp_path / "a.zarr/0", "0.4")
    pyramid(tmp_path / "a.zarr/1", "0.4")
    image = open_image(tmp_path / "a.zarr")
    assert image.metadata["warnings"] == [
        "holds 2 images; only the first is used; choose with `scene`"
    ]
    save_image(image, tmp_path / "b.zarr")
    np.testing.assert_array_equal(open_image(tmp_path / "b.zarr/0").pixels, pixels)
    assert json.loads((tmp_path / "b.zarr/.zattrs").read_text())["bioformats2raw.layout"] == 3
    assert (tmp_path / "b.zarr/OME/METADATA.ome.xml").read_text() == "<OME/>"


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_chosen_image_of_a_converted_file_keeps_its_part_of_the_xml(
    tmp_path: Path, version: str, listed: bool
) -> None:
    zarr_format = 2 if version == "0.4" else 3
    root = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=zarr_format)
    told = {"bioformats2raw.layout": 3}
    root.attrs.put(told if version == "0.4" else {"ome": {**told, "version": "0.5"}})
    group = root.create_group("OME")
    if listed:  # the second element is the first folder
        order = {"series": ["1", "0"]}
        group.attrs.put(order if version == "0.4" else {"ome": order})
    parts = [f'<Image ID="Image:{n}"><Pixels SizeX="{n}"/></Image>' for n in range(2)]
    xml = f"<OME><Instrument/>{''.join(parts)}</OME>"
    (tmp_path / "a.zarr/OME/METADATA.ome.xml").write_text(xml)
    for number in range(2):
        pyramid(tmp_path / f"a.zarr/{number}", version)
    for number in range(2):
        image = open_image(tmp_path / "a.zarr", scene=number)
        out = tmp_path / f"{number}.zarr"
        save_image(image, out)
        own = parts[1 - number if listed else number]
        kept = out / "OME/METADATA.ome.xml"
        assert kept.read_text() == f"<OME><Instrument/>{own}</OME>"
        checks = {one.name: one.kept for one in compare(tmp_path / "a.zarr", out, scene=number)}
        assert checks["OME-XML"] is True
        assert False not in checks.values()
        save_image(open_image(out), tmp_path / f"again{number}.zarr")
        assert (tmp_path / f"again{number}.zarr/OME/METADATA.ome.xml").exists()
        kept.unlink()
        checks = {one.name: one.kept for one in compare(tmp_path / "a.zarr", out, scene=number)}
        assert checks["OME-XML"] is False


def test_plain_arrays_and_images_of_other_origin(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((4, 30, 40))
    zarr.save_array(str(tmp_path / "plain.zarr"), pixels)
    image = open_image(tmp_path / "plain.zarr")
    assert image.axes == "QYX"
    save_image(image, tmp_path / "again.zarr")
    np.testing.assert_array_equal(
        zarr.open_array(str(tmp_path / "again.zarr"), mode="r")[...], pixels
    )
    made = Image(
        pixels, "ZYX", {"Z": (2.0, "µm"), "Y": (0.5, "nm"), "X": (0.5, "nm")}, family="zarr"
    )
    save_image(made, tmp_path / "made.ome.zarr")
    assert not differences(made, open_image(tmp_path / "made.ome.zarr"))
    with pytest.raises(OutputError, match="samples"):
        save_image(
            Image(np.zeros((4, 5, 3), np.uint8), "YXS", family="zarr"), tmp_path / "rgb.zarr"
        )


def test_folders_of_images_are_listed_as_one_image_each(tmp_path: Path) -> None:
    pyramid(tmp_path / "in/a.ome.zarr", "0.5", levels=1)
    np.save(tmp_path / "in/b.npy", np.zeros((4, 5)))
    entries = find_images([tmp_path / "in"])
    listed = [(entry.relative.as_posix(), entry.stem) for entry in entries]
    assert listed == [("a.ome.zarr", "a"), ("b.npy", "b")]
    for given in (
        tmp_path / "in/a.ome.zarr",
        str(tmp_path / "in/*.zarr"),
        tmp_path / "in/a.ome.zarr/0",
    ):
        assert len(find_images([given])) == 1
    assert is_zarr(tmp_path / "in/a.ome.zarr")
    assert not is_zarr(tmp_path / "in")


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda root: (root / "zarr.json").unlink(), "no Zarr folder"),
        (lambda root: (root / "zarr.json").write_text("{"), "cannot be read|damaged|Expecting"),
        (
            lambda root: edit(
                root, lambda words: words["attributes"]["ome"].update(multiscales=[])
            ),
            "without image metadata",
        ),
        (
            lambda root: edit(
                root,
                lambda words: words["attributes"].update(
                    ome={"plate": {"wells": [{"path": "B/2"}]}}
                ),
            ),
            "plate .*B/2/0",
        ),
        (lambda root: edit(root, lambda words: axes_of(words).pop()), "names 4 axes"),
        (
            lambda root: edit(root, lambda words: axes_of(words).reverse()),
            "do not end with y and x",
        ),
        (
            lambda root: edit(root, lambda words: datasets_of(words)[0].update(path="7")),
            "resolution 7 is missing",
        ),
        (
            lambda root: edit(root, lambda words: datasets_of(words)[0].update(path="../../x")),
            "outside",
        ),
        (
            lambda root: edit(root / "0", lambda words: words.update(data_type="complex64")),
            "complex64|cannot",
        ),
        (lambda root: edit(root / "0", chunk_of(2**40)), "do not fit|cannot"),
    ],
)
def test_broken_folders_are_refused_in_one_line(tmp_path: Path, break_it: Any, words: str) -> None:
    pyramid(tmp_path / "a.zarr", "0.5", levels=1)
    break_it(tmp_path / "a.zarr")
    with pytest.raises(InputError, match=words) as caught:
        open_image(tmp_path / "a.zarr")
    assert "\n" not in str(caught.value)
    assert "a.zarr" in str(caught.value)


def edit(folder: Path, change: Any) -> None:
    words = json.loads((folder / "zarr.json").read_text())
    change(words)
    (folder / "zarr.json").write_text(json.dumps(words))


def axes_of(words: Any) -> Any:
    return words["attributes"]["ome"]["multiscales"][0]["axes"]


def datasets_of(words: Any) -> Any:
    return words["attributes"]["ome"]["multiscales"][0]["datasets"]


def chunk_of(side: int) -> Any:
    def change(words: Any) -> None:
        words["chunk_grid"]["configuration"]["chunk_shape"][-1] = side

    return change


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine.zarr").mkdir()
    (tmp_path / "mine.zarr/thesis.txt").write_text("all of it")
    with pytest.raises(OutputError, match="something else"):
        save_image(
            Image(np.zeros((4, 5), np.uint8), "YX", family="zarr"),
            tmp_path / "mine.zarr",
            overwrite=True,
        )
    assert (tmp_path / "mine.zarr/thesis.txt").read_text() == "all of it"


def test_an_older_result_is_replaced_whole(tmp_path: Path) -> None:
    for value in (1, 2):
        save_image(
            Image(np.full((4, 5), value, np.uint8), "YX", family="zarr"),
            tmp_path / "a.zarr",
            overwrite=value == 2,
        )
    assert open_image(tmp_path / "a.zarr").pixels[0, 0] == 2
    with pytest.raises(OutputError, match="exists already"):
        save_image(Image(np.zeros((4, 5), np.uint8), "YX", family="zarr"), tmp_path / "a.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def survives(folder: Path) -> None:
    """Either an image within the bounds, whose pixels can be read, or a refusal in one line.

    In less than 10 s of one core.
    """
    started = time.process_time()
    try:
        image = open_image(folder, Limits(max_bytes=2**26, max_pixels=2**26, resident_bytes=2**20))
        image.region(
            next(image.planes()), slice(0, min(8, image.height)), slice(0, min(8, image.width))
        )
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either of two things is right
    assert time.process_time() - started < 10


def mutants(tmp_path: Path, version: str, count: int, seed: int) -> None:
    """R9 for Zarr: the metadata of a small image with bytes changed, cut, doubled, or numbers replaced."""
    pyramid(tmp_path / "a.zarr", version, levels=2)
    files = [
        path
        for path in (tmp_path / "a.zarr").rglob("*")
        if path.name in ("zarr.json", ".zarray", ".zattrs", ".zgroup")
    ]
    rng = random.Random(seed)
    for _ in range(count):
        path = rng.choice(files)
        data = path.read_bytes()
        bad = bytearray(data)
        kind = rng.randrange(4)
        if kind == 0:
            for _ in range(rng.randint(1, 8)):
                bad[rng.randrange(len(bad))] = rng.randrange(256)
        elif kind == 1:
            bad = bad[: rng.randrange(len(bad))]
        elif kind == 2:
            numbers = list(re.finditer(rb"\d+", bytes(bad)))
            if numbers:
                found = rng.choice(numbers)
                value = rng.choice(
                    [
                        b"0",
                        b"-1",
                        b"1e9",
                        b"4294967296",
                        b"99999999999999999999",
                        b"null",
                        b'"x"',
                        b"[]",
                        b"1.5",
                    ]
                )
                bad[found.start() : found.end()] = value
        else:
            others = [
                b'"bytes"',
                b'"zarr_format"',
                b'"../x"',
                b'"\\u0000"',
                b"null",
                b"{}",
                b"[[]]",
                b"3",
                b'"pickle"',
                b'"numcodecs.astype"',
                b'"<U100000"',
                b'[{"id": "astype", "encode_dtype": "|u1", "decode_dtype": "<U100000"}]',
            ]
            words = list(re.finditer(rb'"[a-z_]+"', bytes(bad)))
            if words:
                found = rng.choice(words)
                bad[found.start() : found.end()] = rng.choice(others)
        path.write_bytes(bytes(bad))
        survives(tmp_path / "a.zarr")
        path.write_bytes(data)
    open_image(tmp_path / "a.zarr")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_mutated_metadata(tmp_path: Path, version: str) -> None:
    mutants(tmp_path, version, 100, 0)


@pytest.mark.nightly
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_mutated_metadata_many(tmp_path: Path, version: str) -> None:
    mutants(tmp_path, version, 5000, 1)


def test_labels_beside_the_image_are_kept(tmp_path):
    """Segmentations belong to the scene, not to its noise.

    Without them the result would be less than its input.
    """
    pixels = np.random.default_rng(0).integers(0, 4000, (60, 70)).astype(np.uint16)
    save_image(
        Image(pixels, "YX", {"X": (0.1, "µm"), "Y": (0.1, "µm")}, family="zarr"),
        tmp_path / "a.ome.zarr",
    )
    labels = zarr.open_group(str(tmp_path / "a.ome.zarr")).create_group(
        "labels", attributes={"ome": {"labels": ["cells"]}}
    )
    labels.create_group("cells").create_array("0", shape=(60, 70), chunks=(32, 32), dtype="uint32")[
        ...
    ] = 7
    save_image(open_image(tmp_path / "a.ome.zarr"), tmp_path / "b.ome.zarr")
    copied = zarr.open_group(str(tmp_path / "b.ome.zarr"), mode="r")["labels"]
    assert copied.attrs["ome"] == {"labels": ["cells"]}
    assert (copied["cells/0"][...] == 7).all()
    assert not [
        check
        for check in compare(tmp_path / "a.ome.zarr", tmp_path / "b.ome.zarr")
        if check.kept is False
    ]
    shutil.rmtree(tmp_path / "b.ome.zarr/labels")
    lost = [
        check.name
        for check in compare(tmp_path / "a.ome.zarr", tmp_path / "b.ome.zarr")
        if check.kept is False
    ]
    assert lost == ["beside the image"]


# -- each chunk decoded once ---------------------------------------------------------------------------------


def model_of(small) -> Model:
    method = small.method("n2v")
    for parameter in method.net.parameters():
        parameter.data.normal_(0.0, 0.1)
    normalizer = Normalizer(0.0, 4000.0)
    return Model(
        Predictor(method, normalizer, 1, core_px=64), Record.untrained("n2v", normalizer, 1)
    )


@pytest.mark.parametrize("chunks", [(8, 32, 32), (1, 32, 32), (1, 256, 256), (4, 200, 64)])
def test_prediction_decodes_every_chunk_once(chunks, tmp_path, small, monkeypatch):
    """Of a stack, in tiles of 64 px with their halo: deep chunks, flat ones, and ones larger than a tile."""
    from pairfree.files.formats import zarr_bounds

    pixels = np.random.default_rng(0).integers(0, 4000, (8, 200, 180)).astype(np.uint16)
    array = zarr.create_array(
        str(tmp_path / "a.zarr"), shape=pixels.shape, chunks=chunks, dtype="uint16"
    )
    array[...] = pixels
    decoded = []
    real = zarr_bounds._undo
    monkeypatch.setattr(zarr_bounds, "_undo", lambda *words: decoded.append(0) or real(*words))
    model = model_of(small)
    image = open_image(tmp_path / "a.zarr", STAYS)
    decoded.clear()
    assert image.stored
    made = model.denoise_image(image).image.pixels
    assert len(decoded) <= math.prod(
        -(-size // chunk) for size, chunk in zip(pixels.shape, chunks, strict=True)
    )
    np.testing.assert_array_equal(made, model.denoise_image(Image(pixels, "ZYX")).image.pixels)


def test_a_group_of_planes_is_begun_anew_where_memory_runs_out(tmp_path, small, monkeypatch):
    """With smaller tiles; nothing is lost or counted twice."""
    pixels = np.random.default_rng(0).integers(0, 4000, (6, 200, 150)).astype(np.uint16)
    array = zarr.create_array(
        str(tmp_path / "a.zarr"), shape=pixels.shape, chunks=(6, 64, 64), dtype="uint16"
    )
    array[...] = pixels
    model = model_of(small)
    expected = model.denoise_image(Image(pixels, "ZYX")).image.pixels
    real, calls, told = model.predictor._apply_to_tile, [], []

    def short_of_memory(apply, tile):
        calls.append(0)
        if len(calls) == 9:
            raise MemoryError
        return real(apply, tile)

    monkeypatch.setattr(model.predictor, "_apply_to_tile", short_of_memory)
    made = model.denoise_image(open_image(tmp_path / "a.zarr", STAYS), told.append).image.pixels
    assert model.predictor.core_px == 32
    assert sum(told) == pixels.size
    assert np.abs(made.astype(int) - expected).max() <= 1  # of tiles of another size
    assert (made != pixels).mean() > 0.5


# -- chunks that hold more than they may ---------------------------------------------------------------------


def compressors(zarr_format: int) -> dict[str, Any]:
    import numcodecs
    import zarr.codecs as standard
    import zarr.codecs.numcodecs as further

    names = {
        "blosc": "Blosc",
        "zstd": "Zstd",
        "gzip": "GZip",
        "zlib": "Zlib",
        "bz2": "BZ2",
        "lzma": "LZMA",
        "lz4": "LZ4",
    }
    if zarr_format == 2:
        return {name: getattr(numcodecs, cls)() for name, cls in names.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        of_numcodecs = {f"numcodecs.{name}": getattr(further, cls)() for name, cls in names.items()}
    return {
        "blosc": standard.BloscCodec(),
        "zstd": standard.ZstdCodec(),
        "gzip": standard.GzipCodec(),
        **of_numcodecs,
    }


def written_with(path: Path, zarr_format: int, compressor: Any, shards: Any = None) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 900, (100, 90)).astype(np.uint16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        how = {"shards": shards} if shards else {}
        array = zarr.create_array(
            str(path),
            shape=pixels.shape,
            chunks=(32, 32),
            dtype="uint16",
            zarr_format=zarr_format,
            compressors=compressor,
            **how,
        )
        array[...] = pixels
    return pixels


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_bounded_chunks_are_zarrs_own(zarr_format, tmp_path):
    """Every compressor, in both formats, in shards and followed by a checksum or another compressor."""
    from zarr.codecs import Crc32cCodec, GzipCodec, ZstdCodec

    cases = [(name, one, None) for name, one in compressors(zarr_format).items()]
    if zarr_format == 3:
        cases += [
            ("shards", ZstdCodec(), (64, 64)),
            ("checksum", [ZstdCodec(), Crc32cCodec()], None),
            ("two", [ZstdCodec(), GzipCodec()], None),
        ]
    for name, compressor, shards in cases:
        path = tmp_path / f"{name}.zarr"
        expected = written_with(path, zarr_format, compressor, shards)
        np.testing.assert_array_equal(open_image(path).pixels, expected, err_msg=name)
    assert zarr.config.get("codec_pipeline.path").startswith("zarr.")


PEAK = """
import re, sys
from pathlib import Path
from pairfree.errors import InputError
from pairfree.files import open_image

def most_kib():  # ru_maxrss would begin at the peak of the process that started this one
    status = Path("/proc/self/status")
    return int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) if status.exists() else 0

open_image(sys.argv[1])
for path in sys.argv[2:]:
    before = most_kib()
    try:
        open_image(path)
        said = "opened"
    except InputError as error:
        said = "refused" if "a chunk of" in str(error) and "cannot be read" in str(error) else str(error)
    print(said, most_kib() - before)
"""


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_chunk_that_inflates_beyond_its_size_is_an_error(zarr_format, tmp_path):
    """A chunk of 2 kB replaced by one of 40 MB of zeros, a few kB compressed.

    The memory is that of a process of its own.
    """
    names = list(compressors(zarr_format))
    for name, compressor in compressors(zarr_format).items():
        path, bomb = tmp_path / f"{name}.zarr", tmp_path / f"{name}-bomb.zarr"
        written_with(path, zarr_format, compressor)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            large = zarr.create_array(
                str(bomb),
                shape=(4096, 5000),
                chunks=(4096, 5000),
                dtype="uint16",
                zarr_format=zarr_format,
                compressors=compressor,
                config={"write_empty_chunks": True},
            )
            large[...] = 0
        inside = "0.0" if zarr_format == 2 else "c/0/0"
        assert (bomb / inside).stat().st_size < 1_000_000, name
        shutil.copyfile(bomb / inside, path / inside)
    written_with(tmp_path / "good.zarr", zarr_format, compressors(zarr_format)["zstd"])
    paths = [str(tmp_path / f"{name}.zarr") for name in ("good", *names)]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *paths], capture_output=True, text=True, check=True
    )
    for name, line in zip(names, done.stdout.splitlines(), strict=True):
        said, grown_kb = line.rsplit(" ", 1)
        assert said == "refused", f"{name}: {line}"
        assert int(grown_kb) < 20_000, f"{name}: {line}"  # the dictionary of LZMA takes 8 MB
