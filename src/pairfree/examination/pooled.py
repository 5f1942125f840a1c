"""What was measured on all images of an examination, before it is judged."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pairfree.evidence.numbers import format_number
from pairfree.examination.null_run import NullRun
from pairfree.examination.places import Place
from pairfree.examination.plain_filter import AgainstFilter
from pairfree.examination.planted import Planted
from pairfree.examination.risk import Risk
from pairfree.examination.transfer import Rings


@dataclass(frozen=True)
class Pooled:
    """What was measured on all images."""

    risk: Risk
    risks: tuple[tuple[str, Risk], ...]
    """Of each image, by name."""
    plain: AgainstFilter
    rings: Rings
    places: tuple[tuple[str, Place], ...]
    """The most striking first."""
    nulls: tuple[tuple[str, NullRun], ...]
    planted: Planted | None
    median_error: float
    greatest_error: float
    """Of the error maps: the median, and what one pixel of a hundred exceeds; intensity units."""
    law_error: float
    unit: str
    pixel: tuple[float, str] | None
    data_range: float

    @property
    def level(self) -> float:
        """Deviation of the noise."""
        return math.sqrt(self.risk.variance)

    def length(self, pixels: float) -> str:
        """A length in the unit of the files, or in pixels."""
        if self.pixel is None:
            return f"{format_number(pixels, 2)} px"
        size, unit = self.pixel
        return f"{format_number(pixels * size, 2)} {unit} ({format_number(pixels, 2)} px)"
