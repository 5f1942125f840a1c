"""From what the user named (files, folders, globs) to images, and from those to outputs.

All is checked before any work.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pairfree.config import find_closest
from pairfree.errors import ConfigError, InputError, OutputError
from pairfree.files.atomic import nearest_folder, refuse_address
from pairfree.files.formats.table import (
    SUFFIX_TEXT,
    SUFFIXES,
    format_of,
    is_supported,
    read_from,
    suffix_of,
    written_to,
)
from pairfree.files.image import Image
from pairfree.files.limits import DEFAULT, Limits
from pairfree.files.messages import address_of, shown
from pairfree.files.named import check_name
from pairfree.files.opening import count_scenes, is_on_server, open_image
from pairfree.files.servers import is_taken
from pairfree.files.walk import RealPaths, images_below, why

ALL_SCENES = "all"
"""Said of ``scene``: every image of each file."""


@dataclass(frozen=True)
class Entry:
    """One image, and where its output goes."""

    path: Path
    """Of its file."""
    relative: Path
    """To the output folder."""
    scene: int | None = None
    """Number of the image in a file that holds several; None for the first of any file."""

    @property
    def stem(self) -> str:
        """The relative path without suffix, ``.ome.tif`` counting as one: what partners share."""
        return without_suffix(self.relative).as_posix().removesuffix(".ome")

    def open(self, limits: Limits = DEFAULT) -> Image:
        """The image; InputError as of ``open_image``."""
        return open_image(self.path, limits, self.scene)


def without_suffix(path: Path) -> Path:
    """``path`` without the suffix of an image format; 1.2.840.113 has none."""
    suffix = suffix_of(path)
    return path.with_name(path.name[: -len(suffix)]) if suffix in SUFFIXES else path


def find_images(
    inputs: Sequence[str | Path],
    scene: int | str | None = None,
    locked: list[InputError] | None = None,
    without: Path | None = None,
) -> list[Entry]:
    """Image files by what was named, each name once.

    Hidden files and unsupported suffixes inside folders are skipped. Files of one image are one entry. A link
    to a file is a file of its own; a link to a folder that is read already is told and not followed.

    Parameters
    ----------
    inputs
        Files, folders (walked with their sub-folders) and globs (``**`` too).
    scene
        Of files that hold several images the number of one, from 0, or "all"; None for the first. The outputs
        of such files are named after the number.
    locked
        Gets an error for each folder that cannot be looked into; None: the first of them is raised.
    without
        A folder that is passed over where it lies below one of the inputs: that of the results.

    Raises
    ------
    InputError
        For what does not exist or holds no image. A file without an image of that number is listed: whoever
        opens it tells.
    ConfigError
        For a ``scene`` that is neither.
    """
    if not inputs:
        raise InputError("no input was named; give files, folders or globs")
    entries: dict[str, Entry] = {}
    closed: list[InputError] = []
    real = RealPaths()
    for one in inputs:
        for entry in _find(one, closed, without):
            first_file = read_from(entry.path)[0]
            entries.setdefault(real.place_of(first_file), entry)
    if closed and (locked is None or not entries):
        raise closed[0]
    if locked is not None:
        locked += closed
    found = list(entries.values())
    wanted = _read_scene(scene)
    if wanted is None:
        return found
    return [one for entry in found for one in _scenes_of(entry, wanted)]


def _read_scene(scene: int | str | None) -> int | str | None:
    """A number, "all" or None, of what was said."""
    if scene is None or scene == ALL_SCENES:
        return scene
    try:
        number = int(scene)
    except ValueError:
        number = -1
    if number < 0:
        raise ConfigError(f"`scene` {scene!r}: must be a number from 0, or {ALL_SCENES}")
    return number


def _scenes_of(entry: Entry, wanted: int | str) -> list[Entry]:
    """The images of a file that are wanted, each with a name of its own where there are several."""
    try:
        count = count_scenes(entry.path)
    except InputError:  # whoever opens it tells
        return [entry]
    if count == 1 and wanted in (ALL_SCENES, 0):
        return [entry]
    numbers = range(count) if wanted == ALL_SCENES else [int(wanted)]
    return [_of_scene(entry, number) for number in numbers]


def _of_scene(entry: Entry, number: int) -> Entry:
    """``cells.ome.tif`` becomes ``cells_scene2.ome.tif``."""
    stem = Path(entry.stem).name
    rest = entry.relative.name[len(stem) :]
    name = f"{stem}_scene{number}{rest}"
    return Entry(entry.path, entry.relative.with_name(name), number)


def _find(one: str | Path, closed: list[InputError], without: Path | None) -> list[Entry]:
    check_name(one)
    if address_of(one) is not None:
        return [_on_server(Path(one))]
    path = Path(one)
    try:
        if path.is_dir() and not is_supported(path):
            return _in_folder(path, closed, without)
        if path.exists():
            format_of(path)
            return [Entry(path, Path(path.name))]
        if glob.has_magic(str(one)):
            return _in_glob(str(one), closed, without)
    except (OSError, ValueError) as error:
        raise _not_found_out(one, error) from error
    except RecursionError as error:  # of glob, which calls itself once per folder
        raise InputError(
            f"{shown(one)}: folders are nested too deeply for a pattern; name the folder itself"
        ) from error
    raise InputError(f"no such file or folder: {shown(one)}{_suggestion(path)}")


def _on_server(path: Path) -> Entry:
    """A Zarr folder that a server holds; InputError for anything else."""
    if not is_on_server(path):
        raise InputError(
            f"{shown(path)}: of what lies on servers OME-Zarr alone is read, and nothing of it is there; "
            "check the address, or copy the file to a disk"
        )
    return Entry(path, Path(path.name))


def _not_found_out(path: str | Path, error: OSError | ValueError) -> InputError:
    """For a NUL in a name, a name longer than the file system allows, and no permission."""
    return InputError(f"{shown(path)}: cannot be looked up ({why(error)}); check the name")


def _suggestion(path: Path) -> str:
    """``; did you mean Y?`` from the names beside a missing path, or what to check."""
    folder = nearest_folder(path.parent)
    if folder == path.parent or folder.resolve() == path.parent.absolute():
        close = None
        with contextlib.suppress(OSError):
            beside = sorted(one.name for one in folder.iterdir())
            close = find_closest(path.name, beside)
        if close is not None:
            return f"; did you mean {shown(path.parent / close)}?"
    return f"; the folder {shown(folder)} exists, check the rest of the path"


def _in_folder(folder: Path, closed: list[InputError], without: Path | None) -> list[Entry]:
    before = len(closed)
    found = images_below(folder, closed, without)
    if not found and len(closed) == before:
        raise InputError(f"{shown(folder)}: holds no image; supported are {SUFFIX_TEXT}")
    return [Entry(path, path.relative_to(folder)) for path in found]


def _in_glob(pattern: str, closed: list[InputError], without: Path | None) -> list[Entry]:
    before = len(closed)
    parts = itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts)
    base = Path(*parts)
    entries: list[Entry] = []
    # Path.glob takes no absolute patterns.
    for match in sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207
        path = Path(match)
        if (path.is_file() or path.is_dir()) and is_supported(path):
            entries.append(Entry(path, _below(path, base)))
        elif path.is_dir() and not match.endswith(os.sep):
            below = images_below(path, closed, without)
            entries += [Entry(image, _below(image, base)) for image in below]
    if not entries and len(closed) == before:
        raise InputError(f"{shown(pattern)}: matches no image; supported are {SUFFIX_TEXT}")
    return entries


def _below(path: Path, base: Path) -> Path:
    """The path from ``base``, or the bare name where that leads out of it."""
    relative = path.relative_to(base)
    return Path(path.name) if ".." in relative.parts else relative


class _Output(NamedTuple):
    """One image, its output, and all files that this is written to."""

    entry: Entry
    target: Path
    files: tuple[Path, ...]


def plan_outputs(
    entries: Sequence[Entry],
    out_dir: str | Path,
    overwrite: bool = False,
    suffix: str | None = None,
    finished: Collection[Path] = (),
    on_server: bool = False,
) -> list[tuple[Entry, Path]]:
    """Where each entry is written: ``out_dir`` / its relative path.

    Parameters
    ----------
    entries
        What is read.
    out_dir
        Folder of the outputs.
    overwrite
        Outputs may exist.
    suffix
        Of the outputs; None: each keeps its own (JPEG and BMP become .png).
    finished
        Outputs that may exist in any case.
    on_server
        The folder may be one on a server, which whoever calls has checked.

    Raises
    ------
    OutputError
        Before any work, for a folder that cannot be written, two inputs with one output, an input inside the
        output folder, an output that is an input, and outputs that exist and may not.
    """
    out_dir = Path(out_dir)
    if not on_server or address_of(out_dir) is None:
        check_folder(out_dir)
    plan = []
    for entry in entries:
        target = output_path(entry, out_dir, suffix)
        plan.append(_Output(entry, target, written_to(target)))
    _check_collisions(plan)
    there = {file for one in plan for file in one.files if _is_there(file)}
    _check_inputs_outside(plan, out_dir, there)
    existing = _find_existing(plan, there, set(finished))
    if existing and not overwrite:
        which = f"{shown(existing[0])} exists"
        if len(existing) > 1:
            which = (
                f"{shown(existing[0])} and {len(existing) - 1} more of {len(plan)} outputs exist"
            )
        raise OutputError(
            f"{which} already; pass `overwrite` or `skip_done`, or choose another folder"
        )
    return [(entry, target) for entry, target, _ in plan]


def _find_existing(plan: Sequence[_Output], there: set[Path], done: set[Path]) -> list[Path]:
    """Files of outputs that are there, but for those of outputs that are done."""
    existing = []
    for _, target, files in plan:
        if not done or not {target, target.absolute()} & done:
            existing += [file for file in files if file in there]
    return existing


def _is_there(file: Path) -> bool:
    """Whether a file of an output exists, on a disk or on a server; a broken link does, too."""
    return os.path.lexists(file) if address_of(file) is None else is_taken(file)


def is_folder(path: Path) -> bool:
    """Whether ``path`` is a folder.

    InputError where that cannot be found out: a name too long, no permission.
    """
    try:
        return path.is_dir()
    except (OSError, ValueError) as error:
        raise _not_found_out(path, error) from error


def check_folder(out_dir: Path) -> None:
    """OutputError unless ``out_dir`` is a folder on a disk that can be written to, or can be made."""
    refuse_address(out_dir)
    try:
        if out_dir.exists() and not out_dir.is_dir():
            raise OutputError(f"output folder {shown(out_dir)} is a file; choose another name")
        nearest = nearest_folder(out_dir)
        if not nearest.is_dir():
            raise OutputError(
                f"output folder {shown(out_dir)} cannot be made: {shown(nearest)} is a file; "
                "choose another place"
            )
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise OutputError(
                f"output folder {shown(out_dir)}: no permission to write in {shown(nearest)}; "
                "choose another place"
            )
    except (OSError, ValueError) as error:
        raise OutputError(
            f"output folder {shown(out_dir)}: {why(error)}; choose another name"
        ) from error


def output_path(entry: Entry, out_dir: Path, suffix: str | None = None) -> Path:
    """Where the result of ``entry`` lies: ``out_dir`` / its relative path.

    Its suffix is kept (JPEG and BMP become .png) unless one is given. OutputError for a path that leads out
    of the folder.
    """
    relative = entry.relative
    if relative.is_absolute() or relative.drive or ".." in relative.parts or not relative.name:
        raise OutputError(
            f"{shown(relative)}: would be written outside the output folder {shown(out_dir)}; "
            "rename the input"
        )
    suffix = suffix or format_of(entry.path).output_suffix
    if not suffix:
        return out_dir / relative
    bare = without_suffix(relative)
    return out_dir / bare.with_name(bare.name + suffix)


def _check_collisions(plan: Sequence[_Output]) -> None:
    """OutputError where two inputs have one output, also where it is one on other systems alone."""
    taken: dict[str, tuple[Entry, Path]] = {}
    for entry, _, files in plan:
        for file in files:
            other, same = taken.setdefault(_folded(str(file)), (entry, file))
            if other is entry:
                continue
            reason = ""
            if same != file:
                reason = " (macOS and Windows tell no letter cases or forms of accents apart)"
            raise OutputError(
                f"{shown(other.path)} and {shown(entry.path)} would both be written to "
                f"{shown(file)}{reason}; rename one or run them separately"
            )


def _folded(name: str) -> str:
    """What names have in common that differ in letter case or in the Unicode form of accents alone."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _check_inputs_outside(plan: Sequence[_Output], out_dir: Path, there: Collection[Path]) -> None:
    """OutputError where an input lies in the output folder, or would be replaced by a result.

    ``there`` are the files of outputs that exist.
    """
    real = RealPaths()
    sources: dict[Entry, list[str]] = {}
    for entry, _, _ in plan:
        sources[entry] = sorted({real.of(file) for file in read_from(entry.path)})
    everything = set(itertools.chain.from_iterable(sources.values()))
    inside = os.path.join(os.path.realpath(out_dir), "")  # noqa: PTH118
    for entry, target, files in plan:
        for replaced in files:
            if replaced in there and (real.of(replaced) in everything or _is_same(entry, target)):
                raise OutputError(
                    f"{shown(replaced)} is an input and would be replaced by its result; "
                    "choose another output folder"
                )
        for file in sources[entry]:
            if file.startswith(inside):
                raise OutputError(
                    f"input {shown(file)} lies inside the output folder {shown(out_dir)}; "
                    "choose another output folder"
                )


def _is_same(entry: Entry, target: Path) -> bool:
    """Whether an output is the file of its input, by a link or another name."""
    if address_of(entry.path) is not None or not target.exists():
        return False
    return os.path.samefile(entry.path, target)  # noqa: PTH121
