"""The workers of a Dask cluster predict the same pixels as one process, and stopped work goes on."""

from __future__ import annotations

import os
import pkgutil
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import tifffile
import torch
import zarr
from distributed import Client, KilledWorker
from distributed.comm import CommClosedError
from torch import nn

import pairfree as pf
from pairfree.data.normalize import Normalizer
from pairfree.denoising import cluster, connection
from pairfree.denoising.source import Source, locate_source
from pairfree.engine.model import Model
from pairfree.engine.predictor import Predictor
from pairfree.engine.record import Record
from pairfree.errors import ConfigError, InputError, PairfreeError
from pairfree.files import open_image
from pairfree.files.image import Image
from pairfree.files.limits import DEFAULT
from pairfree.nets.batch_instance_norm import BatchInstanceNorm

TILE_BYTES = 3e7


@pytest.fixture(scope="module")
def client() -> Any:
    with connection.connect("local:2") as made:
        yield made


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("trained") / "run"
    settings = {"width": 4, "patch_px": 32, "batch_size": 2}
    pixels = np.random.default_rng(9).integers(0, 2**16, (64, 64)).astype(np.uint16)
    pf.train([pixels], method="n2v", steps=3, out=made, settings=settings, report=False)
    return made


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A TIFF stack, a Zarr array and a float image, of several tiles each."""
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    tifffile.imwrite(
        tmp_path / "in/a.tif",
        rng.integers(0, 2**16, (2, 400, 300)).astype(np.uint16),
        compression="zlib",
    )
    array = zarr.create_array(
        str(tmp_path / "in/b.zarr"), shape=(500, 450), chunks=(128, 128), dtype="uint16"
    )
    array[...] = rng.integers(0, 2**16, (500, 450))
    deep = zarr.create_array(
        str(tmp_path / "in/d.zarr"), shape=(5, 300, 260), chunks=(3, 64, 64), dtype="uint16"
    )
    deep[...] = rng.integers(0, 2**16, (5, 300, 260))
    np.save(tmp_path / "in/c.npy", rng.normal(0, 1, (300, 500)).astype(np.float32))
    return tmp_path / "in"


@pytest.fixture
def here(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call finds the cluster that runs already, and small tasks."""
    monkeypatch.setattr("pairfree.denoising.files.connect", lambda scheduler: nullcontext(client))
    monkeypatch.setattr("pairfree.denoising.cluster.TASK_PX", 40_000)
    monkeypatch.setattr("pairfree.denoising.plan.RESIDENT_SHARE", 1e-6)


@pytest.mark.usefixtures("here")
def test_workers_make_what_one_process_makes(run: Path, files: Path, tmp_path: Path) -> None:
    counted: list[int] = []
    alone = pf.denoise(run, files, tmp_path / "alone", max_bytes=TILE_BYTES)
    together = pf.denoise(
        run,
        files,
        tmp_path / "together",
        max_bytes=TILE_BYTES,
        scheduler="local:2",
        on_pixels=counted.append,
    )
    assert sum(counted) == 2 * 400 * 300 + 500 * 450 + 300 * 500 + 5 * 300 * 260
    assert [(one.pixels, one.clipped) for one in alone] == [
        (one.pixels, one.clipped) for one in together
    ]
    for name in ("a.tif", "b.zarr", "c.npy", "d.zarr"):
        np.testing.assert_array_equal(
            open_image(tmp_path / "together" / name).pixels,
            open_image(tmp_path / "alone" / name).pixels,
        )


def test_tasks_share_the_cores_of_their_machine() -> None:
    """Not those of all workers anywhere."""
    threads = {"tcp://10.0.0.1:81": 1, "tcp://10.0.0.1:82": 2, "tcp://[::2]:81": 2}
    assert cluster.count_on_busiest(threads) == 3
    assert cluster.count_on_busiest({}) == 1


@pytest.mark.parametrize(
    ("beside", "most", "expected"), [(1, 0, 6), (4, 0, 1), (2, 2, 2), (9, 0, 1)]
)
def test_a_task_takes_its_share_of_threads(
    beside: int, most: int, expected: int, run: Path, files: Path, monkeypatch
) -> None:
    monkeypatch.setattr(
        cluster.os, "sched_getaffinity", lambda process: set(range(6)), raising=False
    )
    threads = torch.get_num_threads()
    model = pf.load(run)
    try:
        parts = cluster.do_task(
            model,
            Source(str(files / "c.npy"), None),
            DEFAULT,
            [()],
            list(model.predictor.cores(300, 500)),
            beside,
            most,
        )
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(threads)
    assert sum(block.size for _, _, _, block, _ in parts) == 300 * 500


