"""One self-contained HTML page that shows what a denoiser did: images, residuals, curves, evidence, and how to write it up.

Nothing on the page comes from elsewhere: images are data URIs, plots inline SVG, style and script inline, and a content security policy
forbids every other source. Every string of the caller is escaped.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_gradient_magnitude, uniform_filter

from pairfree.errors import InputError, OutputError
from pairfree.evidence.metrics import Score, mean_score
from pairfree.evidence.noise_view import NoiseSamples, noise_view
from pairfree.evidence.noref import MIN_SIDE_PX, Evidence, Sites, pool, residual_evidence, site_map
from pairfree.evidence.plots import histogram_gauss, histogram_pair, line_plot, png_uri, to_uint8
from pairfree.evidence.reading import Finding, findings, fixed, number, outliers, worst

FloatArray = NDArray[np.float64]

STAGE_PX = 640
ZOOM_PX = 64
RESIDUAL_WINDOW_STD = 3.0
WINDOW_PERCENTILES = (0.5, 99.5)
WINDOW_MARGIN = 0.1
MAX_ROWS = 60
MAX_OUTLIERS = 8


@dataclass(frozen=True)
class Example:
    """One image to look at, cropped by the caller to at most about 320 x 320 px; arrays are (H, W) or (H, W, 3), all of one shape."""

    name: str
    noisy: ArrayLike
    denoised: ArrayLike
    clean: ArrayLike | None = None
    text: str = ""
    """Unit and scale, and where the crop lies: ``grey levels; 1 px = 0.11 µm; crop at row 96, column 200``."""
    disagreement: ArrayLike | None = None
    """How far two denoisers of one method are apart, not negative; black is agreement."""


@dataclass(frozen=True)
class Curve:
    """One logged quantity over the steps of training."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    log_y: bool = False


@dataclass(frozen=True)
class Citation:
    """A work that the methods paragraph cites by ``[key]``; ``url`` is a DOI (10...) or an http(s) address, or empty."""

    key: str
    text: str
    url: str = ""


@dataclass(frozen=True)
class ReportData:
    """All that a report shows; empty parts are left out of the page."""

    title: str
    command: str
    method_key: str
    method_title: str
    summary: Sequence[tuple[str, str]] = ()
    """Key facts in reading order: steps, minutes, device, images, pixels, normaliser."""
    examples: Sequence[Example] = ()
    curves: Sequence[Curve] = ()
    evidence: Sequence[tuple[str, Evidence]] = ()
    """One entry an image (or group of images); the report pools them itself."""
    scores: Sequence[tuple[str, Score | None]] = ()
    scores_statement: str = ""
    """Data range, colour space, clipping, fit: without it a table of scores is refused."""
    noise: Sequence[tuple[str, str]] = ()
    noise_samples: NoiseSamples | None = None
    """Of a method that imitates the noise."""
    warnings: Sequence[str] = ()
    limits: Sequence[str] = ()
    """What this method in particular may get wrong, added to the general limits."""
    environment: Mapping[str, str] = field(default_factory=dict)
    methods_paragraph: str = ""
    citations: Sequence[Citation] = ()


def render_report(data: ReportData) -> str:
    """The page as a string."""
    if any(s is not None for _, s in data.scores) and not data.scores_statement:
        raise InputError(
            "scores need scores_statement: say the data range, the colour space and the clipping they were computed with"
        )
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"num": number, "fixed": fixed}
    source = {
        name: files("pairfree.evidence").joinpath(name).read_text(encoding="utf-8")
        for name in ("report.html.j2", "style.html.j2")
    }
    pooled = pool([e for _, e in data.evidence]) if data.evidence else None
    found = sorted(findings(pooled), key=lambda f: ("warning", "note", "ok").index(f.level)) if pooled else []
    apart = outliers(data.evidence) if len(data.evidence) > 1 else []
    return environment.from_string(source["report.html.j2"]).render(
        d=data, style=Markup(source["style.html.j2"]), pooled=pooled, findings=found, outliers=apart[:MAX_OUTLIERS],
        hidden_outliers=max(len(apart) - MAX_OUTLIERS, 0), verdict=verdict(found, pooled, data.warnings, apart),
        examples=[example_view(e) for e in data.examples], curves=[_curve_view(c) for c in data.curves],
        imitation=None if data.noise_samples is None else noise_view(data.noise_samples),
        rows=data.evidence[:MAX_ROWS], hidden_rows=max(len(data.evidence) - MAX_ROWS, 0),
        score_rows=data.scores[:MAX_ROWS], hidden_scores=max(len(data.scores) - MAX_ROWS, 0),
        mean_score=_mean_of_known(data.scores), links=[safe_link(c.url) for c in data.citations],
    )  # fmt: skip


