"""R3, R7, R8: a checkpoint is whole or refused, whatever the disk or a stranger does to it."""

import errno
import hashlib
import json
import os
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch

import pairfree as pf
from pairfree.engine import checkpoint
from pairfree.engine.record import Record
from pairfree.engine.run import RunFolder
from pairfree.errors import CheckpointError, InputError, PairfreeError
from pairfree.files.opening import open_image

FACTS = {
    "method": "n2v",
    "config": {"lr": 1e-05},
    "preset": "cpu",
    "normalizer": {"offset": 0.5, "scale": 255.0},
    "channels": 1,
    "seed": 0,
    "plan": [["train", 100]],
    "step": 1,
    "data_sha256": "0",
    "precision": "float32",
    "versions": {"pairfree": "0", "torch": "0"},
}


def tensors(value=1.0):
    return {"net/net/weight": torch.full((4, 3), value), "opt/net/0/step": torch.tensor(value)}


def save(folder, step, value=1.0):
    return checkpoint.save(folder, record(step), tensors(value))


def record(step):
    return Record.from_facts({**FACTS, "step": step}, "a test")


def test_weights_that_share_memory_are_saved(tmp_path):
    weight = torch.ones(4, 3)
    words = checkpoint.save(
        tmp_path, record(1), {"net/net/first": weight, "net/net/second": weight}
    )
    found = checkpoint.load(words).tensors
    assert torch.equal(found["net/net/first"], found["net/net/second"])


def rewrite(words, **changes):
    """Change fields of a checkpoint as a careful forger would: with a digest that fits.

    ``None`` drops a field.
    """
    facts = json.loads(words.read_text())
    facts.pop("digest")
    facts = {key: value for key, value in {**facts, **changes}.items() if value is not None}
    words.write_text(checkpoint._text({**facts, "digest": checkpoint._digest(facts)}))


def rewrite_tensors(words, blob):
    words.with_suffix(".safetensors").write_bytes(blob)
    rewrite(words, tensors_sha256=hashlib.sha256(blob).hexdigest())


