"""Noise by name.

``parse_noise`` reads a SPEC, ``add_noise`` puts the noise on one image, ``image_rng`` gives that image its
randomness.

SPEC is KEY[:NAME=VALUE[,NAME=VALUE]...]; VALUE is a number or a range LOW..HIGH drawn per image. What is left
out has its default: ``gaussian:sigma=25``, ``gaussian:sigma=0..50``, ``film``,
``lowdose-ct:dose=0.25,i0=2e6``. ``law:FILE`` is noise as it was measured; FILE is what ``pairfree diagnose``
wrote as JSON.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import unicodedata

import numpy as np

from pairfree.config import find_closest
from pairfree.errors import ConfigError
from pairfree.noise.ct import LowDoseCT
from pairfree.noise.measured import Measured
from pairfree.noise.model import NoiseModel, Number, Range, number_text
from pairfree.noise.pixelwise import Gaussian, MixtureA, MixtureB, Poisson, Speckle
from pairfree.noise.structured import Charge, Correlated, Film

MODELS: dict[str, type[NoiseModel]] = {
    "gaussian": Gaussian,
    "poisson": Poisson,
    "speckle": Speckle,
    "mixture-a": MixtureA,
    "mixture-b": MixtureB,
    "correlated": Correlated,
    "film": Film,
    "charge": Charge,
    "lowdose-ct": LowDoseCT,
}
"""Every noise model of given numbers by the key of its SPEC; beside them there is ``law:FILE``."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def parse_noise(spec: str) -> NoiseModel:
    """The model that ``spec`` names.

    Raises
    ------
    ConfigError
        Of one line that says what is wrong and what there is instead.
    """
    key, colon, rest = spec.partition(":")
    key = key.strip()
    if key == Measured.key and not rest.strip():
        raise ConfigError("noise 'law': name what pairfree diagnose wrote as JSON, law:FILE")
    if key == Measured.key:
        return Measured.parse(rest.strip())
    if key not in MODELS:
        known = [*MODELS, Measured.key]
        raise ConfigError(
            f"noise {spec!r}: no model {key!r}{_meant(key, known)}; there are: {', '.join(known)}"
        )
    if colon and not rest.strip():
        raise ConfigError(
            f"noise {spec!r}: nothing follows the colon, write {key}:NAME=VALUE or {key} alone"
        )
    if not colon:
        return MODELS[key]()
    names = [field.name for field in dataclasses.fields(MODELS[key])]
    values: dict[str, Number] = {}
    for part in rest.split(","):
        name, equals, text = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ConfigError(
                f"noise {spec!r}: expected NAME=VALUE, found {part!r}; {key} takes: "
                f"{', '.join(names)}"
            )
        if name not in names:
            raise ConfigError(
                f"noise {spec!r}: {key} has no {name!r}{_meant(name, names)}; it takes: "
                f"{', '.join(names)}"
            )
        if name in values:
            raise ConfigError(f"noise {spec!r}: {name} is given twice")
        values[name] = _parse_value(spec, name, text)
    return MODELS[key](**values)


def spec_of(model: NoiseModel) -> str:
    """The SPEC that ``parse_noise`` turns back into ``model``.

    With every field, so that a record outlives a change of defaults.
    """
    if isinstance(model, Measured):
        return model.spec
    parts = []
    for field in dataclasses.fields(model):
        value = getattr(model, field.name)
        shown = str(value) if isinstance(value, Range) else number_text(value)
        parts.append(f"{field.name}={shown}")
    return f"{model.key}:{','.join(parts)}"


def add_noise(
    clean: np.ndarray, noise: str | NoiseModel, rng: np.random.Generator
) -> tuple[np.ndarray, NoiseModel]:
    """An image with noise, and the noise as it was drawn for it.

    Parameters
    ----------
    clean
        (H, W) or (H, W, S), 8-bit grey levels, any real dtype.
    noise
        A SPEC or a model.
    rng
        What everything is drawn with.

    Returns
    -------
    tuple
        float64 of the same shape, not clipped; the model, its ranges resolved to the numbers that were used.
    """
    model = parse_noise(noise) if isinstance(noise, str) else noise
    drawn = model.draw(rng)
    return drawn.add(clean, rng), drawn


def image_rng(seed: int, name: str) -> np.random.Generator:
    """The generator of an image: a function of (seed, name) alone, whatever other images there are.

    Parameters
    ----------
    seed
        At least 0.
    name
        The image's stem. Images of one name get one noise field: where stems repeat in several folders, pass
        the relative path without its suffix. Composed and decomposed spellings of a name (file systems differ
        in this) are the same name.

    Raises
    ------
    ConfigError
        For a negative seed.
    """
    if seed < 0:
        raise ConfigError(f"seed: must be at least 0, found {seed}")
    text = unicodedata.normalize("NFC", name)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    words = np.frombuffer(digest, dtype="<u4").tolist()
    # spawn_key, not entropy: a seed beyond 32 bits must not run into the words of the name.
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(words)))


def _parse_value(spec: str, name: str, text: str) -> Number:
    if "..." in text:
        raise ConfigError(
            f"noise {spec!r}: {name}={text} has three dots, a range is LOW..HIGH with two"
        )
    low, dots, high = text.partition("..")
    for piece in (low, high) if dots else (low,):
        if not _NUMBER.fullmatch(piece.strip()):
            raise ConfigError(
                f"noise {spec!r}: {name}={text!r} is neither a number nor a range LOW..HIGH"
            )
    return Range(float(low), float(high)) if dots else float(low)


def _meant(word: str, known: list[str]) -> str:
    close = find_closest(word.lower(), known)
    return "" if close is None else f", did you mean {close!r}?"
