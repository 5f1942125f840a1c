"""What every noise model shares: numbers that may be ranges, checked fields, and the image they accept.

A model is a frozen dataclass. Its fields are numbers or ``Range``s; ``draw`` replaces each range by one
number for the image at hand, ``add`` puts the noise on. Images are (H, W) or (H, W, S) in 8-bit grey levels
(0..255, not clipped), S samples a pixel.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pairfree.errors import ConfigError, InputError

FloatArray = NDArray[np.float64]

GREY_MAX = 255.0
"""White, in 8-bit grey levels: the scale on which every model works."""


@dataclass(frozen=True)
class Range:
    """A number drawn anew for each image, uniform on (low, high].

    The open lower end is the papers' sigma in (0, 50]: a level of exactly zero is never drawn.
    """

    low: float
    """Not drawn itself."""
    high: float
    """Above ``low``."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ConfigError(f"the range {self} must have finite ends")
        if self.low >= self.high:
            raise ConfigError(
                f"the range {self} is empty: write LOW..HIGH with LOW below HIGH, or a single number"
            )

    def __str__(self) -> str:
        return f"{number_text(self.low)}..{number_text(self.high)}"

    def draw(self, rng: Generator) -> float:
        """One number from (low, high]; ``rng.random`` lies in [0, 1), so the closed end is at ``high``."""
        return self.high - (self.high - self.low) * float(rng.random())


Number = float | Range


def within(
    *, least: float = -math.inf, most: float = math.inf, above: float = -math.inf
) -> dict[str, float]:
    """The domain of a field, for its metadata: least <= value <= most and value > above."""
    return {"least": least, "most": most, "above": above}


ANY = within()
NOT_NEGATIVE = within(least=0.0)
POSITIVE = within(above=0.0)
SHARE = within(least=0.0, most=1.0)
COUNTS = within(above=0.0, most=1e12)
"""Photon numbers; NumPy's Poisson generator takes no mean beyond about 9e18."""


def number_text(value: float) -> str:
    """The shortest text that reads back as the same float: 25.0 -> '25', 0.1 -> '0.1'."""
    return repr(float(value)).removesuffix(".0")


def fixed(value: Number) -> float:
    """The value of a field whose range has been drawn."""
    if isinstance(value, Range):
        raise ConfigError(
            f"the range {value} has not been drawn yet: use add_noise(), or model.draw(rng) before "
            "model.add()"
        )
    return value


def as_image(clean: np.ndarray) -> FloatArray:
    """``clean`` as float64.

    Raises
    ------
    InputError
        Unless it is (H, W) or (H, W, S), of real numbers, not empty, and finite throughout.
    """
    image = np.asarray(clean)
    if image.ndim not in (2, 3) or image.size == 0:
        raise InputError(
            "expected an image of shape (H, W) or (H, W, S) with at least one pixel, found shape "
            f"{image.shape}"
        )
    if image.dtype.kind not in "buif":
        raise InputError(f"expected an image of real numbers, found dtype {image.dtype}")
    pixels = image.astype(np.float64)
    if not np.isfinite(pixels).all():
        raise InputError(
            "the image holds NaN or infinite pixels: noise cannot be added to them, replace them first"
        )
    return pixels


@dataclass(frozen=True)
class NoiseModel(ABC):
    """Base of the noise models.

    Fields are checked when the model is made, so that a model in hand is a valid one.
    """

    key: ClassVar[str]
    """What a SPEC calls it."""

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            value = _checked(self.key, spec, getattr(self, spec.name))
            object.__setattr__(self, spec.name, value)

    def draw(self, rng: Generator) -> Self:
        """A model with every range replaced by one drawn number, in the order of the fields.

        A model without ranges takes nothing from ``rng``.
        """
        drawn = {}
        for spec in dataclasses.fields(self):
            value = getattr(self, spec.name)
            if isinstance(value, Range):
                drawn[spec.name] = value.draw(rng)
        return dataclasses.replace(self, **drawn)

    @abstractmethod
    def add(self, clean: np.ndarray, rng: Generator) -> FloatArray:
        """``clean`` with noise, same shape, not clipped.

        Raises
        ------
        ConfigError
            Where ranges are not drawn yet.
        InputError
            For what ``as_image`` refuses.
        """


def _checked(key: str, spec: dataclasses.Field[Any], value: object) -> Number:
    """``value`` as a float or Range inside the field's domain.

    Raises
    ------
    ConfigError
        For anything else, naming model and field.
    """
    where = f"noise {key}, {spec.name}"
    if isinstance(value, Range):
        _check_domain(spec, where, value.low, value.high, str(value))
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise ConfigError(f"{where}: expected a number or a range LOW..HIGH, found {value!r}")
    number = float(value)
    if not math.isfinite(number):
        raise ConfigError(f"{where}: expected a finite number, found {number}")
    _check_domain(spec, where, number, number, number_text(number))
    return number


def _check_domain(
    spec: dataclasses.Field[Any], where: str, low: float, high: float, shown: str
) -> None:
    least, most, above = (spec.metadata[name] for name in ("least", "most", "above"))
    if low <= above:
        raise ConfigError(f"{where}: must be above {number_text(above)}, found {shown}")
    if low < least:
        raise ConfigError(f"{where}: must be at least {number_text(least)}, found {shown}")
    if high > most:
        raise ConfigError(f"{where}: must be at most {number_text(most)}, found {shown}")
