"""What a caller gives as images, names of files or arrays, as a set of planes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pairfree.data.sets import MOST_BYTES, USUAL, ImageSet, Reading, array_set, read_set
from pairfree.errors import InputError
from pairfree.files.listing import find_images
from pairfree.files.messages import address_of, shown
from pairfree.files.named import named_inputs

Images = str | Path | np.ndarray | Sequence[str] | Sequence[Path] | Sequence[np.ndarray]


def read_images(
    images: Images, what: str, reading: Reading = USUAL, most_bytes: int = MOST_BYTES
) -> tuple[ImageSet, list[str]]:
    """Planes of files or arrays, and the paths (empty for arrays).

    Parameters
    ----------
    images
        Files, folders, globs; a list of arrays; a single array is one image (H, W) or a stack (N, H, W) or
        (N, C, H, W).
    what
        What one of them is called in messages.
    reading
        How pixels become training planes.
    most_bytes
        Of more pixels, as float32, crops are taken.

    Raises
    ------
    InputError
        For an array of another shape, and whatever ``read_set`` refuses.
    """
    if isinstance(images, np.ndarray):
        return array_set(_as_list(images, what, reading), what, reading), []
    listed = named_inputs(images)
    if listed and all(isinstance(item, np.ndarray) for item in listed):
        return array_set([np.asanyarray(item) for item in listed], what, reading), []
    planes = read_set(find_images(listed, reading.scene), most_bytes, reading)
    return planes, [_storable(_whole(Path(one))) for one in listed]


def _whole(path: Path) -> Path:
    """A path that means the same from any folder."""
    if address_of(path) is not None:
        return path
    return path.resolve() if path.exists() else path.absolute()


def _as_list(array: np.ndarray, what: str, reading: Reading) -> list[np.ndarray]:
    """A single array as a list of images."""
    if reading.slices_around and array.ndim == 3:
        return [array]
    if array.ndim not in (2, 3, 4):
        raise InputError(
            f"{what} has shape {array.shape}; expected (H, W), (N, H, W) or (N, C, H, W)"
        )
    if array.ndim == 3 and array.shape[-1] <= 4 < array.shape[0]:
        raise InputError(
            f"{what} has shape {array.shape}: a colour image is given as [array], channels first: "
            "np.moveaxis(array, -1, 0)"
        )
    return [array] if array.ndim == 2 else list(array)


def _storable(path: Path) -> str:
    """``path`` as a config can hold it.

    InputError for a name that is no text: the run could not be repeated.
    """
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(
            f"{shown(path)}: its name is no UTF-8 text and cannot be written into the run's config; rename it"
        ) from None
    return str(path)
