"""Nikon's ND2 files, read only: their metadata through nd2 (``pip install 'pairfree[vendors]'``).

Frames are read by ourselves, so that none inflates beyond its declared size, and none that is
missing is taken for a black one.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError
from pairfree.files.formats.tiff_meta import Stated
from pairfree.files.formats.vendor_parts import Planes, choose_scene, make_image, name_axes, step_of
from pairfree.files.image import DType, Image, Index, Spacing
from pairfree.files.limits import DEFLATE, UNCOMPRESSED, Limits, check_declared, check_pages
from pairfree.files.messages import shown

MAGIC = 0x0ABECEDA
"""Begins every chunk."""
LEGACY_MAGIC = 0x0C000000
"""Begins files from before 2010, which are JPEG 2000."""
CHUNK = struct.Struct("<IIQ")
"""Head of a chunk: magic number, bytes of its name, bytes of its data."""
MAP_SIGNATURE = b"ND2 CHUNK MAP SIGNATURE 0000001!"
"""Ends the map of chunks, and begins the last 40 bytes of a file, which say where that lies."""
FRAME_NAME = b"ImageDataSeq|"
TIME_STAMP_BYTES = 8
"""In front of the pixels of a frame."""
KNOWN = {"T": "T", "Z": "Z"}
SPARSE = 100.0
"""Largest ratio of the frames that were planned to those that were recorded."""


@dataclass(frozen=True)
class Frame:
    """How a frame lies in the file: rows of pixels of components."""

    height: int
    width: int
    channels: int
    samples: int
    row_bytes: int
    dtype: DType
    packed: bool

    @property
    def n_bytes(self) -> int:
        """Of its rows."""
        return self.height * self.row_bytes


class Frames(Planes):
    """Planes of one position.

    Parameters
    ----------
    path
        Of the file.
    frame
        How each lies in it.
    leading
        Sizes of the axes in front of C.
    places
        Where the data of each frame begin, and how many bytes they are; None for those that were
        never recorded, whose pixels are zero.
    """

    def __init__(
        self,
        path: Path,
        frame: Frame,
        leading: tuple[int, ...],
        places: Sequence[tuple[int, int] | None],
    ) -> None:
        super().__init__()
        self.path, self.frame, self.leading, self.places = path, frame, leading, places
        channels = (frame.channels,) if frame.channels > 1 else ()
        samples = (frame.samples,) if frame.samples > 1 else ()
        self.shape = (*leading, *channels, frame.height, frame.width, *samples)
        self.dtype = frame.dtype.newbyteorder("=")
        self.plane_axes = 2 + len(samples)

    def plane(self, index: Index) -> np.ndarray:
        """One channel of a frame."""
        frame = self.frame
        of_frame = index[: len(self.leading)]
        channel = index[-1] if frame.channels > 1 else 0
        number = int(np.ravel_multi_index(of_frame, self.leading)) if self.leading else 0
        rows = self._rows(number)
        components = frame.channels * frame.samples
        used = rows[:, : frame.width * components * frame.dtype.itemsize]
        values = np.ascontiguousarray(used).view(frame.dtype)
        pixels = values.reshape(frame.height, frame.width, frame.channels, frame.samples)
        plane = pixels[:, :, channel]
        return np.array(plane if frame.samples > 1 else plane[..., 0], self.dtype)

    def _rows(self, number: int) -> np.ndarray:
        """(height, bytes of a row) of a frame."""
        frame, place = self.frame, self.places[number]
        if place is None:
            return np.zeros((frame.height, frame.row_bytes), np.uint8)
        start, size = place
        with self.path.open("rb") as file:
            file.seek(start)
            data = file.read(size if frame.packed else min(size, frame.n_bytes))
        if frame.packed:
            try:
                data = zlib.decompressobj().decompress(data, frame.n_bytes + 1)
            except zlib.error as error:
                raise self._damaged(number, str(error)) from error
        if len(data) < frame.n_bytes or (frame.packed and len(data) > frame.n_bytes):
            raise self._damaged(number, f"{len(data)} bytes, {frame.n_bytes} expected")
        return np.frombuffer(data, np.uint8).reshape(frame.height, frame.row_bytes)

    def _damaged(self, number: int, words: str) -> InputError:
        return InputError(
            f"{shown(self.path)}: frame {number} cannot be read ({words}); "
            "copy or export the file again"
        )


def read_nd2(path: Path, limits: Limits, scene: int | None = None) -> Image:
    """Read one position of an ND2 file.

    Parameters
    ----------
    path
        The file.
    limits
        What it may declare.
    scene
        Number of the position, from 0; None for the first.

    Raises
    ------
    InputError
        For what cannot be read, and for a position that does not exist.
    ImportError
        Where nd2 is missing.
    """
    from nd2 import ND2File

    found = _frames_of(path)
    with ND2File(path) as file:
        loops = _loops(file)
        scene, lines = choose_scene(path, scene, dict(loops).get("P", 1), "positions")
        frame = _frame(path, file)
        stated = _stated(file, lines)
    loops = [(name, size) for name, size in loops if size > 1]
    sizes = tuple(size for _, size in loops)
    leading = tuple(size for name, size in loops if name != "P")
    shape = (*leading, frame.channels, frame.height, frame.width, frame.samples)
    planned, recorded = math.prod(sizes), max(len(found), 1)
    check_pages(path, planned, limits)
    ratio = min(max(planned / recorded, 1.0), SPARSE)
    ratio *= DEFLATE if frame.packed else UNCOMPRESSED
    in_file = path.stat().st_size
    check_declared(path, shape, frame.dtype, limits, in_file, ratio, may_stay=True)
    padded = (*leading, frame.height, frame.row_bytes)
    check_declared(path, padded, np.dtype(np.uint8), limits, in_file, ratio, may_stay=True)
    places = _of_position(loops, scene, found)
    missing = sum(place is None for place in places)
    if missing:
        lines.append(
            f"{missing} of {len(places)} frames were never recorded; their pixels are zero"
        )
    names = [name for name, _ in loops if name != "P"]
    letters = name_axes(names, KNOWN) + ("C" if frame.channels > 1 else "")
    letters += "YXS" if frame.samples > 1 else "YX"
    pixels = Frames(path, frame, leading, places)
    return make_image(path, pixels, letters, stated, lines, limits)


def count_positions_of_nd2(path: Path) -> int:
    """How many positions an ND2 file holds; errors as of ``read_nd2``."""
    from nd2 import ND2File

    _frames_of(path)
    with ND2File(path) as file:
        return dict(_loops(file)).get("P", 1)


def _loops(file: Any) -> list[tuple[str, int]]:
    """Axes of the sequence of frames, slowest first, P for positions."""
    return [(name, int(size)) for name, size in file.sizes.items() if name not in "CYXS"]


def _of_position(
    loops: Sequence[tuple[str, int]], scene: int, found: dict[int, tuple[int, int]]
) -> list[tuple[int, int] | None]:
    """Places of the frames of one position, in their order."""
    sizes = [size for _, size in loops]
    numbers = np.arange(math.prod(sizes)).reshape(sizes)
    names = [name for name, _ in loops]
    if "P" in names:
        numbers = np.take(numbers, scene, axis=names.index("P"))
    return [found.get(number) for number in numbers.reshape(-1).tolist()]


def _frame(path: Path, file: Any) -> Frame:
    """How frames lie in the file; InputError where their sizes make no sense."""
    attributes = file.attributes
    components = int(attributes.componentCount)
    channels = int(attributes.channelCount or 1)
    samples = 3 if components == 3 * channels else 1
    dtype = np.dtype(file.dtype).newbyteorder("<")
    width = attributes.widthPx
    sound = isinstance(width, int) and components > 0
    row_bytes = int(attributes.widthBytes or 0)
    if not sound or row_bytes < width * components * dtype.itemsize:
        raise InputError(
            f"{shown(path)}: declares rows of {row_bytes} bytes for {width} pixels of "
            f"{components} components; the file is damaged, copy or export it again"
        )
    return Frame(
        height=int(attributes.heightPx),
        width=width,
        channels=components // samples,
        samples=samples,
        row_bytes=row_bytes,
        dtype=dtype,
        packed=attributes.compressionType == "lossless",
    )


def _stated(file: Any, lines: list[str]) -> Stated:
    """Pixel size, time step, names of channels and bits that the metadata state."""
    try:
        calibration, names = _from_channels(file.metadata.channels or [])
    except Exception:  # nd2 fails on channels that name no dye
        calibration, names = _from_raw(file)
    spacing: Spacing = {}
    steps = {"X": calibration, "Y": calibration}
    for loop in file.experiment:
        if loop.type == "ZStackLoop":
            steps["Z"] = abs(float(loop.parameters.stepUm))
    for axis, size in steps.items():
        step = step_of(size, "µm", ("µm",))
        if step is not None:
            spacing[axis] = step
    periods = {period for loop in file.experiment for period in _periods(loop)}
    if len(periods) == 1:
        step = step_of(periods.pop() / 1000, "s", ("s",))
        if step is not None:
            spacing["T"] = step
    elif periods:
        lines.append("its time steps differ between phases, and are left out")
    depth = int(file.attributes.bitsPerComponentSignificant or 0)
    fewer = 0 < depth < int(file.attributes.bitsPerComponentInMemory)
    return Stated(spacing, tuple(names) if any(names) else (), depth if fewer else None)


def _from_channels(channels: Sequence[Any]) -> tuple[float, list[str]]:
    """Size of a pixel in µm, 0 where it is not known, and names of channels."""
    names = [one.channel.name or "" for one in channels]
    if not channels:
        return 0.0, names
    volume = channels[0].volume
    size = float(volume.axesCalibration[0]) if volume.axesCalibrated[0] else 0.0
    return size, names


def _from_raw(file: Any) -> tuple[float, list[str]]:
    """As ``_from_channels``, from the metadata as they lie in the file."""
    for name, found in file.unstructured_metadata().items():
        if not name.startswith("ImageMetadataSeq"):
            continue
        raw = found.get("SLxPictureMetadata", found)
        planes = raw.get("PicturePlanes", {})
        named = planes.get("PlaneNew") or planes.get("Plane") or {}
        names = [str(one.get("Description", "")) for one in named.values()]
        return float(raw.get("Calibration", 0.0)) if raw.get("Calibrated") else 0.0, names
    return 0.0, []


def _periods(loop: Any) -> list[float]:
    """Milliseconds between the frames of a loop over time: as measured, else as planned."""
    if loop.type == "TimeLoop":
        phases = [loop.parameters]
    elif loop.type == "NETimeLoop":
        phases = [one for one in loop.parameters.periods if one.count > 1]
    else:
        return []
    found = []
    for phase in phases:
        measured = phase.periodDiff.avg if phase.periodDiff is not None else 0
        found.append(float(measured or phase.periodMs))
    return found


def _frames_of(path: Path) -> dict[int, tuple[int, int]]:
    """Where the data of each frame begin, and how many bytes they are, by its number."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        head = file.read(4)
        if head == struct.pack("<I", LEGACY_MAGIC):
            raise InputError(
                f"{shown(path)}: is an ND2 file from before 2010 (JPEG 2000), which is not "
                "supported; save it as TIFF in NIS-Elements or ImageJ"
            )
        if size < 40 or head != struct.pack("<I", MAGIC):
            raise InputError(f"{shown(path)}: is no ND2 file; its name should end otherwise")
        file.seek(-40, 2)
        end = file.read(40)
        if not end.startswith(MAP_SIGNATURE):
            raise InputError(
                f"{shown(path)}: ends without its map of frames, it was not written or copied "
                "completely; copy or export it again"
            )
        start, length = _chunk_at(file, int.from_bytes(end[32:], "little"), size)
        file.seek(start)
        content = file.read(length)
        found = {}
        for name, place in _entries(content):
            number = name[len(FRAME_NAME) : -1]
            if name.startswith(FRAME_NAME) and number.isdigit():
                first, length = _chunk_at(file, place, size)
                stored = length - TIME_STAMP_BYTES
                if stored > 0:
                    found[int(number)] = (first + TIME_STAMP_BYTES, stored)
    return found


def _entries(content: bytes) -> list[tuple[bytes, int]]:
    """Name and place of each chunk that the map lists."""
    found: list[tuple[bytes, int]] = []
    at = 0
    while True:
        stop = content.find(b"!", at) + 1
        name = content[at:stop]
        if stop == 0 or name == MAP_SIGNATURE or stop + 16 > len(content):
            return found
        found.append((name, int.from_bytes(content[stop : stop + 8], "little")))
        at = stop + 16


def _chunk_at(file: Any, place: int, size: int) -> tuple[int, int]:
    """Where the data of a chunk begin, and how many bytes of them the file has: 0 for no chunk."""
    if place + CHUNK.size > size:
        return 0, 0
    file.seek(place)
    magic, name_bytes, data_bytes = CHUNK.unpack(file.read(CHUNK.size))
    start = place + CHUNK.size + name_bytes
    if magic != MAGIC or start > size:
        return 0, 0
    return start, min(data_bytes, size - start)
