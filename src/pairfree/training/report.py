"""What a run's report says: examples, curves, evidence and words.

They are gathered from the run folder and the training images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pairfree.data.even import EVEN_LEVEL
from pairfree.data.sets import ImageSet
from pairfree.engine.model import Model
from pairfree.engine.run import RunFolder
from pairfree.evidence.examples import Example
from pairfree.evidence.folders import examine_channels
from pairfree.evidence.noise_view import NoiseSamples
from pairfree.evidence.noref import Evidence, pool
from pairfree.evidence.numbers import format_number
from pairfree.evidence.report import Curve, ReportData, write_report
from pairfree.facts import is_finite
from pairfree.files.image import samples_last
from pairfree.files.spans import centre_of
from pairfree.measure.level import MIN_SIDE_PX, estimate_sigma
from pairfree.sampling import spaced_indices
from pairfree.training.examining import (
    NOT_EXAMINED,
    examine_model,
    find_pixel_size,
    list_alarms,
    show_errors,
)
from pairfree.training.paragraph import cite, image_budget, state_limit, write_paragraph

EXAMPLES = 4
EVIDENCE_PLANES, EVIDENCE_PX = 16, 2048
"""Of so many planes, so much of each: evidence takes about ten times the memory of a plane of float64."""
CROP_PX = 320
MOST_CURVES = 100
"""Of all stages together; no method logs so many."""
SHIPPED = "the network that is shipped with pairfree, trained on scenes that a program draws"


def write_run_report(
    run: RunFolder,
    model: Model,
    noisy: ImageSet,
    warnings: Sequence[str] = (),
    clean_planes: int = 0,
) -> list[str]:
    """Denoise a few training images and write ``report.html`` into the run folder.

    warnings   about the files; clean_planes   of the unpaired clean set
    Returns    signs that the network makes up what was not there, one line each
    """
    shown, side = spaced_indices(len(noisy.planes), EVIDENCE_PLANES), EVIDENCE_PX
    if model.method.one_image:
        shown = []  # learning one to show it would take minutes
    elif not model.method.trains:  # nothing was, so nothing should take minutes
        shown, side = shown[:EXAMPLES], CROP_PX
    planes = [middle_of(noisy.names[index], noisy.planes[index], side) for index in shown]
    data = run_report(run, model, noisy, planes, warnings, clean_planes)
    write_report(run.report_path, data)
    return list_alarms(data)


def run_report(
    run: RunFolder,
    model: Model,
    noisy: ImageSet,
    planes: Sequence[tuple[str, np.ndarray]],
    warnings: Sequence[str] = (),
    clean_planes: int = 0,
) -> ReportData:
    """The report's data.

    ``planes`` are (name, noisy), arrays (C, H, W), of which one at a time is denoised and held.
    """
    method = model.method
    environment = {key: str(value) for key, value in run.read_environment().items()} | {
        "seed": str(model.record.seed)
    }
    config = run.read_config()
    denoised = ((name, plane, model.predictor.predict(plane)) for name, plane in planes)
    looked_at = look_at(model, denoised, len(planes))
    evidence = looked_at.evidence
    pixel = find_pixel_size(config.get("noisy") or ())
    examined = examine_model(model, planes, noisy.unit, pixel) if planes else NOT_EXAMINED
    return ReportData(
        title=f"{method.title} on {len(noisy.planes)} noisy image{'s' if len(noisy.planes) > 1 else ''}",
        command=str(
            config.get("command")
            or "called from Python: pairfree.train; its settings stand in config.toml of the run folder"
        ),
        method_key=method.key,
        method_title=method.title,
        summary=_summary(model, noisy, environment, config, clean_planes),
        unit=noisy.unit,
        examples=show_errors(looked_at.examples, planes, examined, CROP_PX),
        curves=_curves(run.read_events()),
        evidence=evidence,
        rows=examined.rows,
        examined_curves=examined.curves,
        replaced=examined.replaces,
        noise=[*_diagnosed(config), *describe_noise(looked_at.levels, evidence, noisy.unit)],
        noise_samples=_noise_samples(model),
        warnings=list(warnings)[:20],
        limits=[state_limit(method)],
        environment=environment,
        methods_paragraph=write_paragraph(model, noisy, clean_planes),
        citations=cite(method),
    )


@dataclass
class LookedAt:
    """What a report shows of some planes."""

    examples: list[Example] = field(default_factory=list)
    """Some of them to look at."""
    evidence: list[tuple[str, Evidence]] = field(default_factory=list)
    """Of each channel of all of them."""
    levels: list[float] = field(default_factory=list)
    """The noise level of each channel before anything was removed."""
    count: int = 0
    """How many planes they are from."""


def look_at(
    model: Model,
    planes: Iterable[tuple[str, np.ndarray, np.ndarray]],
    count: int,
    of_files: bool = False,
) -> LookedAt:
    """Gather examples, evidence and noise levels of planes, one at a time.

    Parameters
    ----------
    model
        What denoised them.
    planes
        (name, noisy, denoised), arrays (C, H, W).
    count
        How many they are.
    of_files
        Whether they are planes of files, without their neighbours where the model sees slices around each.
    """
    found = LookedAt()
    own = slice(None) if of_files else model.own_channels
    for turn, (name, noisy, denoised) in enumerate(planes):
        noisy_own, denoised_own = noisy[own], denoised[own]
        found.count += 1
        found.evidence += examine_channels(name, noisy_own, denoised_own)
        found.levels += [
            estimate_sigma(one.astype(np.float64))
            for one in noisy_own
            if min(one.shape) >= MIN_SIDE_PX
        ]
        if turn % max(1, count // EXAMPLES) == 0 and len(found.examples) < EXAMPLES:
            apart = None
            if model.method.disagrees and not of_files:
                apart = model.predictor.disagreement(noisy)[own]
            found.examples.append(_make_example(name, noisy_own, denoised_own, apart))
    return found


def _make_example(
    name: str, noisy: np.ndarray, denoised: np.ndarray, apart: np.ndarray | None
) -> Example:
    """The middle of planes (C, H, W), of which the first channel is shown, or all three."""
    height, width = noisy.shape[1:]
    rows, columns = centre_of(height, width, CROP_PX)

    def cut(planes: np.ndarray) -> np.ndarray:
        part = planes[:, rows, columns]
        shown = part if len(part) == 3 else part[:1]
        return samples_last(shown.copy())

    corner = f"row {rows.start}, column {columns.start}"
    text = f"{noisy.dtype} intensities; crop at {corner} of {height} x {width} px"
    disagreement = None if apart is None else cut(apart)
    return Example(name, cut(noisy), cut(denoised), text=text, disagreement=disagreement)


def middle_of(name: str, plane: np.ndarray, side: int) -> tuple[str, np.ndarray]:
    """At most ``side`` pixels a side of (C, H, W), with a name that says so."""
    height, width = plane.shape[1:]
    if max(height, width) <= side:
        return name, plane
    rows, columns = centre_of(height, width, side)
    return f"{name}, its middle", plane[:, rows, columns]


def _curves(events: Sequence[dict[str, Any]]) -> list[Curve]:
    """One curve a stage and logged quantity; the losses of different stages are different quantities."""
    series: dict[str, tuple[list[float], list[float]]] = {}
    stages = list(dict.fromkeys(event["stage"] for event in events if "stage" in event))
    for event in events:
        for key, value in event.items():
            if key in ("step", "stage", "event", "detail") or not is_finite(value):
                continue
            name = key if len(stages) == 1 else f"{key}, {event.get('stage', 'no stage')}"
            if name not in series and len(series) == MOST_CURVES:
                continue
            xs, ys = series.setdefault(name, ([], []))
            xs.append(event["step"])
            ys.append(float(value))
    return [
        Curve(name, *_smoothed(xs, ys), log_y=min(ys) > 0)
        for name, (xs, ys) in series.items()
        if len(xs) > 1
    ]


def _smoothed(
    xs: list[float], ys: list[float], points: int = 120
) -> tuple[list[float], list[float]]:
    """Means over runs of equal length: a step's loss alone is mostly the luck of its patches."""
    width = max(1, len(xs) // points)
    groups = range(0, len(xs) - width + 1, width)
    return [float(np.mean(xs[g : g + width])) for g in groups], [
        float(np.mean(ys[g : g + width])) for g in groups
    ]


def _diagnosed(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the noise is like, as it was written down where the method was chosen by it."""
    words = config.get("noise")
    if not isinstance(words, list) or not words:
        return []
    return [("What the noise is like", " ".join(map(str, words)))]


def describe_noise(
    levels: Sequence[float], evidence: Sequence[tuple[str, Evidence]], unit: str
) -> list[tuple[str, str]]:
    """What is known of the noise.

    Its level before anything was removed, what was removed, and how that depends on the signal.
    """
    found = []
    if levels:
        median = format_number(float(np.median(levels)))
        spread = f"{format_number(min(levels))} to {format_number(max(levels))}"
        found.append(
            (
                "Level of the noisy images, if the noise were white",
                f"median {median}, {spread} {unit}",
            )
        )
    if evidence:
        pooled = pool([one for _, one in evidence])
        found.append(
            ("Standard deviation of what was removed", f"{format_number(pooled.std)} {unit}")
        )
        if np.isfinite(pooled.gain):
            slope = f"{format_number(pooled.gain)} ± {format_number(pooled.gain_se)}"
            line = f"{slope} times the intensity, plus {format_number(pooled.offset)}"
            found.append(("Variance of what was removed, against intensity", line))
        x, y = format_number(pooled.autocorr_x[0]), format_number(pooled.autocorr_y[0])
        lags = f"{x} along rows, {y} along columns"
        found.append(("Correlation of neighbouring pixels in what was removed", lags))
    return found


def _noise_samples(model: Model) -> NoiseSamples | None:
    """In intensity units, or deviations of even noise; a model that was trained elsewhere knows none."""
    found = model.method.noise_samples()
    if found is None:
        return None
    normalizer = model.predictor.normalizer
    scale, unit = normalizer.scale, ""
    if normalizer.even:
        scale, unit = 1.0 / EVEN_LEVEL, "deviations of the noise"
    first, second = (scale * one.double().cpu().numpy() for one in found)
    return NoiseSamples(first, second, unit)


def _summary(
    model: Model,
    noisy: ImageSet,
    environment: dict[str, str],
    config: dict[str, Any],
    clean_planes: int,
) -> list[tuple[str, str]]:
    record, clock = model.record, model.record.clock
    budget = f"{config['minutes']:g} minutes" if config.get("minutes") else "counted in steps"
    if model.method.one_image:
        budget = f"{image_budget(record.config)} for each image, spent when it is denoised"
    elif not model.method.trains:
        budget = "none, nothing is trained"
    if clock is not None:
        budget += f", {clock.used_s / 60.0:.1f} used"
    stages = ", ".join(f"{name} {steps:,}" for name, steps in record.plan.stages)
    if record.step < record.plan.total:
        stages = f"{record.step:,} of {record.plan.total:,} ({stages})"
    normalizer = model.predictor.normalizer
    threads = (
        f"{environment.get('threads', '')} thread{'' if environment.get('threads') == '1' else 's'}"
    )
    return [
        ("Method", f"{model.method.title} ({model.method.key}, preset {record.preset})"),
        *([("Chosen because", str(config["auto"]))] if config.get("auto") else []),
        ("Budget", budget),
        *([("Steps", stages)] if model.method.trains else []),
        *([("Began from", SHIPPED)] if record.start == "shipped" else []),
        (
            "Images",
            f"{_planes(len(noisy.planes))}, {noisy.pixels / 1e6:,.2f} megapixels, {noisy.planes[0].dtype}",
        ),
        *([("Clean images of other scenes", _planes(clean_planes))] if clean_planes else []),
        *([("Slices around each", str(model.around))] if model.around else []),
        (
            "Intensity map",
            f"network units: {normalizer.describe()}",
        ),
        ("Device", f"{environment.get('device', '')}, {threads}, {record.precision} convolutions"),
        ("Seed", str(record.seed)),
    ]


def _planes(count: int) -> str:
    return f"{count:,} plane" + "s" * (count != 1)
