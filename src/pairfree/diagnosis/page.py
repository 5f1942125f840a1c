"""A diagnosis as one self-contained page: words first, then pictures, then all numbers."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from pairfree.diagnosis.diagnose import Diagnosis
from pairfree.diagnosis.file_facts import FileFacts
from pairfree.errors import OutputError
from pairfree.evidence.numbers import bind_units, format_fixed, format_number
from pairfree.evidence.plots import curves, png_uri, to_uint8
from pairfree.files.atomic import write_text
from pairfree.plain import one_line
from pairfree.sampling import spaced_indices

SHOWN_FILES = 2
"""Of variance against brightness: those of least and of most noise."""
FAR_PX = 10
"""Of the autocorrelation."""
ENLARGED = 6
"""Screen pixels for each frequency of the spectrum."""
DECADES = 2.0
"""From black to white in the picture of the spectrum."""
MOST_ROWS = 60
"""Of the table; how many more there are is said."""


def check_page(path: Path) -> None:
    """Refuse, before any work, a place in no folder, and to replace what is no page, such as an image.

    Raises
    ------
    OutputError
        Naming it.
    """
    if not path.parent.is_dir():
        raise OutputError(
            f"cannot write {path}: no such folder; choose another place with `report`"
        )
    if path.suffix.lower() != ".html" or (path.exists() and not path.is_file()):
        raise OutputError(f"{path}: is no .html file; name one for `report`, such as noise.html")


def write_page(path: Path, diagnosis: Diagnosis, title: str) -> None:
    """Write the page; a reader sees the old file or the whole new one.

    Raises
    ------
    OutputError
        As ``check_page``, and for what cannot be written there.
    """
    check_page(path)
    write_text(path, render_page(diagnosis, title), overwrite=True)


def render_page(diagnosis: Diagnosis, title: str) -> str:
    """The page as a string, whose pictures and style are in it."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"num": format_number, "fixed": format_fixed}
    style = files("pairfree.evidence").joinpath("style.html.j2").read_text(encoding="utf-8")
    page = files("pairfree.diagnosis").joinpath("page.html.j2").read_text(encoding="utf-8")
    listed = diagnosis.facts.files
    rendered = environment.from_string(page).render(
        title=one_line(title),
        style=Markup(style),
        d=diagnosis,
        fits=diagnosis.choice.method is not None,
        growth=Markup(plot_growth(diagnosis)),
        correlation=Markup(plot_correlation(diagnosis)),
        spectrum=picture_spectrum(diagnosis),
        rows=[_row(one) for one in listed[:MOST_ROWS]],
        hidden=max(len(listed) - MOST_ROWS, 0),
    )
    lines = rendered.split("\n")
    return bind_units("\n".join(map(one_line, lines)))


def plot_growth(diagnosis: Diagnosis) -> str:
    """Variance of the noise against brightness, of the files of least and of most noise, as SVG."""
    facts = diagnosis.facts
    by_level = sorted(facts.files, key=lambda one: one.level.value)
    series = {}
    for index in spaced_indices(len(by_level), SHOWN_FILES):
        one = by_level[index]
        series[_short(one.name)] = (one.brightness.tolist(), one.variance.tolist())
    unit = facts.unit
    label = "variance of the noise against the brightness"
    return curves(
        series, label, f"brightness, {unit}", f"variance, ({unit})²", from_zero=False, left=True
    )


def plot_correlation(diagnosis: Diagnosis) -> str:
    """Correlation of pixels against their distance, along rows and columns, as SVG."""
    law = diagnosis.facts.law
    far = list(range(FAR_PX + 1))
    places = [float(one) for one in far]
    series = {
        "along rows": (places, [law.correlation(0, one) for one in far]),
        "along columns": (places, [law.correlation(one, 0) for one in far]),
    }
    label = "correlation of the noise of pixels against their distance"
    return curves(series, label, "distance, px", "correlation of the noise", falling=True)


def picture_spectrum(diagnosis: Diagnosis) -> str:
    """Power at all frequencies, slow ones in the middle, as a data URI; empty where images are too small."""
    power = diagnosis.facts.typical.spectrum
    if power is None:
        return ""
    shown = np.fft.fftshift(np.log10(np.maximum(power, 1e-6)))
    grey = to_uint8(shown, -DECADES / 2.0, DECADES / 2.0)
    return png_uri(_enlarge(grey))


def _enlarge(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(np.repeat(grey, ENLARGED, axis=0), ENLARGED, axis=1)


def _short(name: str) -> str:
    """The end of a long name."""
    return name if len(name) <= 28 else f"…{name[-27:]}"


def _row(one: FileFacts) -> dict[str, Any]:
    """What the table says of a file."""
    present = [name.replace("_", " ") for name, there in one.signs.items() if there]
    return {
        "name": one.name,
        "level": str(one.level),
        "gain": one.gain_text,
        "across": format_fixed(one.correlation_x, 2),
        "down": format_fixed(one.correlation_y, 2),
        "cut": f"{format_number(100.0 * (one.at_least + one.at_greatest), 2)} %",
        "signs": ", ".join(present) or "none",
    }
