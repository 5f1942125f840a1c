"""A diagnosis in plain sentences: what the noise is like, and what nobody can tell from these images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pairfree.diagnosis.file_facts import FileFacts
from pairfree.diagnosis.set_facts import SetFacts
from pairfree.evidence.numbers import format_number

UNKNOWN = {
    "grows": "whether the noise grows with the brightness",
    "shared": "whether neighbouring pixels share noise",
    "slow": "whether the noise has blotches as wide as your structures",
    "lopsided": "whether the noise is lopsided",
    "differ": "whether files differ in noise",
    "fixed_pattern": "whether the camera has a fixed pattern",
    "rows": "whether rows share noise",
    "columns": "whether columns share noise",
}
"""What may not be told, in words, by the name of the sign."""
ALWAYS_UNKNOWN = "whether the noise moves the mean brightness"
MIXED_SHARE = 0.1
"""Of the files that can tell, from which those that differ are told."""


def write_words(facts: SetFacts) -> list[str]:
    """What the noise is like, a sentence each, the most telling first."""
    found = []
    for say in SENTENCES:
        words = say(facts)
        if words:
            found.append(words)
    return found


def write_unknown(facts: SetFacts) -> str:
    """What cannot be told from these images, in one line."""
    open_questions = [words for name, words in UNKNOWN.items() if facts.signs[name] is None]
    if len(facts.files) == 1:
        alone = {UNKNOWN["differ"], UNKNOWN["fixed_pattern"]}
        open_questions = [words for words in open_questions if words not in alone]
    return f"Not to be told from these images: {'; '.join([*open_questions, ALWAYS_UNKNOWN])}."


def join_words(words: Sequence[str], last: str = "and") -> str:
    """Such as "a, b and c"."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def _say_ct(facts: SetFacts) -> str:
    if not facts.signs["ct"]:
        return ""
    return (
        "Reconstructed CT, in Hounsfield units: its noise depends on the place in the slice and on the "
        "reconstruction's kernel, so the numbers below are those of an average place."
    )


def _say_growth(facts: SetFacts) -> str:
    signs, unit = facts.signs, facts.unit
    level = _range_of([one.level.value for one in facts.files])
    if may_hold_detail(facts):
        level = f"at most {level}"
    if signs["grows"]:
        growing = [one for one in facts.files if one.gain.value > 0]
        gain = _range_of([one.gain.value for one in growing])
        if most_are(growing, "multiplied"):
            return (
                "The noise grows with the brightness, faster than counted photons would: it may multiply the "
                f"image. At the mean brightness its deviation is {level} {unit}."
            )
        return (
            f"Counted photons or electrons: about {gain} {unit} for each, so the noise grows with the "
            f"brightness. At the mean brightness its deviation is {level} {unit}."
        )
    if signs["few_levels"]:
        return (
            f"The noise is no larger than the steps in which values are stored: {level} {unit}. There is "
            "little to take off."
        )
    if signs["grows"] is None:
        return f"The deviation of the noise is {level} {unit}."
    return f"The noise is the same at all brightnesses: its deviation is {level} {unit}."


def _say_shared(facts: SetFacts) -> str:
    if facts.signs["smooth"]:
        return (
            "Nothing is left of the finest detail: the images were denoised, enlarged, shifted or blurred "
            "before, or the optics and the detector blur them so. What noise is left, neighbours share."
        )
    if facts.signs["jpeg"]:
        return ""
    if facts.signs["shared"] is False and (facts.signs["rows"] or facts.signs["columns"]):
        return "But for whole lines it is independent from pixel to pixel."
    if facts.signs["shared"] is False:
        return "It is independent from pixel to pixel."
    if not facts.signs["shared"]:
        return ""
    sharing = [one for one in facts.files if one.law.correlated] or list(facts.files)
    across = _range_of([one.correlation_x for one in sharing])
    down = _range_of([one.correlation_y for one in sharing])
    reach = max(one.reach_px for one in sharing)
    words = (
        f"correlation {across}"
        if across == down
        else f"correlation {across} along rows, {down} along columns"
    )
    return f"Neighbouring pixels share noise ({words}), up to {max(reach, 1)} px apart."


def _say_mixed(facts: SetFacts) -> str:
    """Where a part of the files differs from the others in whether neighbours share noise."""
    sharing = [one.name for one in facts.files if one.signs["shared"] is True]
    apart = [one.name for one in facts.files if one.signs["shared"] is False]
    fewer, words = apart, "it is independent"
    if len(sharing) < len(apart):
        fewer, words = sharing, "neighbouring pixels share it"
    told = len(sharing) + len(apart)
    if len(fewer) < max(1.0, MIXED_SHARE * told):
        return ""
    return f"But in {len(fewer)} of {told} files {words}, such as {fewer[0]}: denoise those apart."


