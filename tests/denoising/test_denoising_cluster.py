"""The workers of a Dask cluster predict the same pixels as one process, and stopped work goes on."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr
from torch import nn

import pairfree as pf
from pairfree.data.normalize import Normalizer
from pairfree.denoising import cluster
from pairfree.denoising.source import Source
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
    with cluster.connect("local:2") as made:
        yield made


@pytest.fixture
def run(tmp_path: Path) -> Path:
    settings = {"width": 4, "patch_px": 32, "batch_size": 2}
    pixels = np.random.default_rng(9).integers(0, 2**16, (64, 64)).astype(np.uint16)
    pf.train([pixels], method="n2v", steps=3, out=tmp_path / "run", settings=settings, report=False)
    return tmp_path / "run"


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
    from contextlib import nullcontext

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
    with pytest.raises(ConfigError, match="local:N"), cluster.connect(scheduler):
        pass


def test_a_scheduler_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "TIMEOUT_S", 0.5)
    with (
        pytest.raises(ConfigError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"),
        cluster.connect("tcp://127.0.0.1:9"),
    ):
        pass
