"""Whole numbers of 64 bits in files: read where 32 bits hold all of them, and written back as 64."""

from __future__ import annotations

import numpy as np

from pairfree.errors import InputError
from pairfree.files.image import WIDE, DType, Image
from pairfree.files.type_names import native_name

NARROW = ("int32", "uint32")
"""Types that the pixels get, the first that holds all of them."""
KEY = "wide"
"""Of an image's metadata: the type in its file."""


def is_wide(dtype: DType) -> bool:
    """Whether pixels of a type are whole numbers of 64 bits; they are always read whole."""
    return native_name(dtype) in WIDE


def narrow(values: np.ndarray, where: str) -> tuple[np.ndarray, dict[str, str]]:
    """Values of 64 bits in 32.

    Parameters
    ----------
    values
        Of a file, in any byte order; those of other types come back as they are.
    where
        What the file is called in the message.

    Returns
    -------
    tuple
        The values as int32 or uint32, and what the image's metadata are to say of it, for ``type_in_file``.

    Raises
    ------
    InputError
        Where neither type holds all of them, with the one that is furthest from 0.
    """
    if not is_wide(values.dtype):
        return values, {}
    least, greatest = int(values.min()), int(values.max())
    name = values.dtype.newbyteorder("=").name
    # what was unsigned stays so: a result below 0 would come back as 2**64 - 1
    for kind in NARROW if values.dtype.kind == "i" else ("uint32",):
        bounds = np.iinfo(kind)
        if bounds.min <= least and greatest <= bounds.max:
            return values.astype(kind), {KEY: name}
    furthest = max(least, greatest, key=abs)
    raise InputError(
        f"{where}: has {name} pixels of {least} to {greatest}, and {furthest} does not fit into 32 bits, "
        "which all of them must; convert it to float64"
    )


def type_in_file(image: Image) -> DType:
    """Type that the pixels of an image have in its file, in native byte order."""
    wide: str | None = image.metadata.get(KEY)
    if wide is None or image.dtype.kind not in "iu":
        return image.dtype
    return np.dtype(wide)
