"""What became of noise alone, and of planted spots."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from pairfree.evidence.numbers import format_number
from pairfree.evidence.rows import Level, Row, chance_of
from pairfree.examination.null_run import NullRun
from pairfree.examination.planted import FULL_WIDTH, STRENGTHS, WIDTHS_PX, Planted
from pairfree.examination.pooled import Pooled

PATTERN, PATTERN_SURE = 0.035, 5.0
"""Deviations of the noise, and standard errors, from which a pattern counts."""
GRID, GRID_CONTRAST = 8.0, 0.08
"""Times chance, and deviations of the noise peak to peak, from which a grid counts."""
STEP, STEP_HEIGHT = 6.0, 0.015
"""Deviations of the steps of all lines, and of the noise, from which a seam counts."""
STRUCTURE = 0.9
"""Of the noise's own slow structure: more is made up, or noise that was left."""
FADED, EXAGGERATED = 0.45, 1.15
"""Contrast that a plain spot keeps, below and above which it counts."""
FEWEST_SPOTS = 8
"""Of the ratio that is judged."""
SPOT = STRENGTHS[2]
"""Ratio of the spots that are judged."""


def judge_trials(pooled: Pooled) -> Iterator[Row]:
    """Rows of noise alone and of planted spots; none of a quick examination."""
    if pooled.nulls:
        yield _judge_pattern(pooled.nulls)
        yield _judge_seams(pooled.nulls)
        yield _judge_structure(pooled.nulls)
    if pooled.planted is not None:
        yield _judge_planted(pooled, pooled.planted)


def _judge_pattern(nulls: Sequence[tuple[str, NullRun]]) -> Row:
    tests = "Whether the network lays the same pattern or grid over whatever it gets"
    worst = max((one for _, one in nulls), key=lambda one: one.pattern_z)
    grid = max((one for _, one in nulls), key=lambda one: one.grid)
    text = (
        "A pattern lies over the output whatever goes in, of "
        f"{format_number(worst.pattern, 2)} deviations of the noise."
    )
    if worst.pattern_z > PATTERN_SURE and worst.pattern > PATTERN:
        advice = "It is not in your images: use another network or method."
        return Row(
            "pattern",
            tests,
            "warning",
            text,
            worst.pattern,
            p=chance_of(worst.pattern_z, len(nulls)),
            advice=advice,
        )
    if grid.grid > GRID and grid.grid_contrast > GRID_CONTRAST:
        text = (
            f"A grid with the period of the network's cells lies over the output, "
            f"{format_number(grid.grid_contrast, 2)} deviations of the noise from peak to peak."
        )
        advice = "Train longer, or with another network."
        return Row("pattern", tests, "warning", text, grid.grid_contrast, advice=advice)
    return Row(
        "pattern",
        tests,
        "ok",
        "Noise alone comes out without pattern or grid.",
        worst.pattern,
        p=chance_of(worst.pattern_z, len(nulls)),
    )


def _judge_seams(nulls: Sequence[tuple[str, NullRun]]) -> Row:
    tests = "Whether noise alone comes out with steps along whole rows or columns, as of tiles"
    name, worst = max(nulls, key=lambda pair: pair[1].step.z)
    step = worst.step
    if step.z > STEP and step.height > STEP_HEIGHT:
        text = f"A seam of {format_number(step.height, 2)} deviations of the noise."
        where = f"{name}, {step.axis} {step.place - 1} and {step.place}"
        advice = "Give more memory (`max_bytes`), so that tiles are larger, or use another network."
        return Row("seams", tests, "warning", text, step.z, advice=advice, places=(where,))
    return Row("seams", tests, "ok", "No seams.", step.z)


def _judge_structure(nulls: Sequence[tuple[str, NullRun]]) -> Row:
    tests = "Whether noise alone, without any scene, comes out flat"
    worst = max(one.structure for _, one in nulls)
    value = f"{100 * worst:.0f} % of the noise's own slow structure"
    if worst > STRUCTURE:
        return Row(
            "made from noise",
            tests,
            "warning",
            f"The network makes structure out of noise: what it shows on an empty scene has {value}.",
            worst,
            advice="Do not trust soft blobs and texture near the noise; train longer or use another method.",
        )
    text = f"Noise alone comes out nearly flat: {value} is left."
    return Row("made from noise", tests, "ok", text, worst)


def _judge_planted(pooled: Pooled, planted: Planted) -> Row:
    tests = "Whether faint spots, planted in your images, survive"
    kept = planted.choose(SPOT)
    if kept.size < FEWEST_SPOTS:
        text = "The images are too small to plant enough spots."
        return Row("planted detail", tests, "untold", text)
    middle = float(np.median(kept))
    low, high = np.quantile(kept, (0.05, 0.95))
    sizes = []
    for width in WIDTHS_PX:
        least = planted.least_height(width)
        if not math.isfinite(least):
            continue
        height = least * pooled.level
        sizes.append(
            f"{pooled.length(FULL_WIDTH * width)} wide from {format_number(height, 2)} {pooled.unit} up"
        )
    words = f"A spot of signal-to-noise ratio 8 keeps {100 * middle:.0f} % of its contrast."
    if sizes:
        words += f" These survive: {', '.join(sizes)}."
    made_up = float(np.mean(planted.nothing > 0.5)) if planted.nothing.size else 0.0
    if made_up > 0.05:
        words += f" Something appeared in {100 * made_up:.0f} % of the places beside them."
    level: Level = "ok"
    advice = ""
    if middle > EXAGGERATED or made_up > 0.05:
        level, advice = "warning", "Do not measure small things in these images."
    elif middle < FADED:
        level, advice = (
            "note",
            "Measure small things in the noisy images; a gentler method may keep more.",
        )
    return Row(
        "planted detail", tests, level, words, middle, float(low), float(high), advice=advice
    )
