"""Prediction on a Dask cluster: tiles are worked on by its workers, results come back here and are written by one process.

Workers must see the input under the same path; the model travels to them. What a worker does to a tile is what one process alone does, so
results are equal bit for bit on machines of one kind. dask is an optional package, imported when a cluster is asked for.
"""

from __future__ import annotations

import copy
import os
import platform
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pairfree.engine.model import Model, Receiver
from pairfree.errors import ConfigError, InputError, MissingPackageError, PairfreeError
from pairfree.files.formats.table import open_image
from pairfree.files.image import Image
from pairfree.files.limits import Limits

LOCAL = "local"
TASK_PX = 2**22
"""Pixels of a task: long enough that sending it costs little, short enough that a lost worker loses little."""
TIMEOUT_S = 20.0
AHEAD = 3
"""Tasks for each worker that are under way or waiting: what has come back is written meanwhile."""
Part = tuple[tuple[int, ...], slice, slice, np.ndarray, int]
Task = tuple[list[tuple[int, ...]], list[tuple[slice, slice]]]


@contextmanager
def connected(scheduler: str) -> Iterator[Any]:
    """A Dask client of the scheduler at that address, or of a new local cluster: "local", "local:4" for so many workers."""
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise MissingPackageError(
            "prediction on a cluster needs the package dask: pip install 'pairfree[dask]'"
        ) from None
    if scheduler.partition(":")[0] != LOCAL:
        try:
            client = Client(scheduler, timeout=TIMEOUT_S)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"no Dask scheduler answers at {scheduler}: {' '.join(str(error).split())[:120]}"
            ) from None
        with client:
            yield client
        return
    workers = _workers(scheduler)
    with ExitStack() as held:
        with _same_environment():
            made = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=None,
                dashboard_address=None,
            )
            cluster = held.enter_context(made)
        yield held.enter_context(Client(cluster))


@contextmanager
def _same_environment() -> Iterator[None]:
    """Dask sets OMP_NUM_THREADS and more in this process as it starts workers: they are as before afterwards."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


def _cores() -> int:
    """Those of this machine that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _workers(scheduler: str) -> int:
    """How many workers "local" or "local:N" asks for."""
    text = scheduler.partition(":")[2]
    if not text:
        return _cores()
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(
            f"--scheduler {scheduler}: expected local, local:N with a number of workers, or an address such as tcp://host:8786"
        )
    return int(text)


def denoise_on(
    client: Any,
    model: Model,
    image: Image,
    limits: Limits,
    sink: Receiver,
    on_pixels: Callable[[int], None] | None = None,
) -> None:
    """``model.denoise_into(image, sink)`` for the image of a file, by the workers of a Dask client. Errors of workers are raised here."""
    from distributed import KilledWorker, as_completed
    from distributed.comm import CommClosedError

    model.check(image)
    if image.source is None:
        raise ConfigError("only images of files are denoised on a cluster: workers read them by themselves")
    slots = client.nthreads()  # tasks at a time, by the address of a worker
    if not slots:
        raise ConfigError("the Dask scheduler has no workers: start some with dask worker ADDRESS")
    beside = busiest(slots)
    most = torch.get_num_threads() if "OMP_NUM_THREADS" in os.environ else 0
    source = str(Path(image.source).absolute())
    waiting = tasks(model, image, sink, on_pixels)
    under_way: dict[Any, Task] = {}
    done = as_completed()

    def submit() -> None:
        task = next(waiting, None)
        if task is not None:
            future = client.submit(work, shared, source, limits, *task, beside, most, pure=False, retries=2)
            under_way[future] = task
            done.add(future)

    try:
        shared = client.scatter(model, broadcast=True)
        for _ in range(AHEAD * sum(slots.values())):
            submit()
        for future in done:
            del under_way[future]
            for index, rows, columns, block, clipped in future.result():
                sink.write(index, block, rows, columns, clipped)
                if on_pixels is not None:
                    on_pixels((rows.stop - rows.start) * (columns.stop - columns.start))
            submit()
    except KilledWorker:
        raise ConfigError(
            f"{image.source}: worker after worker died over the same tiles, probably for want of memory; give a smaller --max-memory, or "
            "fewer workers a machine; what is done is kept, so run the same command again"
        ) from None
    except (CommClosedError, TimeoutError) as error:
        words = " ".join(str(error).split())[:120]
        raise ConfigError(
            f"the Dask scheduler is gone ({words}); what is done is kept, so run the same command again"
        ) from None


