"""Denoise files into a folder as they were planned; large ones tile by tile."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

from pairfree.denoising.cluster import connect, denoise_on
from pairfree.denoising.ledger import FileResult, fingerprint
from pairfree.denoising.plan import FilePlan, Planned, memory_of_whole, pixels_of
from pairfree.errors import InputError
from pairfree.files.atomic import announced, remove_stale, write_bytes
from pairfree.files.image import Image
from pairfree.files.messages import shown, size_text
from pairfree.files.regular import read_regular
from pairfree.files.servers import Upload
from pairfree.files.sinks import open_sink

_say = logging.getLogger("pairfree")

OnPixels = Callable[[int], None] | None
"""Told how many pixels more are done."""


def denoise_files(
    planned: Planned,
    on_file: Callable[[int, int, FileResult], None] | None,
    on_pixels: OnPixels,
    scheduler: str | None = None,
) -> list[FileResult]:
    """Do what was planned; see ``pairfree.denoise``.

    Parameters
    ----------
    planned
        What ``plan_files`` made.
    on_file
        Told after each file: how many are done, of how many, and its result.
    on_pixels
        Told how many pixels more are done.
    scheduler
        Of a Dask cluster, as ``cluster.connect`` takes it; None for this process.
    """
    for folder in {one.local.parent for one in planned.files}:
        remove_stale(folder)
    results: list[FileResult] = []
    with nullcontext() if scheduler is None else connect(scheduler) as client:
        for one in planned.files:
            done = planned.before.get(one.path)
            if done is None:
                try:
                    done = _do_file(planned, one, on_pixels, client)
                except InputError as error:
                    if not planned.skip_bad:
                        raise _named(error, one) from None
                    line = str(_named(error, one))
                    if line not in planned.bad:  # of another image of the file
                        planned.bad.append(line)
                    continue
            elif planned.outbox.sends:
                Upload(one.local, one.path).finish()  # what a process left that was killed over it
            results.append(done)
            if on_file is not None:
                on_file(len(results), len(planned.files), done)
    planned.ledger.close()
    planned.outbox.tidy()
    return results


def _named(error: InputError, one: FilePlan) -> InputError:
    """What went wrong with a file, with its name where that is not said."""
    name = shown(one.entry.path)
    return error if name in str(error) else InputError(f"{name}: {error}")


def _do_file(planned: Planned, one: FilePlan, on_pixels: OnPixels, client: Any) -> FileResult:
    """One file; its result is sent to its server where that is asked for."""
    ledger = planned.ledger
    if not planned.outbox.sends:
        done = _denoise_file(planned, one, on_pixels, client)
        ledger.add(one.entry, done, one.map_path)
        return done
    with planned.outbox.held(one.path):
        upload = Upload(one.local, one.path)
        made = planned.unsent.get(one.path)
        if made is None:
            upload.forget()
            made = _denoise_file(planned, one, on_pixels, client)
            ledger.add(one.entry, made, one.map_path, unsent=one.local)
        _say.info("%s: made, now it is sent to its server", shown(one.path))
        upload.send(planned.overwrite or one.path in ledger.paths)
        ledger.add(one.entry, made, one.map_path)
        upload.finish()
    return made


def _denoise_file(planned: Planned, one: FilePlan, on_pixels: OnPixels, client: Any) -> FileResult:
    """One file, here or by the workers of a Dask client; its map of disagreement is made here."""
    model = planned.model
    overwrite = planned.overwrite or one.path in planned.ledger.paths
    is_ours = planned.outbox.sends  # whatever waits for its server is made anew
    image = one.entry.open(planned.limits)
    of_what = {**model.identity, "source": fingerprint(one.entry.path)}
    if one.entry.scene is not None:
        of_what["scene"] = one.entry.scene
    with ExitStack() as held:
        sink = held.enter_context(
            open_sink(model.describe_result(image), one.local, overwrite or is_ours, of_what)
        )
        sinks = [sink]
        if one.map_path is not None:
            of_map = {**of_what, "result": "disagreement"}
            sinks.append(
                held.enter_context(
                    open_sink(model.describe_map(image), one.map_path, overwrite, of_map)
                )
            )
        if client is None:
            model.denoise_into(image, sink, on_pixels)
        else:
            denoise_on(client, model, image, planned.limits, sink, on_pixels)
        for map_sink in sinks[1:]:
            model.disagreement_into(image, map_sink)
        with announced(planned.ledger.expect):
            for each in sinks:
                each.commit()
        _copy_beside(image, one.local.parent)
    warnings = [
        *image.metadata.get("warnings", []),
        *_warn_of_memory(image, planned.max_bytes),
        *model.warn_of_intensities(image),
    ]
    return FileResult(
        one.entry.path,
        one.path,
        pixels_of(image),
        sink.clipped,
        tuple(warnings),
        scene=one.entry.scene,
    )


def _copy_beside(image: Image, folder: Path) -> None:
    """Copy files without pixels that the image's own file names, such as the companion of an OME-TIFF set."""
    for source in image.metadata.get("beside", []):
        if not (folder / source.name).exists():
            write_bytes(folder / source.name, read_regular(source))


def _warn_of_memory(image: Image, max_bytes: float) -> list[str]:
    """A line where an image is read whole that takes more memory than is allowed."""
    taken = memory_of_whole(image)
    if taken <= max_bytes:
        return []
    return [
        f"files of this kind are read whole: about {size_text(taken)} of memory, more than the "
        f"{size_text(int(max_bytes))} of `max_bytes`; OME-Zarr and tiled TIFF are read tile by tile"
    ]
