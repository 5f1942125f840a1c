"""Regions of a result that show what its input does not: blocks of zeros, or of another image.

What a result shows in a window, its input must show, too: regressed on the result, it has a slope of 1 or
more, whatever noise was removed. A window is foreign where the slope is less than 1/2, beyond what the noise
explains, and most of what the result shows there is none of the input's pixels, their means over larger
neighbourhoods, or their medians: so edges that a denoiser smears into a window are not foreign.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, median_filter

from pairfree.files.placement import FloatArray, block_sums

CELL = 4
"""Side of the cells that windows are made of, in pixels."""
WINDOW = 8
"""Side of a window."""
SCALES = (1, 2, 4)
"""Windows are looked at in means of blocks of so many pixels a side: less noise, larger faults."""
HALF_SLOPE = 0.5
SIGMAS = 4.0
"""Standard errors that the slope must be below it."""
FOREIGN = 0.8
"""Of the deviation around a window of the input, what the result shows there and the input does not."""
FAINTEST = 0.05
"""Of the deviation of the whole input: less contrast is none."""
MOST_WINDOWS = 48
"""Those with most contrast are looked at closely."""
AROUND = 16
"""Pixels around a window that its smoothed selves are made from."""
BLURS_PX = (1.0, 2.0, 4.0)
MEDIAN_PX = 5
Bools = NDArray[np.bool_]


def find_foreign(x: FloatArray, y: FloatArray, step: float) -> tuple[int, int] | None:
    """Row and column of the window that is most foreign; None where none is.

    Parameters
    ----------
    x, y
        A plane of the input and of the result, or a part of it, (h, w), finite.
    step
        Between two values, 1 for whole numbers, 0 for floats.
    """
    faint = max(step, FAINTEST * float(x.std()))
    if faint == 0:
        return None
    for scale in SCALES:
        of_x = _means(x, scale)
        of_y = _means(y, scale)
        fine = _means(x * x, scale) - of_x**2
        worst = FOREIGN
        found = None
        for row, column, around in _suspects(of_x, of_y, fine / scale**2, faint):
            unexplained = _unexplained(of_x, of_y, row, column)
            share = unexplained / around
            if share > worst:
                worst = share
                found = row * scale, column * scale
        if found is not None:
            return found
    return None


def _means(values: FloatArray, side: int) -> FloatArray:
    """Means of whole blocks."""
    height, width = (size // side * side for size in values.shape)
    return block_sums(values[:height, :width], side) / side**2


def _suspects(
    x: FloatArray, y: FloatArray, fine: FloatArray, faint: float
) -> Iterator[tuple[int, int, float]]:
    """Row, column, and deviation of the input around it, of windows that may be foreign.

    ``fine`` is the variance that means of independent pixels would have.
    """
    height, width = (size // CELL * CELL for size in x.shape)
    if min(height, width) < WINDOW:
        return
    x = x[:height, :width] - x.mean()
    y = y[:height, :width] - y.mean()
    cells = [block_sums(values, CELL) for values in (x, y, x * x, x * y, y * y)]
    count = WINDOW**2
    sum_x, sum_y, xx, xy, yy = (_of_neighbours(one, WINDOW // CELL) for one in cells)
    power = np.maximum(yy - sum_y**2 / count, 0)
    shared = xy - sum_x * sum_y / count
    of_x = np.maximum(xx - sum_x**2 / count, 0)
    around = np.maximum(_deviation_around(cells[0], cells[2]), faint)
    of_fine = block_sums(fine[:height, :width], CELL)
    around = np.maximum(around, np.sqrt(_mean_around(np.maximum(of_fine, 0))))
    shows = np.sqrt(power / count) > FOREIGN * around
    slope = np.divide(shared, power, out=np.ones_like(shared), where=shows)
    left = np.maximum(of_x - slope * shared, 0) / (count - 2)
    error = np.sqrt(np.divide(left, power, out=np.zeros_like(left), where=shows))
    suspect = shows & (slope < HALF_SLOPE - SIGMAS * error)
    rows, columns = np.nonzero(suspect)
    contrast = power[rows, columns] / around[rows, columns] ** 2
    for number in np.argsort(-contrast)[:MOST_WINDOWS]:
        row, column = int(rows[number]), int(columns[number])
        yield row * CELL, column * CELL, float(around[row, column])


def _of_neighbours(cells: FloatArray, side: int) -> FloatArray:
    """Sums over so many neighbours a side, those inside."""
    sums: FloatArray = sliding_window_view(cells, (side, side)).sum((2, 3))
    return sums


def _deviation_around(sums: FloatArray, squares: FloatArray) -> FloatArray:
    """Standard deviation over each window and a cell around it."""
    return np.sqrt(np.maximum(_mean_around(squares) - _mean_around(sums) ** 2, 0))


def _mean_around(sums: FloatArray) -> FloatArray:
    """Means over each window and a cell around it, of sums over cells."""
    side = WINDOW // CELL + 2
    return _of_neighbours(np.pad(sums, 1, mode="edge"), side) / (side * CELL) ** 2


def _unexplained(x: FloatArray, y: FloatArray, row: int, column: int) -> float:
    """Root mean square of what a window of the result shows and nothing of the input does."""
    rows = slice(max(0, row - AROUND), row + WINDOW + AROUND)
    columns = slice(max(0, column - AROUND), column + WINDOW + AROUND)
    top = row - rows.start
    left = column - columns.start
    within = slice(top, top + WINDOW), slice(left, left + WINDOW)
    near = x[rows, columns]
    selves = [near, *(gaussian_filter(near, blur) for blur in BLURS_PX)]
    selves.append(median_filter(near, MEDIAN_PX))
    constant = np.ones(WINDOW**2)
    explaining = [one[within].ravel() for one in selves]
    matrix = np.stack([*explaining, constant], axis=1)
    wanted = y[row : row + WINDOW, column : column + WINDOW].ravel()
    fit = np.linalg.lstsq(matrix, wanted, rcond=1e-6)[0]
    rest = wanted - matrix @ fit
    return float(np.sqrt(np.mean(rest**2)))
