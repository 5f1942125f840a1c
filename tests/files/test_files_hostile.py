"""Damaged and hostile files: an Image or an InputError, fast, without memory (R9, R10, R11)."""

from __future__ import annotations

import bz2
import gc
import gzip
import importlib
import io
import math
import multiprocessing
import re
import struct
import sys
import time
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import mrcfile
import nibabel
import numpy as np
import PIL.Image
import psutil
import pydicom
import pytest
import SimpleITK
import tifffile
import zarr
from makers_electron import write_dm3, write_emd
from makers_hamamatsu import Page, write_ndpi
from makers_leica import Picture, write_lif
from makers_nikon import times, write_nd2
from makers_olympus import write_oib, write_oif
from makers_zeiss import planes_of, write_czi, xml_of
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

import children
from pairfree.errors import InputError
from pairfree.files import Image, Limits, open_image, save_image
from pairfree.files.fidelity import compare

ALLOWED_BYTES = 50 * 2**20


def refused(
    path: Path, seconds: float = 1.0, limits: Limits | None = None, extra: int = ALLOWED_BYTES
) -> str:
    """The message of the refusal, after its seconds of a core and its memory were checked.

    Memory is that of Python and that of NumPy arrays.
    """
    start = time.process_time()
    with pytest.raises(InputError):
        open_image(path, limits or Limits())
    taken = time.process_time() - start
    gc.collect()
    tracemalloc.start()  # a second time, because tracing makes everything slower
    try:
        with pytest.raises(InputError) as caught:
            open_image(path, limits or Limits())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert taken < seconds
    assert peak < extra
    assert path.name in message
    assert "\n" not in message
    return message


def tiff(
    path: Path,
    tags: list[tuple[int, int, int, int]],
    size: int = 1024,
    next_page: int = 0,
    big: bool = False,
) -> Path:
    """A little-endian TIFF of ``size`` bytes with one page of (code, type, count, inline value) tags."""
    if big:
        body = b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, len(tags))
        body += b"".join(struct.pack("<HHQQ", *tag) for tag in tags) + struct.pack("<Q", next_page)
    else:
        body = (
            b"II*\0"
            + struct.pack("<IH", 8, len(tags))
            + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        )
        body += struct.pack("<I", next_page)
    path.write_bytes(body.ljust(size, b"\0"))
    return path


def page(
    width: int,
    height: int,
    compression: int = 1,
    offset: int = 500,
    count: int = 500,
    bits: int = 16,
) -> list[tuple[int, int, int, int]]:
    values = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, compression), (262, 3, 1)]
    values += [(273, 4, offset), (277, 3, 1), (278, 4, height), (279, 4, count)]
    return [(code, kind, 1, value) for code, kind, value in values]


@pytest.mark.parametrize(
    ("width", "height"),
    [(65536, 32768), (65536, 65536), (2**31, 2**31 - 1), (2**32 - 1, 2**32 - 1), (0, 0), (0, 5)],
)
@pytest.mark.parametrize("compression", [1, 5, 7, 8, 32773, 50000])
def test_tiff_declares_more_than_it_has(
    tmp_path: Path, width: int, height: int, compression: int
) -> None:
    message = refused(tiff(tmp_path / "lie.tif", page(width, height, compression)))
    assert "declares" in message


def test_bigtiff_of_2_to_62_bytes(tmp_path: Path) -> None:
    refused(
        tiff(
            tmp_path / "lie.tif", [(a, b, 1, d) for a, b, _, d in page(2**31 - 1, 2**30)], big=True
        )
    )


def test_huge_tile_around_one_pixel(tmp_path: Path) -> None:
    tags = [t for t in page(1, 1, 8) if t[0] not in (273, 278, 279)]
    tags += [(322, 4, 1, 2**30), (323, 4, 1, 2**30), (324, 4, 1, 500), (325, 4, 1, 500)]
    refused(tiff(tmp_path / "tile.tif", tags))


def test_page_chain_that_loops(tmp_path: Path) -> None:
    assert "points back" in refused(tiff(tmp_path / "loop.tif", page(4, 4), next_page=8))


