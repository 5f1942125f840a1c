"""Training by two processes of torchrun: the weights of one process alone, and one run folder.

When something is wrong, one line says so. torchrun itself starts those of one test; the others are forked,
and find in their environment what it would leave there.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from safetensors.numpy import load_file

import children
from pairfree.engine import checkpoint

SETTINGS = (
    "--set",
    "width=4",
    "--set",
    "patch_px=32",
    "--set",
    "batch_size=4",
    "--set",
    "optimizer=adam",
    "--set",
    "precision=float32",
    "--device",
    "cpu",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy images, and their clean partners."""
    made = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name in "ab":
        clean = np.kron(rng.integers(50, 200, (12, 12)), np.ones((8, 8)))
        for side, pixels in (("clean", clean), ("noisy", clean + rng.normal(0, 15, clean.shape))):
            (made / side).mkdir(exist_ok=True)
            tifffile.imwrite(made / side / f"{name}.tif", pixels.clip(0, 255).astype(np.uint8))
    return made


def member(rank: int, port: int, argv: list[Any], log: str) -> None:
    """In the child: one of two processes, as torchrun starts them."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(address, WORLD_SIZE="2", RANK=str(rank), LOCAL_RANK=str(rank))
    children.begin(log)
    children.run_command(argv, log)


def start_two(argv: list[Any], log: Path) -> list[Any]:
    """Both processes of a command."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return [children.start(member, rank, port, argv, f"{log}-{rank}") for rank in (0, 1)]


def finish_two(processes: list[Any], log: Path) -> list[tuple[int, str]]:
    """Exit code and stderr of each."""
    return [children.finish(one, f"{log}-{rank}") for rank, one in enumerate(processes)]


def run_two(argv: list[Any], log: Path) -> None:
    """The command by two processes, to its end."""
    for code, words in finish_two(start_two(argv, log), log):
        assert code == 0, words


def weights(run: Path) -> dict[str, np.ndarray]:
    found = load_file(checkpoint.listing(run / "checkpoints")[-1].with_suffix(".safetensors"))
    return {name: value for name, value in found.items() if name.startswith("net/")}


def test_two_train_what_one_trains(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pairfree: Any
) -> None:
    given = ["train", folder / "noisy", "--target", folder / "clean", "--method", "n2c"]
    given += ["--steps", 12, *SETTINGS]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    both = subprocess.run(
        [
            sys.executable,
            *torchrun,
            "-m",
            "pairfree",
            *map(str, given),
            "--out",
            tmp_path / "both",
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert both.returncode == 0, both.stderr
    assert both.stdout.count("run:") == 1
    code, _, words = pairfree(*given, "--out", tmp_path / "one")
    assert code == 0, words
    a, b = weights(tmp_path / "one"), weights(tmp_path / "both")
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(b[name], a[name], rtol=0, atol=2e-5, err_msg=name)
    assert json.loads((tmp_path / "both/environment.json").read_text())["processes"] == 2
    assert (tmp_path / "both/report.html").is_file()


@pytest.mark.posix
def test_a_stopped_run_goes_on_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    """Masks are another draw in each process.

    One process logs; SIGTERM, as torchrun passes it to all, leaves a checkpoint.
    """
    given = ["train", folder / "noisy", "--method", "n2v", "--steps", 300, *SETTINGS]
    run_two([*given, "--out", tmp_path / "whole"], tmp_path / "log")
    run = tmp_path / "run"
    begun = start_two([*given, "--out", run], tmp_path / "log")
    children.wait_for(lambda: len(steps_of(run)) >= 20, begun[0])
    for one in begun:
        os.kill(one.pid, signal.SIGTERM)
    finish_two(begun, tmp_path / "log")
    stopped = checkpoint.listing(run / "checkpoints")[-1]
    assert 0 < int(stopped.stem.removeprefix("step-")) < 300
    run_two(["train", "--resume", "--out", run], tmp_path / "log")
    a, b = weights(tmp_path / "whole"), weights(run)
    for name in a:
        np.testing.assert_array_equal(b[name], a[name], err_msg=name)
    assert steps_of(run) == steps_of(tmp_path / "whole")


def steps_of(run: Path) -> list[int]:
    """Steps whose loss was logged."""
    log = run / "events.jsonl"
    events = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    return [event["step"] for event in events if "loss" in event]


def test_minutes_are_counted_by_the_first(folder: Path, tmp_path: Path, pairfree: Any) -> None:
    given = ["train", folder / "noisy", "--method", "nb2nb", "--minutes", 0.05, *SETTINGS]
    run_two([*given, "--out", tmp_path / "run"], tmp_path / "log")
    assert steps_of(tmp_path / "run")
    code, _, words = pairfree(
        "denoise", tmp_path / "run", folder / "noisy", "--out", tmp_path / "out"
    )
    assert code == 0, words


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--set", "batch_size=5"), "cannot be shared by 2 processes"),
        (("--method", "dip"), "without torchrun"),
    ],
)
def test_what_cannot_be_shared_is_one_line(
    folder: Path, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    run = tmp_path / "run"
    given = ["train", folder / "noisy", "--steps", 4, "--device", "cpu", "--out", run, *options]
    for code, said in finish_two(start_two(given, tmp_path / "log"), tmp_path / "log"):
        assert code == 2
        assert words in said
        assert said.count("\n") == 1
    assert not (run / "config.toml").exists()
