"""Signs of what an image's noise is like, each told by itself: yes, no, or not to be told."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pairfree.diagnosis.plane_facts import PlaneFacts

SURE = 5.0
"""Standard errors."""
GROWS = 1.3
"""Variance in bright areas over that in dark ones, from which noise grows."""
STRIPES_SURE, STRIPES_SHARE = 6.0, 0.1
"""Standard errors of what lines share, and its share of the level."""
EMPTY, WHITE = 0.6, 0.65
"""Corners of the spectrum over the ring inside of them, in the calmest windows: below the first neighbours
share noise, above the second they do not."""
EMPTY_EVERYWHERE, SHARED, WHITE_SOMEWHERE = 0.5, 1.4, 1.5
"""The same where it is greatest: below the first not even texture looks so; below the second neighbours share
noise, if it is not faint; above the third they do not."""
SMOOTH = 0.06
"""The same in the calmest windows, from which nothing is left of the finest detail."""
FAINT = 0.12
"""Level over the contrast of the whole image, below which texture may be taken for noise."""
STREAKS = 0.15
"""Correlation five pixels along one axis, above that along the other: less than 0.12 without streaks."""
CLIPPED, PILE = 1e-3, 8.0
"""Share of the pixels at an end of the range, and over what lies beside it."""
NATURAL = 2.0
"""Pixels at zero over those that counts leave there by themselves."""
COMB, COMB_BESIDE = 8.0, 6.0
"""Standard errors of JPEG's comb, and above what the image shows elsewhere."""
LOPSIDED = 0.23
"""Skewness: counts that lie clear of zero have less than 0.2."""
COUNTS_MORE = 1.3
"""Times what counts of the measured gain have."""
WHOLE_COUNTS = 0.3
"""Distance of the step of the values from the gain, over the gain."""
FEW_LEVELS = 0.75
"""Step of the values over the level."""


@dataclass(frozen=True)
class Sign:
    """One thing that noise may be or not."""

    name: str
    present: bool | None
    """None where it cannot be told from this image."""
    value: float
    """What was measured."""
    limit: float
    """Where "yes" begins."""

    def __post_init__(self) -> None:
        if self.present is not None:  # comparisons of NumPy's numbers are no bool
            object.__setattr__(self, "present", bool(self.present))


def read_signs(facts: PlaneFacts) -> dict[str, Sign]:
    """All signs of a plane, by their names."""
    return {name: read(facts, name) for name, read in READERS.items()}


def _read_grows(facts: PlaneFacts, name: str) -> Sign:
    line = facts.laws.line
    present: bool | None = line.significance > SURE and line.growth > GROWS
    unsure = _is_clipped_low(facts) or _is_jpeg(facts) or not _is_white(facts)
    if _may_be_texture(facts) or (present is not None and unsure):
        present = None
    return Sign(name, present, line.growth, GROWS)


def _read_shared(facts: PlaneFacts, name: str) -> Sign:
    finest, whitest = facts.shared.finest, facts.shared.whitest
    present: bool | None = None
    if whitest < EMPTY_EVERYWHERE or (
        finest < EMPTY and whitest < SHARED and not _may_be_texture(facts)
    ):
        present = True
    elif finest > WHITE or whitest > WHITE_SOMEWHERE:
        present = False
    if _is_jpeg(facts):
        present = None
    return Sign(name, present, whitest, SHARED)


def _read_smooth(facts: PlaneFacts, name: str) -> Sign:
    """Denoised, enlarged or shifted before, or blurred by the optics behind which the noise arose."""
    finest = facts.shared.finest
    return Sign(name, None if math.isnan(finest) else finest < SMOOTH, finest, SMOOTH)


def _read_rows(facts: PlaneFacts, name: str) -> Sign:
    return _of_lines(name, facts.stripes.rows, facts.stripes.rows_significance, facts)


def _read_columns(facts: PlaneFacts, name: str) -> Sign:
    return _of_lines(name, facts.stripes.columns, facts.stripes.columns_significance, facts)


def _of_lines(name: str, deviation: float, significance: float, facts: PlaneFacts) -> Sign:
    share = deviation / max(facts.level, 1e-300)
    present: bool | None = significance > STRIPES_SURE and share > STRIPES_SHARE
    if math.isnan(deviation) or (present and (_may_be_texture(facts) or _is_jpeg(facts))):
        present = None
    return Sign(name, present, share, STRIPES_SHARE)


