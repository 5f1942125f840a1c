"""Noise as it was measured in someone's images: ``law:FILE``, by what ``pairfree diagnose --json`` wrote."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pairfree.errors import ConfigError, InputError
from pairfree.facts import NUMBER, TABLE, TRUTH, Unreadable, check, list_of, read_json
from pairfree.files.messages import shown
from pairfree.noise.coloured import draw_coloured
from pairfree.noise.model import NoiseModel, as_image

FloatArray = NDArray[np.float64]

LAW = {"gain": NUMBER, "floor": NUMBER, "correlated": TRUTH}
LAW_FURTHER = {"spectrum": list_of(list_of(NUMBER))}
"""What the law of a file says, and may."""
MOST = 1e30
"""Of gain and floor."""
SIDE_PX = 32
"""Of a spectrum."""
_NUMBERED = re.compile(r"(.+)#(\d{1,6})")


@dataclass(frozen=True)
class Measured(NoiseModel):
    r"""Noise by the law of files that were diagnosed: gain, floor, and what neighbours share.

    Notes
    -----
    Noise model: var(y | x) = gain x + floor, never below 0. Where neighbours do not share noise and the gain
    is above 0, counts are drawn, (x - black) / gain photons, and normal noise of the camera; else normal
    noise whose spectrum is that of the law. Each image takes the law of one of the files, at random.

    Intensities are those of the files that were diagnosed, not 8-bit grey levels.
    """

    key: ClassVar[str] = "law"
    file: str = ""
    """JSON file of ``pairfree diagnose``."""
    number: int = -1
    """Of the file in it whose law is taken, from 0; -1 draws one for each image."""
    laws: tuple[dict[str, Any], ...] = field(default=(), repr=False, compare=False)
    """Of each file, as they are read from ``file``."""

    def __post_init__(self) -> None:
        laws = self.laws or read_laws(self.file)
        object.__setattr__(self, "laws", laws)
        if not -1 <= self.number < len(laws):
            raise ConfigError(
                f"noise law, number: {self.number}, but {shown(self.file)} has {len(laws)} files, from 0"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what stands behind ``law:``, FILE or FILE#NUMBER."""
        numbered = _NUMBERED.fullmatch(text)
        if numbered is None or Path(text).exists():
            return cls(text)
        return cls(numbered[1], int(numbered[2]))

    @property
    def spec(self) -> str:
        """What ``parse_noise`` reads."""
        number = "" if self.number < 0 else f"#{self.number}"
        return f"{self.key}:{self.file}{number}"

    def draw(self, rng: Generator) -> Self:
        """A model of one law."""
        if self.number >= 0:
            return self
        return dataclasses.replace(self, number=int(rng.integers(len(self.laws))))

    def add(self, clean: np.ndarray, rng: Generator) -> FloatArray:
        """``clean`` with this noise, not clipped; samples are independent."""
        image = as_image(clean)
        if self.number < 0:
            raise ConfigError("noise law: use add_noise(), or model.draw(rng) before model.add()")
        law = self.laws[self.number]
        samples = image[..., None] if image.ndim == 2 else image
        noisy = [_add_to_plane(samples[..., index], law, rng) for index in range(samples.shape[-1])]
        return np.asarray(np.stack(noisy, axis=-1).reshape(image.shape))


def _add_to_plane(plane: FloatArray, law: dict[str, Any], rng: Generator) -> FloatArray:
    gain, floor = law["gain"], law["floor"]
    variance = np.maximum(gain * plane + floor, 0.0)
    if law["correlated"] or gain <= 0:
        spectrum = np.array(law["spectrum"]) if law["correlated"] and law.get("spectrum") else None
        return np.asarray(plane + np.sqrt(variance) * draw_coloured(spectrum, plane.shape, rng))
    black = min(-floor / gain, float(plane.min())) if floor < 0 else 0.0
    photons = rng.poisson(np.maximum(plane - black, 0.0) / gain)
    read = max(gain * black + floor, 0.0)
    counted = gain * photons + black + np.minimum(plane - black, 0.0)
    return np.asarray(counted + np.sqrt(read) * rng.standard_normal(plane.shape))


def read_laws(file: str) -> tuple[dict[str, Any], ...]:
    """The law of each file that a diagnosis tells of.

    Raises
    ------
    InputError
        Where there is no such file, or it is no diagnosis.
    """
    path = Path(file)
    remedy = "write one with pairfree diagnose and its option `json`"
    try:
        found = check(read_json(path), {"files": list_of(TABLE)})
        laws = [_check_law(one.get("law")) for one in found["files"]]
    except FileNotFoundError:
        raise InputError(f"{shown(path)}: no such file; {remedy}") from None
    except Unreadable as error:
        raise InputError(f"{shown(path)}: is no diagnosis ({error}); {remedy}") from None
    if not laws:
        raise InputError(f"{shown(path)}: tells of no file; {remedy}")
    return tuple(laws)


def _check_law(stored: object) -> dict[str, Any]:
    """A law as it was stored.

    Raises
    ------
    Unreadable
        Where it is none.
    """
    law = check(stored, LAW, LAW_FURTHER)
    gain, floor = law["gain"], law["floor"]
    if gain < 0 or (gain == 0 and floor < 0) or max(gain, abs(floor)) > MOST:
        raise Unreadable(f"a gain of {gain:g} and a floor of {floor:g} are no law of noise")
    spectrum = law.get("spectrum")
    if spectrum is not None:
        sides = {len(spectrum), *map(len, spectrum)}
        if sides != {SIDE_PX} or min(map(min, spectrum)) < 0 or max(map(max, spectrum)) <= 0:
            raise Unreadable(f"field 'spectrum': expected {SIDE_PX} x {SIDE_PX} numbers from 0")
    return law