def test_a_million_pages(tmp_path: Path) -> None:
    count = 10**6
    pages = np.zeros(
        count,
        dtype=np.dtype(
            [("n", "<u2"), ("tag", "<u2", 2), ("count", "<u4"), ("value", "<u4"), ("next", "<u4")]
        ),
    )
    pages["n"], pages["tag"], pages["count"], pages["value"] = 1, (256, 4), 1, 1
    pages["next"] = 8 + pages.itemsize * np.arange(1, count + 1)
    pages["next"][-1] = 0
    (tmp_path / "pages.tif").write_bytes(b"II*\0" + struct.pack("<I", 8) + pages.tobytes())
    assert "pages" in refused(tmp_path / "pages.tif", seconds=2.0)


@pytest.mark.parametrize(
    "description",
    [
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" '
        'SizeX="4" SizeY="4" SizeZ="999999" SizeC="9999" SizeT="99">'
        "<TiffData/></Pixels></Image></OME>",
        "ImageJ=1.53\nimages=999999999\nslices=999999999\n",
        '{"shape": [1000000, 4, 4]}',
    ],
    ids=["ome", "imagej", "shaped"],
)
def test_text_that_declares_planes_that_are_not_there(tmp_path: Path, description: str) -> None:
    tifffile.imwrite(
        tmp_path / "lie.tif", np.ones((4, 4), np.uint8), description=description, metadata=None
    )
    refused(tmp_path / "lie.tif")


def bomb(codec: str, n_bytes: int) -> bytes:
    return bytes(
        {
            "deflate": imagecodecs.zlib_encode,
            "lzw": imagecodecs.lzw_encode,
            "zstd": imagecodecs.zstd_encode,
        }[codec](bytes(n_bytes))
    )


@pytest.mark.parametrize(("codec", "number"), [("deflate", 8), ("lzw", 5), ("zstd", 50000)])
@pytest.mark.parametrize("factor", [2, 300])
def test_tiff_strip_that_inflates_beyond_its_size(
    tmp_path: Path, codec: str, number: int, factor: int
) -> None:
    """A strip that holds ``factor`` times its declared size is refused within about that size.

    It is the only strip of 512 x 512 px of uint16.
    """
    declared = 512 * 512 * 2
    data = bomb(codec, declared * factor)
    path = tiff(tmp_path / "bomb.tif", page(512, 512, number, offset=1024, count=len(data)))
    path.write_bytes(path.read_bytes() + data)
    assert "inflates" in refused(path, seconds=2.0, extra=int(1.1 * declared) + len(data) + 2**20)


def png(path: Path, width: int, height: int, stream: bytes, text: bytes = b"") -> Path:
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", stream),
        (b"IEND", b""),
    ]
    if text:
        chunks.insert(1, (b"zTXt", text))
    body = b"".join(
        struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def test_png_bombs_and_lies(tmp_path: Path) -> None:
    stream = zlib.compress(bytes(200 * 2**20), 1)
    assert "inflate" in refused(
        png(tmp_path / "a.png", 64, 64, stream), seconds=2.0, extra=8 * 2**20
    )
    assert "declares" in refused(png(tmp_path / "b.png", 2**31 - 1, 2**31 - 1, b"x"))
    assert "end early" in refused(png(tmp_path / "c.png", 1000, 1000, zlib.compress(bytes(50))))
    good = zlib.compress(bytes(4 * 5))
    refused(
        png(tmp_path / "d.png", 4, 4, good, b"note\0\0" + zlib.compress(bytes(100 * 2**20))),
        seconds=2.0,
    )


def test_limits_apply_to_honest_files_too(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    np.save(tmp_path / "a.npy", pixels)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels))
    for name in ("a.tif", "a.npy", "a.png"):
        assert "limit" in refused(tmp_path / name, limits=Limits(max_bytes=1000))
        assert "limit" in refused(tmp_path / name, limits=Limits(max_pixels=1000))


def test_npy_of_8_tb(tmp_path: Path) -> None:
    for shape in ("(1000000, 1000000)", "(-5, 5)", "(4, 99999999999999999999)", "(" * 5000):
        header = (
            f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(118)
            + b"\n"
        )
        (tmp_path / "lie.npy").write_bytes(
            b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + bytes(900)
        )
        refused(tmp_path / "lie.npy")


