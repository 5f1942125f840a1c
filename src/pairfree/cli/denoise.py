"""``pairfree denoise``."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pairfree.cli.options import ordered
from pairfree.cli.terminal import err, out, progress
from pairfree.denoising.order import DenoisingOrder

_say = logging.getLogger("pairfree")
if TYPE_CHECKING:
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
        return _foretell(planned, out_dir)
    started, done = time.monotonic(), 0
    with progress("denoise") as bar:

        def on_pixels(count: int) -> None:
            nonlocal done
            done += count
            bar(done / 1e6, planned.left.pixels / 1e6, "megapixels")

        results = denoise_files(planned, None, on_pixels, scheduler)
    for result in results:
        for line in result.warnings:
            _say.warning("%s: %s", result.source, line)
        if result.clipped:
            err.print(
                f"note: {result.source}: {result.clipped} of {result.pixels} pixels clipped to the pixel "
                "type's range",
                markup=False,
            )
    words = f"{len(results)} file{'s' if len(results) != 1 else ''}, {sum(r.pixels for r in results):,} pixels -> {out_dir}"
    before, clipped = (
        sum(result.before for result in results),
        sum(result.clipped for result in results),
    )
    further = [
        f"{time.monotonic() - started:.0f} s",
        *([f"{before} done before"] if before else []),
        f"{clipped:,} pixels clipped",
    ]
    out.print(
        f"{words} ({', '.join(further)}, {sum(len(r.warnings) for r in results)} warnings)",
        markup=False,
    )


def _foretell(planned: Planned, out_dir: Path) -> None:
    """What denoising will take."""
    from pairfree.denoising.plan import memory_needed, seconds_needed
    from pairfree.files.atomic import free_bytes
    from pairfree.files.messages import size_text

    for entry, path, _ in planned.files:
        out.print(
            f"{entry.path} -> {path}{' (done before)' if path in planned.before else ''}",
            markup=False,
        )
    tile = planned.model.predictor.core_px
    memory, on_gpu = memory_needed(planned)
    seconds, why = seconds_needed(planned)
    free = free_bytes(out_dir)
    out.print(
        f"files:   {len(planned.files)}, {planned.pixels:,} pixels, {planned.left.pixels:,} of them to do",
        markup=False,
    )
    out.print(
        f"tiles:   {f'{tile} px' if tile else 'whole images'}, on {planned.model.method.device}",
        markup=False,
    )
    gpu = f", and {size_text(on_gpu)} on the GPU" if on_gpu else ""
    out.print(
        f"memory:  up to {size_text(memory)}{gpu}, of {size_text(int(planned.max_bytes))} allowed",
        markup=False,
    )
    disk = planned.left.disk.needed + planned.left.map_disk.needed
    out.print(
        f"disk:    {size_text(disk)} needed, {size_text(free) if free is not None else 'unknown'} free",
        markup=False,
    )
    out.print(f"time:    about {seconds:.0f} s, {why}", markup=False)
