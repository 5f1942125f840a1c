"""Freed blocks are used again."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy
from pairfree.engine.freed_blocks import keep_freed_blocks
if sys.argv[1] == "keep":
    keep_freed_blocks()
def work():
    for _ in range(40):
        numpy.empty(200_000).fill(1.0)  # below 4 MB NumPy asks for no huge pages
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str, **more: str) -> int:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MALLOC_", "GLIBC_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how],
        env={**kept, **more},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_a_block_of_a_layer_is_used_again_also_where_the_environment_trims():
    trims = {"MALLOC_TRIM_THRESHOLD_": "65536"}  # as Dask's workers have it
    assert faults("keep", **trims) < 0.2 * faults("leave", **trims)
    users = trims | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    assert faults("keep", **users) > 0.5 * faults("leave", **users)