def busiest(slots: Mapping[str, int]) -> int:
    """Tasks at a time on the machine that has most of them, from those of each worker by its address, such as tcp://host:port."""
    machines: Counter[str] = Counter()
    for address, count in slots.items():
        machines[address.rpartition(":")[0]] += count
    return max(machines.values(), default=1)


def tasks(
    model: Model, image: Image, sink: Receiver, on_pixels: Callable[[int], None] | None
) -> Iterator[Task]:
    """(planes, tiles) that are not finished yet: tiles of one plane, or one tile of all planes that share the chunks of a file.

    Where statistics of a whole plane are held, a plane is one task.
    """
    predictor = model.predictor
    whole = bool(predictor.instance_layers) or predictor.whole_image

    def left(index: tuple[int, ...], rows: slice, columns: slice) -> bool:
        if not sink.finished(index, rows, columns):
            return True
        if on_pixels is not None:
            on_pixels((rows.stop - rows.start) * (columns.stop - columns.start))
        return False

    for group in image.plane_groups():
        if len(group) > 1 and not whole:
            for core in predictor.cores(image.height, image.width):
                planes = [index for index in group if left(index, *core)]
                if planes:
                    yield planes, [core]
            continue
        for index in group:
            tiles: list[tuple[slice, slice]] = []
            pixels = 0
            for rows, columns in predictor.cores(image.height, image.width):
                if not left(index, rows, columns):
                    continue
                tiles.append((rows, columns))
                pixels += (rows.stop - rows.start) * (columns.stop - columns.start)
                if pixels >= TASK_PX and not whole:
                    yield [index], tiles
                    tiles, pixels = [], 0
            if tiles:
                yield [index], tiles


def work(
    model: Model,
    source: str,
    limits: Limits,
    planes: list[tuple[int, ...]],
    tiles: list[tuple[slice, slice]],
    beside: int = 1,
    most: int = 0,
) -> list[Part]:
    """In a worker: a task, as (plane, rows, columns, pixels of the result, how many of them were clipped).

    beside   tasks at a time that this machine's cores are shared by;  most   threads of a task, 0 for as many as that leaves
    """
    threads = max(1, _cores() // beside)
    threads = min(threads, most) if most else threads
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    part = _Tiles(tiles)
    try:
        own, image = _own(model), _image(source, limits, _changed_ns(source))
        own.denoise_into(image, part, planes=planes, within=tiles[0] if len(planes) > 1 else None)
    except BaseException:
        _of_thread.given = None  # a shortage of memory left it with smaller tiles, of which none is wanted
        raise
    return part.found


_of_thread = threading.local()


def _own(model: Model) -> Model:
    """A copy for this thread alone: predictors change as they work (tile size, statistics of a plane); workers may have many threads."""
    if getattr(_of_thread, "given", None) is not model:
        _of_thread.given, _of_thread.model = model, copy.deepcopy(model)
    own: Model = _of_thread.model
    return own


def _changed_ns(source: str) -> int:
    try:
        return Path(source).stat().st_mtime_ns
    except OSError as error:
        raise InputError(
            f"{source}: a Dask worker on {platform.node()} cannot see it ({error.strerror}); put the images on a disk that all workers "
            "have under the same path"
        ) from None


@lru_cache(maxsize=2)
def _image(source: str, limits: Limits, changed_ns: int) -> Image:
    return open_image(source, limits)


class _Tiles:
    """A receiver that wants some tiles only."""

    def __init__(self, wanted: list[tuple[slice, slice]]) -> None:
        self.wanted = {(rows.start, rows.stop, columns.start, columns.stop) for rows, columns in wanted}
        self.found: list[Part] = []

    def write(
        self, index: tuple[int, ...], block: np.ndarray, rows: slice, columns: slice, clipped: int = 0
    ) -> None:
        self.found.append((index, rows, columns, block, clipped))

    def finished(self, index: tuple[int, ...], rows: slice, columns: slice) -> bool:
        return (rows.start, rows.stop, columns.start, columns.stop) not in self.wanted

    def forget(self, index: tuple[int, ...]) -> None:
        raise PairfreeError(
            "a worker ran out of memory for a tile; give a smaller --max-memory, or fewer workers a machine"
        )
