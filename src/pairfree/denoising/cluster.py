"""Prediction on a Dask cluster: workers do tiles, one process writes what comes back.

Workers must see the input under the same path; the model travels to them. What a worker does to a tile is
what one process alone does, so results are equal bit for bit on machines of one kind. dask is an optional
package, imported when a cluster is asked for.
"""

from __future__ import annotations

import copy
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from pairfree.denoising.source import Source, locate_source, open_source
from pairfree.engine.model import Model
from pairfree.engine.receivers import Receiver
from pairfree.errors import ConfigError, MissingPackageError, PairfreeError
from pairfree.files.image import Image, Index
from pairfree.files.limits import Limits

LOCAL = "local"
TASK_PX = 2**22
"""Pixels of a task: long enough that sending it costs little, short enough that a lost worker loses little.
"""
TIMEOUT_S = 20.0
AHEAD = 3
"""Tasks for each worker that are under way or waiting: what has come back is written meanwhile."""
WORDS_OF_DASK = 120
"""Letters of what dask says that are repeated in a message."""
Tile = tuple[slice, slice]
OnPixels = Callable[[int], None] | None
"""Told how many pixels more are done."""


class Task(NamedTuple):
    """What a worker does at a time: several tiles of one plane, or one tile of several planes."""

    planes: list[Index]
    tiles: list[Tile]


class Part(NamedTuple):
    """What comes back of one tile of one plane."""

    plane: Index
    rows: slice
    columns: slice
    pixels: np.ndarray
    clipped: int


@contextmanager
def connect(scheduler: str) -> Iterator[Any]:
    """A Dask client, of a scheduler or of a new local cluster.

    Parameters
    ----------
    scheduler
        The address of a scheduler such as tcp://host:8786, or "local", or "local:4" for so many workers.

    Raises
    ------
    MissingPackageError
        Where dask is not installed.
    ConfigError
        For a scheduler that does not answer.
    """
    dask = _import_dask()
    if scheduler.partition(":")[0] == LOCAL:
        with _start_locally(dask, _count_workers(scheduler)) as client:
            yield client
        return
    try:
        client = dask.Client(scheduler, timeout=TIMEOUT_S)
    except (OSError, ValueError) as error:
        raise ConfigError(f"no Dask scheduler answers at {scheduler}: {_words_of(error)}") from None
    with client:
        yield client


def _import_dask() -> Any:
    """The package, whose functions have no types."""
    try:
        import distributed
    except ImportError:
        raise MissingPackageError(
            "prediction on a cluster needs the package dask: pip install 'pairfree[dask]'"
        ) from None
    return distributed


@contextmanager
def _start_locally(dask: Any, workers: int) -> Iterator[Any]:
    with ExitStack() as held:
        with _same_environment():
            made = dask.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=None,
                dashboard_address=None,
            )
            cluster = held.enter_context(made)
        yield held.enter_context(dask.Client(cluster))


@contextmanager
def _same_environment() -> Iterator[None]:
    """Take back what Dask sets in this process as it starts workers, OMP_NUM_THREADS and more."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


def _count_cores() -> int:
    """Those of this machine that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _count_workers(scheduler: str) -> int:
    """How many workers "local" or "local:N" asks for."""
    text = scheduler.partition(":")[2]
    if not text:
        return _count_cores()
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(
            f"`scheduler` {scheduler}: expected local, local:N with a number of workers, "
            "or an address such as tcp://host:8786"
        )
    return int(text)


def _words_of(error: Exception) -> str:
    return " ".join(str(error).split())[:WORDS_OF_DASK]


def denoise_on(
    client: Any,
    model: Model,
    image: Image,
    limits: Limits,
    sink: Receiver,
    on_pixels: OnPixels = None,
) -> None:
    """``model.denoise_into(image, sink)`` for the image of a file, by the workers of a Dask client.

    Parameters
    ----------
    client
        Of ``connect``.
    image
        Opened here under ``limits``; workers open it by themselves under the same ones.
    sink
        What it has finished is left out, the rest is written to it.
    on_pixels
        Told how many pixels more are done.

    Raises
    ------
    ConfigError
        For an image of no file, a scheduler without workers or that is gone, and workers that die over the
        same tiles.
    PairfreeError
        Whatever a worker met.
    """
    dask = _import_dask()
    model.check(image)
    if image.source is None:
        raise ConfigError(
            "only images of files are denoised on a cluster: workers read them by themselves"
        )
    if not client.nthreads():
        raise ConfigError("the Dask scheduler has no workers: start some with dask worker ADDRESS")
    waiting = tasks(model, image, sink, on_pixels)
    try:
        for part in _do_tasks(dask, client, model, image, limits, waiting):
            sink.write(part.plane, part.pixels, part.rows, part.columns, part.clipped)
            if on_pixels is not None:
                on_pixels(_area((part.rows, part.columns)))
    except dask.KilledWorker:
        raise ConfigError(
            f"{image.source}: worker after worker died over the same tiles, probably for want of memory; "
            "give a smaller `max_bytes`, or fewer workers a machine; "
            "what is done is kept, so run the same command again"
        ) from None
    except (dask.comm.CommClosedError, TimeoutError) as error:
        raise ConfigError(
            f"the Dask scheduler is gone ({_words_of(error)}); "
            "what is done is kept, so run the same command again"
        ) from None


