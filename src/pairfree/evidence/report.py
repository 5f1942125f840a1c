"""One self-contained HTML page that shows what a denoiser did, and how to write it up.

Images, residuals, curves, evidence. Nothing on the page comes from elsewhere: images are data URIs, plots
inline SVG, style and script inline, and a content security policy forbids every other source. Every string of
the caller is escaped.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from pairfree.errors import InputError, OutputError
from pairfree.evidence.examples import Example, example_view
from pairfree.evidence.interpretation import find_outliers, interpret
from pairfree.evidence.metrics import Score, mean_score
from pairfree.evidence.noise_view import NoiseSamples, noise_view
from pairfree.evidence.noref import Evidence, pool
from pairfree.evidence.numbers import bind_units, format_fixed, format_number
from pairfree.evidence.plots import curves, line_plot
from pairfree.evidence.rows import ORDER, PREFIXES, Row, worst_level
from pairfree.files.atomic import write_text
from pairfree.files.intensity import UNKNOWN_UNIT
from pairfree.plain import one_line

MAX_ROWS = 60
"""Of a table; how many more there are is said."""
MAX_OUTLIERS = 8
"""Likewise, of the images that stand out."""
TEMPLATES = ("report.html.j2", "style.html.j2")


@dataclass(frozen=True)
class Curve:
    """One logged quantity over the steps of training."""

    name: str
    """What is logged."""
    x: Sequence[float]
    """Steps."""
    y: Sequence[float]
    """Its value at each."""
    log_y: bool = False
    """Whether its axis is logarithmic."""


@dataclass(frozen=True)
class CurveSet:
    """A few named curves over one pair of axes."""

    title: str
    """What they show."""
    hint: str
    """How to read them."""
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    """Values along both axes, by name; four at most."""
    x_label: str
    y_label: str
    falling: bool = False
    """Whether they fall: their names stand at the top then."""


@dataclass(frozen=True)
class Citation:
    """A work that the methods paragraph cites."""

    key: str
    """Stands there in brackets: ``[key]``."""
    text: str
    """Authors, title, where it appeared."""
    url: str = ""
    """A DOI (10...) or an http(s) address, or empty."""


@dataclass(frozen=True)
class ReportData:
    """All that a report shows; empty parts are left out of the page."""

    title: str
    """Of the page."""
    command: str
    """What made the run."""
    method_key: str
    """Key of the method."""
    method_title: str
    """Its name in words."""
    summary: Sequence[tuple[str, str]] = ()
    """Key facts in reading order: steps, minutes, device, images, pixels, normaliser."""
    unit: str = UNKNOWN_UNIT
    """What the images' intensities count, in the plural: "HU", "counts"."""
    examples: Sequence[Example] = ()
    """Images to look at."""
    curves: Sequence[Curve] = ()
    """What was logged."""
    evidence: Sequence[tuple[str, Evidence]] = ()
    """One entry an image (or group of images); the report pools them itself."""
    rows: Sequence[Row] = ()
    """What was found by examining the denoiser itself; empty where that was not done."""
    examined_curves: Sequence[CurveSet] = ()
    """What was measured by that, over size and fineness."""
    replaced: Sequence[str] = ()
    """Names of rows of the evidence that these tell better."""
    scores: Sequence[tuple[str, Score | None]] = ()
    """By image, where there is a ground truth."""
    scores_statement: str = ""
    """Data range, colour space, clipping, fit: without it a table of scores is refused."""
    noise: Sequence[tuple[str, str]] = ()
    """What is known of the noise, by name."""
    noise_samples: NoiseSamples | None = None
    """Of a method that imitates the noise."""
    warnings: Sequence[str] = ()
    """About the files."""
    limits: Sequence[str] = ()
    """What this method in particular may get wrong, added to the general limits."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Machine and versions."""
    methods_paragraph: str = ""
    """For a paper's section on methods."""
    citations: Sequence[Citation] = ()
    """The works that it cites."""


def render_report(data: ReportData) -> str:
    """The page as a string. InputError for scores without a statement of how they were computed."""
    if any(score is not None for _, score in data.scores) and not data.scores_statement:
        raise InputError(
            "scores need scores_statement: say the data range, the colour space and the clipping they were "
            "computed with"
        )
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_on_one_line,
    )
    environment.filters |= {"num": format_number, "fixed": format_fixed}
    folder = files("pairfree.evidence")
    page, style = (folder.joinpath(name).read_text(encoding="utf-8") for name in TEMPLATES)
    imitation = None
    if data.noise_samples is not None:
        imitation = noise_view(data.noise_samples, data.noise_samples.unit or data.unit)
    rendered = environment.from_string(page).render(
        d=data,
        style=Markup(style),
        examples=[example_view(example, data.unit) for example in data.examples],
        curves=[_curve_view(curve) for curve in data.curves],
        imitation=imitation,
        examined_curves=[_curve_set_view(one) for one in data.examined_curves],
        score_rows=data.scores[:MAX_ROWS],
        hidden_scores=max(len(data.scores) - MAX_ROWS, 0),
        mean_score=_mean_of_known(data.scores),
        links=[safe_link(citation.url) for citation in data.citations],
        **_evidence_view(data),
    )
    lines = rendered.split("\n")
    return bind_units("\n".join(map(one_line, lines)))  # words within plots, too


