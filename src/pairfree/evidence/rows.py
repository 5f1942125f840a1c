"""A row of evidence: what was tested, what came out, what it means, and what to do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scipy.stats import norm

from pairfree.evidence.numbers import format_number

Level = Literal["ok", "untold", "note", "warning"]
ORDER: dict[str, int] = {"ok": 0, "untold": 0, "note": 1, "warning": 2}
"""How serious a level is; what cannot be told is no fault."""
PREFIXES = {"ok": "", "untold": "", "note": "Note: ", "warning": "Warning: "}
WITHIN_90 = 1.645
"""Standard errors to either side that hold nine of ten."""


@dataclass(frozen=True)
class Row:
    """One thing that was looked at, and what came out."""

    name: str
    """Such as "seams"."""
    tests: str
    """What it looks at, in a few words."""
    level: Level
    """ok, untold (cannot be told here), note or warning."""
    text: str
    """The verdict, in a sentence or two."""
    value: float = math.nan
    """The number behind it, if there is one."""
    low: float = math.nan
    high: float = math.nan
    """Interval that holds nine of ten; NaN where there is none."""
    p: float = math.nan
    """How often chance alone would look as bad; NaN where that is not known."""
    advice: str = ""
    """What to do, where something is wrong."""
    places: tuple[str, ...] = ()
    """Where to look, a few words each."""

    def as_dict(self) -> dict[str, Any]:
        """All of it, as ``pairfree evaluate --json`` writes it."""
        return {**vars(self), "places": list(self.places)}

    @property
    def numbers(self) -> str:
        """The value with its interval and chance, for reading; empty where there is none."""
        if not math.isfinite(self.value):
            return ""
        text = format_number(self.value, 2)
        if math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high:
            text += f" ({format_number(self.low, 2)} to {format_number(self.high, 2)})"
        if math.isfinite(self.p):
            text += f", p {format_chance(self.p)}"
        return text

    @property
    def sentence(self) -> str:
        """Verdict and advice; what asks for attention begins with ``Warning:`` or ``Note:``."""
        prefix = PREFIXES[self.level]
        text = f"{self.text[0].lower()}{self.text[1:]}" if prefix else self.text
        words = [f"{prefix}{text}"]
        if self.places and self.level != "ok":
            words.append(f"Look at {'; '.join(self.places)}.")
        if self.advice and self.level != "ok":
            words.append(self.advice)
        return " ".join(words)


def format_chance(p: float) -> str:
    """Such as "= 0.03" or "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"= {format_number(p, 1)}"


def worst_level(rows: Sequence[Row]) -> Level:
    """The most serious level among rows; ``ok`` without any."""
    found: Level = max((one.level for one in rows), key=ORDER.__getitem__, default="ok")
    return "ok" if found == "untold" else found


def count_alarms(rows: Sequence[Row]) -> str:
    """The whole in one line."""
    told = [row for row in rows if row.level != "untold"]
    alarms = [row.name for row in told if row.level == "warning"]
    if not told:
        return "Nothing could be tested."
    notes = [row.name for row in told if row.level == "note"]
    beside = f" Worth a look: {', '.join(notes)}." if notes else ""
    if not alarms:
        return f"None of {len(told)} tests raised a concern.{beside}"
    return f"{len(alarms)} of {len(told)} tests raised a concern: {', '.join(alarms)}.{beside}"


def chance_of(z: float, tries: int = 1) -> float:
    """How often the farthest of some normal numbers lies so many standard errors from 0, at most."""
    return min(1.0, tries * float(2.0 * norm.sf(abs(z))))
