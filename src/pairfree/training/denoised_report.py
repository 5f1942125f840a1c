"""The report on files that were denoised: of a run, or of the network that is shipped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from pairfree.data.missing import complete_plane
from pairfree.data.sets import to_channels_first
from pairfree.engine.model import Model
from pairfree.engine.run import environment
from pairfree.errors import OutputError
from pairfree.evidence.folders import missing_alike
from pairfree.evidence.report import ReportData, write_report
from pairfree.examination.examine import MOST_IMAGES
from pairfree.files.image import Image
from pairfree.files.intensity import common_unit, intensity_unit
from pairfree.files.limits import Limits
from pairfree.files.messages import address_of, shown, shown_scene
from pairfree.files.opening import open_image
from pairfree.files.spans import centre_of
from pairfree.methods.shipped import Shipped
from pairfree.regular import read_regular
from pairfree.sampling import spaced_indices
from pairfree.training.examining import (
    NOT_EXAMINED,
    examine_model,
    list_alarms,
    pixel_size,
    show_errors,
)
from pairfree.training.paragraph import (
    cite,
    describe_mapping,
    image_budget,
    open_paragraph,
    state_limit,
)
from pairfree.training.report import CROP_PX, EVIDENCE_PLANES, SHIPPED, describe_noise, look_at

NAME = "report.html"
"""In the folder of the results."""
MARK = 'name="generator" content="pairfree"'
"""Stands in each of our reports: another page of that name is not replaced."""
SIDE_PX = 1024
"""Side of the part of a plane that is examined, from its middle, pixels."""


class DenoisedFile(Protocol):
    """What a report is told of one file."""

    @property
    def source(self) -> Path:
        """As it was."""

    @property
    def written(self) -> Path:
        """What became of it."""

    @property
    def pixels(self) -> int:
        """Samples of a pixel counted once."""

    @property
    def scene(self) -> int | None:
        """Number of the image in its file, where that was asked for."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line each."""


def check_report(folder: Path) -> None:
    """OutputError on a server, and for another page of the report's name: of a run, or none of ours."""
    path = folder / NAME
    if address_of(folder) is not None:
        raise OutputError(
            f"cannot write {shown(path)}: reports are written to disks; "
            "leave out `report`, or name a folder on a disk"
        )
    if (folder / "checkpoints").is_dir():
        raise OutputError(
            f"{folder}: is a run folder with a report of its own; choose another `out`"
        )
    if not path.exists():
        return
    try:
        ours = MARK in read_regular(path).decode("utf-8", "replace")
    except OSError as error:
        raise OutputError(f"{path}: cannot be replaced: {error.strerror}") from None
    if not ours:
        raise OutputError(f"{path}: is no report of pairfree; move it, or choose another `out`")


def write_denoised_report(
    model: Model,
    files: Sequence[DenoisedFile],
    folder: Path,
    limits: Limits,
    command: str = "",
) -> list[str]:
    """Write ``report.html`` beside the results of ``denoise``.

    Parameters
    ----------
    model
        What denoised them.
    files
        All of them; up to ``EVIDENCE_PLANES`` are examined, each at its middle.
    folder
        Of the results.
    limits
        Of reading.
    command
        What was called, for the page.

    Returns
    -------
    list of str
        Signs that the network makes up what was not there, one line each.

    Raises
    ------
    OutputError
        For what cannot be written there.
    """
    method, record = model.method, model.record
    chosen = [files[index] for index in spaced_indices(len(files), EVIDENCE_PLANES)]
    units = [intensity_unit(open_image(one.source, limits, one.scene)) for one in chosen]
    looked_at = look_at(model, _read_pairs(chosen, limits), len(chosen), of_files=True)
    some = [chosen[index] for index in spaced_indices(len(chosen), MOST_IMAGES)]
    noisy = [(name, before) for name, before, _ in _read_pairs(some, limits)]
    pixel = pixel_size(open_image(chosen[0].source, limits, chosen[0].scene).spacing)
    examined = NOT_EXAMINED
    if noisy:
        examined = examine_model(model, noisy, common_unit(units), pixel)
    facts = environment(method.device, record.precision)
    unit = common_unit(units)
    warnings = [
        f"{shown_scene(one.source, one.scene)}: {line}" for one in files for line in one.warnings
    ]
    data = ReportData(
        title=f"{method.title} on {len(files)} file{'s' if len(files) > 1 else ''}",
        command=command or "called from Python: pairfree.denoise",
        method_key=method.key,
        method_title=method.title,
        summary=_summarise(model, files, looked_at.count, str(facts["threads"])),
        unit=unit,
        examples=show_errors(looked_at.examples, noisy, examined, CROP_PX),
        evidence=looked_at.evidence,
        rows=examined.rows,
        examined_curves=examined.curves,
        replaced=examined.replaces,
        noise=describe_noise(looked_at.levels, looked_at.evidence, unit),
        warnings=warnings[:20],
        limits=[state_limit(method)],
        environment={key: str(value) for key, value in facts.items()},
        methods_paragraph=_describe(model, files),
        citations=cite(method),
    )
    write_report(folder / NAME, data)
    return list_alarms(data)


