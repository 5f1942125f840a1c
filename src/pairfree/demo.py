"""``pairfree demo``: train on the real noisy images that come with the package, and denoise them."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pairfree import api
from pairfree.engine.trainer import OnStep
from pairfree.errors import ConfigError, OutputError
from pairfree.files.listing import check_folder
from pairfree.training.paragraph import command_line

NOISY, RUN, DENOISED = "noisy", "run", "denoised"


@dataclass(frozen=True)
class Written:
    """What a demo leaves on disk."""

    denoised: list[Path]
    """The denoised files."""
    report: Path | None
    """The HTML report; None where it could not be drawn."""


def run(
    out: Path, minutes: float, on_step: OnStep | None = None, say: Callable[[str], None] = print
) -> Written:
    """Train on the bundled images and denoise them.

    They are copied to ``out/noisy``; the run is ``out/run``, the results are ``out/denoised`` and
    ``out/report.html``.

    Parameters
    ----------
    out
        The folder.
    minutes
        Budget of the training.
    on_step
        As in ``api.train``.
    say
        Told what is done, a line at a time.

    Raises
    ------
    ConfigError
        For a budget that is none.
    OutputError
        When ``out`` exists and is not empty: a demo must not disturb anybody's files.
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
    say(f"training for {60.0 * minutes:.0f} seconds in {out / RUN} ...")
    command = command_line(
        ["train", str(noisy), "--out", str(out / RUN), "--minutes", f"{minutes:g}"]
    )
    model = api.train(noisy, out=out / RUN, minutes=minutes, command=command, on_step=on_step)
    results = api.denoise(model, noisy, out / DENOISED)
    drawn, report = out / RUN / "report.html", out / "report.html"
    if drawn.is_file():  # a report that cannot be drawn was a warning; the images stand
        shutil.copyfile(drawn, report)
    return Written([result.written for result in results], report if drawn.is_file() else None)
