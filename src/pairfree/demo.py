"""``pairfree demo``: train on the real noisy images that come with the package, denoise them, and show what
happened.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pairfree import api
from pairfree.errors import ConfigError, OutputError
from pairfree.files.listing import check_folder
from pairfree.training.report import command_line

NOISY, RUN, DENOISED = "noisy", "run", "denoised"


@dataclass(frozen=True)
class Written:
    """denoised   paths of the denoised files;  report   path of the HTML report, None where it could not be drawn"""

    denoised: list[Path]
    report: Path | None


def run(
    out: Path, minutes: float, on_step: api.OnStep | None = None, say: Callable[[str], None] = print
) -> Written:
    """Copy the bundled images to ``out/noisy``, train in ``out/run``, write ``out/denoised`` and
    ``out/report.html``.

    Refused when ``out`` exists and is not empty: a demo must not disturb anybody's files.
    """
    check_folder(out)
    if not 0 < minutes < math.inf:
        raise ConfigError(f"a budget of {minutes:g} minutes is no budget: give `minutes` above 0")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out}: exists already; name another folder with `out`, or remove it")
    noisy = out / NOISY
    try:
        noisy.mkdir(parents=True, exist_ok=True)
        source = files("pairfree").joinpath("assets/demo")
        for item in sorted(source.iterdir(), key=lambda one: one.name):
            (noisy / item.name).write_bytes(item.read_bytes())
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error.strerror}); name a folder you may write to with `out`"
        ) from None
    count = len(list(noisy.glob("*.tif")))
    say(
        f"{count} real low-dose electron micrographs in {noisy} (origin: {noisy / 'ATTRIBUTION.txt'})"
    )
    say(f"training for {minutes:g} minutes in {out / RUN} ...")
    command = command_line(
        ["train", str(noisy), "--out", str(out / RUN), "--minutes", f"{minutes:g}"]
    )
    model = api.train(noisy, out=out / RUN, minutes=minutes, command=command, on_step=on_step)
    results = api.denoise(model, noisy, out / DENOISED)
    drawn, report = out / RUN / "report.html", out / "report.html"
    if drawn.is_file():  # a report that cannot be drawn was a warning; the images stand
        shutil.copyfile(drawn, report)
    return Written([result.written for result in results], report if drawn.is_file() else None)