def test_threads_of_a_worker_do_not_share_what_changes(
    small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two planes at a time, of very different contrast, come out as one after the other.

    Instance statistics are those of a plane.
    """
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        BatchInstanceNorm(4),
        nn.ReLU(),
        nn.Conv2d(4, 1, 3, padding=1),
    )
    nn.init.zeros_(net[1].rho)  # instance statistics alone
    units = Normalizer(0.0, 1.0)
    model = Model(
        Predictor(small.method("n2v", net=net), units, 1, core_px=64),
        Record.untrained("n2v", units, 1),
    )
    assert model.predictor.instance_layers
    rng = np.random.default_rng(0)
    image = Image((rng.normal(0, 1, (2, 192, 192)) * [[[1.0]], [[40.0]]]).astype(np.float32), "ZYX")
    monkeypatch.setattr(cluster, "open_source", lambda *words: image)
    tiles = list(model.predictor.cores(192, 192))

    def plane(index: int) -> np.ndarray:
        out = np.empty((192, 192))
        for _, rows, columns, block, _ in cluster.do_task(
            model, Source("", None), DEFAULT, [(index,)], tiles
        ):
            out[rows, columns] = block
        return out

    threads = torch.get_num_threads()
    try:
        one_by_one = [plane(0), plane(1)]
        with ThreadPoolExecutor(2) as pool:
            for _ in range(5):
                for found, expected in zip(pool.map(plane, [0, 1]), one_by_one, strict=True):
                    np.testing.assert_array_equal(found, expected)
    finally:
        torch.set_num_threads(threads)


def test_a_shortage_of_memory_is_told_as_often_as_it_is_tried(
    run: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask tries a task again, on the same copy of the model, whose tiles a shortage has made smaller."""
    model, threads = pf.load(run, max_bytes=TILE_BYTES), torch.get_num_threads()
    arguments = (
        model,
        Source(str(files / "c.npy"), None),
        DEFAULT,
        [()],
        list(model.predictor.cores(300, 500)),
    )

    def shortage(*_: Any) -> None:
        raise MemoryError

    try:
        with monkeypatch.context() as poor:
            poor.setattr(Predictor, "_apply_to_tile", shortage)
            for _ in range(2):
                with pytest.raises(PairfreeError, match="a worker ran out of memory"):
                    cluster.do_task(*arguments)
        assert sum(block.size for _, _, _, block, _ in cluster.do_task(*arguments)) == 300 * 500
    finally:
        torch.set_num_threads(threads)


def test_a_file_that_a_worker_cannot_see_is_one_line(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.npy: a Dask worker on .* cannot see it"):
        cluster.do_task(pf.load(run), Source(str(tmp_path / "gone.npy"), None), DEFAULT, [()], [])


def test_starting_workers_leaves_the_environment_alone(client: Any) -> None:
    """Dask's own settings would count as the user's: one thread a task."""
    assert os.environ.get("MALLOC_TRIM_THRESHOLD_") != "65536"


def test_a_scheduler_without_workers_is_one_line(run: Path, files: Path) -> None:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=None) as empty,
        Client(empty) as client,
        pytest.raises(ConfigError, match="no workers"),
    ):
        cluster.denoise_on(client, pf.load(run), open_image(files / "c.npy"), DEFAULT, None)


@pytest.mark.usefixtures("here")
def test_stopped_work_goes_on_by_one_process(run: Path, files: Path, tmp_path: Path) -> None:
    done: list[int] = []

    def stop(pixels: int) -> None:
        done.append(pixels)
        if len(done) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pf.denoise(
            run, files, tmp_path / "out", max_bytes=TILE_BYTES, scheduler="local:2", on_pixels=stop
        )
    assert list((tmp_path / "out").glob(".*.unfinished"))
    pf.denoise(run, files, tmp_path / "out", max_bytes=TILE_BYTES)
    pf.denoise(run, files, tmp_path / "alone", max_bytes=TILE_BYTES)
    for name in ("a.tif", "b.zarr", "c.npy", "d.zarr"):
        np.testing.assert_array_equal(
            open_image(tmp_path / "out" / name).pixels, open_image(tmp_path / "alone" / name).pixels
        )


