"""Zarr images made to harm: filters, shards, links, pipes and archives that hold more than they say."""

from __future__ import annotations

import gc
import gzip
import json
import os
import pickle
import struct
import time
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
import zarr.codecs.numcodecs as further
from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, ZstdCodec

from pairfree.errors import InputError, OutputError
from pairfree.files import open_image, save_image
from pairfree.files.fidelity import compare
from pairfree.files.formats.zarr_inflate import inflate
from pairfree.files.limits import Limits
from pairfree.files.opening import rehearse_output

pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")
PIXELS = np.random.default_rng(0).integers(0, 250, (100, 90)).astype(np.uint16)
MEBIBYTE = 2**20


@pytest.fixture(scope="module", autouse=True)
def _traced() -> Iterator[None]:
    """Traced until all is over: some versions of Python crash where tracing ends while threads read."""
    tracemalloc.start()
    yield
    time.sleep(0.5)
    tracemalloc.stop()


@contextmanager
def little_memory(most: int) -> Iterator[None]:
    """What Python and NumPy hold at once, beside what they held before, stays below."""
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    yield
    assert tracemalloc.get_traced_memory()[1] - before < most


def refused(path: Path, most: int = 8 * MEBIBYTE) -> str:
    """The one line that says why."""
    with little_memory(most), pytest.raises(InputError) as caught:
        open_image(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def make(path: Path, zarr_format: Any = 2, **options: Any) -> None:
    array = zarr.create_array(
        str(path),
        shape=PIXELS.shape,
        dtype="uint16",
        zarr_format=zarr_format,
        **{"chunks": (32, 32), "compressors": None, **options},
    )
    array[...] = PIXELS


def edit(path: Path, change: Callable[[Any], None]) -> None:
    words = json.loads(path.read_text())
    change(words)
    path.write_text(json.dumps(words))


# -- filters -------------------------------------------------------------------------------------------------


HONEST_2: dict[str, dict[str, Any]] = {
    "astype": {"filters": [numcodecs.AsType("u4", "u2")]},
    "delta": {"filters": [numcodecs.Delta("u2", "i4")], "compressors": numcodecs.LZ4()},
    "scaled": {"filters": [numcodecs.FixedScaleOffset(2, 0.5, "u2", "u4")]},
    "quantized": {"dtype": "float32", "filters": [numcodecs.Quantize(3, "f4", "f8")]},
    "rounded": {"dtype": "float32", "filters": [numcodecs.BitRound(20)]},
    "shuffled": {"filters": [numcodecs.Shuffle(2)], "compressors": numcodecs.Zlib()},
    "text": {"filters": [numcodecs.Base64()], "compressors": numcodecs.Zlib()},
    "packed twice": {"filters": [numcodecs.Zlib(), numcodecs.BZ2()]},
    "checksum": {"filters": [numcodecs.Fletcher32()], "compressors": numcodecs.CRC32()},
}
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # zarr warns of those that its specification lacks
    HONEST_3: dict[str, dict[str, Any]] = {
        "astype": {"filters": [further.AsType(encode_dtype="uint32", decode_dtype="uint16")]},
        "delta": {"filters": [further.Delta(dtype="uint16")], "compressors": ZstdCodec()},
        "scaled": {
            "filters": [
                further.FixedScaleOffset(offset=2, scale=0.5, dtype="uint16", astype="uint32")
            ]
        },
        "quantized": {"dtype": "float32", "filters": [further.Quantize(digits=3, dtype="float32")]},
        "rounded": {"dtype": "float32", "filters": [further.BitRound(keepbits=20)]},
        "shuffled": {"compressors": [further.Shuffle(elementsize=2), GzipCodec()]},
        "checksum": {"compressors": [further.Adler32(), further.Zlib(), Crc32cCodec()]},
        "columns first": {"filters": [zarr.codecs.TransposeCodec(order=(1, 0))]},
        "shards packed again": {
            "serializer": ShardingCodec(chunk_shape=(16, 16), codecs=[BytesCodec(), ZstdCodec()]),
            "compressors": GzipCodec(),
        },
    }


@pytest.mark.parametrize(
    ("zarr_format", "name"), [(2, one) for one in HONEST_2] + [(3, one) for one in HONEST_3]
)
def test_filters_of_numbers_are_zarrs_own(tmp_path: Path, zarr_format: Any, name: str) -> None:
    options = {"dtype": "uint16", "compressors": None}
    options |= (HONEST_2 if zarr_format == 2 else HONEST_3)[name]
    array = zarr.create_array(
        str(tmp_path / "a.zarr"),
        shape=PIXELS.shape,
        chunks=(32, 32),
        zarr_format=zarr_format,
        **options,
    )
    try:
        array[...] = PIXELS // 2 * 2
    except NotImplementedError:
        pytest.skip("this zarr packs no shards once more")
    expected = np.asarray(zarr.open_array(str(tmp_path / "a.zarr"), mode="r")[...])
    image = open_image(tmp_path / "a.zarr")
    np.testing.assert_array_equal(image.pixels, expected)
    save_image(image, tmp_path / "b.zarr")
    checks = compare(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert not [one.name for one in checks if one.kept is False]


class Marker:
    """Runs a command where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


LETTERS = "<U100000"
HOSTILE: dict[str, Any] = {
    "astype": [{"id": "astype", "encode_dtype": "|u1", "decode_dtype": LETTERS}],
    "astype of records": [{"id": "astype", "encode_dtype": "|u1", "decode_dtype": "(9999,)u2"}],
    "quantize": [{"id": "quantize", "digits": 3, "dtype": LETTERS, "astype": "|u1"}],
    "delta": [{"id": "delta", "dtype": "<u2", "astype": "|O"}],
    "scale": [
        {"id": "fixedscaleoffset", "offset": 0, "scale": 1, "dtype": LETTERS, "astype": "|u1"}
    ],
    "categories": [{"id": "categorize", "labels": ["a"], "dtype": LETTERS, "astype": "|u1"}],
    "objects": [{"id": "json2"}],
    "more objects": [{"id": "msgpack2"}],
    "texts": [{"id": "vlen-utf8"}],
    "pickles": [{"id": "pickle", "protocol": 4}],
    "many": [{"id": "shuffle", "elementsize": 2}] * 99,
    "wide": [{"id": "astype", "encode_dtype": "<f8", "decode_dtype": "|u1"}] * 2,
}


@pytest.mark.parametrize("as_compressor", [False, True])
@pytest.mark.parametrize("name", HOSTILE)
def test_filters_that_are_not_bounded_are_refused_before_a_chunk_is_read(
    tmp_path: Path, name: str, as_compressor: bool
) -> None:
    make(tmp_path / "a.zarr")
    if name == "pickles":
        (tmp_path / "a.zarr/0.0").write_bytes(pickle.dumps(Marker(tmp_path / "ran")))
    changed = {"compressor": HOSTILE[name][0]} if as_compressor else {"filters": HOSTILE[name]}
    if as_compressor and len(HOSTILE[name]) > 1:
        changed = {"filters": HOSTILE[name][1:], **changed}
    edit(tmp_path / "a.zarr/.zarray", lambda words: words.update(changed))
    message = refused(tmp_path / "a.zarr")
    assert "export it again" in message
    assert not (tmp_path / "ran").exists()


def of_numcodecs(name: str, **settings: Any) -> dict[str, Any]:
    return {"name": f"numcodecs.{name}", "configuration": settings}


BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


def shards(chunk: tuple[int, int], **changed: Any) -> dict[str, Any]:
    crc = {"name": "crc32c"}
    settings = {"chunk_shape": chunk, "codecs": [BYTES], "index_codecs": [BYTES, crc]}
    return {"name": "sharding_indexed", "configuration": settings | changed}


HOSTILE_3: dict[str, list[dict[str, Any]]] = {
    "astype": [of_numcodecs("astype", encode_dtype="uint8", decode_dtype=LETTERS), BYTES],
    "scale": [
        of_numcodecs("fixedscaleoffset", offset=0, scale=1, dtype=LETTERS, astype="uint8"),
        BYTES,
    ],
    "quantize": [of_numcodecs("quantize", digits=3, dtype=LETTERS), BYTES],
    "other bytes": [of_numcodecs("pcodec")],
    "texts": [{"name": "vlen-utf8"}],
    "many": [BYTES, *[{"name": "crc32c"}] * 99],
    "a packed index": [
        shards((16, 16), index_codecs=[BYTES, {"name": "gzip", "configuration": {"level": 1}}])
    ],
    "filters in shards": [
        shards((16, 16), codecs=[of_numcodecs("quantize", digits=3, dtype=LETTERS), BYTES])
    ],
    "shards in shards": [
        shards((16, 16), codecs=[shards((8, 8), codecs=[shards((4, 4), codecs=[shards((2, 2))])])])
    ],
}


@pytest.mark.parametrize("name", HOSTILE_3)
def test_codecs_that_are_not_bounded_are_refused(tmp_path: Path, name: str) -> None:
    make(tmp_path / "a.zarr", 3)
    edit(tmp_path / "a.zarr/zarr.json", lambda words: words.update(codecs=HOSTILE_3[name]))
    refused(tmp_path / "a.zarr")


def test_a_compressor_among_the_filters_is_bounded(tmp_path: Path) -> None:
    make(tmp_path / "a.zarr", filters=[numcodecs.Zlib()], compressors=numcodecs.Zlib())
    assert open_image(tmp_path / "a.zarr").shape == PIXELS.shape
    bomb = zlib.compress(zlib.compress(bytes(64 * MEBIBYTE)))
    (tmp_path / "a.zarr/0.0").write_bytes(bomb)
    assert "inflates to more than" in refused(tmp_path / "a.zarr")


def test_a_chunk_that_is_longer_than_its_filter_makes_it_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "a.zarr", filters=[numcodecs.AsType("u1", "u2")])
    (tmp_path / "a.zarr/0.0").write_bytes(bytes(MEBIBYTE))
    assert "holds 1048576 bytes, its array allows 1024" in refused(tmp_path / "a.zarr")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_metadata_that_say_two_things_are_refused(tmp_path: Path, zarr_format: Any) -> None:
    """Pixels would be decoded by those of the group, and encoded by those of the array."""
    group(tmp_path / "a.zarr", zarr_format)
    zarr.consolidate_metadata(str(tmp_path / "a.zarr"), zarr_format=zarr_format)
    assert open_image(tmp_path / "a.zarr").shape == PIXELS.shape
    if zarr_format == 2:
        letters = {"filters": [{"id": "astype", "encode_dtype": LETTERS, "decode_dtype": "<u2"}]}
        edit(tmp_path / "a.zarr/0/.zarray", lambda words: words.update(letters))
    else:
        packed = {"codecs": [BYTES, {"name": "crc32c"}]}
        edit(tmp_path / "a.zarr/0/zarr.json", lambda words: words.update(packed))
    assert "is another one in the consolidated metadata" in refused(tmp_path / "a.zarr")


# -- shards and large chunks ---------------------------------------------------------------------------------


def test_a_shard_of_very_many_chunks_is_refused_before_its_index_is_read(tmp_path: Path) -> None:
    make(tmp_path / "a.zarr", 3)
    changes = {
        "shape": [2**13, 2**13],
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2**13, 2**13]}},
        "codecs": [shards((16, 16))],
    }
    edit(tmp_path / "a.zarr/zarr.json", lambda words: words.update(changes))
    message = refused(tmp_path / "a.zarr")
    assert "its shards hold 262144 chunks of (16, 16), more than 131072" in message


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_plane_of_very_many_tiny_chunks_is_refused(tmp_path: Path, zarr_format: Any) -> None:
    """A thousand bytes that ask for two hundred million chunks, none of which is there."""
    make(tmp_path / "a.zarr", zarr_format)
    if zarr_format == 2:
        changes: dict[str, Any] = {"shape": [2**14, 2**14], "chunks": [1, 1]}
        edit(tmp_path / "a.zarr/.zarray", lambda words: words.update(changes))
    else:
        grid = {"name": "regular", "configuration": {"chunk_shape": [1, 1]}}
        changes = {"shape": [2**14, 2**14], "chunk_grid": grid}
        edit(tmp_path / "a.zarr/zarr.json", lambda words: words.update(changes))
    assert "268435456 chunks of 1 x 1 px" in refused(tmp_path / "a.zarr")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_chunk_larger_than_the_bound_of_memory_is_refused(
    tmp_path: Path, zarr_format: Any
) -> None:
    make(tmp_path / "a.zarr", zarr_format)
    limits = Limits(piece_bytes=2000)
    with pytest.raises(InputError, match=r"32 x 32 \(2\.0 KiB .*smaller.*or raise `max_bytes`"):
        open_image(tmp_path / "a.zarr", limits)
    assert open_image(tmp_path / "a.zarr", Limits(piece_bytes=2048)).shape == PIXELS.shape


def forge_index(path: Path, place: int, offset: int, length: int) -> None:
    """Say that a chunk lies elsewhere, with the right checksum."""
    data = bytearray(path.read_bytes())
    index = bytearray(data[-4 - 16 * 4 : -4])
    index[16 * place : 16 * place + 16] = struct.pack("<2Q", offset, length)
    data[-4 - 16 * 4 :] = bytes(numcodecs.CRC32C(location="end").encode(bytes(index)))
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("length", [1500, 2**40, 2**64 - 2])
def test_chunks_within_a_shard_are_no_longer_than_they_can_be(tmp_path: Path, length: int) -> None:
    make(tmp_path / "a.zarr", 3, chunks=(16, 16), shards=(32, 32))
    forge_index(tmp_path / "a.zarr/c/0/0", 0, 0, length)
    stays = Limits(resident_bytes=10)
    image = open_image(tmp_path / "a.zarr", stays)
    with little_memory(MEBIBYTE), pytest.raises(InputError, match="cannot be read") as caught:
        image.region((), slice(0, 8), slice(0, 8))
    assert "in a shard" in str(caught.value)
    np.testing.assert_array_equal(image.region((), slice(0, 8), slice(40, 48)), PIXELS[:8, 40:48])


# -- links, pipes and devices --------------------------------------------------------------------------------


def group(path: Path, zarr_format: Any = 3) -> None:
    """An image of two resolutions, with labels beside it."""
    root = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
    axes = [{"name": name, "type": "space"} for name in "yx"]
    words = {"multiscales": [{"axes": axes, "datasets": [{"path": "0"}, {"path": "1"}]}]}
    root.attrs.put({"ome": words} if zarr_format == 3 else words)
    root.create_array("0", data=PIXELS, chunks=(32, 32))
    root.create_array("1", data=PIXELS[::2, ::2].copy(), chunks=(32, 32))
    labels = root.create_group("labels")
    labels.create_group("cells").create_array("0", data=PIXELS // 9, chunks=(32, 32))


def put(path: Path, kind: str, secret: Path) -> None:
    """Something else in the place of a file or a folder."""
    if path.is_dir():
        path.rename(secret)
    elif path.exists():
        path.replace(secret)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"link": secret, "device": Path("/dev/zero"), "loop": path}[kind])


PLACES = [
    (2, ".zgroup"),
    (2, ".zattrs"),
    (2, "0/.zarray"),
    (2, "0/0.0"),
    (2, "0"),
    (3, "zarr.json"),
    (3, "0/zarr.json"),
    (3, "1/zarr.json"),
    (3, "0/c/0/0"),
    (3, "0/c/0"),
    (3, "0/c"),
    (3, "0"),
]


@pytest.mark.posix
@pytest.mark.parametrize("kind", ["link", "pipe", "device", "loop"])
@pytest.mark.parametrize(("zarr_format", "name"), PLACES)
def test_what_is_no_file_of_the_image_is_refused(
    tmp_path: Path, zarr_format: Any, name: str, kind: str
) -> None:
    group(tmp_path / "a.zarr", zarr_format)
    put(tmp_path / "a.zarr" / name, kind, tmp_path / "secret")
    message = refused(tmp_path / "a.zarr")
    assert "a link, a pipe or a device" in message or kind == "pipe"
    assert "missing" not in message or name == "0"


@pytest.mark.posix
@pytest.mark.parametrize("kind", ["link", "pipe", "device", "loop"])
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("labels", "labels"),
        ("labels/cells", "labels/cells"),
        ("labels/cells/0", "labels/cells/0"),
        ("notes.txt", "notes.txt"),
    ],
)
def test_links_beside_the_image_are_told_and_left_out(
    tmp_path: Path, name: str, told: str, kind: str
) -> None:
    group(tmp_path / "a.zarr")
    put(tmp_path / "a.zarr" / name, kind, tmp_path / "secret")
    image = open_image(tmp_path / "a.zarr")
    assert image.metadata["warnings"] == [
        f"links, pipes and devices within the folder are left out: {told}"
    ]
    save_image(image, tmp_path / "b.zarr")
    assert not os.path.lexists(tmp_path / "b.zarr" / name)
    assert not [one for one in (tmp_path / "b.zarr").rglob("*") if one.is_symlink()]


@pytest.mark.posix
def test_links_to_the_folder_itself_end(tmp_path: Path) -> None:
    group(tmp_path / "a.zarr")
    for name in ("labels/one", "labels/two", "labels/cells/three", "four"):
        (tmp_path / "a.zarr" / name).symlink_to(".")
    save_image(open_image(tmp_path / "a.zarr"), tmp_path / "b.zarr")
    assert sum(1 for _ in (tmp_path / "b.zarr").rglob("*")) < 100
    assert not [
        one.name for one in compare(tmp_path / "a.zarr", tmp_path / "b.zarr") if one.kept is False
    ]


@pytest.mark.posix
@pytest.mark.parametrize(
    "name", ["labels/cells/0/c/0/0", "labels/cells/0/c/0", "1/c/0/0", "1/x.txt"]
)
def test_links_among_chunks_that_are_copied_are_found_before_any_work(
    tmp_path: Path, name: str
) -> None:
    """Left out they would be chunks of fill value."""
    group(tmp_path / "a.zarr")
    put(tmp_path / "a.zarr" / name, "link", tmp_path / "secret")
    image = open_image(tmp_path / "a.zarr")
    if name.startswith("1/c"):  # made anew
        rehearse_output(image, tmp_path / "b.zarr")
        return
    with pytest.raises(InputError, match=rf"its {name} is a link"):
        rehearse_output(image, tmp_path / "b.zarr")
    with pytest.raises(InputError, match=rf"its {name} is a link"):
        save_image(image, tmp_path / "b.zarr")
    assert (
        sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "secret"]
        or name == "1/x.txt"
    )


@pytest.mark.posix
def test_a_chunk_that_becomes_a_link_is_not_read(tmp_path: Path) -> None:
    make(tmp_path / "a.zarr", 3)
    image = open_image(tmp_path / "a.zarr", Limits(resident_bytes=10))
    put(tmp_path / "a.zarr/c/0/0", "link", tmp_path / "secret")
    with pytest.raises(InputError, match=r"its c/0/0 is a link"):
        image.region((), slice(0, 8), slice(0, 8))


# -- archives ------------------------------------------------------------------------------------------------


def pack(folder: Path, archive: Path, **more: bytes) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                packed.write(file, file.relative_to(folder).as_posix())
        for name, content in more.items():
            packed.writestr(name, content)


def declare(
    archive: Path, name: str, size: int | None = None, content: bytes | None = None
) -> None:
    """Change what the archive says of a file: its size, and the checksum of ``content``."""
    data = bytearray(archive.read_bytes())
    for mark, crc_at, name_at in ((b"PK\3\4", 14, 30), (b"PK\1\2", 16, 46)):
        at = -1
        while (at := data.find(mark, at + 1)) >= 0:
            if data[at + name_at : at + name_at + len(name)] == name.encode():
                if size is not None:
                    data[at + crc_at + 8 : at + crc_at + 12] = struct.pack("<I", size)
                if content is not None:
                    data[at + crc_at : at + crc_at + 4] = struct.pack("<I", zlib.crc32(content))
    archive.write_bytes(bytes(data))


def test_what_lies_beside_in_an_archive_is_copied_and_compared_in_pieces(tmp_path: Path) -> None:
    group(tmp_path / "a.zarr")
    pack(tmp_path / "a.zarr", tmp_path / "a.ozx", stranger=bytes(64 * MEBIBYTE))
    with little_memory(24 * MEBIBYTE):  # of 64; zarr's newest versions take 19 by themselves
        save_image(open_image(tmp_path / "a.ozx"), tmp_path / "b.ozx")
        checks = compare(tmp_path / "a.ozx", tmp_path / "b.ozx")
    assert not [one.name for one in checks if one.kept is False]
    with zipfile.ZipFile(tmp_path / "b.ozx") as packed:
        assert packed.getinfo("stranger").file_size == 64 * MEBIBYTE


def test_names_of_very_many_folders_in_an_archive_take_no_memory(tmp_path: Path) -> None:
    """A name of 60 kB stands for 30,000 folders, each with a name of its own."""
    group(tmp_path / "a.zarr")
    pack(tmp_path / "a.zarr", tmp_path / "a.ozx", **{"a/" * 63 + "x": b""})
    assert open_image(tmp_path / "a.ozx").height
    deep = {f"{number}/" + "a/" * 15_000 + "x": b"" for number in range(10)}
    pack(tmp_path / "a.zarr", tmp_path / "a.ozx", **deep)
    with (
        little_memory(16 * MEBIBYTE),
        pytest.raises(InputError, match="15001 folders deep") as told,
    ):
        open_image(tmp_path / "a.ozx")
    assert "\n" not in str(told.value)


def test_a_hundred_thousand_streams_in_a_chunk_take_seconds_at_most() -> None:
    """Of nothing each: 2 MB of them took a quarter of a minute, and four times as many sixteen times that."""
    begun = time.process_time()
    assert inflate("gzip", memoryview(gzip.compress(b"") * 100_000), 1000, {}) == b""
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("sizes", [[0], [1], [0, 0, 3], [70_000, 0, 70_000], [16_384, 16_384]])
@pytest.mark.parametrize("zeros", [0, 7, 40_000])
def test_streams_that_follow_each_other_are_one(sizes: list[int], zeros: int) -> None:
    parts = [np.random.default_rng(size).bytes(size) for size in sizes]
    packed = b"".join(gzip.compress(part) + bytes(zeros) for part in parts)
    whole = b"".join(parts)
    assert inflate("gzip", memoryview(packed), len(whole), {}) == whole
    if whole:
        with pytest.raises(ValueError, match="inflates to more"):
            inflate("gzip", packed, len(whole) - 1, {})
    with pytest.raises(ValueError, match="too early"):
        inflate("gzip", packed[: -zeros - 3], len(whole), {})


def test_an_archive_that_would_fill_the_disk_is_refused_before_any_work(tmp_path: Path) -> None:
    """It says so of itself; no byte is unpacked."""
    group(tmp_path / "a.zarr")
    pack(tmp_path / "a.zarr", tmp_path / "a.ozx", stranger=bytes(4 * MEBIBYTE))
    image = open_image(tmp_path / "a.ozx")
    image.metadata["zarr"].files._sizes["stranger"] = 2**60
    with pytest.raises(OutputError, match="not enough space"):
        rehearse_output(image, tmp_path / "b.ozx")


@pytest.mark.parametrize("factor", [0.001, 0.999, 1.001])
@pytest.mark.parametrize("name", ["stranger", "0/c/0/0"])
def test_sizes_that_lie_are_found(tmp_path: Path, name: str, factor: float) -> None:
    make_bomb = {"0/c/0/0": bytes(32 * MEBIBYTE)} if name != "stranger" else {}
    group(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / name).unlink(missing_ok=True)
    content = {name: bytes(32 * MEBIBYTE)} | make_bomb
    pack(tmp_path / "a.zarr", tmp_path / "a.ozx", **content)
    declare(tmp_path / "a.ozx", name, int(factor * 32 * MEBIBYTE) if name == "stranger" else 2048)
    with little_memory(8 * MEBIBYTE), pytest.raises(InputError, match="not what the archive says"):
        save_image(open_image(tmp_path / "a.ozx"), tmp_path / "b.ozx")
    assert not (tmp_path / "b.ozx").exists()


def test_more_is_declared_than_is_there_with_its_checksum(tmp_path: Path) -> None:
    group(tmp_path / "a.zarr")
    pack(tmp_path / "a.zarr", tmp_path / "a.ozx", stranger=b"x" * 900)
    declare(tmp_path / "a.ozx", "stranger", 1000)
    with pytest.raises(
        InputError, match=r"stranger is not what the archive says .*900 bytes, 1000"
    ):
        save_image(open_image(tmp_path / "a.ozx"), tmp_path / "b.ozx")


def test_more_than_deflate_can_hold_is_not_believed(tmp_path: Path) -> None:
    group(tmp_path / "a.zarr")
    pack(tmp_path / "a.zarr", tmp_path / "a.ozx", stranger=b"x" * 900)
    declare(tmp_path / "a.ozx", "stranger", 2**31)
    assert "more bytes than it can hold" in refused(tmp_path / "a.ozx")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_that_are_packed_without_a_bound_are_refused(tmp_path: Path, method: int) -> None:
    group(tmp_path / "a.zarr")
    pack(tmp_path / "a.zarr", tmp_path / "a.ozx")
    with zipfile.ZipFile(tmp_path / "a.ozx", "a", method) as packed:
        packed.writestr("stranger", bytes(MEBIBYTE))
    assert "neither stored nor deflated" in refused(tmp_path / "a.ozx")


def test_links_in_archives_are_told_and_left_out(tmp_path: Path) -> None:
    group(tmp_path / "a.zarr")
    for name, words in (
        ("labels/away", ""),
        ("labels/cells/0/c/0/0", ""),
        ("0/c/0/0", "its 0/c/0/0 is a link"),
    ):
        (tmp_path / "a.zarr" / name).unlink(missing_ok=True)
        pack(tmp_path / "a.zarr", tmp_path / "a.ozx")
        link = zipfile.ZipInfo(name)
        link.external_attr = 0o120777 << 16
        with zipfile.ZipFile(tmp_path / "a.ozx", "a") as packed:
            packed.writestr(link, "/etc/passwd")
        if words:
            assert words in refused(tmp_path / "a.ozx")
            continue
        image = open_image(tmp_path / "a.ozx")
        if name == "labels/away":
            assert "are left out: labels/away" in image.metadata["warnings"][0]
            save_image(image, tmp_path / "b.ozx")
            with zipfile.ZipFile(tmp_path / "b.ozx") as packed:
                assert name not in packed.namelist()
        else:
            with pytest.raises(InputError, match="cells/0/c/0/0 is a link"):
                save_image(image, tmp_path / "c.ozx")


def test_many_threads_read_one_archive(tmp_path: Path) -> None:
    """zipfile takes turns: without that, some versions of Python give wrong bytes, or crash."""
    group(tmp_path / "a.zarr")
    pack(tmp_path / "a.zarr", tmp_path / "a.ozx")
    image = open_image(tmp_path / "a.ozx")
    files = image.metadata["zarr"].files
    names = [name for name in files.below("") if "/c/" in name] * 20
    expected = {name: (tmp_path / "a.zarr" / name).read_bytes() for name in names}
    with ThreadPoolExecutor(8) as readers:
        for name, found in zip(names, readers.map(files.read, names), strict=True):
            assert found == expected[name]


@pytest.mark.parametrize(("zarr_format", "shards"), [(2, None), (3, None), (3, (32, 64))])
def test_a_file_of_a_chunk_that_is_mostly_a_hole_is_refused_before_it_is_read(
    zarr_format: Any, shards: Any, tmp_path: Path
) -> None:
    """16 GB long, nothing on disk. A shard may be as long as all of its chunks."""
    pixels = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    array = zarr.create_array(
        str(tmp_path / "a.zarr"),
        shape=(64, 64),
        chunks=(32, 32),
        shards=shards,
        dtype="uint16",
        zarr_format=zarr_format,
    )
    array[...] = pixels
    np.testing.assert_array_equal(open_image(tmp_path / "a.zarr").pixels, pixels)
    os.truncate(tmp_path / "a.zarr" / ("0.0" if zarr_format == 2 else "c/0/0"), 16 * 10**9)
    started = time.process_time()
    told = r"chunk .*0 takes 16000000000 bytes, its array allows"
    with little_memory(20_000_000), pytest.raises(InputError, match=told):
        open_image(tmp_path / "a.zarr").region((), slice(0, 8), slice(0, 8))
    assert time.process_time() - started < 2
