"""Denoise files into a folder as they were planned; large ones tile by tile."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

from pairfree.denoising.cluster import denoise_on
from pairfree.denoising.connection import connect
from pairfree.denoising.ledger import FileResult, Ledger
from pairfree.denoising.plan import (
    FilePlan,
    Planned,
    memory_of_whole,
    network_bytes,
    pixels_of,
    process_bytes,
)
from pairfree.engine.memory import ShortageError
from pairfree.errors import InputError
from pairfree.files.atomic import announced, remove_stale, write_bytes
from pairfree.files.image import Image
from pairfree.files.messages import reason, shown, size_text
from pairfree.files.servers import Upload
from pairfree.files.sinks import Sink, open_sink
from pairfree.files.unchanged import ChangedError, Watch
from pairfree.regular import read_regular

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
        Of a Dask cluster, as ``connection.connect`` takes it; None for this process.
    """
    _remove_stale_files(planned)
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


def _remove_stale_files(planned: Planned) -> None:
    """What killed processes left where results, maps and the report are written."""
    folders = {planned.ledger.folder}
    for one in planned.files:
        folders.add(one.local.parent)
        if one.map_path is not None:
            folders.add(one.map_path.parent)
    for folder in folders:
        remove_stale(folder)


def _named(error: InputError, one: FilePlan) -> InputError:
    """What went wrong with a file, with its name where that is not said."""
    name = shown(one.entry.path)
    return error if name in str(error) else InputError(f"{name}: {error}")


def _do_file(planned: Planned, one: FilePlan, on_pixels: OnPixels, client: Any) -> FileResult:
    """One file; its result is sent to its server where that is asked for."""
    ledger = planned.ledger
    if not planned.outbox.sends:
        done, source = _denoise_file(planned, one, on_pixels, client)
        ledger.add(done, one.map_path, source)
        return done
    with planned.outbox.held(one.path):
        upload = Upload(one.local, one.path)
        made = planned.unsent.get(one.path)
        if made is None:
            upload.forget()
            made, source = _denoise_file(planned, one, on_pixels, client)
            ledger.add(made, one.map_path, source, unsent=one.local)
        else:
            source = ledger.source_of_unsent(one.path)
        _say.info("%s: made, now it is sent to its server", shown(one.path))
        upload.send(planned.overwrite or one.path in ledger.paths)
        ledger.add(made, one.map_path, source)
        upload.finish()
    return made


def _denoise_file(
    planned: Planned, one: FilePlan, on_pixels: OnPixels, client: Any
) -> tuple[FileResult, str]:
    """One file, here or by the workers of a Dask client; its map of disagreement is made here.

    Returns what became of it, and the fingerprint of what that was made of.
    """
    watch = Watch(one.entry.path)
    with watch.telling():
        image = one.entry.open(planned.limits)
    with ExitStack() as held:
        sinks = [held.enter_context(sink) for sink in _open_sinks(planned, one, image, watch.first)]
        try:
            with watch.telling():
                _fill_sinks(planned, image, sinks, on_pixels, client)
                warnings = _warn(planned, image)
                _copy_beside(image, one.local.parent)
                with announced(_settled(watch, planned.ledger)):
                    for each in sinks:
                        each.commit()
        except ChangedError:
            for each in sinks:
                each.discard()
            raise
    done = FileResult(
        one.entry.path,
        one.path,
        pixels_of(image),
        sinks[0].clipped,
        tuple(warnings),
        scene=one.entry.scene,
    )
    return done, watch.first


def _warn(planned: Planned, image: Image) -> list[str]:
    """What is to be told of a file, one line each."""
    return [
        *image.metadata.get("warnings", []),
        *_warn_of_memory(image, planned.max_bytes),
        *planned.model.warn_of_intensities(image),
    ]


def _open_sinks(planned: Planned, one: FilePlan, image: Image, source: str) -> Iterator[Sink]:
    """Of the result, and where it is wanted of the map; ``source`` is the input's fingerprint."""
    model = planned.model
    overwrite = planned.overwrite or one.path in planned.ledger.paths
    is_ours = planned.outbox.sends  # whatever waits for its server is made anew
    of_what = {**model.identity, "source": source}
    if one.entry.scene is not None:
        of_what["scene"] = one.entry.scene
    yield open_sink(model.describe_result(image), one.local, overwrite or is_ours, of_what)
    if one.map_path is not None:
        of_map = {**of_what, "result": "disagreement"}
        yield open_sink(model.describe_map(image), one.map_path, overwrite, of_map)


def _fill_sinks(
    planned: Planned, image: Image, sinks: Sequence[Sink], on_pixels: OnPixels, client: Any
) -> None:
    """All pixels of the result, and of the map where there is a second sink."""
    try:
        if client is None:
            planned.model.denoise_into(image, sinks[0], on_pixels)
        else:
            denoise_on(client, planned.model, image, planned.limits, sinks[0], on_pixels)
        for map_sink in sinks[1:]:
            planned.model.disagreement_into(image, map_sink)
    except ShortageError as error:
        own_bound = planned.model.predictor.max_bytes != network_bytes(planned.max_bytes)
        if own_bound or error.fitting_bytes is None:
            raise
        raise error.asking(process_bytes(error.fitting_bytes)) from None


def _settled(watch: Watch, ledger: Ledger) -> Callable[[Path, Path], None]:
    """What is to happen before an output gets its name: the input is looked at before the first does."""
    looked = False

    def expect(temporary: Path, final: Path) -> None:
        nonlocal looked
        if not looked:
            watch.check()
            looked = True
        ledger.expect(temporary, final)

    return expect


def _copy_beside(image: Image, folder: Path) -> None:
    """Copy files without pixels that the image's own file names, such as the companion of an OME-TIFF set."""
    for source in image.metadata.get("beside", []):
        if (folder / source.name).exists():
            continue
        try:
            content = read_regular(source)
        except OSError as error:
            raise InputError(
                f"{shown(source)}: {shown(image.source or '')} belongs to it, and it cannot be read "
                f"({reason(error)}); put it back, then run the same command again"
            ) from error
        write_bytes(folder / source.name, content)


def _warn_of_memory(image: Image, max_bytes: float) -> list[str]:
    """A line where an image is read whole that takes more memory than is allowed."""
    taken = memory_of_whole(image)
    if taken <= max_bytes:
        return []
    return [
        f"files of this kind are read whole: about {size_text(taken)} of memory, more than the "
        f"{size_text(int(max_bytes))} of `max_bytes`; OME-Zarr and tiled TIFF are read tile by tile"
    ]
