"""What the noise of one file is like: the facts of its planes taken together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairfree.diagnosis.plane_facts import PlaneFacts
from pairfree.diagnosis.signs import read_signs
from pairfree.evidence.numbers import format_number
from pairfree.measure.noise_law import NoiseLaw
from pairfree.measure.variance_kinds import SYSTEMATIC

FloatArray = NDArray[np.float64]

REACH = 0.1
"""Correlation down to which noise counts as shared."""
FAR_PX = 15
"""As far as the spectrum of a window tells."""
TREND_SURE, TREND_SHARE = 4.0, 0.05
"""Standard errors of a trend over frames, and its share of the mean, from which it counts."""
FEWEST_FRAMES = 5
"""For a trend."""


@dataclass(frozen=True)
class Quantity:
    """A number and its standard error, NaN where that is not known."""

    value: float
    error: float = math.nan

    def __str__(self) -> str:
        if not math.isfinite(self.error):
            return format_number(self.value)
        return f"{format_number(self.value)} ± {format_number(self.error, 1)}"

    def as_dict(self) -> dict[str, float]:
        """Both, as JSON writes them."""
        return {"value": self.value, "error": self.error}


@dataclass(frozen=True)
class FileFacts:
    """Of one file, or of one of its channels; intensity units."""

    name: str
    """Of the file, and of the channel where there are several."""
    planes: int
    """How many were looked at."""
    signs: dict[str, bool | None]
    """What holds of most planes that can tell, by name; None where none can."""
    level: Quantity
    """Deviation of the noise at the mean brightness."""
    kind: str
    """How the variance follows the brightness: a key of ``variance_kinds.POWERS``."""
    gain: Quantity
    """Growth of the variance with the brightness, intensity units a count; 0 where it does not grow."""
    floor: float
    """Variance at brightness 0: of the camera, less the gain times its black level."""
    correlation_x: float
    """Of the noise of neighbours along a row; 0 where it is independent."""
    correlation_y: float
    """Along a column."""
    reach_px: int
    """Farthest pixels that share more than a tenth."""
    rows: float
    """Deviation of what whole rows share; NaN where planes are too small."""
    columns: float
    """Likewise."""
    at_least: float
    """Share of the pixels at the lowest value."""
    at_greatest: float
    """At the highest."""
    step: float
    """Distance of neighbouring values; 0 where they lie anywhere."""
    trends: dict[str, float]
    """Change from the first frame to the last, as a share of the mean, of what changes: level, brightness."""
    law: NoiseLaw
    """Of the plane of middle level: what training goes by."""
    brightness: FloatArray
    """Bins, for the picture."""
    variance: FloatArray
    """In these."""
    spectrum: FloatArray | None
    """Power of the calmest windows, likewise; None of small images."""

    @property
    def gain_text(self) -> str:
        """The gain for reading, with a question mark where noise may grow or not."""
        if self.gain.value == 0 or self.signs["grows"] is False:
            return "0"
        return str(self.gain) if self.signs["grows"] else f"{format_number(self.gain.value)} ?"

    def as_dict(self) -> dict[str, Any]:
        """All that is known, as ``pairfree diagnose --json`` writes it."""
        return {
            "name": self.name,
            "planes": self.planes,
            "signs": self.signs,
            "level": self.level.as_dict(),
            "kind": self.kind,
            "gain": self.gain.as_dict(),
            "floor": self.floor,
            "correlation_x": self.correlation_x,
            "correlation_y": self.correlation_y,
            "reach_px": self.reach_px,
            "rows": self.rows,
            "columns": self.columns,
            "share_at_lowest": self.at_least,
            "share_at_highest": self.at_greatest,
            "step": self.step,
            "trends": self.trends,
            "law": self.law.as_dict(),
        }


def gather_planes(name: str, facts: Sequence[PlaneFacts], of_frame: int = 0) -> FileFacts:
    """Pool the planes of a file: signs by majority, numbers by the median.

    Parameters
    ----------
    name
        Of the file.
    facts
        Of its planes, in their order, at least one.
    of_frame
        How many of them each frame of a series has, so that trends may be looked for; 0 for no series.
    """
    signs = vote([{one: sign.present for one, sign in read_signs(fact).items()} for fact in facts])
    levels = np.array([_level(fact) for fact in facts])
    typical = facts[int(np.argsort(levels, kind="stable")[len(facts) // 2])]
    law = typical.law
    grows = law.noise.gain > 0
    return FileFacts(
        name=name,
        planes=len(facts),
        signs=signs,
        level=Quantity(
            float(np.median(levels)), math.nan if law.correlated else _level_error(facts)
        ),
        kind=typical.laws.best.kind if grows else "constant",
        gain=_gain(facts) if grows else Quantity(0.0, _line_error(facts)),
        floor=law.noise.floor,
        correlation_x=law.correlation(0, 1),
        correlation_y=law.correlation(1, 0),
        reach_px=_reach(law),
        rows=float(np.median([fact.stripes.rows for fact in facts])),
        columns=float(np.median([fact.stripes.columns for fact in facts])),
        at_least=float(np.mean([fact.grey.at_least for fact in facts])),
        at_greatest=float(np.mean([fact.grey.at_greatest for fact in facts])),
        step=typical.grey.step,
        trends=_find_trends(facts, levels, of_frame) if of_frame else {},
        law=law,
        brightness=typical.bins.brightness,
        variance=typical.bins.variance,
        spectrum=typical.shared.spectrum,
    )


def vote(signs: Sequence[dict[str, bool | None]]) -> dict[str, bool | None]:
    """What most of those that can tell say of each sign; None for a draw, and where none can."""
    found: dict[str, bool | None] = {}
    for name in signs[0]:
        yes = sum(one[name] is True for one in signs)
        no = sum(one[name] is False for one in signs)
        found[name] = None if yes == no else yes > no
    return found


def _level(facts: PlaneFacts) -> float:
    """Deviation of the noise at the mean brightness.

    By the law, which takes it for no smaller than a share of the range; the finest detail knows it then.
    """
    level = float(np.sqrt(facts.law.noise.variance(np.array(facts.brightness))))
    even = facts.law.noise.gain == 0 and not facts.law.correlated
    return min(level, facts.level) if even else level


def _level_error(facts: Sequence[PlaneFacts]) -> float:
    """Of chance in each bin, and of what is left of texture."""
    found = []
    for fact in facts:
        chance = 1.0 / np.sum(1.0 / fact.bins.relative_error**2)
        found.append(_level(fact) * math.sqrt(float(chance) + SYSTEMATIC**2) / 2.0)
    return float(np.median(found))


def _gain(facts: Sequence[PlaneFacts]) -> Quantity:
    """Median, and the error of one plane, which is not known where neighbours share noise."""
    error = math.nan if facts[0].law.correlated else _line_error(facts)
    return Quantity(float(np.median([fact.law.noise.gain for fact in facts])), error)


def _line_error(facts: Sequence[PlaneFacts]) -> float:
    found = []
    for fact in facts:
        best = fact.laws.best
        found.append(best.slope_error if best.kind == "counts" else fact.laws.line.slope_error)
    return float(np.median(found))


def _reach(law: NoiseLaw) -> int:
    """Farthest pixels along rows or columns that share noise; 0 where neighbours do not."""
    reach = 0
    for far in range(1, FAR_PX + 1):
        if max(law.correlation(0, far), law.correlation(far, 0)) > REACH:
            reach = far
    return reach


def _find_trends(
    facts: Sequence[PlaneFacts], levels: FloatArray, of_frame: int
) -> dict[str, float]:
    """What grows or falls along the frames, as shares of the mean."""
    levels = levels.reshape(-1, of_frame).mean(axis=1)
    brightness = np.array([fact.brightness for fact in facts]).reshape(-1, of_frame).mean(axis=1)
    spread = float(np.median([fact.contrast for fact in facts]))
    found = {}
    for name, values, unit in (
        ("level", levels, float(levels.mean())),
        ("brightness", brightness, spread),
    ):
        change, error = _fit_trend(values)
        if unit > 0 and abs(change) > max(TREND_SURE * error, TREND_SHARE * unit):
            found[name] = change / unit
    return found


def _fit_trend(values: FloatArray) -> tuple[float, float]:
    """Change from first to last along a straight line, and its standard error."""
    count = len(values)
    if count < FEWEST_FRAMES:
        return 0.0, math.inf
    places = np.linspace(-0.5, 0.5, count)
    slope = float(places @ values / np.sum(places**2))
    left = values - values.mean() - slope * places
    error = math.sqrt(float(np.sum(left**2)) / (count - 2) / float(np.sum(places**2)))
    return slope, error
