"""Names of pixel types, whatever their byte order."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np


@functools.lru_cache(maxsize=64)
def native_name(dtype: np.dtype[Any]) -> str:
    """Such as uint16; numpy puts it together anew each time that it is asked."""
    return dtype.newbyteorder("=").name
