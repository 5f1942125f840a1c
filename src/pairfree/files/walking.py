"""Image files below a folder, and what keeps it from being looked into."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from pairfree.errors import InputError
from pairfree.files.formats.oif_files import is_of_oif
from pairfree.files.formats.table import is_supported
from pairfree.files.messages import shown

_say = logging.getLogger("pairfree")


def images_below(folder: Path, closed: list[InputError]) -> list[Path]:
    """Visible image files below ``folder``, sorted; links are followed, each real folder is visited once.

    ``closed`` gets an error for each folder that cannot be looked into.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()

    def note(error: OSError) -> None:
        closed.append(_cannot_look_into(error))

    for root, folders, names in os.walk(folder, followlinks=True, onerror=note):
        status = os.stat(root)  # noqa: PTH116
        real_folder = (status.st_dev, status.st_ino)
        if real_folder in seen:
            folders.clear()
            _say.warning("%s: is a link to a folder that is read already; left out", shown(root))
            continue
        seen.add(real_folder)
        try:
            found += _images_in(Path(root), folders, names)
        except OSError as error:  # names may be read there, files may not
            folders.clear()
            closed.append(_cannot_look_into(error, root))
    return found


def _images_in(root: Path, folders: list[str], names: Sequence[str]) -> list[Path]:
    """Images that lie in a folder itself, sorted; ``folders`` becomes those to visit."""
    visible = sorted(name for name in folders if not name.startswith("."))
    images = [name for name in visible if is_supported(root / name)]
    found = []
    for name in sorted([*names, *images]):
        path = root / name
        if name.startswith(".") or not is_supported(path):
            continue
        if path.is_file() or name in images or _leads_nowhere(path):
            found.append(path)
    folders[:] = _to_visit(root, visible, images)
    return found


def _to_visit(root: Path, folders: Sequence[str], images: Sequence[str]) -> list[str]:
    """Folders that are no images, nor the planes of one beside them."""
    others = [name for name in folders if name not in images]
    return [name for name in others if not is_of_oif(root / name)]


def _cannot_look_into(error: OSError, folder: str | None = None) -> InputError:
    """For a folder without permission: the error's own where none is given."""
    return InputError(
        f"{shown(folder or error.filename)}: cannot be looked into ({why(error)}); "
        "change its permissions, or name the files"
    )


def _leads_nowhere(path: Path) -> bool:
    """Whether it is a link to a file that is not there: listed, so that it is told."""
    return path.is_symlink() and not path.exists()


def why(error: OSError | ValueError) -> str:
    """What an error of looking something up says."""
    if isinstance(error, OSError):
        return error.strerror or "unknown"
    return str(error)
