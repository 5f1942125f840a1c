"""Makers' files, read only: which reader a file goes to.

CZI and OIF need no more than pairfree does. LIF, ND2 and OIB are read with the help of optional
packages (``pip install 'pairfree[vendors]'``), DM3, DM4 and EMD with that of RosettaSciIO, which is
under GPL-3 (``pip install 'pairfree[vendors-gpl]'``). Results are OME-TIFF with pixel size, time
step and channel names.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pairfree.files.formats.czi import count_scenes_of_czi, read_czi
from pairfree.files.formats.electron import count_images_of_electron, read_electron
from pairfree.files.formats.lif import count_images_of_lif, read_lif
from pairfree.files.formats.nd2 import count_positions_of_nd2, read_nd2
from pairfree.files.formats.oif import read_oif
from pairfree.files.image import Image
from pairfree.files.limits import DEFAULT, Limits

LIGHT = (".czi", ".nd2", ".lif", ".oif", ".oib")
"""Of light microscopes."""
ELECTRON = (".dm3", ".dm4", ".emd")
"""Of electron microscopes."""

Reader = Callable[[Path, Limits, int | None], Image]
Counter = Callable[[Path], int]


def _count_one(path: Path) -> int:
    """What else an OIF file holds are previews."""
    return 1


READERS: dict[str, tuple[Reader, Counter]] = {
    ".czi": (read_czi, count_scenes_of_czi),
    ".nd2": (read_nd2, count_positions_of_nd2),
    ".lif": (read_lif, count_images_of_lif),
    ".oif": (read_oif, _count_one),
    ".oib": (read_oif, _count_one),
    ".dm3": (read_electron, count_images_of_electron),
    ".dm4": (read_electron, count_images_of_electron),
    ".emd": (read_electron, count_images_of_electron),
}
"""By suffix."""


def read_vendor(path: Path, limits: Limits, scene: int | None = None) -> Image:
    """Read one image of a maker's file.

    Parameters
    ----------
    path
        The file.
    limits
        What it may declare.
    scene
        Number of the scene, position or image, from 0; None for the first, and a warning about others.

    Raises
    ------
    InputError
        For what holds no image, or is damaged, and for a scene that does not exist.
    ImportError
        For an optional package that is missing.
    """
    read, _ = READERS[path.suffix.lower()]
    return read(path, limits, scene)


def count_scenes(path: Path, limits: Limits = DEFAULT) -> int:
    """How many images a maker's file holds: scenes of CZI, positions of ND2, images of the others.

    Parameters
    ----------
    path
        The file.
    limits
        Say nothing here: no pixel is read.

    Raises
    ------
    InputError
        For what holds no image, or is damaged.
    ImportError
        For an optional package that is missing.
    """
    _, count = READERS[path.suffix.lower()]
    return count(path)
