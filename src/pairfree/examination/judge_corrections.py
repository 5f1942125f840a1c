"""Whether the output should be moved along a direction: sharper, darker, shifted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pairfree.data.directions import REACH_PX, Change
from pairfree.evidence.numbers import format_number
from pairfree.evidence.rows import WITHIN_90, Level, Row, chance_of
from pairfree.examination.pooled import Pooled
from pairfree.examination.risk import Correction, Risk

SURE = 4.0
"""Standard errors of a correction, from which it counts."""
WORTH_DB = 0.1
"""What a correction must gain to be a warning, beside being no chance."""
REMOVED_DB = 0.2
"""What putting back some of what was removed must gain: all networks take a little texture with the noise."""
ALONE = 3.0
"""Times as much where it is one image of several that needs it."""
BRIGHTER = 0.04
"""Deviations of the noise, from which a change of brightness or contrast counts."""
BOARD = 0.02
"""Likewise, of a checkerboard."""


@dataclass(frozen=True)
class _Direction:
    """Corrections that are told as one, and their words."""

    name: str
    tests: str
    of: tuple[str, ...]
    """Keys of ``directions.DIRECTIONS``; what gains most is told."""
    more: str
    """What it means that more of it would be better."""
    less: str
    fine: str
    """What is said where nothing is wrong."""
    advice: str
    counts: Callable[[Pooled, Correction], bool] | None = None
    """Whether a small gain counts all the same."""


def _is_offset(pooled: Pooled, one: Correction) -> bool:
    return abs(one.share) * math.sqrt(one.power) > BRIGHTER * pooled.level


def _is_board(pooled: Pooled, one: Correction) -> bool:
    return abs(one.share) > BOARD * pooled.level


COMPARE = "Compare with the noisy image; train longer, or try another method."
CORRECT = "Denoise again with `correct`, which mends it."
DIRECTIONS = (
    _Direction(
        "sharpness",
        "Whether fine detail should be stronger or weaker",
        ("fine detail", "middle detail"),
        "Too smooth: detail was taken off with the noise",
        "Too sharp: detail was exaggerated or made up, or noise was left",
        "Detail is neither too strong nor too weak.",
        COMPARE,
    ),
    _Direction(
        "noise left",
        "Whether some of what was removed should come back, or more should go",
        ("removed",),
        "Too much was removed: mixing in some of the noisy image is nearer to the truth",
        "Noise is left",
        "As much was removed as was noise.",
        COMPARE,
    ),
    _Direction(
        "brightness",
        "Whether brightness and contrast were kept",
        ("brightness", "contrast"),
        "Too dark, or too little contrast",
        "Too bright, or too much contrast",
        "Brightness and contrast are kept.",
        COMPARE,
        _is_offset,
    ),
    _Direction(
        "position",
        "Whether anything was shifted",
        ("shift along columns", "shift along rows"),
        "The image was shifted",
        "The image was shifted",
        "Nothing was shifted.",
        "Shifts of a fraction of a pixel come from resampling: check how the files were made.",
    ),
    _Direction(
        "checkerboard",
        "Whether every other pixel is brighter",
        ("checkerboard",),
        "A checkerboard lies over the image",
        "A checkerboard lies over the image",
        "No checkerboard.",
        "Train anew with another network.",
        _is_board,
    ),
)


def judge_corrections(pooled: Pooled, change: Change | None) -> Iterator[Row]:
    """A row for each direction: what would gain most, over all images or in one of them.

    ``change`` is the correction that is offered.
    """
    for direction in DIRECTIONS:
        found = _find_worst(pooled, direction)
        if found is None:
            used = [one for one in pooled.risk.corrections if one.name in direction.of]
            strongest = max(used, key=lambda one: abs(one.significance))
            if strongest.power <= 0:
                text = "Cannot be told: the output is its input, or constant."
                yield Row(direction.name, direction.tests, "untold", text)
                continue
            yield _row_of(direction, "ok", direction.fine, strongest)
            continue
        says = direction.more if found.one.share > 0 else direction.less
        mends = change is not None and change.name == found.one.name
        text = f"{says}; {format_number(found.gain_db, 2)} dB would be gained."
        places = (found.image,) if found.image else ()
        yield _row_of(
            direction, "warning", text, found.one, CORRECT if mends else direction.advice, places
        )


def find_change(pooled: Pooled) -> Change | None:
    """The correction that gains most and that each image gains by, of those that can be applied, or None."""
    found = []
    for direction in DIRECTIONS:
        needed = _find_needed(pooled, pooled.risk, direction)
        if needed is None or needed.one.name not in REACH_PX:
            continue
        if all(_gains(risk, needed.one) for _, risk in pooled.risks):
            found.append(needed)
    if not found:
        return None
    most = max(found, key=lambda one: one.gain_db)
    return Change(most.one.name, float(f"{most.one.share:.2g}"))


def _gains(risk: Risk, change: Correction) -> bool:
    """Whether one image gains by the correction of all."""
    own = next(one for one in risk.corrections if one.name == change.name)
    return change.share * (2.0 * own.share - change.share) > 0.0


@dataclass(frozen=True)
class _Needed:
    """A correction that is worth it."""

    one: Correction
    gain_db: float
    image: str = ""
    """The only one that needs it; empty for all."""


def _find_worst(pooled: Pooled, direction: _Direction) -> _Needed | None:
    """What gains most over all images; where nothing does, over one of them."""
    found = _find_needed(pooled, pooled.risk, direction)
    if found is not None:
        return found
    alone = []
    for name, risk in pooled.risks:
        needed = _find_needed(pooled, risk, direction, name)
        if needed is not None:
            alone.append(needed)
    return max(alone, key=lambda one: one.gain_db, default=None)


def _find_needed(
    pooled: Pooled, risk: Risk, direction: _Direction, image: str = ""
) -> _Needed | None:
    """The correction of some images that gains most, if it gains enough."""
    worth = []
    for one in risk.corrections:
        if one.name not in direction.of or abs(one.significance) <= SURE:
            continue
        gain = risk.worth_db(one)
        least = REMOVED_DB if one.name == "removed" and one.share > 0 else WORTH_DB
        counts = direction.counts is not None and direction.counts(pooled, one)
        if gain > (least * ALONE if image else least) or (counts and not image):
            worth.append(_Needed(one, gain, image))
    return max(worth, key=lambda one: one.gain_db, default=None)


def _row_of(
    direction: _Direction,
    level: Level,
    text: str,
    one: Correction,
    advice: str = "",
    places: tuple[str, ...] = (),
) -> Row:
    beside = WITHIN_90 * one.share_se
    return Row(
        direction.name,
        direction.tests,
        level,
        text,
        one.share,
        one.share - beside,
        one.share + beside,
        chance_of(one.significance, len(direction.of)),
        advice,
        places,
    )
