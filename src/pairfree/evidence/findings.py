"""What single numbers of the residual evidence mean, in plain sentences.

Each says the number, what it should be, what a departure may mean. It is a ``warning`` where the number is
both significant (3 standard errors) and large enough to matter in an image, a ``note`` where it deserves a
look, ``ok`` otherwise. The limits are conventions: an oracle stays ``ok``, a Gaussian blur is a ``warning``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pairfree.evidence.noref import Evidence
from pairfree.evidence.numbers import format_fixed, format_number
from pairfree.evidence.residual import white_band
from pairfree.evidence.rows import Level

NOTED_UNEVENNESS, WARNED_UNEVENNESS = 1.5, 3.0
"""Times what chance gives."""
NOTED_GRID, WARNED_GRID = 2.0, 4.0
"""Times what chance gives."""
NOTED_LEFT = 0.85
"""With white noise of sigma 15 and 25 an oracle keeps less in each of 200 images of BSD400; networks that
keep correlated noise, more."""


@dataclass(frozen=True)
class Finding:
    """What is said of a number."""

    level: Level
    """How serious it is."""
    text: str
    """The sentence."""


def _stands_out(value: float, expected: float, se: float, size: float) -> bool:
    """Whether a number is off its expected value, by 3 standard errors and by what matters in an image."""
    return abs(value - expected) > max(3 * se, size)


def _note_or_warning(warned: bool) -> Level:
    return "warning" if warned else "note"


def judge_invention(e: Evidence, unit: str = "") -> Finding:
    """Sites whose detail the noisy data do not support."""
    if e.tested_sites == 0:
        return Finding(
            "note",
            "Invention could not be tested: nowhere is the output's detail strong enough against the noise "
            "to be confirmed.",
        )
    share = f"{e.tested_sites:,} of {e.sites:,} sites of 8 × 8 px, those whose detail stands out of the noise"
    if e.unsupported_sites == 0:
        return Finding(
            "ok", f"No invented detail found in {share}; fainter detail cannot be tested."
        )
    count = "site shows" if e.unsupported_sites == 1 else "sites show"
    return Finding(
        _note_or_warning(e.unsupported_sites > 1),
        f"{e.unsupported_sites:,} {count} detail that the noisy data do not support (tested: {share}): look "
        "there for invention.",
    )


def judge_removal(e: Evidence, unit: str = "") -> Finding:
    """Sites where structure was removed."""
    if e.removed_sites == 0:
        return Finding(
            "ok",
            f"No removed structure found in {e.sites:,} sites; structure fainter than the noise over 5 px "
            "cannot be seen.",
        )
    share = 100 * e.removed_sites / max(e.sites, 1)
    level: Level = "ok"
    if share > 0.1:
        level = _note_or_warning(share > 2)
    at = f"{e.removed_sites:,} of {e.sites:,} sites ({format_number(share, 2)} %)"
    return Finding(
        level,
        f"The residual holds structure at {at}: detail, edges or hot pixels were removed there.",
    )


def judge_detail(e: Evidence, unit: str = "") -> Finding | None:
    """Support of the fine contrast; None without detail."""
    support, se = e.detail_support, e.detail_support_se
    if not math.isfinite(support):
        return None
    value = f"{format_number(support)} (expected 1; standard error {format_number(se, 1)})"
    if support < 1 and _stands_out(support, 1, se, 0.1):
        return Finding(
            _note_or_warning(support < 0.8),
            f"The data support only part of the output's fine contrast, {value}: detail is sharpened or "
            "invented.",
        )
    if support > 1 and _stands_out(support, 1, se, 0.25):
        return Finding(
            _note_or_warning(support > 1.5),
            f"The noisy image has more fine contrast along the output's detail, {value}: detail is softened, "
            "or noise remains.",
        )
    return Finding("ok", f"Fine contrast of the output agrees with the data: {value}.")


def judge_edges(e: Evidence, unit: str = "") -> Finding | None:
    """Power of the residual at edges; None without edges."""
    power, se = e.edge_power, e.edge_power_se
    if not math.isfinite(power):
        return None
    expected = f"(expected 1; standard error {format_number(se, 1)})"
    value = f"{format_number(power)} times what the noise line predicts there {expected}"
    if power > 1 and _stands_out(power, 1, se, 0.15):
        return Finding(
            _note_or_warning(power > 1.5),
            f"Residual power at edges is {value}: edges were altered along with the noise.",
        )
    return Finding("ok", f"Residual power at edges is {value}.")


def judge_texture(e: Evidence, unit: str = "") -> Finding | None:
    """Where power was removed unevenly; None where it was not."""
    power, chance = e.uneven_power, e.uneven_power_chance
    if not power > NOTED_UNEVENNESS * chance:
        return None
    return Finding(
        _note_or_warning(power > WARNED_UNEVENNESS * chance),
        f"Removed power is uneven: where it is strongest it is {format_number(power, 2)} times the usual, "
        f"brightness allowed for (expected {format_number(chance, 2)}). Texture was taken for noise there, "
        "or the noise differs from place to place.",
    )


def judge_contrast(e: Evidence, unit: str = "") -> Finding:
    """Correlation of residual and output."""
    correlation = e.corr_output
    value = f"(correlation {format_fixed(correlation, 2)}, expected 0)"
    if not _stands_out(correlation, 0, e.corr_output_se, 0.05):
        return Finding("ok", f"Residual does not follow the image {value}.")
    level = _note_or_warning(abs(correlation) > 0.2)
    if correlation > 0:
        return Finding(
            level,
            f"Residual follows the image {value}: structure may have been removed, or noise remains.",
        )
    return Finding(
        level,
        f"Residual opposes the image {value}: the output exaggerates contrast, or shows what the input does "
        "not.",
    )


def judge_noise_left(e: Evidence, unit: str = "") -> Finding | None:
    """Noise in the flattest blocks; None of small images."""
    if not math.isfinite(e.noise_left):
        return None
    kept = f"{100 * e.noise_left:.0f} %"
    value = f"in the flattest tenth of the image the output keeps {kept} of the noisy image's fine contrast"
    if e.noise_left > NOTED_LEFT:
        return Finding(
            "note",
            f"Noise may be left: {value}. Either the noise is weak beside detail that is everywhere, or it "
            "is correlated and stays (methods that assume independent pixels keep such noise).",
        )
    return Finding("ok", f"Noise was removed: {value}, and no more of the noise.")


def judge_colour(e: Evidence, unit: str = "") -> Finding:
    """Autocorrelation of the residual."""
    band = white_band(e.n_pixels)
    x, y = e.autocorr_x[0], e.autocorr_y[0]
    along = (
        f"autocorrelation {format_fixed(x, 3)} along x, {format_fixed(y, 3)} along y (within ±{band:.3f} for "
        "white noise of this size)"
    )
    strongest = max((x, y), key=abs)
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
        f"Residual is correlated: lag-1 {along}. Either the noise is correlated (methods that assume "
        "independent pixels do not fit it), or structure was removed.",
    )


def judge_brightness(e: Evidence, unit: str) -> Finding:
    """Mean of the residual."""
    value = f"mean residual {format_number(e.mean)} ± {format_number(e.mean_se, 2)} {unit}"
    if not _stands_out(e.mean, 0, e.mean_se, 0.02 * e.std):
        return Finding("ok", f"Brightness is kept: {value}.")
    return Finding(
        _note_or_warning(abs(e.mean) > 0.1 * e.std),
        f"Brightness has shifted: {value} (expected 0, unless the noise shifts it and a clean set told so).",
    )


def judge_grid(evidence: Evidence, unit: str) -> Finding | None:
    """Whether the network's cells show."""
    if not math.isfinite(evidence.grid):
        return None
    number = format_fixed(evidence.grid, 1)
    if evidence.grid <= NOTED_GRID:
        text = f"No grid of the network's cells: {number} times what chance gives (expected: 1 or less)."
        return Finding("ok", text)
    contrast = f"{format_number(evidence.grid_contrast)} {unit}"
    text = (
        f"A grid with the period of the network's cells lies over the output, {number} times what chance "
        f"gives (expected: 1 or less); its contrast is {contrast}, the noise that was removed "
        f"{format_number(evidence.std)}."
    )
    if evidence.grid_noisy > NOTED_GRID:
        noisy = format_fixed(evidence.grid_noisy, 1)
        text += f" The noisy images have one as well ({noisy}): it may be the camera's."
    return Finding("warning" if evidence.grid > WARNED_GRID else "note", text)


def describe_removed(e: Evidence, unit: str) -> Finding:
    """How much was removed, and how it follows the brightness."""
    share = f"{100 * e.removed_share:.0f} % of the power of the noisy image"
    removed = f"Removed: standard deviation {format_number(e.std)} {unit}, {share}"
    if not math.isfinite(e.gain):
        return Finding("ok", f"{removed}.")
    if abs(e.gain) <= 3 * e.gain_se:
        return Finding("ok", f"{removed}; its variance does not depend on the brightness.")
    sign = "−" if e.offset < 0 else "+"
    line = f"variance ≈ {format_number(e.gain)} × output {sign} {format_number(abs(e.offset))}"
    if e.gain > 0:
        return Finding(
            "ok",
            f"{removed}; its variance grows with the brightness ({line}), as counting noise does.",
        )
    return Finding(
        "note", f"{removed}; its variance falls with the brightness ({line}), as with saturation."
    )