@pytest.mark.parametrize(
    ("columns", "rows", "sections"),
    [(30000, 30000, 30000), (2**31 - 1,) * 3, (-5, 4, 4), (0, 4, 4)],
)
def test_mrc_header_that_lies(tmp_path: Path, columns: int, rows: int, sections: int) -> None:
    _mrc(tmp_path / "lie.mrc")
    data = bytearray((tmp_path / "lie.mrc").read_bytes())
    data[:12] = struct.pack("<3i", columns, rows, sections)
    (tmp_path / "lie.mrc").write_bytes(data)
    assert "declares" in refused(tmp_path / "lie.mrc")


@pytest.mark.parametrize("extended", [-1, 2**31 - 1, 100_000])
def test_mrc_extended_header_that_lies(tmp_path: Path, extended: int) -> None:
    _mrc(tmp_path / "lie.mrc")
    data = bytearray((tmp_path / "lie.mrc").read_bytes())
    data[92:96] = struct.pack("<i", extended)
    (tmp_path / "lie.mrc").write_bytes(data)
    assert "extended header" in refused(tmp_path / "lie.mrc")


@pytest.mark.parametrize("name", ["lie.nii", "lie.nii.gz"])
def test_nifti_header_that_lies(tmp_path: Path, name: str) -> None:
    for shape in ((32767, 32767, 32767), (32767, 32767, 3), (-4, 5, 6)):
        header = nibabel.Nifti1Header()
        header["dim"] = [3, *shape, 1, 1, 1, 1]
        header["vox_offset"], header["magic"] = 352, b"n+1"
        data = header.binaryblock + bytes(4 + 400)
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
        refused(tmp_path / name)


def test_a_nifti_bomb_is_read_no_further_than_declared(tmp_path: Path) -> None:
    """A gigabyte of zeros behind a small volume is left packed."""
    _nifti(tmp_path / "a.nii")
    data = (tmp_path / "a.nii").read_bytes()
    packer = zlib.compressobj(9, wbits=31)
    packed = (
        packer.compress(data)
        + b"".join(packer.compress(bytes(2**24)) for _ in range(8))
        + packer.flush()
    )
    (tmp_path / "b.nii.gz").write_bytes(packed)
    tracemalloc.start()
    try:
        assert open_image(tmp_path / "b.nii.gz").shape == (3, 24, 20)
        assert tracemalloc.get_traced_memory()[1] < ALLOWED_BYTES
    finally:
        tracemalloc.stop()


def packed_zeros(data: bytes, packing: str, gigabytes: float) -> bytes:
    """``data`` and zeros after it."""
    packer = bz2.BZ2Compressor() if packing == ".bz2" else zlib.compressobj(9, wbits=31)
    pieces = [packer.compress(data)]
    zeros = bytes(2**24)
    pieces += [packer.compress(zeros) for _ in range(int(64 * gigabytes))]
    return b"".join([*pieces, packer.flush()])


PACKED = {".gz": "a.mrc", ".bz2": "a.mrc", ".mgz": "a.mgh", ".img.gz": "a.img"}
"""Plain files of which there are packed ones, by the end of the name of those."""


def named_packed(folder: Path, suffix: str) -> Path:
    """Where the packed file belongs; of a pair, the header is there already."""
    plain = folder / PACKED[suffix]
    SEEDS[plain.name](plain)
    if suffix == ".img.gz":
        header = (folder / "a.hdr").read_bytes()
        (folder / "bomb.hdr.gz").write_bytes(gzip.compress(header))
    return folder / f"bomb{'' if suffix in ('.mgz', '.img.gz') else '.mrc'}{suffix}"


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".img.gz"])
def test_a_bomb_behind_the_pixels_is_left_packed(tmp_path: Path, suffix: str) -> None:
    path = named_packed(tmp_path, suffix)
    plain = tmp_path / PACKED[suffix]
    path.write_bytes(packed_zeros(plain.read_bytes(), suffix[-4:], 0.5))
    tracemalloc.start()
    try:
        assert open_image(path).shape == (3, 24, 20)
        assert tracemalloc.get_traced_memory()[1] < ALLOWED_BYTES
    finally:
        tracemalloc.stop()


def test_a_bomb_behind_the_pixels_of_freesurfer_is_refused(tmp_path: Path) -> None:
    """There tags are kept, as far as they are what tags can be."""
    path = named_packed(tmp_path, ".mgz")
    path.write_bytes(packed_zeros((tmp_path / "a.mgh").read_bytes(), ".gz", 0.5))
    assert "after its pixels" in refused(path, seconds=3.0, extra=300 * 2**20)


