"""Denoise files into a folder: everything refused before the first one, large ones tile by tile, what a killed process did gone on with."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from pairfree.denoising.cluster import connected, denoise_on
from pairfree.engine.model import Model
from pairfree.errors import ConfigError, OutputError
from pairfree.files.atomic import announced, output_error, remove_stale, require_space, write_bytes
from pairfree.files.formats.table import open_image, read_from
from pairfree.files.image import Image
from pairfree.files.limits import DEFAULT, Limits
from pairfree.files.listing import Entry, find_images, plan_outputs
from pairfree.files.messages import shown, size_text
from pairfree.files.sinks import is_journalled, journalled_bytes, open_sink

RESERVED_BYTES, LEAST_SHARE = 8e8, 0.3
"""Of the memory bound, what Python, torch and the files take; the network keeps at least that share."""
RESIDENT_SHARE = 0.05
"""Images larger than this share of the memory bound stay in their file."""
WHOLE = 4
"""An image that is read whole takes its bytes so often: as stored and decoded, its result, and what is written."""
PROBE_PX = 256
"""Side of the part of an image that is timed where a network sees whole images."""
MAP_BYTES = 4
"""Of a pixel of a map."""
LEDGER = ".unfinished.jsonl"


@dataclass(frozen=True)
class FileResult:
    """source, written   paths;  pixels, clipped   counts;  warnings   one line each;  before   done by an earlier process"""

    source: Path
    written: Path
    pixels: int
    clipped: int
    warnings: tuple[str, ...]
    before: bool = False


def network_bytes(max_bytes: float) -> float:
    """What of a bound for the whole process is left to the network."""
    return max(max_bytes - RESERVED_BYTES, LEAST_SHARE * max_bytes)


def resident_limits(max_bytes: float) -> Limits:
    """What is larger than a share of the bound stays in its file; what is read whole all the same must fit into the free memory."""
    free = psutil.virtual_memory().available
    return replace(
        DEFAULT,
        resident_bytes=int(RESIDENT_SHARE * max_bytes),
        max_bytes=min(DEFAULT.max_bytes, free // WHOLE),
    )


@dataclass
class Room:
    """Bytes on a disk: of results, and of the largest journal, since files are done one after the other and leave none."""

    results: int = 0
    journal: int = 0

    def add(self, nbytes: int, journalled: bool, path: Path) -> None:
        self.results += nbytes
        if journalled:
            self.journal = max(self.journal, nbytes - journalled_bytes(path))

    @property
    def needed(self) -> int:
        return self.results + self.journal


@dataclass
class Extent:
    """What is left to do, from the headers of files.

    pixels, planes    of them all;  disk, map_disk   room that results and maps of disagreement still take
    whole     bytes of memory for the largest image that is read whole;  plane   height and width of the largest plane
    """

    pixels: int = 0
    planes: int = 0
    disk: Room = field(default_factory=Room)
    map_disk: Room = field(default_factory=Room)
    whole: int = 0
    plane: tuple[int, int] = (0, 0)

    def add(self, image: Image, path: Path, map_path: Path | None) -> None:
        self.pixels += image.size // image.samples
        self.planes += math.prod(image.leading)
        self.disk.add(image.nbytes, is_journalled(image.stored, image.size), path)
        if map_path is not None:
            self.map_disk.add(MAP_BYTES * image.size, is_journalled(False, image.size), map_path)
        self.whole = max(self.whole, 0 if image.stored else WHOLE * image.nbytes)
        self.plane = max(self.plane, (image.height, image.width), key=math.prod)


@dataclass(frozen=True)
class Planned:
    """A call of ``denoise``, checked: what will be read and written, and nothing done yet.

    files    input, output and map (None without) of each;  before   results of an earlier process that stand, by output
    pixels   of all inputs;  left   what of them is not done;  max_bytes   of memory that are allowed
    """

    model: Model
    files: tuple[tuple[Entry, Path, Path | None], ...]
    before: dict[Path, FileResult]
    pixels: int
    left: Extent
    limits: Limits
    max_bytes: float
    overwrite: bool
    ledger: Ledger


def plan_files(
    load: Callable[[], Model],
    inputs: Sequence[str | Path],
    out: Path,
    *,
    max_bytes: float,
    overwrite: bool,
    skip_done: bool,
    disagreement: Path | None,
) -> Planned:
    """Read all headers and refuse what cannot be done. ``load`` gives the model once the outputs are known to be possible."""
    entries = find_images(inputs)
    ledger = Ledger(out)
    if overwrite and skip_done:
        raise ConfigError(
            "--overwrite and --skip-done exclude each other: one replaces what exists, the other leaves it"
        )
    may_exist = overwrite or skip_done
    planned = plan_outputs(entries, out, may_exist, finished=ledger.paths)
    model = load()
    if not ledger.belongs_to(model.identity):
        plan_outputs(entries, out, may_exist)  # refuses what another model wrote
    maps: dict[Entry, Path] = {}
    if disagreement is not None:
        if not model.method.disagrees:
            raise model.method.no_disagreement()
        maps = dict(plan_outputs(entries, disagreement, may_exist, ".tif", finished=ledger.paths))
        _check_apart([path for _, path in planned], list(maps.values()))
    limits, before, pixels, left = resident_limits(max_bytes), {}, 0, Extent()
    for entry, path in planned:
        found = ledger.result(entry, path, maps.get(entry))
        image = open_image(entry.path, limits)
        pixels += image.size // image.samples
        if found is None and skip_done and _stands(path, maps.get(entry)):
            found = FileResult(entry.path, path, image.size // image.samples, 0, (), before=True)
        if found is not None:
            before[path] = found
            continue
        model.check(image)
        left.add(image, path, maps.get(entry))
    require_space(out, left.disk.needed)
    if disagreement is not None:
        require_space(disagreement, left.map_disk.needed)
    files = tuple((entry, path, maps.get(entry)) for entry, path in planned)
    return Planned(model, files, before, pixels, left, limits, max_bytes, overwrite, ledger)


def _stands(path: Path, map_path: Path | None) -> bool:
    """Whether the result of a file is there; never half of it, since a file has its name only when it is complete."""
    there = [one for one in (path, map_path) if one is not None and one.exists()]
    if map_path is not None and len(there) == 1:
        raise OutputError(
            f"{shown(there[0])} exists and its partner of result and map does not: remove it, or pass --overwrite"
        )
    return bool(there)


def denoise_files(
    planned: Planned,
    on_file: Callable[[int, int, FileResult], None] | None,
    on_pixels: Callable[[int], None] | None,
    scheduler: str | None = None,
) -> list[FileResult]:
    """Do what was planned; see ``pairfree.denoise``."""
    for folder in {path.parent for _, path, _ in planned.files}:
        remove_stale(folder)
    results: list[FileResult] = []
    with contextlib.nullcontext() if scheduler is None else connected(scheduler) as client:
        for entry, path, map_path in planned.files:
            found = planned.before.get(path)
            if found is None:
                overwrite = planned.overwrite or path in planned.ledger.paths
                found = _denoise_file(planned, entry, path, map_path, overwrite, on_pixels, client)
                planned.ledger.add(entry, found, map_path)
            results.append(found)
            if on_file is not None:
                on_file(len(results), len(planned.files), found)
    planned.ledger.close()
    return results


def memory_needed(planned: Planned) -> tuple[int, int]:
    """Bytes that this process will take, with what it holds now, and beside them those on a GPU (0 without one)."""
    of_network = planned.model.predictor.working_bytes(*planned.left.plane)
    held = psutil.Process().memory_info().rss + planned.left.whole
    return (held, of_network) if planned.model.method.device.type == "cuda" else (held + of_network, 0)


def seconds_needed(planned: Planned) -> tuple[float, str]:
    """How long what is left will take, and from what that was found; writing a large file at its end comes on top.

    A network that learns each image says it of the largest plane; else it is that of a tile in the middle of the first image (of networks
    that see whole images, of a part of it), read and denoised once to warm up and once against the clock.
    """
    left, model = planned.left, planned.model
    if not left.planes:
        return 0.0, "nothing is left"
    each = model.predictor.seconds_for_image(*left.plane)
    if each is not None:
        return each * left.planes, f"at most ({each:.0f} s for each of {left.planes:,} planes)"
    per_px = _seconds_per_px(planned)
    return per_px * left.pixels, f"from one tile ({1e6 * per_px:.2f} s a megapixel)"


def _seconds_per_px(planned: Planned) -> float:
    image, predictor = open_image(planned.files[0][0].path, planned.limits), planned.model.predictor
    side = predictor.core_px or PROBE_PX
    starts = [length // 2 // side * side for length in (image.height, image.width)]
    rows, columns = (
        slice(start, min(start + side, length))
        for start, length in zip(starts, (image.height, image.width), strict=True)
    )
    plane = planned.model.plane_of(image, next(image.planes()))
    for _ in range(2):
        started = time.perf_counter()
        if predictor.whole_image:
            predictor.predict(plane.read(rows, columns))
        else:
            predictor.predict_plane(plane, lambda *part: None, within=(rows, columns))
    return (time.perf_counter() - started) / ((rows.stop - rows.start) * (columns.stop - columns.start))


def _denoise_file(
    planned: Planned,
    entry: Entry,
    path: Path,
    map_path: Path | None,
    overwrite: bool,
    on_pixels: Callable[[int], None] | None,
    client: Any,
) -> FileResult:
    model, limits = planned.model, planned.limits
    image = open_image(entry.path, limits)
    of_what = {**model.identity, "source": fingerprint(entry.path)}
    with contextlib.ExitStack() as held:
        sinks = [held.enter_context(open_sink(model.derived(image), path, overwrite, of_what))]
        if map_path is not None:
            sinks.append(
                held.enter_context(
                    open_sink(model.map_of(image), map_path, overwrite, {**of_what, "result": "disagreement"})
                )
            )
        if client is None:
            model.denoise_into(image, sinks[0], on_pixels)
        else:
            denoise_on(client, model, image, limits, sinks[0], on_pixels)
        for sink in sinks[1:]:
            model.disagreement_into(image, sink)
        with announced(planned.ledger.expect):
            for sink in sinks:
                sink.commit()
        _copy_beside(image, path.parent)
    warnings = (
        *image.metadata.get("warnings", []),
        *_beyond(image, planned.max_bytes),
        *model.strange(image),
    )
    return FileResult(entry.path, path, image.size // image.samples, sinks[0].clipped, warnings)


def _copy_beside(image: Image, folder: Path) -> None:
    """Files without pixels that the image's own file names, such as the companion of an OME-TIFF set, where they are not there yet."""
    for source in image.metadata.get("beside", []):
        if not (folder / source.name).exists():
            write_bytes(folder / source.name, source.read_bytes())