def _do_tasks(
    dask: Any,
    client: Any,
    model: Model,
    image: Image,
    limits: Limits,
    waiting: Iterator[Task],
) -> Iterator[Part]:
    """What comes back, in any order; a few tasks for each worker are under way at a time."""
    slots = client.nthreads()  # tasks at a time, by the address of a worker
    beside = count_on_busiest(slots)
    most = torch.get_num_threads() if "OMP_NUM_THREADS" in os.environ else 0
    source = locate_source(image)
    shared = client.scatter(model, broadcast=True)
    under_way: dict[Any, Task] = {}  # a result that nobody holds is dropped by dask
    done = dask.as_completed()

    def submit_next() -> None:
        task = next(waiting, None)
        if task is not None:
            given = (shared, source, limits, *task, beside, most)
            future = client.submit(do_task, *given, pure=False, retries=2)
            under_way[future] = task
            done.add(future)

    for _ in range(AHEAD * sum(slots.values())):
        submit_next()
    for future in done:
        del under_way[future]
        yield from future.result()
        submit_next()


def count_on_busiest(slots: Mapping[str, int]) -> int:
    """Tasks at a time on the machine that has most of them; 1 without workers.

    Parameters
    ----------
    slots
        Tasks at a time of each worker by its address, such as tcp://host:port.
    """
    machines: Counter[str] = Counter()
    for address, count in slots.items():
        machines[address.rpartition(":")[0]] += count
    return max(machines.values(), default=1)


def _area(tile: Tile) -> int:
    rows, columns = tile
    return int((rows.stop - rows.start) * (columns.stop - columns.start))


def tasks(model: Model, image: Image, sink: Receiver, on_pixels: OnPixels) -> Iterator[Task]:
    """What is not finished yet: tiles of one plane, or one tile of all planes that share chunks of a file.

    Where statistics of a whole plane are held, a plane is one task.
    """
    predictor = model.predictor
    plane_at_once = bool(predictor.instance_layers) or predictor.whole_image
    for group in image.plane_groups():
        if len(group) > 1 and not plane_at_once:
            yield from _tasks_of_group(group, model, image, sink, on_pixels)
            continue
        most_px = None if plane_at_once else TASK_PX
        for index in group:
            yield from _tasks_of_plane(index, most_px, model, image, sink, on_pixels)


def _tasks_of_group(
    group: list[Index], model: Model, image: Image, sink: Receiver, on_pixels: OnPixels
) -> Iterator[Task]:
    """One tile of all planes at a time."""
    for tile in model.predictor.cores(image.height, image.width):
        planes = [index for index in group if _is_left(index, tile, sink, on_pixels)]
        if planes:
            yield Task(planes, [tile])


def _tasks_of_plane(
    index: Index,
    most_px: int | None,
    model: Model,
    image: Image,
    sink: Receiver,
    on_pixels: OnPixels,
) -> Iterator[Task]:
    """Tiles of one plane, together as soon as they have ``most_px`` pixels, or all of them for None."""
    tiles: list[Tile] = []
    pixels = 0
    for tile in model.predictor.cores(image.height, image.width):
        if not _is_left(index, tile, sink, on_pixels):
            continue
        tiles.append(tile)
        pixels += _area(tile)
        if most_px is not None and pixels >= most_px:
            yield Task([index], tiles)
            tiles, pixels = [], 0
    if tiles:
        yield Task([index], tiles)


def _is_left(index: Index, tile: Tile, sink: Receiver, on_pixels: OnPixels) -> bool:
    """Whether a tile is not finished; one that is counts as done."""
    if not sink.finished(index, *tile):
        return True
    if on_pixels is not None:
        on_pixels(_area(tile))
    return False


def do_task(
    model: Model,
    source: Source,
    limits: Limits,
    planes: list[Index],
    tiles: list[Tile],
    beside: int = 1,
    most: int = 0,
) -> list[Part]:
    """In a worker: do a task.

    Parameters
    ----------
    model
        As it came; a copy of it works.
    source, limits
        The image's file, and how it is opened.
    planes, tiles
        The task.
    beside
        Tasks at a time that this machine's cores are shared by.
    most
        Threads of a task; 0 for as many as that leaves.
    """
    threads = max(1, _count_cores() // beside)
    threads = min(threads, most) if most else threads
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    part = _Tiles(tiles)
    within = tiles[0] if len(planes) > 1 else None
    try:
        own = _own_copy(model)
        image = open_source(source, limits)
        own.denoise_into(image, part, planes=planes, within=within)
    except BaseException:
        _of_thread.given = (
            None  # a shortage of memory left it with smaller tiles, of which none is wanted
        )
        raise
    return part.found


_of_thread = threading.local()


def _own_copy(model: Model) -> Model:
    """A copy for this thread alone: predictors change as they work, and workers may have many threads."""
    if getattr(_of_thread, "given", None) is not model:
        _of_thread.given, _of_thread.model = model, copy.deepcopy(model)
    own: Model = _of_thread.model
    return own


class _Tiles:
    """A receiver that wants some tiles only."""

    def __init__(self, wanted: list[Tile]) -> None:
        self.wanted = {_corners(*tile) for tile in wanted}
        self.found: list[Part] = []

    def write(
        self, index: Index, block: np.ndarray, rows: slice, columns: slice, clipped: int = 0
    ) -> None:
        self.found.append(Part(index, rows, columns, block, clipped))

    def finished(self, index: Index, rows: slice, columns: slice) -> bool:
        return _corners(rows, columns) not in self.wanted

    def forget(self, index: Index) -> None:
        raise PairfreeError(
            "a worker ran out of memory for a tile; give a smaller `max_bytes`, or fewer workers a machine"
        )


def _corners(rows: slice, columns: slice) -> tuple[int, int, int, int]:
    """What slices are told apart by: they have no hash before Python 3.12."""
    return rows.start, rows.stop, columns.start, columns.stop
