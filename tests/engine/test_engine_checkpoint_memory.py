"""R7: the numbers of a checkpoint are read with less memory than its file has bytes, and 200 MB.

What ``load`` measures of a network afterwards, to size tiles, comes on top: it is as for a network in memory.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pairfree.data.normalize import Normalizer
from pairfree.engine import checkpoint
from pairfree.engine.plan import Plan
from pairfree.engine.record import Record
from pairfree.errors import CheckpointError
from pairfree.methods import PRESETS, build_method
from pairfree.training.restoring import check_stored, load_weights, stored_config

linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux counts memory")
MMAP_THRESHOLD = -3
"""The number of this option of glibc's ``mallopt``."""


@pytest.fixture
def exact_memory() -> Iterator[None]:
    """Every tensor of 64 KB or more is mapped by itself, so that no freed memory between tensors counts.

    Without that the same work took 80 to 120 MB. Afterwards the threshold is the largest that glibc itself
    moves it to.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        pytest.skip("needs glibc's mallopt")
    mallopt(MMAP_THRESHOLD, 2**16)
    yield
    mallopt(MMAP_THRESHOLD, 2**25)


def store(run: Path, size: int, moments: bool, **changes: object) -> int:
    """A checkpoint of a U-Net of that width, with what Adam remembers or without; returns its bytes."""
    config = dataclasses.replace(PRESETS["n2c"]["paper"], width=size)
    method = build_method("n2c", config, 1)
    if moments:
        for parameter in method.networks["net"].parameters():
            parameter.grad = torch.zeros_like(parameter)
        method.optimizers["net"].step()
    record = Record.untrained("n2c", Normalizer(0.0, 1.0), 1)
    values = {**dataclasses.asdict(config), **changes}
    plan = Plan((("train", 2),))
    record = dataclasses.replace(record, config=values, plan=plan, step=int(moments))
    words = checkpoint.save(run / "checkpoints", record, method.tensors())
    return words.with_suffix(".safetensors").stat().st_size


def restore(run: Path, optimizers: bool) -> None:
    """What ``load`` and ``resume`` do."""
    last, _ = checkpoint.load_latest(run / "checkpoints")
    check_stored(last, run, optimizers)
    config = stored_config(last.record.method, last.record.config, "")
    load_weights(build_method(last.record.method, config, 1), last, optimizers)


def held() -> dict[str, int]:
    """Resident memory now (RSS) and at most (HWM), bytes."""
    found = re.findall(r"Vm(HWM|RSS):\s+(\d+)", Path("/proc/self/status").read_text())
    return {name: 1024 * int(number) for name, number in found}


def measure(run: Path, optimizers: bool) -> tuple[int, float, str]:
    """Bytes beyond those before, seconds, and the refusal, of a process that has done it once in small."""
    small = run.with_name("small")
    store(small, 4, moments=True)
    restore(small, True)
    Path("/proc/self/clear_refs").write_text("5")
    before, begun, refused = held()["RSS"], time.perf_counter(), ""
    try:
        restore(run, optimizers)
    except CheckpointError as error:
        refused = str(error)
    return held()["HWM"] - before, time.perf_counter() - begun, refused


@linux
@pytest.mark.usefixtures("exact_memory")
@pytest.mark.parametrize("moments", [True, False])
def test_loading_takes_no_more_than_the_file(tmp_path: Path, moments: bool) -> None:
    """And what a piece of it takes."""
    size = store(tmp_path / "run", 70 if moments else 120, moments)
    grown, _, refused = measure(tmp_path / "run", moments)
    assert refused == ""
    assert size > 24e6
    assert grown < size + 25e6


@linux
def test_a_forged_width_takes_nothing(tmp_path: Path) -> None:
    store(tmp_path / "run", 4, moments=True, width=3000)
    grown, seconds, refused = measure(tmp_path / "run", True)
    assert "expected float32 (12000,)" in refused
    assert grown < 20e6
    assert seconds < 2.0


@linux
@pytest.mark.nightly
@pytest.mark.parametrize("what", ["resume", "load", "refuse"])
def test_200_MB_are_loaded_in_less_than_400(
    tmp_path: Path, what: str, record_property: Callable[[str, object], None]
) -> None:
    """Peak of a process that does nothing else: with moments, weights alone, a width of 3000 in the words."""
    moments = what != "load"
    changes = {"width": 3000} if what == "refuse" else {}
    size = store(tmp_path / "run", 120 if moments else 206, moments, **changes)
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import json; "
        "from pathlib import Path; import test_engine_checkpoint_memory as it; "
        f"print(json.dumps(it.measure(Path({str(tmp_path / 'run')!r}), {moments})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grown, seconds, refused = json.loads(done.stdout)
    record_property("file MB", round(size / 1e6))
    record_property("grown MB", round(grown / 1e6))
    record_property("slowest s", round(seconds, 2))
    assert bool(refused) is (what == "refuse")
    assert size > 180e6
    assert grown < size + (200e6 if what != "refuse" else -100e6)
    assert seconds < 30.0
