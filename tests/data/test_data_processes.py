"""Training by two processes of torchrun: the weights of one process alone, and one run folder.

When something is wrong, one line says so.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from safetensors.numpy import load_file

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


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def words_of(*arguments: str | int | float | Path, together: int = 2) -> list[str]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(together)]
    return [
        sys.executable,
        *(torchrun if together > 1 else []),
        "-m",
        "pairfree",
        *map(str, arguments),
    ]


def command(
    *arguments: str | int | float | Path, together: int = 2
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words_of(*arguments, together=together),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def weights(run: Path) -> dict[str, np.ndarray]:
    found = load_file(checkpoint.listing(run / "checkpoints")[-1].with_suffix(".safetensors"))
    return {name: value for name, value in found.items() if name.startswith("net/")}


def test_two_train_what_one_trains(folder: Path, tmp_path: Path) -> None:
    given = (
        "train",
        folder / "noisy",
        "--target",
        folder / "clean",
        "--method",
        "n2c",
        "--steps",
        12,
        *SETTINGS,
    )
    both = command(*given, "--out", tmp_path / "both")
    assert both.returncode == 0, both.stderr
    assert both.stdout.count("run:") == 1
    one = command(*given, "--out", tmp_path / "one", together=1)
    assert one.returncode == 0, one.stderr
    a, b = weights(tmp_path / "one"), weights(tmp_path / "both")
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(b[name], a[name], rtol=0, atol=2e-5, err_msg=name)
    assert json.loads((tmp_path / "both/environment.json").read_text())["processes"] == 2
    assert (tmp_path / "both/report.html").is_file()


@pytest.mark.posix
def test_a_stopped_run_goes_on_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    """Masks are another draw in each process.

    One process logs; SIGTERM, as a cluster sends it, leaves a checkpoint.
    """
    given = ("train", folder / "noisy", "--method", "n2v", "--steps", 600, *SETTINGS)
    whole = command(*given, "--out", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    begun = subprocess.Popen(
        words_of(*given, "--out", tmp_path / "run"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while len(steps_of(tmp_path / "run")) < 20 and time.monotonic() < deadline:
        time.sleep(0.02)
    begun.send_signal(signal.SIGTERM)
    begun.communicate(timeout=60)
    stopped = checkpoint.listing(tmp_path / "run/checkpoints")[-1]
    assert 0 < int(stopped.stem.removeprefix("step-")) < 600
    further = command("train", "--resume", "--out", tmp_path / "run")
    assert further.returncode == 0, further.stderr
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "run")
    for name in a:
        np.testing.assert_array_equal(b[name], a[name], err_msg=name)
    assert steps_of(tmp_path / "run") == steps_of(tmp_path / "whole")


def steps_of(run: Path) -> list[int]:
    """Steps whose loss was logged."""
    log = run / "events.jsonl"
    events = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    return [event["step"] for event in events if "loss" in event]


def test_minutes_are_counted_by_the_first(folder: Path, tmp_path: Path) -> None:
    given = ("train", folder / "noisy", "--method", "nb2nb", "--minutes", 0.05, *SETTINGS)
    done = command(*given, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert steps_of(tmp_path / "run")
    applied = command(
        "denoise", tmp_path / "run", folder / "noisy", "--out", tmp_path / "out", together=1
    )
    assert applied.returncode == 0, applied.stderr


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
    refused = command(
        "train",
        folder / "noisy",
        "--steps",
        4,
        "--device",
        "cpu",
        "--out",
        tmp_path / "run",
        *options,
    )
    assert refused.returncode != 0
    assert words in refused.stderr
    assert "pairfree/data/processes.py" not in refused.stderr  # no traceback of ours
    assert not (tmp_path / "run" / "config.toml").exists()
