"""Plain sentences for residual evidence: each says the number, what it should be, and what a departure may mean.

A statement is a ``warning`` where a number is both significant (3 standard errors) and large enough to matter in an image, a ``note``
where it deserves a look, ``ok`` otherwise. The thresholds are conventions: an oracle stays ``ok``, a Gaussian blur is a ``warning``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pairfree.evidence.noref import Evidence, white_band

Level = Literal["ok", "note", "warning"]
NOTED_UNEVENNESS, WARNED_UNEVENNESS = 1.5, 3.0
"""Times what chance gives."""
NOTED_LEFT = 0.85
"""With white noise of sigma 15 and 25 an oracle keeps less in each of 200 images of BSD400; networks that keep correlated noise, more."""
ORDER: dict[str, int] = {"ok": 0, "note": 1, "warning": 2}


@dataclass(frozen=True)
class Finding:
    """One statement about the evidence."""

    level: Level
    text: str


def reading(evidence: Evidence) -> list[str]:
    """The findings as sentences; those that ask for attention begin with ``Warning:`` or ``Note:``."""
    prefix = {"ok": "", "note": "Note: ", "warning": "Warning: "}
    return [
        f"{prefix[f.level]}{f.text[0].lower() + f.text[1:] if prefix[f.level] else f.text}"
        for f in findings(evidence)
    ]


def findings(evidence: Evidence) -> list[Finding]:
    """Statements in the order: invented, removed, detail, edges, texture, contrast, noise left, noise colour, brightness, noise level."""
    if evidence.std == 0:
        return [Finding("warning", "The output equals the input: nothing was removed.")]
    found = [
        _invented(evidence),
        _removed(evidence),
        _detail(evidence),
        _edges(evidence),
        _texture(evidence),
        _contrast(evidence),
        _left(evidence),
        _colour(evidence),
        _mean(evidence),
        _signal(evidence),
    ]
    return [f for f in found if f is not None]


def made_up(evidence: Evidence) -> list[str]:
    """Warnings that the output may show what the data do not; empty where there is no sign of it."""
    if evidence.std == 0:
        return []
    found = [_invented(evidence)]
    found += [f for f in [_detail(evidence)] if f is not None and evidence.detail_support < 1]
    found += [_contrast(evidence)] if evidence.corr_output < 0 else []
    return [f.text for f in found if f.level == "warning"]


def outliers(items: Sequence[tuple[str, Evidence]], level: Level = "warning") -> list[tuple[str, Finding]]:
    """Images with a finding of this level, each with its first one: a pool can hide one bad image among many good ones."""
    firsts = [(name, next((f for f in findings(e) if f.level == level), None)) for name, e in items]
    return [(name, f) for name, f in firsts if f is not None]


def worst(found: list[Finding]) -> Level:
    """The most serious level among findings; ``ok`` without any."""
    return max((f.level for f in found), key=ORDER.__getitem__, default="ok")


def number(value: float, digits: int = 3) -> str:
    """A number for reading: significant digits, a true minus sign, no exponent from 0.001 to 100,000."""
    if not math.isfinite(value):
        return "not defined" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if abs(value) < 1e-12:
        return "0"
    size = math.floor(math.log10(abs(value)))
    text = f"{value:.{max(digits - 1 - size, 0)}f}" if -4 < size < 5 else f"{value:.{digits - 1}e}"
    return text.replace("-", "−")


def fixed(value: float, decimals: int) -> str:
    """A number with fixed decimals, a true minus sign and no negative zero."""
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")


def _beyond(value: float, expected: float, se: float, size: float) -> bool:
    return abs(value - expected) > max(3 * se, size)


def _invented(e: Evidence) -> Finding:
    if e.tested_sites == 0:
        return Finding(
            "note",
            "Invention could not be tested: nowhere is the output's detail strong enough against the noise to be confirmed.",
        )
    share = f"{e.tested_sites:,} of {e.sites:,} sites of 8 × 8 px, those whose detail stands out of the noise"
    if e.unsupported_sites == 0:
        return Finding("ok", f"No invented detail found in {share}; fainter detail cannot be tested.")
    level: Level = "warning" if e.unsupported_sites > 1 else "note"
    count = "site shows" if e.unsupported_sites == 1 else "sites show"
    return Finding(
        level,
        f"{e.unsupported_sites:,} {count} detail that the noisy data do not support (tested: {share}): look there for invention.",
    )


def _removed(e: Evidence) -> Finding:
    share = 100 * e.removed_sites / max(e.sites, 1)
    if e.removed_sites == 0:
        return Finding(
            "ok",
            f"No removed structure found in {e.sites:,} sites; structure fainter than the noise over 5 px cannot be seen.",
        )
    level: Level = "warning" if share > 2 else ("note" if share > 0.1 else "ok")
    at = f"{e.removed_sites:,} of {e.sites:,} sites ({number(share, 2)} %)"
    return Finding(
        level, f"The residual holds structure at {at}: detail, edges or hot pixels were removed there."
    )


def _detail(e: Evidence) -> Finding | None:
    s, se = e.detail_support, e.detail_support_se
    if not math.isfinite(s):
        return None
    value = f"{number(s)} (expected 1; standard error {number(se, 1)})"
    if s < 1 and _beyond(s, 1, se, 0.1):
        return Finding(
            "warning" if s < 0.8 else "note",
            f"The data support only part of the output's fine contrast, {value}: detail is sharpened or invented.",
        )
    if s > 1 and _beyond(s, 1, se, 0.25):
        level: Level = "warning" if s > 1.5 else "note"
        return Finding(
            level,
            f"The noisy image has more fine contrast along the output's detail, {value}: detail is softened, or noise remains.",
        )
    return Finding("ok", f"Fine contrast of the output agrees with the data: {value}.")


def _edges(e: Evidence) -> Finding | None:
    if not math.isfinite(e.edge_power):
        return None
    value = f"{number(e.edge_power)} times what the noise line predicts there (expected 1; standard error {number(e.edge_power_se, 1)})"
    if e.edge_power > 1 and _beyond(e.edge_power, 1, e.edge_power_se, 0.15):
        return Finding(
            "warning" if e.edge_power > 1.5 else "note",
            f"Residual power at edges is {value}: edges were altered along with the noise.",
        )
    return Finding("ok", f"Residual power at edges is {value}.")


def _texture(e: Evidence) -> Finding | None:
    if not e.uneven_power > NOTED_UNEVENNESS * e.uneven_power_chance:
        return None
    level: Level = "warning" if e.uneven_power > WARNED_UNEVENNESS * e.uneven_power_chance else "note"
    return Finding(
        level,
        f"Removed power is uneven: where it is strongest it is {number(e.uneven_power, 2)} times the usual, brightness allowed for "
        f"(expected {number(e.uneven_power_chance, 2)}). Texture was taken for noise there, or the noise differs from place to place.",
    )


def _contrast(e: Evidence) -> Finding:
    c, value = e.corr_output, f"(correlation {fixed(e.corr_output, 2)}, expected 0)"
    if not _beyond(c, 0, e.corr_output_se, 0.05):
        return Finding("ok", f"Residual does not follow the image {value}.")
    level: Level = "warning" if abs(c) > 0.2 else "note"
    if c > 0:
        return Finding(
            level, f"Residual follows the image {value}: structure may have been removed, or noise remains."
        )
    return Finding(
        level,
        f"Residual opposes the image {value}: the output exaggerates contrast, or shows what the input does not.",
    )


def _left(e: Evidence) -> Finding | None:
    if not math.isfinite(e.noise_left):
        return None
    value = f"in the flattest tenth of the image the output keeps {100 * e.noise_left:.0f} % of the noisy image's fine contrast"
    if e.noise_left > NOTED_LEFT:
        return Finding(
            "note",
            f"Noise may be left: {value}. Either the noise is weak beside detail that is everywhere, or it is correlated and stays "
            "(methods that assume independent pixels keep such noise).",
        )
    return Finding("ok", f"Noise was removed: {value}, and no more of the noise.")


def _colour(e: Evidence) -> Finding:
    band, lag1 = white_band(e.n_pixels), (e.autocorr_x[0], e.autocorr_y[0])
    strongest = max(lag1, key=abs)
    along = f"autocorrelation {fixed(lag1[0], 3)} along x, {fixed(lag1[1], 3)} along y (within ±{band:.3f} for white noise of this size)"
    if abs(strongest) <= 2 * band:
        return Finding("ok", f"Residual is white: lag-1 {along}.")
    if abs(strongest) <= 0.1:
        return Finding("ok", f"Residual is nearly white: lag-1 {along}.")
    if strongest < 0:
        return Finding(
            "note",
            f"Neighbouring residuals alternate: lag-1 {along}; slow noise probably stayed in the output.",
        )
    return Finding(
        "note",
        f"Residual is correlated: lag-1 {along}. Either the noise is correlated (methods that assume independent pixels do not fit it), "
        "or structure was removed.",
    )


def _mean(e: Evidence) -> Finding:
    value = f"mean residual {number(e.mean)} ± {number(e.mean_se, 2)} grey levels"
    if _beyond(e.mean, 0, e.mean_se, 0.02 * e.std):
        text = f"Brightness has shifted: {value} (expected 0, unless the noise shifts it and a clean set told so)."
        return Finding("warning" if abs(e.mean) > 0.1 * e.std else "note", text)
    return Finding("ok", f"Brightness is kept: {value}.")


def _signal(e: Evidence) -> Finding:
    removed = f"Removed: standard deviation {number(e.std)} grey levels, {100 * e.removed_share:.0f} % of the power of the noisy image"
    if not math.isfinite(e.gain):
        return Finding("ok", f"{removed}.")
    if abs(e.gain) <= 3 * e.gain_se:
        return Finding("ok", f"{removed}; its variance does not depend on the brightness.")
    line = f"variance ≈ {number(e.gain)} × output {'−' if e.offset < 0 else '+'} {number(abs(e.offset))}"
    if e.gain > 0:
        return Finding(
            "ok", f"{removed}; its variance grows with the brightness ({line}), as counting noise does."
        )
    return Finding("note", f"{removed}; its variance falls with the brightness ({line}), as with saturation.")