def _read_pairs(
    files: Sequence[DenoisedFile], limits: Limits
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, noisy and denoised, (C, h, w), of the middle of each file's middle plane."""
    for one in files:
        before = open_image(one.source, limits, one.scene)
        after = open_image(one.written, limits)
        planes = list(before.planes())
        index = planes[len(planes) // 2]
        rows, columns = centre_of(before.height, before.width, SIDE_PX)
        noisy, denoised = (_cut(image, index, rows, columns) for image in (before, after))
        name = shown_scene(one.source.name, one.scene) + (f"{list(index)}" if index else "")
        if noisy.shape != denoised.shape or not np.isfinite(noisy).any():
            continue  # of another time, or nothing is there
        if missing_alike(noisy, denoised):
            noisy, denoised = (complete_plane(plane, name)[0] for plane in (noisy, denoised))
        yield name, noisy, denoised


def _cut(image: Image, index: tuple[int, ...], rows: slice, columns: slice) -> np.ndarray:
    """(C, h, w) of one plane."""
    return to_channels_first(image.region(index, rows, columns), image.colours)


def _summarise(
    model: Model, files: Sequence[DenoisedFile], examined: int, threads: str
) -> list[tuple[str, str]]:
    """Key facts in reading order."""
    method, record = model.method, model.record
    pixels = sum(one.pixels for one in files)
    found = [("Method", f"{method.title} ({method.key}, preset {record.preset})")]
    if method.trains:
        found.append(("Trained for", f"{record.step:,} steps, seed {record.seed}"))
    if record.start == "shipped":
        found.append(("Began from", SHIPPED))
    found += [
        ("Files", f"{len(files):,}, {pixels / 1e6:,.2f} megapixels"),
        ("Examined", f"the middle of {examined:,} of them, at most {SIDE_PX} px a side"),
        ("Intensity map", _describe_map(model)),
        *_describe_correction(model),
        ("Device", f"{method.device}, {threads} threads, {record.precision} convolutions"),
    ]
    return found


def _describe_correction(model: Model) -> list[tuple[str, str]]:
    """By what results were corrected, if they were."""
    change = model.predictor.change
    return [] if change is None else [("Corrected", f"{change}, by the estimated error")]


def _describe_map(model: Model) -> str:
    """What was done to intensities, in a few words."""
    if model.method.key == Shipped.key:
        return "the noise of each plane was measured and made even"
    return f"network units: {model.record.normalizer.describe()}"


def _describe(model: Model, files: Sequence[DenoisedFile]) -> str:
    """For a paper's section on methods."""
    record = model.record
    learned = "nothing was trained on these images"
    if model.method.one_image:
        learned = f"each image was learned by itself for at most {image_budget(record.config)}"
    elif model.method.trains:
        learned = f"its network was trained for {record.step:,} steps, seed {record.seed}"
    return (
        f"{open_paragraph(model)}; {learned} (preset {record.preset}, torch "
        f"{record.versions['torch']}). {describe_mapping(record)}; files keep their pixel type and metadata."
    )