def _beyond(image: Image, max_bytes: float) -> list[str]:
    """A line where an image is read whole that takes more memory than is allowed."""
    taken = WHOLE * image.nbytes
    if image.stored or taken <= max_bytes:
        return []
    return [
        f"files of this kind are read whole: about {size_text(taken)} of memory, more than the {size_text(int(max_bytes))} of "
        "--max-memory; OME-Zarr and tiled TIFF are read tile by tile"
    ]


def _check_apart(results: Sequence[Path], maps: Sequence[Path]) -> None:
    both = {os.path.realpath(path) for path in results} & {os.path.realpath(path) for path in maps}
    if both:
        raise OutputError(
            f"{shown(min(both))}: would be a denoised image and a disagreement map; choose another folder for the maps"
        )


def fingerprint(path: Path) -> str:
    """What tells an image from another, a file, several or a folder: names in it, sizes and times of last change."""
    digest = hashlib.sha256()
    for root, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            one = Path(root, name)
            status = one.stat()
            digest.update(
                f"{one.relative_to(path)} {status.st_size} {status.st_mtime_ns}\n".encode(
                    "utf-8", "surrogatepass"
                )
            )
    if not path.is_dir():
        for one in read_from(path):
            status = one.stat()
            digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()


class Ledger:
    """Which files of a folder are done, kept in the output folder until all are."""

    def __init__(self, out: Path) -> None:
        self.path, self.out = out / LEDGER, out
        self._head: dict[str, Any] | None = None
        self._lines: dict[Path, dict[str, Any]] = {}
        self._expected: dict[Path, int] = {}
        try:
            first, *rest = self.path.read_text(encoding="utf-8").splitlines()
            self._stored = json.loads(first)
        except (OSError, ValueError):
            self._stored = None
            return
        for line in rest:
            try:
                words = json.loads(line)
                if "expected" in words:
                    self._expected[Path(words["expected"])] = int(words["inode"])
                    continue
                path = out / words["output"]
                if path.exists() and fingerprint(path) == words["result"]:
                    self._lines[path] = words
            except (ValueError, TypeError, KeyError):  # the last one of a killed process
                break

    @property
    def paths(self) -> set[Path]:
        """Outputs that an earlier process finished and that stand as it left them, those it was killed over, and their maps."""
        last = {
            path for path, inode in self._expected.items() if path.exists() and path.stat().st_ino == inode
        }
        return (
            set(self._lines) | last | {Path(words["map"]) for words in self._lines.values() if words["map"]}
        )

    def belongs_to(self, head: dict[str, Any]) -> bool:
        """Whether what was done was done by this; if not, it is forgotten."""
        self._head = json.loads(json.dumps(head))
        if self._stored == self._head:
            return True
        self._lines, self._expected = {}, {}
        return False

    def result(self, entry: Entry, path: Path, map_path: Path | None) -> FileResult | None:
        words = self._lines.get(path)
        if words is None or words["source"] != fingerprint(entry.path) or words["map"] != _text(map_path):
            return None
        return FileResult(
            entry.path, path, words["pixels"], words["clipped"], tuple(words["warnings"]), before=True
        )

    def add(self, entry: Entry, found: FileResult, map_path: Path | None) -> None:
        self._write({
            "output": str(found.written.relative_to(self.out)), "source": fingerprint(entry.path), "result": fingerprint(found.written),
            "pixels": found.pixels, "clipped": found.clipped, "warnings": found.warnings, "map": _text(map_path),
        })  # fmt: skip

    def expect(self, temporary: Path, final: Path) -> None:
        """An output is about to get its name: should the process be killed before ``add``, its inode tells that it may be replaced."""
        self._write({"expected": str(final.absolute()), "inode": temporary.stat().st_ino})

    def _write(self, words: dict[str, Any]) -> None:
        try:
            if self._stored != self._head:
                self.path.write_text(json.dumps(self._head) + "\n", encoding="utf-8")
                self._stored = self._head
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(words) + "\n")
        except OSError as error:
            raise output_error(error, self.path) from error

    def close(self) -> None:
        """All is done: nothing is left to go on with."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())
