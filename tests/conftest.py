"""Shared by all tests: one thread, patient hypothesis, and small runs of any method.

Hypothesis has no deadlines, because the machine is shared.
"""

from __future__ import annotations

import dataclasses
import logging
import sys

import numpy as np
import pytest
import torch
from hypothesis import settings

from pairfree.data.patches import PatchPool, TrainingData
from pairfree.methods import METHODS, PRESETS, build_method
from pairfree.methods.base import At, Method

settings.register_profile("pairfree", deadline=None)
settings.load_profile("pairfree")

SMALL = {
    "width": 4,
    "patch_px": 32,
    "batch_size": 2,
    "precision": "float32",
    **{
        "extractor_width": 4,
        "extractor_depth": 4,
        "critic_width": 4,
        "blocks": 1,
        "lookahead_every": 2,
        "generator_width": 4,
    },
    **{
        "noise_patch_px": 32,
        "generator_px": 32,
        "smooth_limit": 9.0,
        "rough_width": 4,
        "rule": "wavelet",
        "noise_width": 4,
        "levels": 2,
        "inputs": 4,
        "predictions": 2,
    },
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """One thread: fast on small tensors, and the same sums on every machine.

    Before each test: what a worker of a cluster does in this process sets its own number. Two threads that
    wait for each other on a busy machine took ten times as long.
    """
    torch.set_num_threads(1)


class SmallRuns:
    """Any method, small enough for a test: float32, width 4, two patches of 32 px."""

    def config(self, key: str, preset: str = "cpu", **changes):
        base = PRESETS[key][preset]
        names = {field.name for field in dataclasses.fields(base)}
        brief = {"steps": 3, "minutes": 0.0} if METHODS[key].one_image else {}
        return dataclasses.replace(
            base,
            **{name: value for name, value in (SMALL | brief | changes).items() if name in names},
        )

    def method(
        self,
        key: str,
        channels: int = 1,
        seed: int = 0,
        net: torch.nn.Module | None = None,
        **changes,
    ) -> Method:
        torch.manual_seed(seed)
        return build_method(key, self.config(key, **changes), channels, "cpu", net)

    def data(self, channels: int = 1, patch_px: int = 32) -> TrainingData:
        """Two smooth scenes with noise, their other noisy copies, and a clean set; network units."""
        rng = np.random.default_rng(7)
        rows, columns = np.mgrid[:48, :40] / 8
        scenes = [
            np.stack([0.5 + 0.3 * np.sin(rows + k + c) * np.cos(columns) for c in range(channels)])
            for k in range(2)
        ]

        def pool(sigma: float) -> PatchPool:
            return PatchPool(
                [scene + rng.normal(0, sigma, scene.shape) for scene in scenes], "cpu", patch_px
            )

        return TrainingData(pool(0.1), pool(0.1), pool(0.0), pool(0.2))

    def run(
        self, method: Method, data: TrainingData, seed: int = 0, steps: int = 2, first: int = 0
    ) -> list[dict]:
        """``steps`` steps in every stage, or from step ``first`` on; what each logged."""
        method.prepare(data, seed)
        stages = method.stages()
        ats = [
            At(seed, i * steps + k, stage.name, k, steps)
            for i, stage in enumerate(stages)
            for k in range(steps)
        ]
        return [method.step(data.batch(seed, at.step, 2), at) for at in ats[first:]]

    def last_stage_step(
        self, method: Method, data: TrainingData, step: int = 50, seed: int = 0
    ) -> dict:
        """One step halfway through the last stage."""
        return method.step(
            data.batch(seed, step, 2), At(seed, step, method.stages()[-1].name, 5, 10)
        )

    def copied(self, method: Method) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in method.tensors().items()}


@pytest.fixture(scope="session")
def small() -> SmallRuns:
    return SmallRuns()


def pytest_collection_modifyitems(items):
    """Windows kills where POSIX signals, and has no fork, no FIFO and no bound for a process.

    It makes links for administrators only.
    """
    if sys.platform == "win32":
        for item in items:
            if item.get_closest_marker("posix") is not None:
                item.add_marker(pytest.mark.skip(reason="needs POSIX"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Workers take whole files, whose tests share what is made once for all of them.

    Files with many tests come first, so that no worker ends long after the others.
    """
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


def pytest_make_parametrize_id(config, val, argname):
    """Readable ids for functions in parameter tables."""
    return getattr(val, "__name__", None) if callable(val) else None


@pytest.fixture
def pairfree(monkeypatch, capsys):
    """Call the command line; what it does to the package's logger ends with the test."""
    from pairfree.cli import main as cli

    def call(*arguments):
        """(exit code, stdout, stderr) of the command."""
        monkeypatch.setattr(sys, "argv", ["pairfree", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as done:
            code = done.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    say = logging.getLogger("pairfree")
    level = say.level
    yield call
    say.setLevel(level)
    for handler in say.handlers[:]:
        say.removeHandler(handler)
        handler.close()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """An empty server in this process; results for it wait in a folder of the test."""
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]
