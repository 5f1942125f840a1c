"""``pairfree denoise``."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pairfree.cli.options import ordered
from pairfree.cli.terminal import out, progress
from pairfree.denoising.order import DenoisingOrder
from pairfree.plain import NOTE

_say = logging.getLogger("pairfree")
LEFT_OUT, NOTHING_DONE = 1, 2
"""Exit codes where some files, or all, were left out because they could not be denoised."""
if TYPE_CHECKING:
    from pairfree.denoising.ledger import FileResult
    from pairfree.denoising.plan import Planned


@ordered(DenoisingOrder)
def denoise(
    given: dict[str, Any],
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check everything, tell what it will take, write nothing."),
    ] = False,
) -> None:
    """Denoise files; each comes back in its own format with its metadata.

    Stopped or killed, the same command goes on where it stood.
    """
    from pairfree import api
    from pairfree.denoising.files import denoise_files

    order = {name: value for name, value in given.items() if value is not None}
    planned = api.plan_denoising(**order)
    out_dir, scheduler = given["out"], given["scheduler"]
    if dry_run:
        _foretell(planned)
        return _exit_where_left_out(planned, not planned.files, given["skip_bad"])
    started, done = time.monotonic(), 0
    with progress("denoise") as bar:

        def on_pixels(count: int) -> None:
            nonlocal done
            done += count
            bar(done / 1e6, planned.left.pixels / 1e6, "megapixels")

        results = denoise_files(planned, None, on_pixels, scheduler)
    _tell_warnings(results)
    summary = _summary(results, out_dir, time.monotonic() - started)
    out.print(summary + _count_left_out(len(planned.bad)))
    if given["report"]:
        from pairfree.training.paragraph import command_line

        signs = api.report_on(planned, results, out_dir, command_line(sys.argv[1:]))
        for line in signs or ():
            _say.warning("%s", line)
        if signs is not None:
            out.print(f"report:   {out_dir / 'report.html'}")
    _tell_left_out(planned, nothing_done=not results, asked=given["skip_bad"])


def _tell_warnings(results: Sequence[FileResult]) -> None:
    """What each file is to be warned of, and how much of it was clipped."""
    from pairfree.files.messages import shown_scene

    for result in results:
        name = shown_scene(result.source, result.scene)
        for line in result.warnings:
            _say.warning("%s: %s", name, line)
        if result.clipped:
            share = f"{result.clipped} of {result.pixels} pixels"
            _say.log(NOTE, "%s: %s clipped to the pixel type's range", name, share)


def _tell_left_out(planned: Planned, nothing_done: bool, asked: bool) -> None:
    """Name what was left out; where that was asked for, the exit code says so."""
    for line in planned.bad:
        _say.warning("left out: %s", line)
    _exit_where_left_out(planned, nothing_done, asked)


def _exit_where_left_out(planned: Planned, nothing_done: bool, asked: bool) -> None:
    if asked and planned.bad:
        raise typer.Exit(NOTHING_DONE if nothing_done else LEFT_OUT)


def _summary(results: Sequence[FileResult], out_dir: Path, seconds: float) -> str:
    """What was done, in a line."""
    from pairfree.files.messages import shown

    where = shown(out_dir)
    plural = "" if len(results) == 1 else "s"
    pixels = sum(result.pixels for result in results)
    before = sum(result.before for result in results)
    clipped = sum(result.clipped for result in results)
    warnings = sum(len(result.warnings) for result in results)
    facts = [f"{seconds:.0f} s"]
    if before:
        facts.append(f"{before} done before")
    facts += [f"{clipped:,} pixels clipped", f"{warnings} warnings"]
    return f"{len(results)} file{plural}, {pixels:,} pixels -> {where} ({', '.join(facts)})"


def _count_left_out(count: int) -> str:
    """The end of the summary, where files were left out."""
    return f"; {count} file{'' if count == 1 else 's'} left out, named below" if count else ""


def _foretell(planned: Planned) -> None:
    """What denoising will take."""
    from pairfree.denoising.plan import memory_needed, seconds_needed
    from pairfree.files.atomic import free_bytes
    from pairfree.files.messages import shown, size_text

    for one in planned.files:
        note = " (done before)" if one.path in planned.before else ""
        if one.path in planned.unsent:
            note = " (made before, to be sent)"
        out.print(f"{shown(one.entry.path)} -> {shown(one.path)}{note}")
    for line in planned.bad:
        out.print(f"left out: {line}")
    tile = planned.model.predictor.core_px
    memory, on_gpu = memory_needed(planned)
    seconds, why = seconds_needed(planned)
    here = planned.outbox.folder
    free = free_bytes(here)
    todo = planned.left.pixels
    tiles = f"{tile} px" if tile else "whole images"
    gpu = f", and {size_text(on_gpu)} on the GPU" if on_gpu else ""
    allowed = size_text(int(planned.max_bytes))
    disk = planned.left.disk.needed + planned.left.map_disk.needed
    room = "unknown" if free is None else size_text(free)
    waits = f", in {shown(here)} until it is sent" if planned.outbox.sends else ""
    for line in (
        f"files:   {len(planned.files)}, {planned.pixels:,} pixels, {todo:,} of them to do",
        f"tiles:   {tiles}, on {planned.model.method.device}",
        f"memory:  up to {size_text(memory)}{gpu}, of {allowed} allowed",
        f"disk:    {size_text(disk)} needed, {room} free{waits}",
        f"time:    about {seconds:.0f} s, {why}",
    ):
        out.print(line)
