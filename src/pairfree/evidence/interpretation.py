"""Rows of evidence from the residual: which number each has, and who judges it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pairfree.evidence import findings
from pairfree.evidence.noref import Evidence
from pairfree.evidence.rows import WITHIN_90, Level, Row
from pairfree.files.intensity import UNKNOWN_UNIT


@dataclass(frozen=True)
class _Test:
    """One row: its name, what judges it, and the number behind it."""

    name: str
    tests: str
    judge: Callable[[Evidence, str], findings.Finding | None]
    value: str
    """Field of the evidence; with a field of the same name and ``_se`` there is an interval."""
    advice: str = ""

    def make_row(self, evidence: Evidence, unit: str) -> Row | None:
        """What it says of the evidence; None where the images do not tell."""
        found = self.judge(evidence, unit)
        if found is None:
            return None
        value = getattr(evidence, self.value)
        value = float(value[0] if isinstance(value, tuple) else value)
        beside = WITHIN_90 * getattr(evidence, f"{self.value}_se", math.nan)
        return Row(
            self.name,
            self.tests,
            found.level,
            found.text,
            value,
            value - beside,
            value + beside,
            advice=self.advice if found.level == "warning" else "",
        )


def write_sentences(evidence: Evidence, unit: str = UNKNOWN_UNIT) -> list[str]:
    """The rows as sentences; those that ask for attention begin with ``Warning:`` or ``Note:``.

    Parameters
    ----------
    evidence
        Of one image, or pooled over several.
    unit
        What its intensities count, in the plural: "HU", "counts".
    """
    return [row.sentence for row in interpret(evidence, unit)]


def interpret(
    evidence: Evidence, unit: str = UNKNOWN_UNIT, left_out: Sequence[str] = ()
) -> list[Row]:
    """What the numbers of the evidence say.

    Parameters
    ----------
    evidence
        Of one image, or pooled over several.
    unit
        What its intensities count, in the plural: "HU", "counts".
    left_out
        Names of rows that an examination of the denoiser itself replaces.

    Returns
    -------
    list of Row
        In the order of ``TESTS``; without those that the images do not tell.
    """
    if evidence.std == 0:
        text = "The output equals the input: nothing was removed."
        return [Row("removed noise", "How much was taken off", "warning", text, 0.0)]
    rows = []
    for test in TESTS:
        if test.name not in left_out:
            rows.append(test.make_row(evidence, unit))
    return [row for row in rows if row is not None]


def warn_of_invention(evidence: Evidence, examined: bool = False) -> list[str]:
    """Warnings that the output may show what the data do not; empty where there is no sign of it.

    Parameters
    ----------
    evidence
        Of one image, or pooled over several.
    examined
        Whether an examination of the denoiser tells the rest.
    """
    if evidence.std == 0:
        return []
    signs: list[findings.Finding | None] = [findings.judge_invention(evidence)]
    if not examined and evidence.detail_support < 1:
        signs.append(findings.judge_detail(evidence))
    if not examined and evidence.corr_output < 0:
        signs.append(findings.judge_contrast(evidence))
    return [one.text for one in signs if one is not None and one.level == "warning"]


def find_outliers(
    items: Sequence[tuple[str, Evidence]],
    level: Level = "warning",
    unit: str = UNKNOWN_UNIT,
    left_out: Sequence[str] = (),
) -> list[tuple[str, Row]]:
    """Images with a row of this level, each with its first one.

    A pool can hide one bad image among many good ones.
    """
    outliers = []
    for name, evidence in items:
        serious = [one for one in interpret(evidence, unit, left_out) if one.level == level]
        if serious:
            outliers.append((name, serious[0]))
    return outliers


TESTS = (
    _Test(
        "invented detail",
        "Whether the noisy data support the detail of the output, square by square",
        findings.judge_invention,
        "unsupported_sites",
        "Look at the red squares of the report beside the noisy image.",
    ),
    _Test(
        "removed structure",
        "Whether what was removed holds detail, square by square",
        findings.judge_removal,
        "removed_sites",
        "Look at the blue squares of the report.",
    ),
    _Test(
        "fine contrast",
        "Whether the data support the fine contrast of the output",
        findings.judge_detail,
        "detail_support",
    ),
    _Test(
        "edges",
        "Whether more than noise was removed at edges",
        findings.judge_edges,
        "edge_power",
    ),
    _Test(
        "texture",
        "Whether more was removed in some places than in others",
        findings.judge_texture,
        "uneven_power",
    ),
    _Test(
        "image contrast",
        "Whether what was removed follows the image",
        findings.judge_contrast,
        "corr_output",
    ),
    _Test(
        "flat places",
        "How much noise is left where the image is flat",
        findings.judge_noise_left,
        "noise_left",
    ),
    _Test(
        "whiteness",
        "Whether neighbouring pixels of what was removed are independent",
        findings.judge_colour,
        "autocorr_x",
    ),
    _Test(
        "mean brightness",
        "Whether the mean brightness was kept",
        findings.judge_brightness,
        "mean",
    ),
    _Test(
        "grid",
        "Whether the network's cells show in the output",
        findings.judge_grid,
        "grid",
    ),
    _Test(
        "removed noise",
        "How much was taken off, and whether it follows the brightness",
        findings.describe_removed,
        "std",
    ),
)
"""All of them, in the order in which they are told."""
SHARING_NOISE = ("fine contrast", "image contrast", "flat places")
"""Those that look worse for every denoiser whose output shares noise with its input."""
TOLD_BETTER = (*SHARING_NOISE, "edges", "texture", "whiteness", "mean brightness")
"""Those that an examination of the denoiser tells better."""
