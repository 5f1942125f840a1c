"""``method`` auto: the method that fits the noise of the images, or a refusal with what to do."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from pairfree.diagnosis.diagnose import Diagnosis, diagnose_set
from pairfree.errors import ConfigError, InputError
from pairfree.methods import DEFAULT_NOISY_ONLY, DEFAULT_UNPAIRED
from pairfree.plain import NOTE
from pairfree.training.images import ImageSets, noise_level
from pairfree.training.order import Order

CLEAN_SHARE = 0.5
"""Noise level of partners over that of the noisy images, below which they count as clean."""
FILES, PLANES = 10, 1
"""That are looked at: a few seconds at most."""
_say = logging.getLogger("pairfree")


@dataclass(frozen=True)
class AutoChoice:
    """What was chosen, and what for."""

    method: str
    """Its key."""
    why: str
    """In a sentence."""
    words: tuple[str, ...] = ()
    """What the noise is like, a sentence each."""

    def tell(self) -> None:
        """Say it on the way."""
        for line in self.words:
            _say.log(NOTE, "%s", line)
        _say.log(NOTE, "method %s: %s", self.method, self.why)


def choose_automatically(order: Order, sets: ImageSets) -> AutoChoice:
    """The method that fits the noisy images, and what is given beside them.

    Parameters
    ----------
    order
        What was asked: partners, clean images, and one's own network narrow the choice.
    sets
        The images.

    Raises
    ------
    ConfigError
        Where no method fits, with what to do instead.
    """
    if order.target is not None:
        return _choose_for_pairs(sets)
    if order.net is not None:
        fixed = DEFAULT_UNPAIRED if order.clean is not None else DEFAULT_NOISY_ONLY
        return AutoChoice(fixed, "the default for a network of your own.")
    try:
        found = diagnose_set(sets.noisy, order.clean is not None, FILES, PLANES)
    except InputError:
        return AutoChoice(
            DEFAULT_NOISY_ONLY, "the images are too small to tell what their noise is like."
        )
    choice = found.choice
    if choice.method is None:
        raise ConfigError(_refuse(found))
    asks_training = order.minutes or order.steps or order.settings
    if asks_training and choice.trained is not None:
        why = f"{choice.why} As you ask for training, {choice.trained} is trained all the same."
        return AutoChoice(choice.trained, why, found.words)
    return AutoChoice(choice.method, choice.why, found.words)


def _choose_for_pairs(sets: ImageSets) -> AutoChoice:
    """Clean partners or noisy ones, by their noise."""
    pairs = zip(sets.noisy.planes, sets.others["target"].planes, strict=True)
    if all(np.array_equal(one, other) for one, other in pairs):
        raise ConfigError("`target`: the partners are the noisy images themselves; give others")
    partners, noisy = noise_level(sets.others["target"]), noise_level(sets.noisy)
    if partners is not None and noisy is not None and partners < CLEAN_SHARE * noisy:
        return AutoChoice("n2c", "the partners have less noise than half that of the noisy images.")
    return AutoChoice("n2n", "the partners have noise of their own.")


def _refuse(found: Diagnosis) -> str:
    choice = found.choice
    words = f"no method fits these images. {choice.why} {choice.better}".strip()
    return f"{words} Or name a method yourself, such as `method` {DEFAULT_NOISY_ONLY}"
