"""Numbers for reading: significant digits, a true minus sign."""

from __future__ import annotations

import math


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
