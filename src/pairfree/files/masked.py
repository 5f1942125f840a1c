"""Masked arrays of NumPy: what is masked was not measured, and is NaN from here on."""

from __future__ import annotations

import numpy as np

from pairfree.errors import InputError


def fill_masked(values: np.ndarray, where: str) -> np.ndarray:
    """Values as a plain array, with NaN where they are masked.

    Parameters
    ----------
    values
        Of any type; one that is no masked array comes back as it is.
    where
        What it is called in the message.

    Raises
    ------
    InputError
        For masked pixels of whole numbers, which have no NaN.
    """
    if not isinstance(values, np.ma.MaskedArray):
        return np.asarray(values)
    masked = int(np.ma.getmaskarray(values).sum())
    if not masked or values.dtype.kind not in "iuf":
        return np.asarray(values.data)
    if values.dtype.kind == "f":
        return np.asarray(values.filled(np.nan))
    raise InputError(
        f"{where}: {masked} of its {values.size} pixels are masked, and {values.dtype.name} has no NaN to "
        "say so; fill them, array.filled(value), or convert it, array.astype('float32')"
    )


def restore_masked(values: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Values under the mask of ``given``, of the same shape; what is masked is there as it was given."""
    mask = np.ma.getmaskarray(given)
    restored = np.where(mask, np.ma.getdata(given), values)
    return np.ma.MaskedArray(restored, mask)
