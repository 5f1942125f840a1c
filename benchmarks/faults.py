"""Put hand-written faults into a copy of the package, and count how many the ordinary tests find.

    python benchmarks/faults.py [--only WORDS] [--out benchmarks/results/faults.json]

Each fault replaces a few words of one file. The tests named beside it run until the first failure. A fault
that no test finds is a gap in the tests: it is listed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pairfree.engine.run import environment

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "pairfree"
MOST_SECONDS = 900


class Fault(NamedTuple):
    """What is put into the package, and where it should be found."""

    file: str
    """In the package."""
    right: str
    """As the file has it, once."""
    wrong: str
    """What takes its place."""
    tests: str
    """Folders and files of tests, with words after ``-k`` where few are meant."""


def read_faults() -> list[Fault]:
    """Those of ``faults.toml``."""
    listed = tomllib.loads((Path(__file__).with_suffix(".toml")).read_text(encoding="utf-8"))
    return [Fault(**one) for one in listed["fault"]]


def find(fault: Fault, work: Path) -> dict[str, object]:
    """Whether the tests fail with the fault in, after how many seconds, and the first that does."""
    source = work / "src"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(PACKAGE, source / "pairfree", ignore=shutil.ignore_patterns("__pycache__"))
    put_in(fault, source / "pairfree")
    began = time.monotonic()
    try:
        done = run_tests(fault, source)
    except subprocess.TimeoutExpired:
        raise SystemExit(f"{fault.file}: tests took over {MOST_SECONDS} s; name fewer") from None
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return {
        "file": fault.file,
        "fault": f"{fault.right.strip():.120} -> {fault.wrong.strip():.120}",
        "found": done.returncode == 1 and bool(failed),
        "by": failed[0].split(" - ")[0].split("::", 1)[-1] if failed else "",
        "seconds": round(time.monotonic() - began, 1),
    }


def run_tests(fault: Fault, source: Path) -> subprocess.CompletedProcess[str]:
    """The tests of a fault, with the package of that folder, until the first that fails."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *fault.tests.split()],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
        errors="replace",  # tests of names that are no text
        timeout=MOST_SECONDS,
        check=False,
    )


def put_in(fault: Fault, package: Path) -> None:
    """Change the file of a copy of the package."""
    path = package / fault.file
    text = path.read_text(encoding="utf-8")
    if text.count(fault.right) != 1:
        raise SystemExit(f"{fault.file}: has {fault.right!r} not once; write the fault anew")
    path.write_text(text.replace(fault.right, fault.wrong), encoding="utf-8")


def write(results: list[dict[str, object]], facts: dict[str, Any], out: Path) -> None:
    """How many were found, and each."""
    written = {
        "faults": len(results),
        "found": sum(bool(one["found"]) for one in results),
        **{name: facts[name] for name in ("date", "processor", "pairfree")},
        "each": results,
    }
    out.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="faults whose file holds these words")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/faults.json")
    given = parser.parse_args()
    chosen = [fault for fault in read_faults() if given.only in fault.file]
    facts = environment(torch.device("cpu"), "float32")
    results: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as work:
        for number, fault in enumerate(chosen, 1):
            results.append(find(fault, Path(work)))
            write(results, facts, given.out)
            one = results[-1]
            print(
                f"{number}/{len(chosen)} {one['found']} {one['seconds']} s {one['fault']}",
                flush=True,
            )
    missed = [one for one in results if not one["found"]]
    print(f"{len(results) - len(missed)} of {len(results)} found; missed:")
    for one in missed:
        print(f"  {one['file']}: {one['fault']}")


if __name__ == "__main__":
    main()
