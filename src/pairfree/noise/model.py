"""What every noise model shares: numbers that may be ranges, checked fields, and the image they accept.

A model is a frozen dataclass. Its fields are numbers or ``Range``s; ``draw`` replaces each range by one number for the image
at hand, ``add`` puts the noise on. Images are (H, W) or (H, W, S) in 8-bit grey levels (0..255, not clipped), S samples a pixel.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from pairfree.errors import ConfigError, InputError

GREY_MAX = 255.0
"""White, in 8-bit grey levels: the scale on which every model works."""


@dataclass(frozen=True)
class Range:
    """A number drawn anew for each image, uniform on (low, high].

    The open lower end is the papers' sigma in (0, 50]: a level of exactly zero is never drawn.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ConfigError(f"the range {self} must have finite ends")
        if self.low >= self.high:
            raise ConfigError(
                f"the range {self} is empty: write LOW..HIGH with LOW below HIGH, or a single number"
            )

    def __str__(self) -> str:
        return f"{number_text(self.low)}..{number_text(self.high)}"

    def draw(self, rng: np.random.Generator) -> float:
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
            f"the range {value} has not been drawn yet: use add_noise(), or model.draw(rng) before model.add()"
        )
    return value


def as_image(clean: np.ndarray) -> np.ndarray:
    """``clean`` as float64, refused unless it is (H, W) or (H, W, S), not empty, and finite throughout."""
    image = np.asarray(clean)
    if image.ndim not in (2, 3) or image.size == 0:
        raise InputError(
            f"expected an image of shape (H, W) or (H, W, S) with at least one pixel, found shape {image.shape}"
        )
    if image.dtype.kind not in "buif":
        raise InputError(f"expected an image of real numbers, found dtype {image.dtype}")
    image = image.astype(np.float64)
    if not np.isfinite(image).all():
        raise InputError(
            "the image holds NaN or infinite pixels: noise cannot be added to them, replace them first"
        )
    return image


@dataclass(frozen=True)
class NoiseModel(ABC):
    """Base of the noise models: fields are checked when the model is made, so that a model in hand is a valid one."""

    key: ClassVar[str]

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            value = _checked(self.key, spec, getattr(self, spec.name))
            object.__setattr__(self, spec.name, value)

    def draw(self, rng: np.random.Generator) -> Self:
        """This model with every range replaced by one drawn number, in the order of the fields.

        A model without ranges takes nothing from ``rng``.
        """
        values = {spec.name: getattr(self, spec.name) for spec in dataclasses.fields(self)}
        drawn = {
            name: value.draw(rng) for name, value in values.items() if isinstance(value, Range)
        }
        return dataclasses.replace(self, **drawn)

    @abstractmethod
    def add(self, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """``clean`` with noise, float64, same shape, not clipped. Refuses a model whose ranges are not drawn."""


def _checked(key: str, spec: dataclasses.Field[Any], value: object) -> Number:
    """``value`` as a float or Range inside the field's domain, or a ConfigError that names model and field."""
    where = f"noise {key}, {spec.name}"
    if isinstance(value, Range):
        ends = (value.low, value.high)
    elif isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        value = float(value)
        ends = (value, value)
    else:
        raise ConfigError(f"{where}: expected a number or a range LOW..HIGH, found {value!r}")
    if not all(math.isfinite(end) for end in ends):
        raise ConfigError(f"{where}: expected a finite number, found {value}")
    least, most, above = (spec.metadata[name] for name in ("least", "most", "above"))
    if ends[0] <= above:
        raise ConfigError(f"{where}: must be above {number_text(above)}, found {_shown(value)}")
    if ends[0] < least:
        raise ConfigError(f"{where}: must be at least {number_text(least)}, found {_shown(value)}")
    if ends[1] > most:
        raise ConfigError(f"{where}: must be at most {number_text(most)}, found {_shown(value)}")
    return value


def _shown(value: Number) -> str:
    return str(value) if isinstance(value, Range) else number_text(value)
