"""Where a denoiser cannot be examined through its noise, because that noise is not of a law we know."""

from __future__ import annotations

from pairfree.diagnosis.set_facts import SetFacts
from pairfree.evidence.rows import Row

REASONS = {
    "ct": "the noise of reconstructed CT depends on the place",
    "jpeg": "JPEG has mixed the noise with the image",
    "lopsided": "the noise is lopsided and may move the mean brightness",
    "streaks": "the noise comes in streaks",
    "rows": "whole rows share noise",
    "columns": "whole columns share noise",
    "faint": "the noise is too faint to be told from the detail",
}
"""By the sign of the diagnosis that tells it: nothing at all can be tested then."""
MOST_CLIPPED = 0.02
"""Share of the pixels at the lowest or highest value, from which the error cannot be told."""
OTHERWISE = "Judge by repeated acquisitions of one place, or by clean images of the same scene."
NAME = "error"
TESTS = (
    "How far the images are from the truth, which nobody has: all pixels together, nothing cut off"
)


def find_refusal(facts: SetFacts, unit: str) -> Row | None:
    """Why nothing can be said of these images; None where it can."""
    signs = {**facts.signs, "ct": facts.signs["ct"] or unit == "HU"}
    reasons = [words for sign, words in REASONS.items() if signs[sign]]
    if not reasons:
        return None
    return leave_out(f"Error and planted tests are not available: {reasons[0]}.")


def find_clipping(facts: SetFacts) -> Row | None:
    """Why the error cannot be told, though the rest can; None where it can."""
    shares = {
        "clipped_low": max(one.at_least for one in facts.files),
        "clipped_high": max(one.at_greatest for one in facts.files),
    }
    for sign, share in shares.items():
        if facts.signs[sign] and share > MOST_CLIPPED:
            where = "lowest" if sign == "clipped_low" else "highest"
            return leave_out(
                f"The error is not available: up to {100 * share:.0f} % of the pixels are at the {where} "
                "value, where noise is cut off. Noise alone and planted spots can be tried all the same."
            )
    return None


def leave_out(why: str, advice: str = OTHERWISE) -> Row:
    """The row of an error that cannot be told."""
    return Row(NAME, TESTS, "untold", why, advice=advice)