@pytest.mark.parametrize(
    ("suffix", "place", "sizes"),
    [
        (".gz", 0, struct.pack("<3i", 30000, 30000, 30000)),
        (".gz", 92, struct.pack("<i", 2**30)),
        (".bz2", 0, struct.pack("<3i", 30000, 30000, 30000)),
        (".bz2", 92, struct.pack("<i", 2**30)),
        (".mgz", 4, struct.pack(">3i", 30000, 30000, 30000)),
    ],
)
def test_packed_headers_that_lie(tmp_path: Path, suffix: str, place: int, sizes: bytes) -> None:
    path = named_packed(tmp_path, suffix)
    data = bytearray((tmp_path / PACKED[suffix]).read_bytes())
    data[place : place + len(sizes)] = sizes
    path.write_bytes(packed_zeros(bytes(data), suffix[-4:], 0.1))
    assert "declares" in refused(path)


@pytest.mark.parametrize("offset", [2.0**30, -(2.0**30), float("nan")])
def test_zeros_in_front_of_packed_pixels_are_not_unpacked(tmp_path: Path, offset: float) -> None:
    _nifti(tmp_path / "a.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[108:112] = struct.pack("<f", offset)
    (tmp_path / "b.nii.gz").write_bytes(packed_zeros(bytes(data), ".gz", 1.0))
    assert "in front of its pixels" in refused(tmp_path / "b.nii.gz")


@pytest.mark.parametrize("keep", [0, 3, 8, 100, 0.5, 0.9, 0.99])
@pytest.mark.parametrize(
    "name",
    [
        "a.tif",
        "b.tif",
        "a.png",
        "a.npy",
        "a.mrc",
        "four.mrc",
        "a.mrc.gz",
        "a.mrc.bz2",
        "a.nii",
        "a.nii.gz",
        "a.img",
        "a.mha",
        "a.mgz",
    ],
)
def test_truncated_files(tmp_path: Path, name: str, keep: float) -> None:
    path = tmp_path / name
    SEEDS[name](path)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    refused(path)


def test_missing_strip_is_no_black_strip(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.ones((64, 64), np.uint8), rowsperstrip=16, compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags[279].overwrite((0, 10, 10, 10))
    assert "strip 1" in refused(path)


def _pixels(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 60000, shape, dtype=np.uint16)


def _imagej(path: Path) -> None:
    tifffile.imwrite(
        path,
        _pixels((3, 24, 20)),
        imagej=True,
        resolution=(2, 2),
        metadata={"axes": "ZYX", "unit": "um", "Labels": ["a"] * 3},
    )


def _mrc(path: Path) -> None:
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(_pixels((3, 24, 20)))
        mrc.set_extended_header(np.frombuffer(bytes(range(200)), dtype="V1"))


def _nifti(path: Path) -> None:
    nibabel.Nifti1Image(_pixels((20, 24, 3)), np.diag([1.0, 1.0, 2.0, 1.0])).to_filename(path)


def _mrc_packed(path: Path) -> None:
    plain = path.with_name("plain.mrc")
    _mrc(plain)
    pack = bz2.compress if path.suffix == ".bz2" else gzip.compress
    path.write_bytes(pack(plain.read_bytes()))


def _mrc_of_four_bits(path: Path) -> None:
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data((_pixels((3, 24, 10)) % 256).astype(np.uint8).view(np.int8))
        mrc.header.nx, mrc.header.mode = 20, 101


def _nifti_pair(path: Path) -> None:
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    nibabel.Nifti1Pair(_pixels((20, 24, 3)), affine).to_filename(path)


def _analyze(path: Path) -> None:
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    nibabel.AnalyzeImage(_pixels((20, 24, 3)).astype(np.int16), affine).to_filename(path)


def _freesurfer(path: Path) -> None:
    nibabel.MGHImage(_pixels((20, 24, 3)).astype(np.int32), np.eye(4)).to_filename(path)


def _metaimage(path: Path) -> None:
    head = (
        "ObjectType = Image\nNDims = 3\nDimSize = 20 24 3\nElementSpacing = 1 1 2\n"
        "ElementType = MET_USHORT\nElementDataFile = LOCAL\n"
    )
    path.write_bytes(head.encode() + _pixels((3, 24, 20)).tobytes())


def _dicom(path: Path) -> None:
    """A CT slice, or the kind of object that its name says."""
    from pydicom.data import get_testdata_file

    dataset = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    kind = path.stem
    if kind in DICOM_KINDS:
        del dataset.PixelPaddingValue
        dataset.Modality, dataset.Rows, dataset.Columns = "MR", 24, 20
        DICOM_KINDS[kind](dataset)
    if kind == "rle":
        dataset.compress(RLELossless)
    dataset.save_as(path)
    if kind == "bare":
        path.write_bytes(path.read_bytes()[132:])


def _ybr(dataset: pydicom.Dataset, samples: int = 3, kind: str = "YBR_FULL") -> None:
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, kind
    dataset.PlanarConfiguration, dataset.PixelRepresentation = 0, 0
    dataset.RescaleIntercept = 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = _pixels((24, 20, samples)).astype(np.uint8).tobytes()


def _palette(dataset: pydicom.Dataset) -> None:
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "PALETTE COLOR", 0
    del dataset.RescaleIntercept, dataset.RescaleSlope
    for colour in ("Red", "Green", "Blue"):
        name = f"{colour}PaletteColorLookupTable"
        dataset.add_new(f"{name}Descriptor", "US", [100, 0, 16])
        dataset.add_new(f"{name}Data", "OW", _pixels((100,)).tobytes()[:: 1 if name > "C" else -1])
    dataset.PixelData = (_pixels((24, 20)) % 100).tobytes()


def _overlay(dataset: pydicom.Dataset) -> None:
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.PixelData = _pixels((24, 20)).tobytes()
    dataset.add_new((0x6000, 0x0102), "US", 12)


def _floats(dataset: pydicom.Dataset) -> None:
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    del dataset.RescaleIntercept, dataset.RescaleSlope
    dataset.BitsAllocated = 32
    dataset.add_new("FloatPixelData", "OF", _pixels((24, 20)).astype("<f4").tobytes())


def _by_frame(dataset: pydicom.Dataset) -> None:
    dataset.NumberOfFrames = 2
    dataset.PixelData = _pixels((2, 24, 20)).tobytes()
    groups = []
    for slope in (1, 2.5):
        inner, outer = pydicom.Dataset(), pydicom.Dataset()
        inner.RescaleSlope, inner.RescaleIntercept = slope, -3
        outer.PixelValueTransformationSequence = [inner]
        groups.append(outer)
    del dataset.RescaleIntercept, dataset.RescaleSlope
    dataset.PerFrameFunctionalGroupsSequence = groups


def _mosaic(dataset: pydicom.Dataset) -> None:
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "MOSAIC"]
    dataset.PixelData = _pixels((24, 20)).tobytes()
    block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0A, "US", 3)