@pytest.mark.usefixtures("here")
def test_what_a_worker_refuses_is_one_line_here(run: Path, tmp_path: Path) -> None:
    pixels = np.ones((300, 200), np.float32)
    pixels[250, 99] = np.inf
    np.save(tmp_path / "inf.npy", pixels)
    with pytest.raises(InputError, match=r"inf\.npy: 1 of .* row 250, column 99"):
        pf.denoise(
            run, tmp_path / "inf.npy", tmp_path / "out", max_bytes=TILE_BYTES, scheduler="local:2"
        )
    assert not (tmp_path / "out/inf.npy").exists()


def test_tasks_cover_every_tile_once(run: Path) -> None:
    model = pf.load(run, max_bytes=TILE_BYTES)
    from pairfree.engine.receivers import ArrayReceiver

    image = Image(np.zeros((2, 700, 900), np.uint16), "ZYX")
    seen = np.zeros(image.shape, int)
    for planes, tiles in cluster.tasks(model, image, ArrayReceiver(np.empty(0)), None):
        for index in planes:
            for rows, columns in tiles:
                seen[index][rows, columns] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("scheduler", ["local:0", "local:many"])
def test_a_number_of_workers_that_is_none(scheduler: str) -> None:
    with pytest.raises(ConfigError, match="local:N"), connection.connect(scheduler):
        pass