def _on_one_line(value: Any) -> Any:
    """What the page shows of a value: strings without line breaks and marks that nobody sees."""
    return one_line(value) if type(value) is str else value


def _evidence_view(data: ReportData) -> dict[str, Any]:
    """What the template needs of the evidence: rows, what they say together, which images stand out."""
    pooled = None
    found = list(data.rows)
    if data.evidence:
        pooled = pool([evidence for _, evidence in data.evidence])
        found += interpret(pooled, data.unit, data.replaced)
    found.sort(key=lambda one: ORDER[one.level], reverse=True)
    apart = []
    if len(data.evidence) > 1:
        apart = find_outliers(data.evidence, unit=data.unit, left_out=data.replaced)
    return {
        "pooled": pooled,
        "examined": bool(data.replaced),
        "findings": found,
        "outliers": apart[:MAX_OUTLIERS],
        "hidden_outliers": max(len(apart) - MAX_OUTLIERS, 0),
        "verdict": give_verdict(found, pooled, data.warnings, apart),
        "rows": data.evidence[:MAX_ROWS],
        "hidden_rows": max(len(data.evidence) - MAX_ROWS, 0),
    }


def write_report(path: str | os.PathLike[str], data: ReportData) -> Path:
    """Write the page to ``path``; a reader sees the old file or the whole new one, never a part.

    Raises
    ------
    OutputError
        For a folder that does not exist, and for what cannot be written there.
    """
    target = Path(path)
    page = render_report(data)
    # a run folder that was removed is not made again for its report alone
    if not target.parent.is_dir():
        raise OutputError(
            f"cannot write the report {target}: no such folder; choose another with `out`"
        )
    write_text(target, page, overwrite=True)
    return target


@dataclass(frozen=True)
class Verdict:
    """The line under the title."""

    level: str
    """How serious it is: ok, note or warning."""
    title: str
    """In a few words."""
    text: str
    """In a sentence."""


def give_verdict(
    found: Sequence[Row],
    pooled: Evidence | None,
    warnings: Sequence[str],
    apart: Sequence[tuple[str, Row]] = (),
) -> Verdict:
    """The most serious of what is known, in one line.

    Parameters
    ----------
    found
        What the pooled evidence says, the most serious first.
    pooled
        The evidence of all images; None without any.
    warnings
        About the files.
    apart
        Images that stand out, by name; they count where the pooled evidence warns of nothing.
    """
    if pooled is None:
        return Verdict(
            "note",
            "Not examined",
            "What was removed is not examined here: pairfree evaluate --denoised DIR --noisy DIR does that "
            "for denoised files. Else judge by eye and against repeated acquisitions.",
        )
    level = worst_level(found)
    images = "1 image" if pooled.n_images == 1 else f"{pooled.n_images} images"
    if apart and level != "warning":
        name, first = apart[0]
        stand = "stands" if len(apart) == 1 else "stand"
        return Verdict("warning", f"{len(apart)} of {images} {stand} out", f"{name}: {first.text}")
    if level == "ok" and warnings:
        text = f"{warnings[0]} The residuals of {images} raised no concern."
        return Verdict("note", "Worth a look", text)
    if level == "ok":
        text = found[0].text if found else ""
        return Verdict("ok", f"None of {len(found)} tests raised a concern", f"{images}: {text}")
    serious = [one for one in found if one.level == level]
    text = serious[0].sentence.removeprefix(PREFIXES[level])
    text = f"{text[0].upper()}{text[1:]}"
    if len(serious) > 1:
        text += f" And {len(serious) - 1} more, below."
    title = "Look before you rely on it" if level == "warning" else "Worth a look"
    return Verdict(level, title, text)


def safe_link(url: str) -> str:
    """The address to link to, or nothing: only http and https, and a bare DOI becomes one."""
    text = url.strip()
    if text.startswith("10."):
        return f"https://doi.org/{text}"
    return text if urlsplit(text).scheme in ("http", "https") else ""


def _curve_view(curve: Curve) -> dict[str, Any]:
    return {
        "name": curve.name,
        "log_y": curve.log_y,
        "svg": Markup(line_plot(curve.x, curve.y, curve.name, log_y=curve.log_y)),
    }


def _curve_set_view(drawn: CurveSet) -> dict[str, Any]:
    series = {name: (list(xs), list(ys)) for name, (xs, ys) in drawn.series.items()}
    svg = curves(series, drawn.title, drawn.x_label, drawn.y_label, drawn.falling)
    return {"title": drawn.title, "hint": drawn.hint, "svg": Markup(svg)}


def _mean_of_known(scores: Sequence[tuple[str, Score | None]]) -> Score | None:
    known = [one for _, one in scores if one is not None]
    return mean_score(known) if known else None