def _deflated(dataset: pydicom.Dataset) -> None:
    dataset.PixelData = (_pixels((24, 20)) % 4096).tobytes()
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian


DICOM_KINDS: dict[str, Callable[[pydicom.Dataset], None]] = {
    "ybr": _ybr,
    "half": lambda dataset: _ybr(dataset, 2, "YBR_FULL_422"),
    "palette": _palette,
    "overlay": _overlay,
    "floats": _floats,
    "frames": _by_frame,
    "mosaic": _mosaic,
    "deflated": _deflated,
    "bare": _overlay,
}


def _zipped_zarr(path: Path) -> None:
    save_image(Image(_pixels((3, 24, 20)), "ZYX", {"Z": (2.0, "µm")}, family="ozx"), path, True)


SEEDS: dict[str, Callable[[Path], None]] = {
    "a.tif": lambda p: tifffile.imwrite(
        p, _pixels((40, 30)), compression="zlib", predictor=2, rowsperstrip=7
    ),
    "b.tif": lambda p: tifffile.imwrite(
        p,
        _pixels((2, 40, 30)),
        byteorder=">",
        photometric="minisblack",
        metadata={"axes": "CYX"},
        ome=True,
    ),
    "c.tif": _imagej,
    "d.tif": lambda p: tifffile.imwrite(
        p, _pixels((40, 30, 3)), photometric="rgb", compression="lzw", tile=(16, 16), bigtiff=True
    ),
    "a.svs": lambda p: tifffile.imwrite(
        p, _pixels((40, 30)), description="Aperio|MPP = 0.5", metadata=None, tile=(16, 16)
    ),
    "a.ndpi": lambda p: write_ndpi(
        p,
        [Page((_pixels((16, 64, 3)) % 256).astype(np.uint8), 4), Page(np.zeros((8, 32, 3), "u1"))],
    ),
    "a.png": lambda p: p.write_bytes(imagecodecs.png_encode(_pixels((40, 30)))) and None,
    "a.npy": lambda p: np.save(p, _pixels((40, 30))),
    "a.mrc": _mrc,
    "four.mrc": _mrc_of_four_bits,
    "a.mrc.gz": _mrc_packed,
    "a.mrc.bz2": _mrc_packed,
    "a.hdr": _nifti_pair,
    "a.img": _nifti_pair,
    "analyze.hdr": _analyze,
    "a.mgh": _freesurfer,
    "a.mgz": _freesurfer,
    "a.nii": _nifti,
    "a.nii.gz": _nifti,
    "a.mha": _metaimage,
    "a.dcm": _dicom,
    "rle.dcm": _dicom,
    **{f"{kind}.dcm": _dicom for kind in DICOM_KINDS},
    "a.jpg": lambda p: (
        p.write_bytes(imagecodecs.jpeg_encode(_pixels((40, 30)).astype(np.uint8))) and None
    ),
    "a.ozx": _zipped_zarr,
    "a.bmp": lambda p: (
        p.write_bytes(imagecodecs.bmp_encode(_pixels((40, 30)).astype(np.uint8))) and None
    ),
}


