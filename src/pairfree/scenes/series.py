"""Scenes by name: ``parse_scenes`` reads ``scenes:N[:NAME=VALUE,...]``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pairfree.config import did_you_mean
from pairfree.errors import ConfigError
from pairfree.scenes import ALL, KINDS, check_scene, draw_scene

PREFIX = "scenes:"
"""What a series begins with where files are named."""
MOST_SCENES = 100_000
BITS = {8: np.uint8, 16: np.uint16}


@dataclass(frozen=True)
class Series:
    """Scenes of one size and pixel type."""

    count: int
    """How many."""
    size: int = 256
    """Height and width in pixels."""
    channels: int = 1
    """1 for grey, 3 for colour."""
    kind: str = ALL
    """A key of ``KINDS``, or "all" for a mixture."""
    bits: int = 8
    """8 or 16 a sample."""

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_SCENES:
            raise ConfigError(f"scenes:{self.count}: give a number from 1 to {MOST_SCENES}")
        if self.bits not in BITS:
            raise ConfigError(f"scenes: bits = {self.bits} must be 8 or 16")
        if self.kind not in (ALL, *KINDS):
            meant = did_you_mean(self.kind, [ALL, *KINDS])
            raise ConfigError(f"scenes: no kind named {self.kind!r}{meant}")
        check_scene(0, 0, self.size, self.size, self.channels)

    def draw(self, seed: int) -> Iterator[np.ndarray]:
        """Draw one scene after the other.

        Parameters
        ----------
        seed
            Of the series.

        Yields
        ------
        ndarray
            (size, size) or (size, size, 3), uint8 or uint16 over the whole range of the type.
        """
        full = 2**self.bits - 1
        for index in range(self.count):
            scene = draw_scene(
                index,
                seed,
                height=self.size,
                width=self.size,
                channels=self.channels,
                kind=self.kind,
            )
            yield np.rint(scene.astype(np.float64) * full).astype(BITS[self.bits])


def parse_scenes(spec: str) -> Series:
    """The series that ``spec`` names.

    Parameters
    ----------
    spec
        ``scenes:N``, and after another colon NAME=VALUE with commas between them, of the fields of
        ``Series``: ``scenes:20:size=512,kind=membranes,bits=16``.

    Raises
    ------
    ConfigError
        In one line, for what is wrong with it.
    """
    number, colon, rest = spec.removeprefix(PREFIX).partition(":")
    known = [field.name for field in dataclasses.fields(Series) if field.name != "count"]
    values: dict[str, int | str] = {"count": parse_whole(spec, "N", number)}
    for part in rest.split(",") if colon else ():
        name, equals, text = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ConfigError(
                f"{spec!r}: expected NAME=VALUE with commas between them, found {part!r}"
            )
        if name not in known:
            raise ConfigError(f"{spec!r}: scenes have no {name!r}{did_you_mean(name, known)}")
        values[name] = text if name == "kind" else parse_whole(spec, name, text)
    return Series(**values)  # type: ignore[arg-type]


def parse_whole(spec: str, name: str, text: str) -> int:
    """A whole number, or a ConfigError that names what it is for."""
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"{spec!r}: {name} must be a whole number from 1, found {text!r}")
    return int(text)
