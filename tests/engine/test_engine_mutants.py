"""R7: no mutant of a checkpoint loads or resumes; each is refused in a line that names it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from pairfree.engine import checkpoint
from pairfree.errors import CheckpointError
from pairfree.methods import build_method
from pairfree.training.restoring import check_stages, check_stored, load_weights, stored_config

KEPT = Path(__file__).parents[1] / "reliability" / "kept_runs" / "0.1.0" / "n2v" / "checkpoints"
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
Change = Callable[[Path], None]
"""Changes the files of a checkpoint, whose JSON is given."""


def seal(words: Path, **changes: Any) -> None:
    """Change fields, and write digests that fit; None drops a field."""
    facts = json.loads(words.read_text())
    facts.pop("digest")
    blob = words.with_suffix(".safetensors").read_bytes()
    facts["tensors_sha256"] = hashlib.sha256(blob).hexdigest()
    facts = {name: value for name, value in {**facts, **changes}.items() if value is not None}
    words.write_text(checkpoint._text({**facts, "digest": checkpoint._digest(facts)}))


def said(**changes: Any) -> Change:
    return lambda words: seal(words, **changes)


def set_to(**config: Any) -> Change:
    """Other settings."""

    def change(words: Path) -> None:
        stored = json.loads(words.read_text())["config"]
        seal(words, config={**stored, **config})

    return change


def of_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    """Tensors are changed, and nothing is said of how many there are."""

    def changed(words: Path) -> None:
        numbers = words.with_suffix(".safetensors")
        found = safetensors.torch.load(numbers.read_bytes())
        change(found)
        numbers.write_bytes(safetensors.torch.save(found))
        seal(words, tensor_counts=None)

    return changed


def of_header(change: Callable[[dict[str, Any]], object]) -> Change:
    """What the file declares is changed, its numbers are not."""

    def changed(words: Path) -> None:
        numbers = words.with_suffix(".safetensors")
        blob = numbers.read_bytes()
        length = int.from_bytes(blob[:8], "little")
        header = json.loads(blob[8 : 8 + length])
        made = change(header)
        text = json.dumps(header if made is None else made).encode()
        numbers.write_bytes(len(text).to_bytes(8, "little") + text + blob[8 + length :])
        seal(words)

    return changed


def of_bytes(change: Callable[[bytes], bytes]) -> Change:
    """The bytes of the tensor file are changed, and the digest is theirs."""

    def changed(words: Path) -> None:
        numbers = words.with_suffix(".safetensors")
        numbers.write_bytes(change(numbers.read_bytes()))
        seal(words)

    return changed


def long_header(words: Path) -> None:
    """100 MB of it, which are there."""
    with words.with_suffix(".safetensors").open("wb") as file:
        file.write((100_000_000).to_bytes(8, "little") + b"{")
        file.truncate(100_000_008)
    seal(words)


W, M = "net/net/last.weight", "opt/net/4/exp_avg"
CRAFTED: dict[str, Change] = {
    "100 MB header": long_header,
    "header of 100 MB that is not there": of_bytes(
        lambda blob: (10**8).to_bytes(8, "little") + blob[8:]
    ),
    "header of 2^63": of_bytes(lambda blob: (2**63).to_bytes(8, "little") + blob[8:]),
    "no header": of_bytes(lambda blob: bytes(8) + blob[8:]),
    "no bytes": of_bytes(lambda blob: b""),
    "four bytes": of_bytes(lambda blob: blob[:4]),
    "bytes behind the last": of_bytes(lambda blob: blob + b"\0" * 8),
    "last bytes gone": of_bytes(lambda blob: blob[:-8]),
    "a pickle": of_bytes(lambda blob: b"\x80\x04\x95" + blob),
    "a zip": of_bytes(lambda blob: b"PK\x03\x04" + blob),
    "a list": of_header(lambda header: list(header)),
    "no tensors": of_header(lambda header: {}),
    "deep": of_bytes(lambda blob: (10**5).to_bytes(8, "little") + b"[" * 10**5),
    "overlap": of_header(lambda header: header[W].update(data_offsets=[0, 8])),
    "same place": of_header(lambda header: header.update(twin=header[W])),
    "beyond the end": of_header(lambda header: header[W].update(data_offsets=[10**9, 10**9 + 8])),
    "offsets below 0": of_header(lambda header: header[W].update(data_offsets=[-8, 0])),
    "offsets backwards": of_header(lambda header: header[W]["data_offsets"].reverse()),
    "offsets of 2^70": of_header(lambda header: header[W].update(data_offsets=[2**70, 2**71])),
    "three offsets": of_header(lambda header: header[W].update(data_offsets=[0, 8, 8])),
    "offsets as text": of_header(lambda header: header[W].update(data_offsets="0, 8")),
    "shape of 2^62": of_header(lambda header: header[W].update(shape=[2**62, 4])),
    "shape below 0": of_header(lambda header: header[W].update(shape=[-1, 4])),
    "shape of truth": of_header(lambda header: header[W].update(shape=[True, 4])),
    "shape of 1000": of_header(lambda header: header[W].update(shape=[1] * 1000)),
    "unknown type": of_header(lambda header: header[W].update(dtype="../x")),
    "type as list": of_header(lambda header: header[W].update(dtype=["F32"])),
    "tensor of text": of_header(lambda header: header.update({W: "x"})),
    "other name": of_header(lambda header: header.update({"../x": header.pop(W)})),
    "weight gone": of_tensors(lambda found: found.pop(W)),
    "weight more": of_tensors(lambda found: found.update({W + "2": torch.zeros(1)})),
    "weight float64": of_tensors(lambda found: found.update({W: found[W].double()})),
    "weight float16": of_tensors(lambda found: found.update({W: found[W].half()})),
    "weight int64": of_tensors(lambda found: found.update({W: found[W].long()})),
    "weight of 1 x 1": of_tensors(lambda found: found.update({W: torch.zeros(1, 1)})),
    "weight NaN": of_tensors(lambda found: found[W].fill_(np.nan)),
    "weight Inf": of_tensors(lambda found: found[W].fill_(-np.inf)),
    "moment gone": of_tensors(lambda found: found.pop(M)),
    "moment more": of_tensors(lambda found: found.update({M + "2": torch.zeros(1)})),
    "moment float64": of_tensors(lambda found: found.update({M: found[M].double()})),
    "moment of 9": of_tensors(lambda found: found.update({M: torch.zeros(9)})),
    "moment NaN": of_tensors(lambda found: found[M].fill_(np.nan)),
    "moments gone": of_tensors(
        lambda found: [found.pop(name) for name in list(found) if name.startswith("opt/")]
    ),
    "moment of ../x": of_tensors(lambda found: found.update({"opt/net/../x": torch.zeros(1)})),
    "foreign": of_tensors(lambda found: found.update({"../x": torch.zeros(1)})),
    "width of 3000": set_to(width=3000),
    "width of 10^400": set_to(width=10**400),
    "width of text": set_to(width="../x"),
    "another network": set_to(net="os.system"),
    "unknown setting": set_to(path="../x"),
    "another method": said(method="iddp"),
    "no method": said(method="../x"),
    "channels of 2^63": said(channels=2**63),
    "two channels": said(channels=2),
    "slices around": said(slices_around=1),
    "other stages": said(plan=[["../x", 6]]),
    "steps beyond the plan": said(step=10**9),
    "counts of others": said(tensor_counts={"net/net": 1}),
    "format of tomorrow": said(format=2),
    "no scale": said(normalizer={"offset": 0.0, "scale": 0.0}),
}


def flipped(rng: np.random.Generator, suffix: str) -> Change:
    def change(words: Path) -> None:
        path = words.with_suffix(suffix)
        data = bytearray(path.read_bytes())
        bit = int(rng.integers(8 * len(data)))
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)

    return change


def truncated(rng: np.random.Generator, suffix: str) -> Change:
    def change(words: Path) -> None:
        path = words.with_suffix(suffix)
        data = path.read_bytes()
        path.write_bytes(data[: int(rng.integers(len(data)))])

    return change


def mutants(flips: int, truncations: int, crafted: int) -> Iterator[tuple[str, Change]]:
    """Of both files by turns; the crafted ones from the first on, or all."""
    rng = np.random.default_rng(7)
    suffixes = (".json", ".safetensors")
    for number in range(flips):
        yield f"flip {number}", flipped(rng, suffixes[number % 2])
    for number in range(truncations):
        yield f"truncation {number}", truncated(rng, suffixes[number % 2])
    yield from list(CRAFTED.items())[:: max(1, len(CRAFTED) // crafted)]


def resume(folder: Path) -> None:
    """All that reads a checkpoint when a run goes on."""
    last, _ = checkpoint.load_latest(folder)
    check_stored(last, folder.parent)
    record = last.record
    if record.method not in {"n2v", "iddp"} or record.config["net"] == "os.system":
        raise CheckpointError(f"{folder}: a method or a network of your own")
    config = stored_config(record.method, record.config, "")
    method = build_method(record.method, config, record.channels)
    load_weights(method, last)
    check_stages(method, last)


def peak() -> int:
    """Most memory that this process has held since it was cleared, bytes; 0 where that is not told."""
    found = re.search(r"VmHWM:\s+(\d+)", STATUS.read_text()) if STATUS.exists() else None
    return 1024 * int(found[1]) if found else 0


def check_mutants(tmp_path: Path, flips: int, truncations: int, crafted: int) -> dict[str, float]:
    """Numbers for the record; failures are those that load, or are refused without a name in a line."""
    folder = shutil.copytree(KEPT, tmp_path / "run" / "checkpoints")
    resume(folder)  # whole, it goes on
    (words,) = checkpoint.listing(folder)
    if CLEAR.exists():
        CLEAR.write_text("5")
    before, largest, slowest, failed, count = peak(), 0, 0.0, [], 0
    for name, change in mutants(flips, truncations, crafted):
        for path in KEPT.iterdir():
            shutil.copy(path, folder)
        change(words)
        size = sum(path.stat().st_size for path in folder.iterdir())
        line, begun = "", time.process_time()
        try:
            resume(folder)
        except CheckpointError as error:
            line = str(error)
        slowest = max(slowest, time.process_time() - begun)
        largest = max(largest, size)
        count += 1
        if str(folder.parent) not in line or "\n" in line:
            failed.append(name)
    grown = peak() - before
    assert failed == []
    assert grown < largest + 200e6
    return {
        "mutants": count,
        "failures": len(failed),
        "slowest s": round(slowest, 3),
        "grown MB": round(grown / 1e6),
    }


def test_100_mutants_are_refused(tmp_path: Path) -> None:
    assert len(CRAFTED) >= 50
    numbers = check_mutants(tmp_path, 50, 20, 30)
    assert numbers["mutants"] >= 100


@pytest.mark.nightly
def test_1250_mutants_are_refused(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    for what, number in check_mutants(tmp_path, 1000, 200, len(CRAFTED)).items():
        record_property(what, number)
