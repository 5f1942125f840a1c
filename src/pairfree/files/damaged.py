"""Files of our own that cannot be used: set aside under another name, so that work goes on without them."""

from __future__ import annotations

import errno
import logging
import shutil
import stat
from pathlib import Path

from pairfree.files.atomic import output_error
from pairfree.files.messages import shown

_say = logging.getLogger("pairfree")


def set_aside(path: Path, why: str = "", instead: str = "") -> None:
    """Rename a file or folder to NAME.damaged; what had that name before is gone.

    Parameters
    ----------
    path
        Of what cannot be used.
    why, instead
        What is wrong with it, and what is done without it: said in one line. Without them nothing is said.

    Raises
    ------
    OutputError
        Where it cannot be renamed.
    """
    aside = set_aside_name(path)
    rename_over(path, aside)
    if why:
        _say.warning(
            "%s: damaged, %s; kept as %s, %s", shown(path), why, shown(aside.name), instead
        )


def rename_over(path: Path, name: Path) -> None:
    """Rename a file or folder; what had that name before is gone. OutputError where that cannot be done."""
    try:
        if name.is_dir() and not name.is_symlink():
            shutil.rmtree(name)
        else:
            name.unlink(missing_ok=True)
        path.replace(name)
    except RecursionError:
        deep = OSError(errno.ENOTEMPTY, "it holds folders too deep to remove")
        raise output_error(deep, name) from None
    except OSError as error:
        raise output_error(error, name) from None


def set_aside_name(path: Path) -> Path:
    """What it is called once it is set aside."""
    return path.with_name(f"{path.name}.damaged")


def make_way(path: Path, instead: str, folder: bool = False) -> None:
    """Set aside what has the name of a file of ours and is none: a folder, a link, a pipe.

    Nothing is written through a link.

    Parameters
    ----------
    path
        Of the file, which need not exist.
    instead
        What is done now, for the line that says so.
    folder
        Whether it is a folder of ours, not a file.

    Raises
    ------
    OutputError
        Where it cannot be set aside.
    """
    try:
        mode = path.lstat().st_mode
    except (OSError, ValueError):  # there is none; what cannot be looked at fails when it is opened
        return
    if stat.S_ISDIR(mode) if folder else stat.S_ISREG(mode):
        return
    set_aside(path, "is no folder" if folder else "is no file", instead)