def write_report(path: str | os.PathLike[str], data: ReportData) -> Path:
    """Write the page to ``path``; a reader sees the old file or the whole new one, never a part."""
    target, page = Path(path), render_report(data)
    temporary = ""
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=target.parent, prefix=f".{target.name}.", suffix=".tmp", delete=False
        ) as out:
            temporary = out.name
            out.write(page)
            out.flush()
            os.fsync(out.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise OutputError(
            f"cannot write the report {target}: {error.strerror or error}; choose another folder with --out"
        ) from error
    return target


@dataclass(frozen=True)
class Verdict:
    """The line under the title."""

    level: str
    title: str
    text: str


def verdict(
    found: Sequence[Finding],
    pooled: Evidence | None,
    warnings: Sequence[str],
    apart: Sequence[tuple[str, Finding]] = (),
) -> Verdict:
    """One line: the most serious finding over all images, else the first image that stands out, else a warning, else what was tested."""
    if pooled is None:
        return Verdict(
            "note",
            "Not examined",
            "What was removed is not examined here: pairfree evaluate --denoised DIR --noisy DIR does that for denoised files. Else judge "
            "by eye and against repeated acquisitions.",
        )
    level = worst(list(found))
    images = f"{pooled.n_images} image" + ("s" if pooled.n_images != 1 else "")
    if level != "warning" and apart:
        return Verdict(
            "warning",
            f"{len(apart)} of {images} stand{'s' if len(apart) == 1 else ''} out",
            f"{apart[0][0]}: {apart[0][1].text}",
        )
    if level == "ok" and warnings:
        return Verdict("note", "Worth a look", f"{warnings[0]} The residuals of {images} raised no concern.")
    if level == "ok":
        first = next((f.text for f in found), "")
        return Verdict(
            "ok", "No check raised a concern", f"Residuals of {images}: {first[:1].lower()}{first[1:]}"
        )
    serious = [f for f in found if f.level == level]
    more = f" And {len(serious) - 1} more, below." if len(serious) > 1 else ""
    return Verdict(
        level, "Look before you rely on it" if level == "warning" else "Worth a look", serious[0].text + more
    )


def example_view(example: Example) -> dict[str, Any]:
    """What the template needs of one example: data URIs, plots, the statistics of the residual and the captions."""
    noisy, denoised = _image(example, "noisy", example.noisy), _image(example, "denoised", example.denoised)
    clean = None if example.clean is None else _image(example, "clean", example.clean)
    low, high = display_window(denoised)
    residual = noisy - denoised
    std = float(residual.std())
    height, width = denoised.shape[:2]
    zoom = zoom_box(denoised)
    apart = None if example.disagreement is None else _image(example, "disagreement", example.disagreement)
    most = 0.0 if apart is None else float(np.percentile(apart, WINDOW_PERCENTILES[1]))
    versions = [("noisy", noisy), ("denoised", denoised), *([("clean", clean)] if clean is not None else [])]
    outside = 100 * float(np.mean((noisy < low) | (noisy > high)))
    label = f"{example.name}: "
    return {
        "name": example.name, "text": example.text, "width": width, "height": height,
        "stage": round(STAGE_PX * width / max(width, height)),
        "uri": {name: png_uri(to_uint8(a, low, high)) for name, a in versions},
        "residual": png_uri(to_uint8(residual, -RESIDUAL_WINDOW_STD * std, RESIDUAL_WINDOW_STD * std)),
        "zooms": [(name, png_uri(to_uint8(_cut(a, zoom), low, high))) for name, a in versions],
        "zoom": zoom, "sites": _sites(noisy, denoised), "stats": _stats(residual, noisy, denoised),
        "window": f"{number(low)} (black) to {number(high)} (white)", "outside": f"{outside:.0f} %",
        "disagreement": "" if apart is None else png_uri(to_uint8(apart, 0.0, most or 1.0)), "disagreement_window": number(most),
        "residual_window": f"±{number(RESIDUAL_WINDOW_STD * std)}",
        "histogram": Markup(histogram_pair(denoised, noisy, ("denoised", "noisy"), label + "both histograms", "grey level")),
        "residual_histogram": Markup(
            histogram_gauss(residual, ("residual", "Gaussian, same std"), label + "histogram of the residual", "residual, grey levels")
        ),
    }  # fmt: skip


def display_window(denoised: FloatArray) -> tuple[float, float]:
    """Black and white for all versions of an example: percentiles 0.5 and 99.5 of the denoised image, widened by 10 % of their distance.

    The denoised image, not the noisy one: under strong noise a window that holds the noise shows a flat grey output, and hides inventions.
    """
    low, high = (float(v) for v in np.percentile(denoised, WINDOW_PERCENTILES))
    margin = WINDOW_MARGIN * (high - low)
    return low - margin, high + margin


def zoom_box(image: FloatArray) -> tuple[int, int, int, int]:
    """(y, x, height, width) of the part with most structure, at most 64 px and at most half of each side (but 16 px)."""
    grey = image.mean(axis=-1) if image.ndim == 3 else image
    height, width = (min(side, max(16, min(ZOOM_PX, side // 2))) for side in grey.shape)
    height = width = min(height, width)
    density = uniform_filter(
        np.minimum(gaussian_gradient_magnitude(grey, 1.5), np.inf), size=height, mode="constant"
    )
    inner = density[
        height // 2 : grey.shape[0] - height + height // 2 + 1,
        width // 2 : grey.shape[1] - width + width // 2 + 1,
    ]
    row, col = np.unravel_index(int(np.argmax(inner)), inner.shape)
    return int(row), int(col), height, width


def safe_link(url: str) -> str:
    """The address to link to, or nothing: only http and https, and a bare DOI becomes one."""
    text = url.strip()
    if text.startswith("10."):
        return f"https://doi.org/{text}"
    return text if urlsplit(text).scheme in ("http", "https") else ""


def _image(example: Example, role: str, array: ArrayLike) -> FloatArray:
    a = np.asarray(array, dtype=np.float64)
    if a.ndim != 2 and not (a.ndim == 3 and a.shape[-1] == 3):
        raise InputError(
            f"example {example.name!r}: the {role} image must be (H, W) or (H, W, 3), got shape {a.shape}"
        )
    if a.shape != np.shape(example.noisy) or a.size == 0:
        raise InputError(
            f"example {example.name!r}: the {role} image has shape {a.shape}, the noisy one {np.shape(example.noisy)}"
        )
    if not np.all(np.isfinite(a)):
        raise InputError(
            f"example {example.name!r}: the {role} image has pixels that are NaN or infinite: choose another crop"
        )
    return a


def _channels(image: FloatArray) -> list[FloatArray]:
    return [image] if image.ndim == 2 else [image[..., c] for c in range(3)]


def _stats(residual: FloatArray, noisy: FloatArray, denoised: FloatArray) -> list[tuple[str, str]]:
    stats = [("std", number(float(residual.std()))), ("mean", number(float(residual.mean()), 2))]
    if min(residual.shape[:2]) >= MIN_SIDE_PX:
        e = pool([residual_evidence(y, f) for y, f in zip(_channels(noisy), _channels(denoised))])
        texts = [fixed(v, 2) for v in (e.autocorr_x[0], e.autocorr_y[0], e.corr_output)]
        stats += [("lag-1 x", texts[0]), ("lag-1 y", texts[1]), ("with output", texts[2])]
    return stats


def _sites(noisy: FloatArray, denoised: FloatArray) -> Sites:
    if min(noisy.shape[:2]) < MIN_SIDE_PX:
        return Sites([], [])
    maps = [site_map(y, f) for y, f in zip(_channels(noisy), _channels(denoised))]
    return Sites(
        sorted({b for m in maps for b in m.unsupported}), sorted({b for m in maps for b in m.removed})
    )


def _cut(image: FloatArray, box: tuple[int, int, int, int]) -> FloatArray:
    y, x, height, width = box
    return image[y : y + height, x : x + width]


def _curve_view(curve: Curve) -> dict[str, Any]:
    return {
        "name": curve.name,
        "log_y": curve.log_y,
        "svg": Markup(line_plot(curve.x, curve.y, curve.name, log_y=curve.log_y)),
    }


def _mean_of_known(scores: Sequence[tuple[str, Score | None]]) -> Score | None:
    known = [one for _, one in scores if one is not None]
    return mean_score(known) if known else None
