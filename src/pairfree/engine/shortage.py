"""What is told where memory ran out and halving the tiles did not help: which smaller ones fit, by trial."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pairfree.engine.memory import ShortageError, is_shortage
from pairfree.engine.tiles import bytes_for_core, whole_strides

if TYPE_CHECKING:
    from pairfree.engine.predictor import Predictor


def shortage_of(predictor: Predictor) -> ShortageError:
    """Of a predictor whose tiles, or whose whole image, did not fit; tiles are made smaller on the way."""
    what = f"tiles of {predictor.core_px} px do"
    if predictor.whole_image:
        what = "the whole image does"
    elif not predictor.instance_layers:  # theirs may be a sample that is too large
        n_bytes = _find_fitting(predictor)
        if n_bytes is not None:
            fit = f"tiles of {predictor.core_px} px fit"
            return ShortageError(f"{what} not fit; {ShortageError.ask(n_bytes)}: {fit}", n_bytes)
    return ShortageError(f"{what} not fit; free some memory, crop the image, or use another device")


def _find_fitting(predictor: Predictor) -> int | None:
    """Bound of the memory under which tiles are the largest that fit here; None where none do."""
    while predictor.can_halve:
        predictor.halve_tiles()
        if _fits(predictor):
            tile = predictor.bytes_per_px, predictor.halo_px, predictor.stride_px
            return bytes_for_core(predictor.core_px, *tile)
    return None


def _fits(predictor: Predictor) -> bool:
    """Whether there is memory for a tile with its halo, found by an empty one."""
    method = predictor.method
    side = predictor.core_px + 2 * whole_strides(predictor.halo_px, predictor.stride_px)
    try:
        with torch.inference_mode():
            empty = torch.zeros(1, predictor.channels, side, side, device=method.device)
            method.denoise_plane(empty, False)
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        return False
    return True