MAKERS: dict[str, Callable[[Path], object]] = {
    "a.czi": lambda p: write_czi(
        p, planes_of(_pixels((2, 24, 20)), "C", 5), xml_of({"X": 1e-7, "Y": 1e-7}, ["a", "b"])
    ),
    "a.oif": lambda p: write_oif(p, _pixels((2, 1, 1, 24, 20))),
    "a.oib": lambda p: write_oib(p, _pixels((2, 1, 1, 24, 20))),
    "a.lif": lambda p: write_lif(p, [Picture(_pixels((3, 24, 20)), "ZYX", {"Z": 1e-6})]),
    "a.nd2": lambda p: write_nd2(p, _pixels((2, 24, 20, 1)), [times(2, 100.0)], packed=True),
    "a.emd": lambda p: write_emd(
        p, [(_pixels((24, 20)).astype(np.float32), (("y", 0.5, "nm"), ("x", 0.5, "nm")))]
    ),
    "a.dm3": lambda p: write_dm3(p, _pixels((24, 20)), (("y", 0.5, "nm"), ("x", 0.5, "nm"))),
}
"""Files of microscopes' makers."""
SEEDS |= MAKERS  # type: ignore[arg-type]
NEEDED = {
    "a.oib": "olefile",
    "a.lif": "liffile",
    "a.nd2": "nd2",
    "a.emd": "rsciio",
    "a.dm3": "rsciio",
}
"""Optional packages that read some of them."""


WITHOUT_ANOTHER = {"a.czi", "four.mrc"}
"""Whose mutants no other package reads as they are."""


def read_by_others(path: Path) -> np.ndarray:
    """Pixels by the package that people would use, with a rescale where the file states one."""
    if path.suffix in (".tif", ".svs"):
        return np.asarray(tifffile.imread(path))
    if path.suffix == ".ndpi":
        return read_tiles(path)
    if path.suffix in (".png", ".jpg", ".bmp"):
        with PIL.Image.open(path) as image:
            return np.asarray(image.convert("RGB") if image.mode == "P" else image)
    if path.suffix == ".npy":
        return np.asarray(np.load(path, allow_pickle=False))
    if ".mrc" in path.name:
        with mrcfile.open(path, permissive=True) as file:
            if file.data is None:
                raise ValueError("4 bits are not read by mrcfile")
            return np.array(file.data)
    if path.suffix in (".nii", ".gz", ".hdr", ".img", ".mgh", ".mgz"):
        return np.asarray(nibabel.load(path).dataobj).T  # type: ignore[attr-defined]
    if path.suffix == ".ozx":
        store = zarr.storage.ZipStore(path, mode="r")
        return np.asarray(zarr.open_array(store, path="0", mode="r")[...])
    if path.name in MAKERS:
        return read_makers_by_others(path)
    if path.suffix == ".mha":
        return np.asarray(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))))
    return read_by_pydicom(path)


