"""What denoising files will do: its outputs, what it refuses, and the memory, disk and time that it takes."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import psutil

from pairfree.denoising.ledger import FileResult, Ledger, result_exists
from pairfree.denoising.order import DenoisingOrder
from pairfree.denoising.outbox import Outbox, open_outbox
from pairfree.engine.model import Model
from pairfree.errors import ConfigError, InputError, NoImageError, OutputError, PairfreeError
from pairfree.files.atomic import require_space
from pairfree.files.formats.quiet import quiet_readers
from pairfree.files.image import Image, Stored
from pairfree.files.journal import journalled_bytes
from pairfree.files.limits import DEFAULT, Limits
from pairfree.files.listing import Entry, find_images, plan_outputs
from pairfree.files.messages import shown
from pairfree.files.named import named_inputs
from pairfree.files.opening import rehearse_output
from pairfree.files.sinks import is_journalled

RESERVED_BYTES, LEAST_SHARE = 8e8, 0.3
"""Of the memory bound, what Python, torch and the files take; the network keeps at least that share."""
RESIDENT_SHARE = 0.05
"""Images larger than this share of the memory bound stay in their file."""
WHOLE = 4
"""An image that is read whole takes its bytes so often: stored, decoded, its result, and what is written."""
OF_PIECE = 3
"""A part that is decoded in one piece takes its bytes so often: stored, inflated, and as an array."""
PIECE_SHARE, SMALL_PIECE = 0.3, 2**26
"""Of the memory bound, what such a part may take; one of so many bytes is always read."""
PROBE_PX = 256
"""Side of the part of an image that is timed where a network sees whole images."""
MOST_NAMED = 50
"""Bad files that one message names."""
MAP_BYTES = 4
"""Of a pixel of a map."""


def network_bytes(max_bytes: float) -> float:
    """What of a bound for the whole process is left to the network."""
    return max(max_bytes - RESERVED_BYTES, LEAST_SHARE * max_bytes)


def process_bytes(network: float) -> int:
    """Bound for the whole process that leaves so many bytes to the network."""
    return math.ceil(min(network + RESERVED_BYTES, network / LEAST_SHARE))


def resident_limits(max_bytes: float) -> Limits:
    """Limits of reading under a bound for the whole process.

    What is larger than a share of the bound stays in its file; what is read whole all the same must fit into
    the free memory. A part that is decoded in one piece must fit into the bound.
    """
    free = psutil.virtual_memory().available
    resident = int(RESIDENT_SHARE * max_bytes)
    piece = max(SMALL_PIECE, int(PIECE_SHARE * max_bytes / OF_PIECE))
    return replace(
        DEFAULT,
        resident_bytes=resident,
        max_bytes=min(DEFAULT.max_bytes, free // WHOLE),
        piece_bytes=min(DEFAULT.piece_bytes, piece),
    )


def memory_of_whole(image: Image) -> int:
    """Bytes of memory that an image takes that is read whole; those of a part where it stays in its file."""
    if isinstance(image.data, Stored):
        return OF_PIECE * image.data.piece_bytes
    return WHOLE * image.nbytes


def pixels_of(image: Image) -> int:
    """Samples of a pixel counted once."""
    return image.size // image.samples


@dataclass
class DiskSpace:
    """Bytes on a disk: of results, and of the largest journal.

    Files are done one after the other and leave no journal.
    """

    sent: bool = False
    """Each result is sent to a server, and leaves the disk before the next is made."""
    results: int = 0
    """Bytes of results; of the largest where they are sent."""
    journal: int = 0
    """Bytes of the largest journal."""

    def add(self, nbytes: int, journalled: bool, path: Path) -> None:
        """One more result; what an earlier process left in its journal is there already."""
        self.results = max(self.results, nbytes) if self.sent else self.results + nbytes
        if journalled:
            self.journal = max(self.journal, nbytes - journalled_bytes(path))

    @property
    def needed(self) -> int:
        """Bytes of both together."""
        return self.results + self.journal


@dataclass
class Extent:
    """What is left to do, from the headers of files."""

    pixels: int = 0
    planes: int = 0
    disk: DiskSpace = field(default_factory=DiskSpace)
    """What results still take."""
    map_disk: DiskSpace = field(default_factory=DiskSpace)
    """What maps of disagreement still take."""
    whole: int = 0
    """Bytes of memory for the largest image that is read whole, or part that is decoded in one piece."""
    plane: tuple[int, int] = (0, 0)
    """Height and width of the largest plane."""

    def add(self, image: Image, path: Path, map_path: Path | None) -> None:
        """One more image, its output, and its map or None."""
        self.pixels += pixels_of(image)
        self.planes += math.prod(image.leading)
        self.disk.add(image.nbytes, is_journalled(image.stored, image.size), path)
        if map_path is not None:
            self.map_disk.add(MAP_BYTES * image.size, is_journalled(False, image.size), map_path)
        self.whole = max(self.whole, memory_of_whole(image))
        self.plane = max(self.plane, (image.height, image.width), key=math.prod)


class FilePlan(NamedTuple):
    """One file: what is read, what is written, and its map of disagreement (None without)."""

    entry: Entry
    path: Path
    map_path: Path | None
    local: Path
    """Where the result is made: ``path``, or, where that is on a server, a place on a disk."""


@dataclass(frozen=True)
class Planned:
    """A call of ``denoise``, checked: what will be read and written, and nothing done yet."""

    model: Model
    files: tuple[FilePlan, ...]
    before: dict[Path, FileResult]
    """Results of an earlier process that stand, by output."""
    unsent: dict[Path, FileResult]
    """Results of an earlier process that are to be sent to their server, by output."""
    pixels: int
    """Of all inputs."""
    left: Extent
    """What of them is not done."""
    limits: Limits
    max_bytes: float
    """Of memory that are allowed to the process."""
    overwrite: bool
    ledger: Ledger
    outbox: Outbox
    """Where results are made."""
    skip_bad: bool
    bad: list[str]
    """A line on each file that is left out; those whose pixels turn out to be damaged are added to it."""


def plan_files(load: Callable[[], Model], order: DenoisingOrder) -> Planned:
    """Read all headers and refuse what cannot be done.

    Parameters
    ----------
    load
        Gives the model, once the outputs are known to be possible.
    order
        What was asked.

    Raises
    ------
    InputError, OutputError, ConfigError
        For what cannot be read, written or done.
    """
    inputs = named_inputs(order.inputs)
    out, overwrite, skip_done = Path(order.out), order.overwrite, order.skip_done
    disagreement = None if order.disagreement is None else Path(order.disagreement)
    locked: list[InputError] = []
    entries = find_images(inputs, order.scene, locked, without=out)
    if overwrite and skip_done:
        raise ConfigError(
            "`overwrite` and `skip_done` exclude each other: one replaces what exists, the other leaves it"
        )
    may_exist = overwrite or skip_done
    outbox = open_outbox(out)
    ledger = Ledger(out, outbox.folder)
    outputs = plan_outputs(entries, out, may_exist, finished=ledger.paths, on_server=True)
    stood = ledger.paths
    model = load()
    if not ledger.belongs_to(model.identity):
        _refuse_others(entries, out, may_exist, stood)
    maps: dict[Entry, Path] = {}
    if disagreement is not None:
        if not model.method.disagrees:
            raise model.method.no_disagreement()
        maps = dict(plan_outputs(entries, disagreement, may_exist, ".tif", finished=ledger.paths))
        _check_apart((path for _, path in outputs), maps.values())
    files = tuple(
        FilePlan(entry, path, maps.get(entry), outbox.place(path)) for entry, path in outputs
    )
    limits = resident_limits(order.max_bytes)
    with quiet_readers():
        found = _read_headers(files, model, ledger, outbox.sends, limits, skip_done)
    left, bad = found.left, found.bad
    _refuse_bad(bad, locked, entries, order.skip_bad)
    outbox.require_space(left.disk.needed)
    if disagreement is not None:
        require_space(disagreement, left.map_disk.needed)
    good = tuple(one for one in files if one.entry not in bad)
    return Planned(
        model=model,
        files=good,
        before=found.before,
        unsent=found.unsent,
        pixels=found.pixels,
        left=left,
        limits=limits,
        max_bytes=order.max_bytes,
        overwrite=overwrite,
        ledger=ledger,
        outbox=outbox,
        skip_bad=order.skip_bad,
        bad=list(dict.fromkeys(map(str, [*locked, *bad.values()]))),
    )


@dataclass
class _Found:
    """What the headers of files say."""

    left: Extent
    """What is left to do."""
    before: dict[Path, FileResult] = field(default_factory=dict)
    """Results that stand, by output."""
    unsent: dict[Path, FileResult] = field(default_factory=dict)
    """Results that are made and not sent, by output."""
    pixels: int = 0
    """Of all files."""
    bad: dict[Entry, PairfreeError] = field(default_factory=dict)
    """Why some cannot be denoised."""


def _refuse_others(
    entries: Sequence[Entry], out: Path, may_exist: bool, stood: Collection[Path]
) -> None:
    """OutputError for results of another model, which were let pass, unless they may be replaced."""
    if stood:
        plan_outputs(entries, out, may_exist, on_server=True)


def _read_headers(
    files: Iterable[FilePlan],
    model: Model,
    ledger: Ledger,
    sends: bool,
    limits: Limits,
    skip_done: bool,
) -> _Found:
    """What is done and what is left, which is checked by the model."""
    found = _Found(Extent(disk=DiskSpace(sent=sends)))
    for one in files:
        try:
            image = one.entry.open(limits)
            done = _find_result(one, image, ledger, skip_done)
            unsent = None if done else ledger.unsent(one.entry, one.path, one.map_path)
            if done is None and unsent is None:
                model.check(image)
                rehearse_output(model.describe_result(image), one.path)
        except (InputError, OutputError) as error:
            found.bad[one.entry] = error
            continue
        found.pixels += pixels_of(image)
        if done is not None:
            found.before[one.path] = done
        elif unsent is not None:
            found.unsent[one.path] = unsent
        else:
            found.left.add(image, one.local, one.map_path)
    return found


def _refuse_bad(
    bad: dict[Entry, PairfreeError],
    locked: Sequence[InputError],
    entries: Sequence[Entry],
    skip_bad: bool,
) -> None:
    """InputError where bad files and closed folders are not to be left out, or are all there is.

    A file that holds several images is one file, and what is wrong with it is said once.
    """
    all_bad = len(bad) == len(entries)
    refused = bad
    if not all_bad:
        refused = {one: why for one, why in bad.items() if not isinstance(why, NoImageError)}
        if skip_bad or not (refused or locked):
            return
    found = list({str(error): error for error in [*locked, *refused.values()]}.values())
    if len(found) == 1:
        raise found[0]
    bad_files = len({one.path for one in refused}) + len(locked)
    files = len({one.path for one in entries}) + len(locked)
    named = " | ".join(str(error) for error in found[:MOST_NAMED])
    more = f" | and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    remedy = "mend them" if all_bad else "mend them, or leave them out with `skip_bad`"
    raise InputError(f"{bad_files} of {files} files cannot be denoised; {remedy}: {named}{more}")


def _check_apart(results: Iterable[Path], maps: Iterable[Path]) -> None:
    both = {os.path.realpath(path) for path in results} & {os.path.realpath(path) for path in maps}
    if both:
        raise OutputError(
            f"{shown(min(both))}: would be a denoised image and a disagreement map; "
            "choose another folder for the maps"
        )


def _find_result(one: FilePlan, image: Image, ledger: Ledger, skip_done: bool) -> FileResult | None:
    """What an earlier process made of a file, or, where that is wanted, whatever stands there."""
    done = ledger.result(one.entry, one.path, one.map_path)
    if done is None and skip_done and _is_there(one):
        return FileResult(
            one.entry.path,
            one.path,
            pixels_of(image),
            0,
            (),
            before=True,
            scene=one.entry.scene,
        )
    return done


def _is_there(one: FilePlan) -> bool:
    """Whether the result of a file exists, and its map where one is wanted."""
    if one.map_path is None:
        return result_exists(one.path)
    there = [path for path in (one.path, one.map_path) if result_exists(path)]
    if len(there) == 1:
        raise OutputError(
            f"{shown(there[0])} exists and its partner of result and map does not: "
            "remove it, or pass `overwrite`"
        )
    return bool(there)


def memory_needed(planned: Planned) -> tuple[int, int]:
    """Bytes that this process will take, with what it holds now, and those on a GPU (0 without one)."""
    of_network = planned.model.predictor.working_bytes(*planned.left.plane)
    held = psutil.Process().memory_info().rss + planned.left.whole
    if planned.model.method.device.type == "cuda":
        return held, of_network
    return held + of_network, 0


def seconds_needed(planned: Planned) -> tuple[float, str]:
    """How long what is left will take, and from what that was found.

    A network that learns each image says it of the largest plane; else it is that of a tile in the middle of
    the first image (of networks that see whole images, of a part of it), read and denoised once to warm up
    and once against the clock. Writing a large file at its end comes on top.
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
    """Timed on the first image whose middle can be read."""
    for one in planned.files[:-1]:
        try:
            return _time_image(planned, one.entry)
        except InputError:  # damage that shows in the pixels alone
            continue
    return _time_image(planned, planned.files[-1].entry)


def _time_image(planned: Planned, entry: Entry) -> float:
    predictor = planned.model.predictor
    image = entry.open(planned.limits)
    side = predictor.core_px or PROBE_PX
    rows, columns = _middle(image.height, side), _middle(image.width, side)
    plane = planned.model.open_plane(image, next(image.planes()))
    for _ in range(2):
        started = time.perf_counter()
        if predictor.whole_image:
            predictor.predict(plane.read(rows, columns))
        else:
            predictor.predict_plane(plane, lambda *part: None, within=(rows, columns))
    seconds = time.perf_counter() - started
    return seconds / float((rows.stop - rows.start) * (columns.stop - columns.start))


def _middle(length: int, side: int) -> slice:
    """The tile in the middle of so many pixels."""
    start = length // 2 // side * side
    return slice(start, min(start + side, length))