def test_round_trip_and_only_the_newest_are_kept(tmp_path):
    for step in (1, 2, 3, 4):
        save(tmp_path, step, float(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"step-{step:09d}.{kind}" for step in (3, 4) for kind in ("json", "safetensors")
    ]
    found, problems = checkpoint.load_latest(tmp_path)
    assert (found.step, problems) == (4, [])
    assert found.record.as_facts().items() >= {**FACTS, "step": 4}.items()
    assert all(torch.equal(tensor, tensors(4.0)[name]) for name, tensor in found.tensors.items())


def test_numbers_without_words_are_dropped_at_the_next_save(tmp_path):
    """What a process that was killed between the two files left behind does not stay forever."""
    stray = tmp_path / "step-000000001.safetensors"
    stray.write_bytes(b"half a checkpoint")
    save(tmp_path, 2)
    assert not stray.exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return save(folder, 1)


def damaged_copy(whole, tmp_path, suffix, change):
    """Copy the checkpoint, change one of its two files; returns its JSON and the changed file."""
    for kind in (".json", ".safetensors"):
        shutil.copy(whole.with_suffix(kind), tmp_path / (whole.stem + kind))
    path = tmp_path / (whole.stem + suffix)
    path.write_bytes(change(path.read_bytes()))
    return tmp_path / whole.name, path


def assert_refused_by_name(words, path):
    with pytest.raises(CheckpointError) as refused:
        checkpoint.load(words)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def flipped(bit):
    def change(data):
        at = bit % (8 * len(data))
        return data[: at // 8] + bytes([data[at // 8] ^ (1 << at % 8)]) + data[at // 8 + 1 :]

    return change


def check_bit_flips(whole, tmp_path, count):
    rng = np.random.default_rng(7)
    for number in range(count):
        suffix = (".json", ".safetensors")[number % 2]
        bit = int(rng.integers(8 * whole.with_suffix(suffix).stat().st_size))
        assert_refused_by_name(*damaged_copy(whole, tmp_path, suffix, flipped(bit)))


def check_truncations(whole, tmp_path, count):
    for suffix in (".json", ".safetensors"):
        size = whole.with_suffix(suffix).stat().st_size
        for left in {*np.linspace(0, size - 1, count // 2).astype(int).tolist(), size - 1}:
            assert_refused_by_name(
                *damaged_copy(whole, tmp_path, suffix, lambda data, left=left: data[:left])
            )


def test_bit_flips_are_refused_by_name(whole, tmp_path):
    check_bit_flips(whole, tmp_path, 100)


def test_truncations_are_refused_by_name(whole, tmp_path):
    check_truncations(whole, tmp_path, 40)


def test_the_case_of_an_exponent_is_damage_too(whole, tmp_path):
    """1e-05 and 1E-05 are one number: only a comparison of the text sees this single flipped bit."""
    assert b"1e-05" in whole.read_bytes()
    assert_refused_by_name(
        *damaged_copy(whole, tmp_path, ".json", lambda data: data.replace(b"1e-05", b"1E-05"))
    )


@pytest.mark.parametrize("key", sorted(checkpoint.FIELDS))
def test_a_missing_or_wrong_field_is_named(key, tmp_path):
    words = save(tmp_path, 1)
    rewrite(words, **{key: None})
    with pytest.raises(CheckpointError, match=f"'{key}' is missing"):
        checkpoint.load(words)
    rewrite(words, **{**FACTS, "tensors_sha256": "0", key: True})
    with pytest.raises(CheckpointError, match=f"'{key}'"):
        checkpoint.load(words)


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": {"offset": 0.0}},
        {"normalizer": {"offset": 0.0, "scale": 0.0}},
        {"normalizer": {"offset": "../x", "scale": 1.0}},
        {"normalizer": {"offset": 0.0, "scale": 1.0, "path": "/etc/passwd"}},
        {"plan": []},
        {"plan": [["train", -5]]},
        {"plan": [["../../x", "many"]]},
        {"plan": [{"train": 5}]},
        {"channels": 0},
        {"step": -1},
        {"step": 101},
        {"format": 99},
    ],
)
def test_crafted_facts_are_refused(changes, tmp_path):
    """Fields of the right type and an impossible value, under a digest that fits."""
    words = save(tmp_path, 1)
    rewrite(words, **changes)
    assert_refused_by_name(words, words)


def test_deep_json_and_other_encodings_are_refused(tmp_path):
    words = save(tmp_path, 1)
    for text in (
        b"[" * 100_000,
        b"\xff\xfe{}",
        b"null",
        b"[]",
        b'{"digest": 1}',
        b"",
        b'{"a": NaN}',
    ):
        words.write_bytes(text)
        assert_refused_by_name(words, words)


def header_of(size, header):
    return size.to_bytes(8, "little") + json.dumps(header).encode()


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        header_of(100_000_000, {}),
        header_of(2**63, {}),
        header_of(
            120, {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in "ab"}
        )
        + b" " * 40
        + b"\0" * 8,
        b"\x80\x04\x95" + b"\0" * 30,  # the start of a pickle
        b"PK\x03\x04" + b"\0" * 30,  # the start of a .pt archive
    ],
    ids=["empty", "100 MB header", "2^63 header", "overlap", "pickle", "zip"],
)
def test_crafted_tensor_files_are_refused(blob, tmp_path):
    """Also when the sha256 in the JSON fits."""
    words = save(tmp_path, 1)
    rewrite_tensors(words, blob)
    assert_refused_by_name(words, words.with_suffix(".safetensors"))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_weights_are_refused_by_tensor_name(bad, tmp_path):
    words = save(tmp_path, 1)
    rewrite_tensors(words, safetensors.torch.save({"net/net/weight": torch.tensor([1.0, bad])}))
    with pytest.raises(CheckpointError, match=r"'net/net/weight' holds NaN"):
        checkpoint.load(words)


def test_missing_partner_is_named(tmp_path):
    words = save(tmp_path, 1)
    words.with_suffix(".safetensors").unlink()
    assert_refused_by_name(words, words.with_suffix(".safetensors"))


def test_fallback_names_what_it_skipped(tmp_path):
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    newest.write_text("{")
    found, problems = checkpoint.load_latest(tmp_path)
    assert found.step == 1
    assert len(problems) == 1
    assert str(newest) in problems[0]
    checkpoint.listing(tmp_path)[0].write_text("{")
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        checkpoint.load_latest(tmp_path)


# -- against a real model ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = tmp_path_factory.mktemp("trained") / "run"
    image = np.random.default_rng(0).normal(1000, 50, (24, 24)).astype(np.uint16)
    settings = {"width": 4, "patch_px": 16, "batch_size": 2, "precision": "float32"}
    pf.train(image, method="n2v", steps=3, settings=settings, out=run, report=False)
    return run


@pytest.fixture
def copied(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def changed_tensors(run, change):
    words = checkpoint.listing(run / "checkpoints")[-1]
    found = dict(checkpoint.load(words).tensors)
    change(found)
    rewrite_tensors(words, safetensors.torch.save(found))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda found: found.pop("net/net/last.weight"), "net/net/last.weight"),
        (lambda found: found.update({"net/net/extra": torch.zeros(1)}), "net/net/extra"),
        (lambda found: found.update({"net/net/last.bias": torch.zeros(5)}), "net/net/last.bias"),
        (
            lambda found: found.update({"net/net/last.bias": found["net/net/last.bias"].double()}),
            "net/net/last.bias",
        ),
        (
            lambda found: found.update({"net/net/last.bias": found["net/net/last.bias"].long()}),
            "net/net/last.bias",
        ),
    ],
    ids=["missing", "extra", "shape", "float64", "int64"],
)
def test_weights_that_do_not_fit_are_named(change, named, copied):
    changed_tensors(copied, change)
    with pytest.raises(CheckpointError, match=named):
        pf.load(copied)