def _say_slow(facts: SetFacts) -> str:
    if not facts.signs["slow"]:
        return ""
    return (
        "It also has blotches, many pixels wide: all files have them even in their calmest parts."
    )


def _say_lines(facts: SetFacts) -> str:
    parts = []
    for name, field in (("rows", "rows"), ("columns", "columns")):
        if facts.signs[name]:
            amount = _range_of([getattr(one, field) for one in facts.files if one.signs[name]])
            parts.append(f"whole {name} share noise of {amount} {facts.unit}")
    words = join_words(parts)
    return f"{words[:1].upper()}{words[1:]}." if words else ""


def _say_streaks(facts: SetFacts) -> str:
    if not facts.signs["streaks"]:
        return ""
    return "It comes in streaks along one axis, as charging and scanning leave them."


def _say_lopsided(facts: SetFacts) -> str:
    if not facts.signs["lopsided"]:
        return ""
    return (
        "It is lopsided, more than counts are: film, charging and saturation make such noise, and move the "
        "mean brightness, too."
    )


def _say_clipped(facts: SetFacts) -> str:
    ends = []
    for name, share, which in (
        ("clipped_low", "at_least", "black"),
        ("clipped_high", "at_greatest", "white"),
    ):
        if facts.signs[name]:
            cut = [getattr(one, share) for one in facts.files if one.signs[name]]
            ends.append(f"{_percent(max(cut))} of the pixels at {which}")
    if not ends:
        return ""
    return f"Values are cut off: up to {join_words(ends)}. What was cut off is lost."


def _say_jpeg(facts: SetFacts) -> str:
    if not facts.signs["jpeg"]:
        return ""
    return (
        "The images were compressed as JPEG: its 8 px blocks are in the pixels, and the noise is no longer "
        "that of the camera."
    )


def _say_faint(facts: SetFacts) -> str:
    if not facts.signs["faint"]:
        return ""
    return (
        "It is faint beside the detail of the images, and what is measured may be texture in part."
    )


def _say_differences(facts: SetFacts) -> str:
    if not facts.signs["differ"]:
        return ""
    gains = [one.gain.value for one in facts.files if one.gain.value > 0]
    if facts.signs["grows"] and gains:
        return f"Files differ in gain: {_range_of(gains)} {facts.unit} a count."
    levels = [one.level.value for one in facts.files]
    return f"Files differ in noise: {_range_of(levels)} {facts.unit}."


def _say_drift(facts: SetFacts) -> str:
    words = []
    for name, noun in (("level", "noise"), ("brightness", "brightness")):
        changes = [one.trends[name] for one in facts.files if name in one.trends]
        if changes:
            largest = max(changes, key=abs)
            direction = "grows" if largest > 0 else "falls"
            of = "" if name == "level" else " of the contrast"
            words.append(
                f"the {noun} {direction} by {_percent(abs(largest))}{of} from the first frame to the last"
            )
    text = join_words(words)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _say_pattern(facts: SetFacts) -> str:
    if not facts.signs["fixed_pattern"]:
        return ""
    return (
        "Images of different scenes have something in common at the same pixels: a fixed pattern of the "
        "camera. A dark frame, subtracted, takes it off; denoising keeps it."
    )


SENTENCES: tuple[Callable[[SetFacts], str], ...] = (
    _say_ct,
    _say_growth,
    _say_shared,
    _say_mixed,
    _say_slow,
    _say_lines,
    _say_streaks,
    _say_lopsided,
    _say_clipped,
    _say_jpeg,
    _say_faint,
    _say_differences,
    _say_drift,
    _say_pattern,
)


def may_hold_detail(facts: SetFacts) -> bool:
    """Whether what is measured as noise may be detail in part."""
    signs = facts.signs
    return bool(
        signs["faint"] or signs["smooth"] or (signs["shared"] and signs["slow"] is not False)
    )


def most_are(files: Sequence[FileFacts], kind: str) -> bool:
    """Whether the variance of most files follows a kind of law, with or without read noise."""
    return sum(one.kind.startswith(kind) for one in files) * 2 > len(files)


def _range_of(values: Sequence[float]) -> str:
    """Such as "3.2 to 16", or one number where they are shown alike."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return "an unknown amount of"
    least, most = (format_number(float(f"{end:.1e}"), 2) for end in (min(known), max(known)))
    return least if least == most else f"{least} to {most}"


def _percent(share: float) -> str:
    return f"{format_number(100.0 * share, 2)} %"
