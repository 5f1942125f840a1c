"""Numbers for reading: significant digits, a true minus sign, no end of line before a unit."""

from __future__ import annotations

import math
import re

UNITS = (
    *(
        "%",
        "‰",
        "px",
        "dB",
        "HU",
        "counts",
        "grey levels",
        "intensity units",
        "mg/ml",
        "Bq/ml",
        "g/ml",
    ),
    *("m", "cm", "mm", "µm", "nm", "pm", "Å", "s", "ms", "min", "minutes", "hours", "Hz"),
    *("kB", "MB", "GB", "KiB", "MiB", "GiB", "bit", "bits", "megapixels"),
)
"""What follows a number and belongs to it."""
NO_BREAK = "\u00a0"
"""A space that keeps together what it stands between."""
_NOT_TEXT = re.compile(
    r"(<script\b.*?</script>|<style\b.*?</style>|<pre\b.*?</pre>|<code\b.*?</code>|<[^>]*>)",
    re.DOTALL,
)
"""Of a page: tags, and what is copied or run as it stands."""
_IN_QUANTITY = re.compile(
    rf"(?<=[\d∞]) (?=(?:{'|'.join(map(re.escape, UNITS))})(?!\w|[.\-_]\w))"
    r"|(?<=\d) (?=[×±] [\d−])|(?<=\d [×±]) (?=[\d−])"
)
"""Spaces before units and around signs; not in names of files."""


def bind_units(page: str) -> str:
    """A page of HTML whose texts have no end of line between a number and its unit, nor within ``8 × 8 px``.

    Parameters
    ----------
    page
        Its commands, scripts, styles and tags stay as they are.
    """
    parts = _NOT_TEXT.split(page)
    for index in range(0, len(parts), 2):
        parts[index] = _IN_QUANTITY.sub(NO_BREAK, parts[index])
    return "".join(parts)


def format_number(value: float, digits: int = 3) -> str:
    """A number for reading: significant digits, a true minus sign, no exponent from 0.001 to 100,000."""
    if math.isnan(value):
        return "not defined"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if abs(value) < 1e-12:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if -4 < size < 5:
        text = f"{value:.{max(digits - 1 - size, 0)}f}"
    else:
        text = f"{value:.{digits - 1}e}"
    return text.replace("-", "−")


def format_fixed(value: float, decimals: int) -> str:
    """A number with fixed decimals, a true minus sign and no negative zero."""
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")
