"""Run the long tests and keep their numbers.

    python benchmarks/nightly.py [--only WORDS] [--out benchmarks/results/nightly.json]

``pytest -m nightly``, one line a test: outcome, seconds, and what the test measured. Lines of tests that do
not run now stay as they were; those of tests that are no more go.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import torch

from pairfree.engine.run import environment

ROOT = Path(__file__).resolve().parent.parent


def run(words: str) -> dict[str, dict[str, Any]]:
    """Test -> outcome, seconds, numbers, and the date and threads of this run."""
    facts = environment(torch.device("cpu"), "float32")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = [
            "-m",
            "nightly",
            f"--junitxml={report}",
            "-o",
            "junit_family=xunit1",
            *(["-k", words] if words else []),
        ]
        subprocess.run([sys.executable, "-m", "pytest", *options], cwd=ROOT, check=False)
        cases = list(ElementTree.parse(report).iter("testcase"))
    found = {}
    for case in cases:
        bad = [kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None]
        numbers = {one.attrib["name"]: float(one.attrib["value"]) for one in case.iter("property")}
        found[f"{Path(case.attrib['file']).name}::{case.attrib['name']}"] = {
            "outcome": bad[0] if bad else "passed",
            "seconds": round(float(case.attrib["time"]), 1),
            **numbers,
            "date": facts["date"],
            "processor": facts["processor"],
            "threads": facts["threads"],
        }
    return found


def collect() -> set[str]:
    """All long tests that there are, named as ``run`` names them."""
    options = ["--collect-only", "-q", "-o", "addopts=", "-m", "nightly"]
    command = [sys.executable, "-m", "pytest", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    tests = [line.partition("::") for line in done.stdout.splitlines() if "::" in line]
    return {f"{Path(file).name}::{name}" for file, _, name in tests}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="as pytest's -k")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results" / "nightly.json"
    )
    given = parser.parse_args()
    before = json.loads(given.out.read_text(encoding="utf-8")) if given.out.is_file() else {}
    found = run(given.only)
    there = collect()
    lines = {name: line for name, line in sorted({**before, **found}.items()) if name in there}
    given.out.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")
    passed = sum(one["outcome"] == "passed" for one in found.values())
    print(f"{passed} of {len(found)} passed, {sum(one['seconds'] for one in found.values()):.0f} s")


if __name__ == "__main__":
    main()
