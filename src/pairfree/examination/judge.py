"""What the measures of an examination say: a row each, with its limits in one place."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from pairfree.data.directions import Change
from pairfree.evidence.numbers import format_fixed, format_number
from pairfree.evidence.rows import WITHIN_90, Row, chance_of
from pairfree.examination.judge_corrections import judge_corrections
from pairfree.examination.judge_trials import judge_trials
from pairfree.examination.places import WINDOW_PX, Place
from pairfree.examination.pooled import Pooled
from pairfree.examination.refusal import NAME as ERROR
from pairfree.examination.refusal import TESTS as ERROR_TESTS
from pairfree.examination.transfer import RINGS

OFFERED_DB = 0.5
"""Half of the interval of the error, up to which it is told as a number."""
WINDOWS = 1000
"""About as many windows are looked at, of which the worst is told."""
PLACE = 6.0
"""Standard errors, from which a place stands out: of 60 untouched results the most had 5.5."""
LEFT, TAKEN = 0.9, 1.25
"""Removed power over that of the noise that went, in a quarter of the frequencies, from which it counts."""
QUARTERS = 4
HARDLY = 0.05
"""Of the noise: where less is removed, its fineness cannot be told."""
BEATEN_DB = 0.1
"""By which a plain filter must be better."""


def judge(pooled: Pooled, change: Change | None) -> Iterator[Row]:
    """A row for each test, those about the whole first; ``change`` is the correction that is offered."""
    yield _judge_error(pooled)
    yield _judge_dose(pooled)
    yield _judge_filter(pooled)
    yield from judge_corrections(pooled, change)
    yield _judge_colour(pooled)
    yield _judge_places(pooled)
    yield from judge_trials(pooled)
    yield _judge_resolution(pooled)
    yield _describe_errors(pooled)


def _judge_error(pooled: Pooled) -> Row:
    risk = pooled.risk
    value, low, high = risk.psnr_db(pooled.data_range)
    half = max(value - low, high - value)
    over = f"over a range of {format_number(pooled.data_range)} {pooled.unit}"
    between = f"between {format_fixed(low, 1)} and {format_fixed(high, 1)} dB"
    if not half <= OFFERED_DB:
        cause = "the images are small"
        if pooled.law_error * risk.variance > risk.chance_se:
            known = format_number(100 * pooled.law_error, 2)
            cause = f"the strength of the noise is known to {known} % only"
        if not math.isfinite(high):
            between = f"at least {format_fixed(low, 1)} dB"
        return Row(
            ERROR,
            ERROR_TESTS,
            "untold",
            f"The PSNR is {between} in nine of ten cases, {over}. It cannot be told closer: {cause}.",
            low=low,
            high=high,
            advice="More images of the same kind, examined together, narrow it.",
        )
    return Row(
        ERROR,
        ERROR_TESTS,
        "ok",
        f"Estimated PSNR {format_fixed(value, 1)} dB ({between} in nine of ten cases), {over}.",
        value,
        low,
        high,
    )


def _judge_dose(pooled: Pooled) -> Row:
    value, low, high = pooled.risk.dose
    tests = "How many averaged frames the result is worth"
    if not math.isfinite(high) or high > 3 * low:
        text = f"The result is worth at least {format_number(low, 2)} averaged frames."
        return Row("dose", tests, "ok", text, low=low)
    text = (
        f"The result is worth about {format_number(value, 2)} averaged frames (between "
        f"{format_number(low, 2)} and {format_number(high, 2)})."
    )
    return Row("dose", tests, "ok", text, value, low, high)


def _judge_filter(pooled: Pooled) -> Row:
    plain, risk = pooled.plain, pooled.risk
    error = math.hypot(plain.chance_se, pooled.law_error * plain.law_part)
    mse = risk.least
    worth = 10.0 * math.log10(max(mse + plain.better, 1e-3 * mse) / mse)
    z = plain.better / error if error > 0 else 0.0
    width = format_number(plain.width_px, 2)
    tests = "Whether a Gaussian filter, its width chosen for these images, would do as well"
    filter_name = f"a Gaussian filter of {width} px"
    by = f"{format_number(abs(worth), 2)} dB nearer"
    if risk.mse < 2.0 * risk.mse_se:  # decibels of an error that is hardly known mean nothing
        by = "nearer"
    if z < -3.0 and worth < -BEATEN_DB:
        text = f"A plain filter does better: {filter_name} is {by} to the truth."
        advice = "Use the filter, train longer, or choose another method."
        return Row("plain filter", tests, "warning", text, worth, p=chance_of(z), advice=advice)
    if z < 3.0:
        text = f"About as good as {filter_name}: the network adds little here."
        return Row("plain filter", tests, "note", text, worth, p=chance_of(z))
    text = f"{by[0].upper()}{by[1:]} to the truth than {filter_name}, the best of its kind."
    return Row("plain filter", tests, "ok", text, worth, p=chance_of(z))


def _judge_colour(pooled: Pooled) -> Row:
    rings = pooled.rings
    tests = "Whether what was removed has the fineness of the noise, by the noise's own law"
    ratios = []
    for part in np.array_split(np.arange(RINGS), QUARTERS):
        noise, kept = float(rings.noise[part].sum()), float(rings.kept[part].sum())
        if noise - kept > HARDLY * noise:
            ratios.append(float(rings.removed[part].sum()) / (noise - kept))
    if not ratios:
        text = "Hardly any noise was removed: its fineness cannot be told."
        return Row("residual", tests, "untold", text)
    finer = ratios[1:] or ratios  # slow changes are told as brightness
    worst = max(finer, key=lambda ratio: abs(math.log(max(ratio, 1e-3))))
    listed = ", ".join(format_fixed(ratio, 2) for ratio in ratios)
    text = f"Removed power over that of the noise that went, from coarse to fine: {listed} (expected 1)."
    if LEFT - pooled.law_error < worst < TAKEN + pooled.law_error:
        return Row("residual", tests, "ok", text, worst)
    text = f"What was removed is not what the noise is like. {text}"
    advice = (
        "Structure was removed, or noise of some fineness was left: another method may fit better."
    )
    return Row("residual", tests, "warning", text, worst, advice=advice)


def _judge_places(pooled: Pooled) -> Row:
    tests = "Whether detail is weaker, stronger or another one in some places than in the rest"
    if not pooled.places:
        return Row("places", tests, "ok", "No place is smoother or sharper than the rest.", 0.0)
    count = len(pooled.places)
    where = "One place" if count == 1 else f"{count} places"
    listed = tuple(_name_place(*pair) for pair in pooled.places[:3])
    return Row(
        "places",
        tests,
        "warning",
        f"{where} of {WINDOW_PX} × {WINDOW_PX} px {'is' if count == 1 else 'are'} not like the rest.",
        float(count),
        p=chance_of(pooled.places[0][1].z, WINDOWS),
        advice="Compare there with the noisy image before you rely on it.",
        places=listed,
    )


def _name_place(name: str, place: Place) -> str:
    how = "smoother" if place.z > 0 else "sharper, or foreign"
    return f"{name}, row {place.row}, column {place.column} ({how})"


def _judge_resolution(pooled: Pooled) -> Row:
    tests = "The finest detail that the output shares with the truth"
    resolution = pooled.rings.resolution_px
    if not math.isfinite(resolution):
        text = "No detail of these images can be told from the noise."
        return Row("resolution", tests, "untold", text)
    text = f"Detail is resolved down to a period of {pooled.length(resolution)}."
    if resolution <= 2.0:
        text = f"Detail is resolved down to single pixels, {pooled.length(resolution)}."
    listed = ", ".join(format_fixed(share, 2) for share in _take_transfer(pooled))
    text += f" From coarse to fine the output should be {listed} times as strong (expected 1)."
    return Row("resolution", tests, "ok", text, resolution)


def _take_transfer(pooled: Pooled) -> list[float]:
    """T(k) of the frequencies that are resolved, in quarters of these."""
    rings = pooled.rings
    parts = np.array_split(np.arange(max(rings.resolved, QUARTERS)), QUARTERS)
    return [
        float(rings.shared[part].sum() / max(rings.output[part].sum(), 1e-300)) for part in parts
    ]


def _describe_errors(pooled: Pooled) -> Row:
    tests = "How sure each pixel is"
    middle, most = WITHIN_90 * pooled.median_error, WITHIN_90 * pooled.greatest_error
    text = (
        f"Nine of ten pixels lie within ± {format_number(middle, 2)} {pooled.unit} of the truth in a typical "
        f"place, within ± {format_number(most, 2)} in the least sure ones."
    )
    return Row("uncertainty", tests, "ok", text, middle)