def _read_streaks(facts: PlaneFacts, name: str) -> Sign:
    """Longer along one axis than along the other, and not over whole lines."""
    apart = abs(facts.shared.streaks)
    lines = facts.stripes.rows_significance, facts.stripes.columns_significance
    present: bool | None = apart > STREAKS and max(lines) < STRIPES_SURE
    if math.isnan(apart) or facts.level == 0:
        present = None
    return Sign(name, present, apart, STREAKS)


def _read_clipped_low(facts: PlaneFacts, name: str) -> Sign:
    return Sign(name, _is_clipped_low(facts), facts.grey.at_least, CLIPPED)


def _read_clipped_high(facts: PlaneFacts, name: str) -> Sign:
    return Sign(name, _is_clipped_high(facts), facts.grey.at_greatest, CLIPPED)


def _read_jpeg(facts: PlaneFacts, name: str) -> Sign:
    return Sign(name, _is_jpeg(facts), facts.comb.aligned - facts.comb.elsewhere, COMB_BESIDE)


def _read_lopsided(facts: PlaneFacts, name: str) -> Sign:
    """As of plates whose densities add up, beyond what counts of few photons are by themselves."""
    measured, error, of_unit_counts = facts.skewness
    limit = LOPSIDED
    if facts.laws.best.kind.startswith("counts"):
        limit = max(limit, COUNTS_MORE * facts.laws.best.slope * of_unit_counts)
    present: bool | None = measured > limit and measured > SURE * error
    if math.isnan(measured) or _is_jpeg(facts):
        present = None
    return Sign(name, present, measured, limit)


def _read_few_levels(facts: PlaneFacts, name: str) -> Sign:
    ratio = facts.grey.step / max(facts.level, 1e-300)
    return Sign(name, ratio > FEW_LEVELS and not _are_counts(facts), ratio, FEW_LEVELS)


def _read_faint(facts: PlaneFacts, name: str) -> Sign:
    """Beside the detail of the image: what is measured of such noise may be detail."""
    share = facts.level / max(facts.contrast, 1e-300)
    return Sign(name, share < FAINT, share, FAINT)


def _is_white(facts: PlaneFacts) -> bool:
    return facts.shared.finest > WHITE or facts.shared.whitest > WHITE_SOMEWHERE


def _is_jpeg(facts: PlaneFacts) -> bool:
    """No number says so where values are no whole steps."""
    above = facts.comb.aligned - facts.comb.elsewhere
    return facts.comb.aligned > COMB and above > COMB_BESIDE


def _is_clipped_low(facts: PlaneFacts) -> bool:
    share = facts.grey.at_least
    natural = facts.empty if _are_counts(facts) else 0.0
    return share > CLIPPED and facts.grey.pile_at_least > PILE and share > NATURAL * natural


def _is_clipped_high(facts: PlaneFacts) -> bool:
    return facts.grey.at_greatest > CLIPPED and facts.grey.pile_at_greatest > PILE


def _are_counts(facts: PlaneFacts) -> bool:
    """Whether values are whole counts, a step each: many zeros and few values are then no damage."""
    gain = facts.laws.line.slope
    return facts.grey.step > 0 and abs(facts.grey.step / max(gain, 1e-300) - 1.0) < WHOLE_COUNTS


def _may_be_texture(facts: PlaneFacts) -> bool:
    """Whether the finest detail is so faint that it may be that of the scene."""
    return facts.level < FAINT * facts.contrast or not np.isfinite(facts.level)


READERS: dict[str, Callable[[PlaneFacts, str], Sign]] = {
    "grows": _read_grows,
    "shared": _read_shared,
    "smooth": _read_smooth,
    "rows": _read_rows,
    "columns": _read_columns,
    "streaks": _read_streaks,
    "clipped_low": _read_clipped_low,
    "clipped_high": _read_clipped_high,
    "jpeg": _read_jpeg,
    "lopsided": _read_lopsided,
    "few_levels": _read_few_levels,
    "faint": _read_faint,
}
"""What reads each sign."""
