"""R2, R4, R6, R22, R23 with real processes: killed, stopped, starved of disk, two at once.

Each runs the command line as a user does.
"""

import hashlib
import os
import random
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest

if sys.platform == "win32":
    pytest.skip(
        "needs POSIX: kills processes, sends signals, bounds what they may write",
        allow_module_level=True,
    )
import resource

import children
from children import Numbers, finish, patience, seconds_of, wait_for
from pairfree.engine import checkpoint
from pairfree.engine.run import RunFolder

STEP_SECONDS, INTERVAL_SECONDS, STEPS = 0.02, 0.15, 20
SETTINGS = [
    f"--set={one}" for one in ("width=4", "patch_px=16", "batch_size=2", "precision=float32")
]


def pairfree(argv, log, slow_write=0.0, file_bytes=0, step_seconds=STEP_SECONDS):
    """In the child: run the command with slow steps, short checkpoint intervals and no report.

    On wish, writes are slow or bounded.
    """
    from pairfree.data.patches import TrainingData
    from pairfree.engine import trainer
    from pairfree.training import report as story

    children.begin(log)
    trainer.CHECKPOINT_SECONDS = INTERVAL_SECONDS
    story.write_run_report = lambda *_: []
    batch = TrainingData.batch

    def slow_batch(self, *arguments):
        time.sleep(step_seconds)
        return batch(self, *arguments)

    def halting_write(self, data):
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            time.sleep(slow_write)
            file.write(data[len(data) // 2 :])
        time.sleep(slow_write)

    TrainingData.batch = slow_batch
    if slow_write:
        Path.write_bytes = halting_write
    if file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    children.run_command(argv, log)


def start(argv, log, **how):
    return children.start(pairfree, argv, str(log), **how)


def run(argv, log, **how):
    return finish(start(argv, log, **how), log)


def checkpoints(folder):
    return len(checkpoint.listing(folder / "checkpoints"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two noisy files, and the weights of the run that nobody disturbs."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    (folder / "noisy").mkdir()
    for number in range(2):
        np.save(folder / f"noisy/{number}.npy", rng.normal(1000, 60, (24, 36)).astype(np.uint16))
    code, words = run(train_arguments(folder, folder / "whole"), folder / "log", step_seconds=0)
    assert code == 0, words
    return folder


def train_arguments(files, out, steps=STEPS, seed=0):
    return [
        "train",
        files / "noisy",
        "--out",
        out,
        "--method",
        "iddp",
        "--steps",
        steps,
        "--seed",
        seed,
        *SETTINGS,
    ]


def digest(folder):
    last = checkpoint.listing(folder / "checkpoints")[-1]
    return hashlib.sha256(last.with_suffix(".safetensors").read_bytes()).hexdigest()


# -- R2 ------------------------------------------------------------------------------------------------------


def kill_and_resume(files, tmp_path, kills, seed, slow_write):
    """Kill -9, resume with ``--resume`` alone; returns how many kills left a half-written file behind.

    The first kill waits until a checkpoint is being written, the others come at random moments.
    """
    out, log, rng, inside = tmp_path / "run", tmp_path / "log", random.Random(seed), 0
    process = start(train_arguments(files, out), log, slow_write=slow_write)
    for number in range(kills):
        wait_for(lambda: checkpoints(out) >= 1, process)
        before = checkpoint.load_latest(out / "checkpoints")[0].step
        wait_for(
            lambda before=before: (
                (RunFolder(out).read_events() or [{"step": 0}])[-1]["step"]
                >= min(before + 2, STEPS - 3)
            ),
            process,
        )
        if number == 0:
            wait_for(
                lambda: any(".partial-" in path.name for path in (out / "checkpoints").iterdir()),
                process,
            )
        else:
            time.sleep(rng.uniform(0, 2.5 * slow_write + 0.05))
        process.kill()
        process.join()
        inside += any(".partial-" in path.name for path in (out / "checkpoints").iterdir())
        found, problems = checkpoint.load_latest(out / "checkpoints")
        assert problems == []
        lost = max(event["step"] for event in RunFolder(out).read_events()) + 1 - found.step
        assert lost <= INTERVAL_SECONDS / STEP_SECONDS + 2
        process = start(["train", "--out", out, "--resume"], log, slow_write=slow_write)
    code, words = finish(process, log)
    assert (code, words) == (0, "")
    assert not any(".partial-" in path.name for path in (out / "checkpoints").iterdir())
    assert digest(out) == digest(files / "whole")
    assert (out / "events.jsonl").read_bytes() == (files / "whole/events.jsonl").read_bytes()
    return inside


def test_killed_runs_resume_exactly(files, tmp_path):
    """Three kills, writes slowed so that they are often hit."""
    kill_and_resume(files, tmp_path, 3, seed=1, slow_write=0.1)


@pytest.mark.nightly
def test_runs_killed_twenty_times_resume_exactly(files, tmp_path, record_property):
    """The full count of R2: at least five of twenty kills fall inside a checkpoint's write."""
    inside, numbers = 0, Numbers()
    for number in range(5):
        (tmp_path / str(number)).mkdir()
        with numbers.trial():
            inside += kill_and_resume(files, tmp_path / str(number), 4, seed=number, slow_write=0.3)
        numbers.note_memory(tmp_path / str(number) / "log")
    numbers.record(record_property, kills=20, kills_inside_a_write=inside)
    assert inside >= 5


def test_a_kill_inside_a_checkpoint_write_is_survived(files, tmp_path):
    """Killed with half of the second checkpoint on disk: the first loads, the next run removes the half."""
    out, log = tmp_path / "run", tmp_path / "log"
    process = start(train_arguments(files, out), log, slow_write=0.5)
    wait_for(lambda: checkpoints(out) == 1, process)
    wait_for(
        lambda: any(".partial-" in path.name for path in (out / "checkpoints").iterdir()), process
    )
    process.kill()
    process.join()
    assert checkpoint.load_latest(out / "checkpoints")[0].step == 0
    assert run(["train", "--out", out, "--resume"], log, step_seconds=0) == (0, "")
    assert digest(out) == digest(files / "whole")
    assert not any(".partial-" in path.name for path in (out / "checkpoints").iterdir())


# -- R23 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_exits_130(number, files, tmp_path):
    """Before the next steps; one line that says how to go on; and going on gives the undisturbed result."""
    out, log = tmp_path / "run", tmp_path / "log"
    process = start(train_arguments(files, out), log)
    wait_for(lambda: len(RunFolder(out).read_events()) > 3, process)
    os.kill(process.pid, number)
    code, words = finish(process, log)
    assert code == 130
    assert "--resume" in words
    assert words.count("\n") == 1
    assert 3 < checkpoint.load_latest(out / "checkpoints")[0].step < STEPS
    assert run(["train", "--out", out, "--resume"], log, step_seconds=0) == (0, "")
    assert digest(out) == digest(files / "whole")


def test_a_second_signal_exits_at_once(files, tmp_path):
    """Not after the (slow) checkpoint; the folder is as good as after a kill."""
    out, log = tmp_path / "run", tmp_path / "log"
    process = start(train_arguments(files, out), log, slow_write=30.0)

    def writes() -> bool:
        return any(".partial-" in path.name for path in out.glob("checkpoints/*"))

    wait_for(writes, process)
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.1)
    assert process.is_alive()
    os.kill(process.pid, signal.SIGINT)
    process.join(patience(2))
    assert process.exitcode == -signal.SIGINT


# -- R6 ------------------------------------------------------------------------------------------------------


def check_two_at_once(files, tmp_path):
    """One trains; what comes later is refused, until the first is killed."""
    out = tmp_path / "run"
    first = start(train_arguments(files, out, steps=400), tmp_path / "first")
    wait_for(lambda: checkpoints(out) >= 1, first)
    for arguments in (train_arguments(files, out), ["train", "--out", out, "--resume"]):
        log = tmp_path / "second"
        check_refused(run(arguments, log), first, log)
    assert first.is_alive()
    first.kill()
    first.join()
    taken = start(["train", "--out", out, "--resume"], tmp_path / "third")
    wait_for(lambda: f"process {taken.pid} " in (out / "lock").read_text(), taken, seconds=10)
    taken.kill()
    taken.join()


def check_refused(ended, other, log):
    """Exit code 4 within 2 s of a core, and a line that names the process that has the folder."""
    code, words = ended
    assert code == 4, words
    assert seconds_of(log) < 2
    assert f"process {other.pid} on {socket.gethostname()}" in words
    assert words.count("\n") == 1


def check_start_together(files, tmp_path):
    """No head start for either: one trains, the other is refused; gives the seconds of a core that took."""
    out = tmp_path / "run"
    logs = [tmp_path / f"log{number}" for number in range(2)]
    both = [start(train_arguments(files, out, steps=400), log) for log in logs]
    try:
        wait_for(lambda: not all(process.is_alive() for process in both))
        loser = 0 if not both[0].is_alive() else 1
        winner = both[1 - loser]
        check_refused(finish(both[loser], logs[loser]), winner, logs[loser])
        wait_for(lambda: checkpoints(out) >= 1, winner)
    finally:
        for process in both:
            process.kill()
            process.join()
    return seconds_of(logs[loser])


def test_two_at_once_and_the_lock_of_the_dead(files, tmp_path):
    """The second exits 4 in under 2 s and names pid and host; a killed process's lock is free at once."""
    check_two_at_once(files, tmp_path)


def test_of_two_that_start_together_one_trains(files, tmp_path):
    check_start_together(files, tmp_path)


@pytest.mark.nightly
def test_fifty_pairs_of_processes(files, tmp_path, record_property):
    """Started together, and one after the other; what the second was told took so long at most."""
    numbers, slowest = Numbers(), 0.0
    for number in range(50):
        for name, check in (("together", check_start_together), ("later", check_two_at_once)):
            folder = tmp_path / f"{name}{number}"
            folder.mkdir()
            with numbers.trial():
                slowest = max(slowest, check(files, folder) or 0.0)
        numbers.note_memory(folder / "second")
        shutil.rmtree(folder)
    numbers.record(record_property, slowest_refusal_s=slowest)


# -- R4 ------------------------------------------------------------------------------------------------------


def test_a_full_disk_in_training_is_one_line(files, tmp_path):
    """Room for the small files, not for a checkpoint: exit 2, the path and the bytes are named.

    Nothing half-written stays.
    """
    out = tmp_path / "run"
    code, words = run(train_arguments(files, out, steps=4), tmp_path / "log", file_bytes=20_000)
    assert code == 2
    assert words.count("\n") == 1
    assert "step-000000000.safetensors" in words
    assert "free" in words
    assert list((out / "checkpoints").iterdir()) == []


def test_a_full_disk_in_the_log_is_one_line_and_the_checkpoint_stands(files, tmp_path):
    """events.jsonl outgrows the limit: no traceback, and the last checkpoint loads."""
    log = tmp_path / "log"
    size = max(path.stat().st_size for path in (files / "whole/checkpoints").iterdir())
    grown = tmp_path / "grown"
    process = start(train_arguments(files, grown), log)
    wait_for(lambda: len(RunFolder(grown).read_events()) > 3, process)
    os.kill(process.pid, signal.SIGTERM)
    process.join()
    with (grown / "events.jsonl").open("a") as file:
        file.write('{"step": 0, "event": "' + "x" * size + '"}\n')
    code, words = run(["train", "--out", grown, "--resume"], log, file_bytes=size + 300)
    assert code == 2
    assert words.count("\n") == 1
    assert "events.jsonl" in words
    assert checkpoint.load_latest(grown / "checkpoints")[1] == []


def test_a_full_disk_in_prediction_leaves_no_half_file(files, tmp_path):
    np.save(tmp_path / "big.npy", np.random.default_rng(0).normal(1000, 60, (150, 150)))
    before = hashlib.sha256((tmp_path / "big.npy").read_bytes()).hexdigest()
    out = tmp_path / "out"
    code, words = run(
        ["denoise", files / "whole", tmp_path / "big.npy", "--out", out],
        tmp_path / "log",
        file_bytes=50_000,
    )
    assert code == 2
    assert words.count("\n") == 1
    assert str(out / "big.npy") in words
    assert list(out.iterdir()) == []
    assert hashlib.sha256((tmp_path / "big.npy").read_bytes()).hexdigest() == before


# -- R22 -----------------------------------------------------------------------------------------------------


def test_same_seed_same_weights_in_another_process(files, tmp_path):
    """The whole run of the fixture, done again elsewhere, has the same checkpoint hash.

    Another seed has another.
    """
    again = train_arguments(files, tmp_path / "again")
    assert run(again, tmp_path / "log", step_seconds=0) == (0, "")
    assert digest(tmp_path / "again") == digest(files / "whole")
    other = train_arguments(files, tmp_path / "other", seed=1)
    assert run(other, tmp_path / "log", step_seconds=0) == (0, "")
    assert digest(tmp_path / "other") != digest(files / "whole")