def read_tiles(path: Path) -> np.ndarray:
    """The first image by tifffile, each tile by itself: it would decode a damaged JPEG as one, too."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.series[0].keyframe
        out = np.zeros(page.shaped[2:], page.dtype)
        for tile, (_, _, y, x, _), (_, high, wide, _) in page.segments():
            if tile is None:
                raise ValueError("a tile is missing")
            into = out[y : y + high, x : x + wide]
            into[...] = tile[0, : len(into), : into.shape[1]]
    return out


def read_makers_by_others(path: Path) -> np.ndarray:
    """The first image, by the package of its format, or by that of the planes within it."""
    if path.suffix in (".lif", ".nd2"):
        package = importlib.import_module(NEEDED[path.name])
        return np.asarray(package.imread(path))
    if path.suffix == ".oif":
        planes = sorted(path.with_name("a.oif.files").glob("*.tif"))
        return np.stack([tifffile.imread(one) for one in planes])
    if path.suffix == ".oib":
        olefile = importlib.import_module("olefile")
        with olefile.OleFileIO(str(path), raise_defects=olefile.DEFECT_INCORRECT) as file:
            info = file.openstream("OibInfo.txt").read().decode("utf-16", "replace")
            names = [f"Stream0000{i}=Storage00001/s_C00{i}Z001T001.tif" for i in (1, 2)]
            if not all(name in info for name in names):
                raise ValueError("another list of files")
            streams = [file.openstream(f"Storage00001/Stream0000{i}").read() for i in (1, 2)]
        return np.stack([tifffile.imread(io.BytesIO(one)) for one in streams])
    if path.suffix == ".czi":
        raise ValueError("others read the copies of the directory that lie within the tiles")
    kind = {".emd": "emd", ".dm3": "digitalmicrograph"}[path.suffix]
    return np.asarray(importlib.import_module(f"rsciio.{kind}").file_reader(path)[0]["data"])


def read_by_pydicom(path: Path) -> np.ndarray:
    """Intensities, or colours; a mosaic as slices."""
    dataset = pydicom.dcmread(path, force=True)
    if dataset.file_meta.get("TransferSyntaxUID") is None:
        raise ValueError("pydicom does not guess the transfer syntax of pixels")
    if dataset.get("HighBit", 0) + 1 > dataset.get("BitsStored", 32):
        raise ValueError("pydicom does not look at HighBit")
    pixels = dataset.pixel_array
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, dataset)
    kinds = dataset.get("ImageType") or ""
    if "MOSAIC" in ([kinds] if isinstance(kinds, str) else list(kinds)):
        count = dataset.private_block(0x0019, "SIEMENS MR HEADER")[0x0A].value
        side = math.isqrt(count - 1) + 1
        strips = np.array_split(pixels, side)
        pixels = np.stack([tile for strip in strips for tile in np.array_split(strip, side, 1)])
        pixels = pixels[:count]
    sources = [dataset]
    if "RescaleSlope" not in dataset and "RescaleIntercept" not in dataset:
        groups = dataset.get("PerFrameFunctionalGroupsSequence") or []
        sources = [group.PixelValueTransformationSequence[0] for group in groups] or sources
    slopes = [float(one.get("RescaleSlope", 1)) for one in sources]
    intercepts = [float(one.get("RescaleIntercept", 0)) for one in sources]
    along = (-1,) + (1,) * (pixels.ndim - 1) if len(sources) > 1 else ()
    return np.asarray(pixels * np.reshape(slopes, along or 1) + np.reshape(intercepts, along or 1))


PLANES_MISSING = re.compile(r"its settings declare \d+ planes along .*, \d+ are there")
"""What is told of an OIF or OIB."""


def same_as_others(image: Image, path: Path) -> bool:
    """False where the other package reads none, or where planes are missing and we say so.

    Fails where it reads something else. Ours are float32 where the file's are rescaled.
    """
    if any(PLANES_MISSING.search(line) for line in image.metadata.get("warnings", ())):
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = np.squeeze(read_by_others(path))
        except Exception:
            return False
    found = np.squeeze(image.pixels)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.astype(np.float64), expected.astype(np.float64), rtol=1e-6)
    return True


COPIED = 4
"""Every so many images that are opened are written, too."""


def check_copy(image: Image, path: Path) -> None:
    """What was opened as DICOM can be written, and its copy has lost nothing."""
    if path.suffix == ".dcm":
        copy = path.with_name("copy.dcm")
        save_image(image, copy, overwrite=True)
        assert [check.name for check in compare(path, copy) if check.kept is False] == []


STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
"""Of Linux; elsewhere memory is not looked at."""


def peak() -> int:
    """Most memory that this process has held since it was cleared, bytes."""
    found = re.search(r"VmHWM:\s+(\d+)", STATUS.read_text()) if STATUS.exists() else None
    return 1024 * int(found[1]) if found else 0


def peak_from_now_on() -> int:
    """Forget what earlier tests held."""
    if CLEAR.exists():
        CLEAR.write_text("5")
    return peak()


def open_mutants(folder: Path, name: str, count: int) -> dict[str, float]:
    """1 to 8 bytes are edited in each file, most of them in the headers, and a fifth is truncated.

    Any other exception fails the test by itself. What is opened has the pixels that another package
    reads. Returns numbers for the record.
    """
    path = folder / name
    SEEDS[name](path)
    seed = path.read_bytes()
    rng = np.random.default_rng(list(name.encode()))
    opened, equal = 0, 0
    slowest, before = 0.0, peak_from_now_on()
    for i in range(count):
        data = bytearray(seed)
        for _ in range(rng.integers(1, 9)):
            reach = min(len(data), 600) if rng.random() < 0.7 else len(data)
            at = (
                int(rng.integers(reach))
                if name[1:] != ".tif" or rng.random() < 0.5
                else int(len(data) - 1 - rng.integers(reach))
            )
            data[at] = rng.integers(256)
        if i % 5 == 0:
            data = data[: rng.integers(len(data))]
        path.write_bytes(data)
        start = time.process_time()
        image, message = None, ""
        try:
            image = open_image(path, Limits(max_bytes=2**28, max_pixels=2**28))
        except InputError as error:
            message = str(error)
        assert isinstance(image, Image) or path.name in message
        assert "\n" not in message
        slowest = max(slowest, time.process_time() - start)
        if image is not None:
            opened += 1
            equal += same_as_others(image, path)
            if opened % COPIED == 0:
                check_copy(image, path)
    grown = peak() - before
    assert 2 * equal >= opened or name in WITHOUT_ANOTHER
    assert slowest < 2.0
    assert grown < 512e6
    return {
        "mutants": count,
        "opened": opened,
        "equal to another reader": equal,
        "slowest s": round(slowest, 3),
        "grown MB": round(grown / 1e6),
    }


MOST_MEMORY, MOST_SECONDS = 2 * 2**30, 900
"""Of the process that reads mutants by a maker's package; memory beyond what its imports have mapped."""


