"""Which method fits a diagnosis: the rules, in their order, as a table that the documentation is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pairfree.diagnosis.set_facts import SetFacts


@dataclass(frozen=True)
class Given:
    """What a rule looks at."""

    facts: SetFacts
    clean: bool = False
    """Whether there are clean images of other scenes."""

    def has(self, *names: str) -> bool:
        """Whether one of these signs is there."""
        return any(bool(self.facts.signs[name]) for name in names)


@dataclass(frozen=True)
class Choice:
    """The method that fits, or why none does."""

    rule: str
    """Name of the rule."""
    method: str | None
    """Key of the method; None where nothing fits."""
    why: str
    """In a sentence."""
    better: str = ""
    """What would be better to acquire, or to give."""
    trained: str | None = None
    """The method to train, where training is asked for and ``method`` needs none."""


@dataclass(frozen=True)
class Rule:
    """One line of the table: the first that holds decides."""

    name: str
    condition: str
    """In words, for the documentation."""
    holds: Callable[[Given], bool]
    method: str | None
    why: str
    better: str = ""
    trained: str | None = None

    def choose(self) -> Choice:
        """What it says."""
        return Choice(self.name, self.method, self.why, self.better, self.trained)


RAW = "Files as they were recorded, before any processing, would allow more."
OTHERS = "Give clean images of other scenes, of the same structures (`clean`), and iscl learns from both."
RULES = (
    Rule(
        "little",
        "The noise is no larger than the steps of the values, and faint",
        lambda given: given.has("few_levels") and given.has("faint"),
        None,
        "There is next to no noise to take off; denoising would take detail.",
    ),
    Rule(
        "clean set",
        "There are clean images of other scenes",
        lambda given: given.clean,
        "iscl",
        "There are clean images of other scenes: iscl takes any noise that tells the two apart.",
    ),
    Rule(
        "ct",
        "Reconstructed CT, without clean scans",
        lambda given: given.has("ct"),
        None,
        "The noise of reconstructed CT depends on the place, which no method here learns from noisy slices "
        "alone: a narrow Gaussian filter is better.",
        "Give scans of other patients at a higher dose (`clean`), and iscl learns from both.",
    ),
    Rule(
        "lopsided",
        "The noise is lopsided: film, charging",
        lambda given: given.has("lopsided"),
        None,
        "Lopsided noise moves the mean brightness, and noisy images alone do not tell by how much.",
        OTHERS,
    ),
    Rule(
        "streaks",
        "The noise comes in streaks, as of charging",
        lambda given: given.has("streaks"),
        None,
        "Streaks along the scan lines, as of charging, are taken for structure by all methods that see noisy "
        "images alone.",
        OTHERS,
    ),
    Rule(
        "processed",
        "Nothing is left of the finest detail, and what noise there is is faint",
        lambda given: given.has("smooth") and given.has("faint"),
        None,
        "These images hold no noise of single pixels any more: they are clean, or were denoised, enlarged or "
        "blurred before. Denoising them again takes detail.",
        RAW,
    ),
    Rule(
        "jpeg",
        "JPEG",
        lambda given: given.has("jpeg"),
        "shipped",
        "JPEG has mixed the noise of 8 px blocks, and training would learn the blocks: the network that "
        "comes with pairfree is safer.",
        RAW,
        trained="iddp",
    ),
    Rule(
        "faint and shared",
        "Neighbouring pixels share noise, which is faint beside the detail",
        lambda given: given.has("shared") and given.has("faint"),
        "shipped",
        "Neighbouring pixels share noise, which is too faint to be learned apart from the detail: the "
        "network that comes with pairfree has seen such noise.",
        RAW,
        trained="gan2gan",
    ),
    Rule(
        "shared",
        "Neighbouring pixels share noise",
        lambda given: given.has("shared"),
        "gan2gan",
        "Neighbouring pixels share noise: gan2gan learns what they share; the other methods would keep it.",
    ),
    Rule(
        "blotches",
        "Noise has blotches, wider than fine detail",
        lambda given: given.has("slow"),
        "gan2gan",
        "The noise has blotches: gan2gan learns them; the other methods would keep them. If your images are "
        "full of structure of that width, compare with iddp.",
    ),
    Rule(
        "lines",
        "Whole rows or columns share noise",
        lambda given: given.has("rows", "columns"),
        "iddp",
        "But for whole lines the noise is independent from pixel to pixel: iddp takes off the rest, and "
        "keeps the lines.",
        "Take the lines off first, such as by the mean of an empty part of each.",
    ),
    Rule(
        "unknown",
        "Whether neighbouring pixels share noise cannot be told",
        lambda given: given.facts.signs["shared"] is None,
        "iddp",
        "Whether neighbouring pixels share noise cannot be told. iddp takes it for independent: look for "
        "grain that is left, and if there is some, try gan2gan.",
        RAW,
    ),
    Rule(
        "independent",
        "Noise is independent from pixel to pixel",
        lambda given: True,
        "iddp",
        "The noise is independent from pixel to pixel: iddp learns from the noisy images alone.",
    ),
)
"""The first that holds decides."""


def choose_method(facts: SetFacts, clean: bool = False) -> Choice:
    """The method that fits what was measured.

    Parameters
    ----------
    facts
        Of the noisy images.
    clean
        Whether clean images of other scenes are given.
    """
    given = Given(facts, clean)
    for rule in RULES:
        if rule.holds(given):
            return rule.choose()
    raise AssertionError("the last rule always holds")
