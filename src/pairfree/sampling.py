"""Which of many are looked at, where a look at all would take too long."""

from __future__ import annotations

import numpy as np


def spaced_indices(total: int, wanted: int) -> list[int]:
    """Up to ``wanted`` indices spread over ``range(total)``, each once, the first and the last among them."""
    count = min(total, wanted)
    places = np.linspace(0, total - 1, count)
    indices: list[int] = places.round().astype(int).tolist()
    return indices