@pytest.mark.parametrize(
    "config",
    [
        {"width": "../x"},
        {"no such key": 1},
        {"net": "os.system"},
        {"width": -4},
        {"lr": -1.0},
        {"net": "unet", "width": 8},
    ],
)
def test_crafted_settings_are_checkpoint_errors(config, copied):
    words = checkpoint.listing(copied / "checkpoints")[-1]
    stored = json.loads(words.read_text())["config"]
    rewrite(words, config={**stored, **config})
    with pytest.raises(CheckpointError):
        pf.load(copied)


def test_a_method_name_never_becomes_code(copied):
    words = checkpoint.listing(copied / "checkpoints")[-1]
    rewrite(words, method="os:system")
    with pytest.raises(CheckpointError, match="method of your own"):
        pf.load(copied)
    with pytest.raises(CheckpointError, match="method of your own"):
        pf.train(out=copied, resume=True)


# -- R3: the disk fails --------------------------------------------------------------------------------------

CALLS = ("replace", "fsync", "open", "write", "unlink", "makedirs", "mkdir", "close")


class FailingDisk:
    """Counts the calls of ``os`` that change or flush something and makes the k-th one fail.

    ``close`` closes first, as Linux does.
    """

    def __init__(self, monkeypatch, fail_at, number):
        self.calls, self.fail_at, self.number = 0, fail_at, number
        for name in CALLS:
            monkeypatch.setattr(os, name, self.wrapped(name, getattr(os, name)))

    def wrapped(self, name, original):
        def call(*arguments, **named):
            self.calls += 1
            if self.calls == self.fail_at:
                if name == "close":
                    original(*arguments, **named)
                raise OSError(self.number, os.strerror(self.number))
            return original(*arguments, **named)

        return call


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES], ids=errno.errorcode.get)
def test_every_failing_call_leaves_the_last_good_checkpoint(number, tmp_path, monkeypatch):
    """Fail the k-th call for every k until the save succeeds: a whole checkpoint loads each time.

    The error, if any, is one line.
    """
    failures: list[tuple[str, str]] = []
    k = 0
    while True:
        k += 1
        run = RunFolder(tmp_path / str(k))
        save(run.checkpoints, 1, 1.0)
        save(run.checkpoints, 2, 2.0)
        with monkeypatch.context() as patch:
            disk = FailingDisk(patch, k, number)
            try:
                save(run.checkpoints, 3, 3.0)
            except PairfreeError as error:
                failures.append((str(run.checkpoints), str(error)))
        found, problems = checkpoint.load_latest(run.checkpoints)
        assert problems == []
        assert found.step in (2, 3)
        assert float(found.tensors["net/net/weight"][0, 0]) == found.step
        if disk.calls < k:
            break
    assert len(failures) >= 8
    assert all(folder in line and "\n" not in line for folder, line in failures)
    assert found.step == 3


def test_temporary_files_of_a_dead_process_go_with_the_next_lock(tmp_path, monkeypatch):
    """Where even the clean-up fails, the next process that takes the lock removes what is left.

    It fails after kill -9, for example.
    """
    run = RunFolder(tmp_path / "run")
    save(run.checkpoints, 1)
    child = os.fork()
    if child == 0:  # dies between the temporary file and its rename
        monkeypatch.setattr(os, "replace", lambda *_: os._exit(0))
        save(run.checkpoints, 2)
    os.waitpid(child, 0)
    assert any(".partial-" in path.name for path in run.checkpoints.iterdir())
    with run.locked():
        assert not any(".partial-" in path.name for path in run.checkpoints.iterdir())
    assert checkpoint.load_latest(run.checkpoints)[0].step == 1


# -- R8: no code from files ----------------------------------------------------------------------------------


class Payload:
    """Unpickling an instance creates the file ``marker``."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (os.mkdir, (str(self.marker),))


@pytest.mark.parametrize("suffix", [".npy", ".tif", ".png"])
def test_a_pickle_payload_is_never_run(suffix, tmp_path):
    """An object array and a bare pickle, under any suffix, are refused and not executed.

    (The payload itself works: it is tried last.)
    """
    import pickle

    marker = tmp_path / "marker"
    path = tmp_path / f"evil{suffix}"
    with path.open("wb") as file:
        np.save(file, np.array([[Payload(marker)]], dtype=object), allow_pickle=True)
    with pytest.raises(InputError):
        open_image(path)
    path.write_bytes(pickle.dumps(Payload(marker)))
    with pytest.raises(InputError):
        open_image(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists()


def test_a_pickle_as_checkpoint_is_never_run(copied, tmp_path):
    import pickle

    words = checkpoint.listing(copied / "checkpoints")[-1]
    rewrite_tensors(words, pickle.dumps(Payload(tmp_path / "marker")))
    for other in checkpoint.listing(copied / "checkpoints")[:-1]:
        other.unlink()
    with pytest.raises(CheckpointError):
        pf.load(copied)
    assert not (tmp_path / "marker").exists()
