"""Folders that are walked for images, and where paths lead: one look at each name, at any depth."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

from pairfree.errors import InputError
from pairfree.files.formats.oif_files import is_of_oif
from pairfree.files.formats.ome_zarr import is_zarr
from pairfree.files.formats.table import ZARR, is_image_file
from pairfree.files.messages import shown

_say = logging.getLogger("pairfree")


def images_below(folder: Path, closed: list[InputError], without: Path | None = None) -> list[Path]:
    """Visible image files below ``folder``, sorted; links are followed, each real folder is visited once.

    Parameters
    ----------
    folder
        Where the search begins.
    closed
        Gets an error for each folder that cannot be looked into.
    without
        A folder below it that is passed over, such as that of the results; it need not exist.
    """
    passed_over = _number_of(without)
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        root = waiting.pop()
        try:
            status = root.stat()
            real_folder = (status.st_dev, status.st_ino)
            if root != folder and real_folder == passed_over:
                continue
            if real_folder in seen:
                _say.warning(
                    "%s: is a link to a folder that is read already; left out", shown(root)
                )
                continue
            seen.add(real_folder)
            images, folders = _look_into(root)
        except OSError as error:
            closed.append(
                InputError(
                    f"{shown(root)}: cannot be looked into ({why(error)}); "
                    "change its permissions, or name the files"
                )
            )
            continue
        found += images
        waiting += reversed(folders)
    return found


def _number_of(folder: Path | None) -> tuple[int, int] | None:
    """What tells a folder from others; None where there is none."""
    if folder is None:
        return None
    try:
        status = folder.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _look_into(root: Path) -> tuple[list[Path], list[Path]]:
    """The images of a folder, files and folders, and the folders that may hold more, sorted."""
    images: list[Path] = []
    folders: list[Path] = []
    with os.scandir(root) as listed:
        visible = [entry for entry in listed if not entry.name.startswith(".")]
    visible.sort(key=lambda entry: entry.name)
    for entry in visible:
        path = root / entry.name
        if _is_folder(entry):
            # also where what makes it an image is missing: whoever opens it tells
            if path.suffix.lower() == ZARR or is_zarr(path):
                images.append(path)
            elif not is_of_oif(path):
                folders.append(path)
        elif is_image_file(path):  # pipes and links to nowhere too: whoever opens it tells
            images.append(path)
    return images, folders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:  # a link to where nobody may look is told as a folder
        return error.errno != errno.ELOOP


def why(error: OSError | ValueError) -> str:
    """What the system says, without the path."""
    if isinstance(error, OSError):
        return error.strerror or "unknown"
    return str(error)


class RealPaths:
    """Where paths lead in the end, as ``os.path.realpath`` tells it; each folder is followed once.

    For a moment in which nobody moves the folders.
    """

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def of(self, path: str | Path) -> str:
        """Of a file that need not exist."""
        whole = self.place_of(path)
        return os.path.realpath(whole) if os.path.islink(whole) else whole  # noqa: PTH114

    def place_of(self, path: str | Path) -> str:
        """Where a file lies, its folder followed and not the file itself: a link is a file of its own."""
        folder, name = os.path.split(path)
        if name in ("", ".", ".."):
            return os.path.realpath(path)
        real = self._folders.get(folder)
        if real is None:
            real = self._folders[folder] = os.path.realpath(folder)
        return os.path.join(real, name)  # noqa: PTH118 - a hundred thousand of them
