"""The command line in processes of their own, which may be killed.

All are forked from one server that has imported what they need, so that each begins at once. A process of
tests has one such server, for whoever asks.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

CONTEXT = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
COMMANDS = (
    *("pairfree.api", "pairfree.cli.main", "pairfree.training.report", "pytest"),
    "torch._dynamo",  # optimisers import it when they are made: 1.5 s of each child
)
READERS = (
    *("pairfree.files.fidelity", "pydicom.pixels.processing", "ome_types", "PIL.Image"),
    *("imagecodecs", "mrcfile", "nibabel", "SimpleITK", "tifffile", "zarr", "scipy.ndimage"),
    *("liffile", "nd2", "olefile", "rsciio.emd", "rsciio.digitalmicrograph", "h5py"),
)
CONTEXT.set_forkserver_preload([*COMMANDS, *READERS])


def begin(log: str) -> None:
    """In the child: its output goes to files, its peak of memory too, and it has one thread."""
    import torch

    for number in (1, 2):
        os.dup2(os.open(f"{log}.{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    torch.set_num_threads(1)


def run_command(argv: list[Any], log: str) -> None:
    """In the child, after ``begin``: the command, as a user calls it; what it took is written down."""
    from pairfree.cli import main as cli

    sys.argv = ["pairfree", *map(str, argv)]
    try:
        cli.main()
    finally:
        Path(f"{log}.bytes").write_text(str(peak_bytes()))
        Path(f"{log}.seconds").write_text(str(time.process_time()))


def peak_bytes() -> int:
    """Of this process's memory so far; on systems that do not keep that, what it has now."""
    found = psutil.Process().memory_info()
    if sys.platform == "linux":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return getattr(found, "peak_wset", found.rss)


def start(target: Callable[..., None], *given: Any, **how: Any) -> multiprocessing.Process:
    process = CONTEXT.Process(target=target, args=given, kwargs=how)
    process.start()
    return process


def finish(process: Any, log: Path | str, seconds: float = 60) -> tuple[int, str]:
    """Exit code and what was said on stderr."""
    process.join(patience(seconds))
    assert process.exitcode is not None, "still running"
    return process.exitcode, Path(f"{log}.2").read_text()


def seconds_of(log: Path | str) -> float:
    """Of a core, that a command took that has ended by itself."""
    return float(Path(f"{log}.seconds").read_text())


def patience(seconds: float) -> float:
    """The promised seconds of an idle machine, on this one."""
    return seconds * max(1.0, 2 * os.getloadavg()[0])


def wait_for(condition: Callable[[], bool], process: Any = None, seconds: float = 40) -> None:
    end = time.monotonic() + patience(seconds)
    while not condition():
        assert time.monotonic() < end, "waited too long"
        assert process is None or process.is_alive(), "ended too soon"
        time.sleep(0.002)


class Numbers:
    """What a long test counts and times, for ``benchmarks/nightly.py``."""

    def __init__(self) -> None:
        self.n, self.slowest_s, self.peak_bytes = 0, 0.0, 0
        self.failures: list[AssertionError] = []

    @contextmanager
    def trial(self) -> Iterator[None]:
        """One more; a failure is counted, and does not end the test."""
        began = time.monotonic()
        try:
            yield
        except AssertionError as error:
            self.failures.append(error)
        self.n += 1
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def note_memory(self, log: Path | str) -> None:
        """Of a child that has ended by itself."""
        peak = Path(f"{log}.bytes")
        if peak.is_file():
            self.peak_bytes = max(self.peak_bytes, int(peak.read_text()))

    def record(self, record_property: Callable[[str, object], None], **more: float) -> None:
        """Keep the numbers; the first failure, where there was one, is raised."""
        found = {"n": self.n, "failures": len(self.failures), "slowest s": self.slowest_s}
        if self.peak_bytes:
            found["peak MB"] = self.peak_bytes / 1e6
        for name, value in (found | more).items():
            record_property(name.replace("_", " "), round(value, 1))
        if self.failures:
            raise self.failures[0]
