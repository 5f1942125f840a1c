"""What the noise of images is like, in words and numbers, and which method fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pairfree.data.given import Images, read_images
from pairfree.data.sets import ImageSet, Reading
from pairfree.diagnosis.choice import Choice, choose_method
from pairfree.diagnosis.set_facts import MOST_FILES, MOST_PLANES, SetFacts, measure_set
from pairfree.diagnosis.words import write_unknown, write_words

MOST_BYTES = 512_000_000
"""Of all pixels as float32: of larger sets, crops are looked at."""


@dataclass(frozen=True)
class Diagnosis:
    """What the noise of images is like.

    Examples
    --------
    >>> found = pairfree.diagnose("my_noisy_folder")
    >>> print(found)
    >>> found.choice.method, found.facts.law.noise.gain, found.facts.files[0].level
    """

    words: tuple[str, ...]
    """What the noise is like, a sentence each, the most telling first."""
    unknown: str
    """What cannot be told from these images, in one sentence."""
    choice: Choice
    """The method that fits, or why none does."""
    facts: SetFacts
    """All numbers."""
    warnings: tuple[str, ...] = ()
    """What was noticed about the files, and what was not looked at, one line each."""

    def __str__(self) -> str:
        return "\n".join([*self.words, self.unknown, self.advice])

    @property
    def advice(self) -> str:
        """The method that fits, why, and what would be better to acquire, in one line."""
        fits = f"Fits: {self.choice.method}." if self.choice.method else "No method fits."
        return " ".join(part for part in (fits, self.choice.why, self.choice.better) if part)

    def as_dict(self) -> dict[str, Any]:
        """Words and numbers by name, as ``pairfree diagnose --json`` writes them."""
        return {
            "words": list(self.words),
            "unknown": self.unknown,
            "method": self.choice.method,
            "why": self.choice.why,
            "better": self.choice.better,
            "warnings": list(self.warnings),
            **self.facts.as_dict(),
        }


def diagnose(
    noisy: Images, *, clean: bool = False, nan: str = "mask", scene: int | str | None = None
) -> Diagnosis:
    """Say what the noise of images is like, and which method fits.

    Parameters
    ----------
    noisy
        Files, folders or globs; a list of arrays (H, W) or (C, H, W); or one array (H, W), (N, H, W) or
        (N, C, H, W).
    clean
        Whether you have clean images of other scenes: more methods fit then.
    nan
        Pixels that are NaN or Inf: "mask" takes their neighbours' mean, "error" refuses them.
    scene
        Of files that hold several images: number of one, from 0, or "all".

    Returns
    -------
    Diagnosis
        Words, numbers of each file, and the method that fits.

    Raises
    ------
    InputError
        For what cannot be read, and for images too small to measure noise in.
    """
    images, _ = read_images(noisy, "noisy image", Reading(nan=nan, scene=scene), MOST_BYTES)
    return diagnose_set(images, clean)


def diagnose_set(
    images: ImageSet,
    clean: bool = False,
    most_files: int = MOST_FILES,
    most_planes: int = MOST_PLANES,
) -> Diagnosis:
    """The same of images that are read already, of which so many files and planes of each are looked at."""
    facts = measure_set(images, most_files, most_planes)
    return Diagnosis(
        words=tuple(write_words(facts)),
        unknown=write_unknown(facts),
        choice=choose_method(facts, clean),
        facts=facts,
        warnings=(*images.warnings, *facts.left_out),
    )