def test_a_scheduler_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TIMEOUT_S", 0.5)
    with (
        pytest.raises(ConfigError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"),
        connection.connect("tcp://127.0.0.1:9"),
    ):
        pass


# -- R31: what dies, and what is missing ---------------------------------------------------------------------


@pytest.fixture
def quick(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Quick:
    """A small network and an image of many small tasks, and the result of one process."""
    settings = {"net": "dncnn", "even": False, "width": 4, "patch_px": 16, "batch_size": 2}
    pixels = np.random.default_rng(0).integers(0, 2**16, (2, 256, 250)).astype(np.uint16)
    model = pf.train([pixels[0]], method="n2v", steps=2, settings=settings, report=False)
    model.predictor.core_px = 64
    monkeypatch.setattr(cluster, "TASK_PX", 64 * 64)
    monkeypatch.setattr("pairfree.denoising.plan.RESIDENT_SHARE", 1e-6)
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(64, 64))
    pf.denoise(model, tmp_path / "a.tif", tmp_path / "alone")
    return Quick(model, tmp_path / "a.tif", open_image(tmp_path / "alone/a.tif").pixels)


class Quick(NamedTuple):
    model: Model
    path: Path
    expected: np.ndarray

    def denoise(self, out: Path, scheduler: str | None = None, at: int = 0, do: Any = None) -> None:
        """Do something when so many tiles are done."""
        count = [0]

        def on_pixels(pixels: int) -> None:
            count[0] += 1
            if count[0] == at:
                do()

        pf.denoise(self.model, self.path, out, scheduler=scheduler, on_pixels=on_pixels)

    def check(self, out: Path) -> None:
        np.testing.assert_array_equal(open_image(out / "a.tif").pixels, self.expected)
        assert [path.name for path in out.iterdir()] == ["a.tif"]


def kill_workers(client: Any, count: int) -> None:
    for process in list(client.run(os.getpid).values())[:count]:
        os.kill(process, signal.SIGKILL)


def use(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairfree.denoising.files.connect", lambda scheduler: nullcontext(client))


@pytest.mark.posix
def test_a_worker_that_is_killed_costs_nothing(
    quick: Quick, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real process, killed with tasks under way and the model in its memory."""
    use(client, monkeypatch)
    quick.denoise(tmp_path / "out", "there", 3, partial(kill_workers, client, 1))
    quick.check(tmp_path / "out")


def gone_scheduler(error: Exception) -> Any:
    """What waits for results, and meets ``error`` after the first of them."""
    true, count = cluster._wait, [0]

    def wait(*given: Any) -> Any:
        count[0] += 1
        if count[0] > 1:
            raise error
        return true(*given)

    return wait


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (CommClosedError("closed"), r"the Dask scheduler is gone \(closed\)"),
        (TimeoutError("late"), r"the Dask scheduler is gone \(late\)"),
        (CancelledError("reasons"), "the Dask scheduler is gone"),
        (KilledWorker("task", None, 3), "worker after worker died over the same tiles"),
        (
            AttributeError("no\nsuch field"),
            r"failed \(AttributeError: no such field\); install the same",
        ),
    ],
)
def test_what_fails_on_the_cluster_is_one_line_and_is_gone_on_with_alone(
    quick: Quick,
    client: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    words: str,
) -> None:
    use(client, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(cluster, "_wait", gone_scheduler(error))
        with pytest.raises(ConfigError, match=words) as told:
            quick.denoise(tmp_path / "out", "there")
    assert "\n" not in str(told.value)
    assert "run the same command again, with or without the cluster" in str(told.value)
    assert not (tmp_path / "out/a.tif").exists()
    assert list((tmp_path / "out").glob(".*.unfinished"))
    quick.denoise(tmp_path / "out")
    quick.check(tmp_path / "out")


class NobodyLeft:
    """A client whose workers have all died."""

    def nthreads(self) -> dict[str, int]:
        return {}


def test_workers_that_are_gone_for_long_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*given: Any) -> None:
        raise TimeoutError

    monkeypatch.setattr(cluster, "PATIENCE_S", 0.0)
    dask = SimpleNamespace(wait=nothing)
    with pytest.raises(ConfigError, match="all Dask workers are gone"):
        cluster._wait(dask, NobodyLeft(), [])


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ("0.0.9", "has 0.0.9; install"),
        (
            ModuleNotFoundError("No module named 'pairfree'"),
            r"has none \(No module named 'pairfree'\)",
        ),
    ],
)
def test_a_worker_without_this_pairfree_is_one_line(
    quick: Quick,
    client: Any,
    monkeypatch: pytest.MonkeyPatch,
    found: Any,
    words: str,
    tmp_path: Path,
) -> None:
    """Found before a task is sent, of which such a worker would die."""
    use(client, monkeypatch)
    assert set(client.run(pkgutil.resolve_name, "pairfree.version:__version__").values()) == {
        pf.__version__
    }
    monkeypatch.setattr(client, "run", lambda *given, **how: {"tcp://host:1": found})
    with pytest.raises(ConfigError, match=words):
        quick.denoise(tmp_path / "out", "there")


def test_a_worker_that_sees_another_file_is_one_line(quick: Quick) -> None:
    """Another disk under the same path: its pixels would be mixed into the result."""
    source = locate_source(open_image(quick.path))
    tiles = list(quick.model.predictor.cores(256, 250))[:1]
    assert cluster.do_task(quick.model, source, DEFAULT, [(0,)], tiles)
    source = source._replace(seen="that of another file")
    with pytest.raises(InputError, match=r"a\.tif: a Dask worker on .* sees another file there"):
        cluster.do_task(quick.model, source, DEFAULT, [(0,)], tiles)


@contextmanager
def own_cluster() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address of a scheduler with one worker, each a process of its own, and the scheduler."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    place = ["--host", "127.0.0.1", "--port", f"{port}"]
    commands = [
        ["dask_scheduler", *place],
        ["dask_worker", address, "--no-nanny", "--nthreads", "1"],
    ]
    made = []
    for name, *words in commands:
        command = [sys.executable, "-m", f"distributed.cli.{name}", *words, "--no-dashboard"]
        made.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    try:
        with Client(address, timeout=120) as client:
            client.wait_for_workers(1, timeout=120)
        yield address, made[0]
    finally:
        for process in made:
            process.kill()
            process.wait()


@pytest.mark.posix
@pytest.mark.nightly
def test_twenty_kills_at_random_moments(
    quick: Quick,
    client: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    """Of one worker, of both, and of a scheduler: real processes, and the same command goes on alone."""
    rng, slowest, stopped = random.Random(0), 0.0, 0
    for number in range(20):
        out, moment = tmp_path / f"out{number}", rng.randint(1, 30)
        with ExitStack() as held:
            if number % 4 == 3:
                address, scheduler = held.enter_context(own_cluster())
                do = scheduler.kill
            else:
                address, do = "there", partial(kill_workers, client, 1 + (number % 4) // 2)
                held.enter_context(monkeypatch.context()).setattr(
                    "pairfree.denoising.files.connect", lambda scheduler: nullcontext(client)
                )
                client.wait_for_workers(2, timeout=120)
            began = time.monotonic()
            try:
                quick.denoise(out, address, moment, do)
            except ConfigError:
                stopped += 1
                assert not (out / "a.tif").exists()
                quick.denoise(out)
            slowest = max(slowest, time.monotonic() - began)
        quick.check(out)
    record_property("kills", 20)
    record_property("stopped in one line", stopped)
    record_property("failures", 0)
    record_property("slowest s", round(slowest, 1))
