"""How far a plane is: pixels that are finished, and what a network tells that takes minutes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from pairfree.nets.traits import hear_progress

OnPixels = Callable[[int], None]
"""Called with the number of pixels of each finished tile; with a negative one where tiles are begun anew."""


class PixelCount:
    """Counts finished pixels as they are told to a listener, so that they can be taken back."""

    def __init__(self, listener: OnPixels | None) -> None:
        self.listener, self.pixels = listener, 0

    def add(self, pixels: int) -> None:
        """So many more are finished."""
        self.pixels += pixels
        if self.listener is not None:
            self.listener(pixels)

    def take_back(self) -> None:
        """None is finished."""
        self.add(-self.pixels)


@contextmanager
def tell_progress(net: nn.Module, on_pixels: OnPixels, pixels: int) -> Iterator[OnPixels]:
    """Inside, ``net`` is applied to a plane of so many pixels.

    Yields what a finished tile is told to: ``on_pixels``, or nobody where the network tells by itself how far
    it is.
    """
    reached = 0

    def tell_share(share: float) -> None:
        nonlocal reached
        done = int(share * pixels)
        on_pixels(done - reached)
        reached = done

    with hear_progress(net, tell_share) as heard:
        yield (lambda pixels: None) if heard else on_pixels
    if heard:
        on_pixels(pixels - reached)