def open_mutants_bounded(
    folder: Path, name: str, count: int, results: multiprocessing.SimpleQueue[dict[str, float]]
) -> None:
    """In a child whose memory and time end where they are bounded."""
    resource = importlib.import_module("resource")
    most = psutil.Process().memory_info().vms + MOST_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
    results.put(open_mutants(folder, name, count))


def mutants_of(folder: Path, name: str, count: int) -> dict[str, float]:
    """Numbers of ``open_mutants``; files of makers are read in a process of its own."""
    if name not in MAKERS or sys.platform == "win32":
        return open_mutants(folder, name, count)
    if name in NEEDED:
        pytest.importorskip(NEEDED[name])
    results = children.CONTEXT.SimpleQueue()
    child = children.start(open_mutants_bounded, folder, name, count, results)
    child.join()
    assert child.exitcode == 0, f"ended by {child.exitcode} at {folder / name}"
    return results.get()


@pytest.mark.parametrize("name", list(SEEDS))
def test_200_mutations_give_an_image_or_a_refusal(tmp_path: Path, name: str) -> None:
    mutants_of(tmp_path, name, 200)


@pytest.mark.nightly
@pytest.mark.parametrize("name", list(SEEDS))
def test_10000_mutations_give_an_image_or_a_refusal(
    tmp_path: Path, name: str, record_property: Callable[[str, object], None]
) -> None:
    for what, number in mutants_of(tmp_path, name, 10_000).items():
        record_property(what, number)
