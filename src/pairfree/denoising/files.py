"""Denoise files into a folder as they were planned; large ones tile by tile."""

from __future__ import annotations

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
from pairfree.files.sinks import open_sink

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
    _remove_stale_files(planned)
    results: list[FileResult] = []
    with nullcontext() if scheduler is None else connect(scheduler) as client:
        for one in planned.files:
            done = planned.before.get(one.path)
            if done is None:
                try:
                    done = _denoise_file(planned, one, on_pixels, client)
                except InputError as error:
                    if not planned.skip_bad:
                        raise _named(error, one) from None
                    planned.bad.append(str(_named(error, one)))
                    continue
                planned.ledger.add(one.entry, done, one.map_path)
            results.append(done)
            if on_file is not None:
                on_file(len(results), len(planned.files), done)
    planned.ledger.close()
    return results


def _remove_stale_files(planned: Planned) -> None:
    """What killed processes left where results, maps and the report are written."""
    folders = {planned.ledger.out}
    for one in planned.files:
        folders.add(one.path.parent)
        if one.map_path is not None:
            folders.add(one.map_path.parent)
    for folder in folders:
        remove_stale(folder)


def _named(error: InputError, one: FilePlan) -> InputError:
    """What went wrong with a file, with its name where that is not said."""
    name = shown(one.entry.path)
    return error if name in str(error) else InputError(f"{name}: {error}")


def _denoise_file(planned: Planned, one: FilePlan, on_pixels: OnPixels, client: Any) -> FileResult:
    """One file, here or by the workers of a Dask client; its map of disagreement is made here."""
    model = planned.model
    overwrite = planned.overwrite or one.path in planned.ledger.paths
    image = one.entry.open(planned.limits)
    of_what = {**model.identity, "source": fingerprint(one.entry.path)}
    if one.entry.scene is not None:
        of_what["scene"] = one.entry.scene
    with ExitStack() as held:
        sink = held.enter_context(
            open_sink(model.describe_result(image), one.path, overwrite, of_what)
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
        _copy_beside(image, one.path.parent)
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
            write_bytes(folder / source.name, source.read_bytes())


def _warn_of_memory(image: Image, max_bytes: float) -> list[str]:
    """A line where an image is read whole that takes more memory than is allowed."""
    taken = memory_of_whole(image)
    if taken <= max_bytes:
        return []
    return [
        f"files of this kind are read whole: about {size_text(taken)} of memory, more than the "
        f"{size_text(int(max_bytes))} of `max_bytes`; OME-Zarr and tiled TIFF are read tile by tile"
    ]
