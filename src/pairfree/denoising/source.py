"""Where workers on other computers find an image, and how they open it once."""

from __future__ import annotations

import platform
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from pairfree.errors import InputError
from pairfree.files.image import Image
from pairfree.files.limits import Limits
from pairfree.files.messages import address_of, shown
from pairfree.files.opening import open_image
from pairfree.files.unchanged import fingerprint_elsewhere


class Source(NamedTuple):
    """An image by its file."""

    path: str
    scene: int | None
    """Its number in the file."""
    seen: str | None = None
    """Fingerprint of what the process that asks sees under that path; None: whatever is there."""


def locate_source(image: Image) -> Source:
    """Of an image that was read from a file; the same from every folder."""
    path = str(image.source)
    if address_of(path) is None:
        path = str(Path(path).absolute())
    return Source(path, image.scene, fingerprint_elsewhere(Path(path)))


def open_source(source: Source, limits: Limits) -> Image:
    """The image, opened anew where its file has changed.

    Raises
    ------
    InputError
        Where this computer does not see the file, or another one there, and for what cannot be read.
    """
    return _open_once(source, limits, _changed_ns(source.path))


def _changed_ns(source: str) -> int:
    try:
        return 0 if address_of(source) else Path(source).stat().st_mtime_ns
    except OSError as error:
        raise InputError(
            f"{shown(source)}: a Dask worker on {platform.node()} cannot see it ({error.strerror}); "
            "put the images on a disk that all workers have under the same path"
        ) from None


@lru_cache(maxsize=2)
def _open_once(source: Source, limits: Limits, changed_ns: int) -> Image:
    if source.seen not in (None, fingerprint_elsewhere(Path(source.path))):
        raise InputError(
            f"{shown(source.path)}: a Dask worker on {platform.node()} sees another file there, of another "
            "size or time; put the images on a disk that all workers have under the same path"
        )
    return open_image(source.path, limits, source.scene)
