"""Prediction on a Dask cluster: workers do tiles, one process writes what comes back.

Workers must see the input under the same path; the model travels to them. What a worker does to a tile is
what one process alone does, so results are equal bit for bit on machines of one kind. Whatever fails there
is one line here, and what has come back stands.
"""

from __future__ import annotations

import copy
import itertools
import os
import pkgutil
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from pairfree.denoising.connection import count_cores, import_dask, words_of
from pairfree.denoising.source import Source, locate_source, open_source
from pairfree.engine.model import Model
from pairfree.engine.receivers import Receiver
from pairfree.errors import ConfigError, PairfreeError
from pairfree.files.image import Image, Index
from pairfree.files.limits import Limits
from pairfree.version import __version__

TASK_PX = 2**22
"""Pixels of a task: long enough that sending it costs little, short enough that a lost worker loses little.
"""
LOOK_S = 2.0
"""How often it is asked for workers while nothing comes back."""
PATIENCE_S = 60.0
"""How long it is waited for new workers when all are gone."""
AHEAD = 3
"""Tasks for each worker that are under way or waiting: what has come back is written meanwhile."""
KEPT = "what is done is kept, so run the same command again, with or without the cluster"
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
    dask = import_dask()
    model.check(image)
    if image.source is None:
        raise ConfigError(
            "only images of files are denoised on a cluster: workers read them by themselves"
        )
    waiting = tasks(model, image, sink, on_pixels)
    for part in _do_tasks(dask, client, model, image, limits, waiting):
        sink.write(part.plane, part.pixels, part.rows, part.columns, part.clipped)
        if on_pixels is not None:
            on_pixels(_area((part.rows, part.columns)))


@contextmanager
def _one_line(dask: Any, image: Image) -> Iterator[None]:
    """Whatever goes wrong on a cluster is a ConfigError of one line."""
    try:
        yield
    except PairfreeError:
        raise
    except dask.KilledWorker:
        raise ConfigError(
            f"{image.source}: worker after worker died over the same tiles, probably for want of memory; "
            f"give a smaller `max_bytes`, or fewer workers a machine; {KEPT}"
        ) from None
    except CancelledError:
        raise ConfigError(f"the Dask scheduler is gone; {KEPT}") from None
    except (dask.comm.CommClosedError, TimeoutError, OSError) as error:
        raise ConfigError(f"the Dask scheduler is gone ({words_of(error)}); {KEPT}") from None
    except Exception as error:  # of a package that is missing, or of another version, somewhere
        raise ConfigError(
            f"the cluster failed ({type(error).__name__}: {words_of(error)}); install the same versions of "
            f"pairfree, torch and dask for the scheduler, all workers and here; {KEPT}"
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
    source = locate_source(image)
    most = torch.get_num_threads() if "OMP_NUM_THREADS" in os.environ else 0
    with _one_line(dask, image):
        slots = client.nthreads()  # tasks at a time, by the address of a worker
        if not slots:
            raise ConfigError(
                "the Dask scheduler has no workers: start some with dask worker ADDRESS"
            )
        _check_versions(client)
        common = _share(client, model), source, limits
        how = count_on_busiest(slots), most
        under_way: set[Any] = set()  # a result that nobody holds is dropped by dask

        def submit(tasks: Iterable[Task]) -> None:
            for task in tasks:
                given = (*common, *task, *how)
                under_way.add(client.submit(do_task, *given, pure=False, retries=2))

        submit(itertools.islice(waiting, AHEAD * sum(slots.values())))
        while under_way:
            for future in _wait(dask, client, list(under_way)):
                under_way.remove(future)
                yield from future.result()
                submit(itertools.islice(waiting, 1))


def _check_versions(client: Any) -> None:
    """ConfigError for a worker without pairfree, or with another version of it.

    It would die of the first task, or compute other pixels.
    """
    found = client.run(pkgutil.resolve_name, "pairfree.version:__version__", on_error="return")
    for address, version in found.items():
        if version == __version__ or isinstance(version, OSError):  # such a worker is gone
            continue
        has = version if isinstance(version, str) else f"none ({words_of(version)})"
        raise ConfigError(
            f"the Dask worker {address} needs pairfree {__version__} and has {has}; "
            f"install it there with its packages; {KEPT}"
        )


def _share(client: Any, model: Model) -> Any:
    """The model on the cluster: should the workers that hold it die, the scheduler gives it to others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dask would rather hold large objects by workers alone
        return client.submit(_as_given, model, pure=False, retries=2)


def _as_given(model: Model) -> Model:
    return model


def _wait(dask: Any, client: Any, under_way: list[Any]) -> list[Any]:
    """Those that are done; ConfigError where all workers are gone for long."""
    gone_since = None
    while True:
        try:
            return list(dask.wait(under_way, LOOK_S, "FIRST_COMPLETED").done)
        except TimeoutError:
            if client.nthreads():
                gone_since = None
                continue
        gone_since = gone_since or time.monotonic()
        if time.monotonic() - gone_since > PATIENCE_S:
            raise ConfigError(
                f"all Dask workers are gone; start some with dask worker ADDRESS; {KEPT}"
            )


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
    threads = max(1, count_cores() // beside)
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
