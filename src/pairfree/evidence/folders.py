"""Folders of files against each other: scores against clean files, evidence against noisy ones."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.data.directions import Change
from pairfree.data.missing import check_range, complete_plane
from pairfree.data.sets import to_channels_first
from pairfree.errors import InputError
from pairfree.evidence.interpretation import interpret
from pairfree.evidence.metrics import Score, mean_score, score
from pairfree.evidence.noref import Evidence, pool, residual_evidence
from pairfree.evidence.order import EvaluationOrder
from pairfree.evidence.rows import Row
from pairfree.files.image import Image
from pairfree.files.intensity import UNKNOWN_UNIT, common_unit, intensity_unit
from pairfree.files.messages import shown
from pairfree.files.opening import open_image
from pairfree.files.partners import partners

CLIPPED_SHARE = 0.01
"""Share of a clean image's pixels that may lie outside the range of a score before this is said."""
MIN_EVIDENCE_PX = 32
"""Smaller images tell too little for evidence."""
_say = logging.getLogger("pairfree")


@dataclass(frozen=True)
class Evaluation(Mapping[str, Score]):
    r"""What ``evaluate`` found; used as a mapping, it is that of its scores.

    Examples
    --------
    >>> found = evaluate("denoised", "clean", 255, noisy="noisy")
    >>> for name, one in found.items():
    ...     print(f"{name}: {one.psnr_db:.2f} dB")
    >>> print("\n".join(found.sentences))
    """

    scores: dict[str, Score] = field(default_factory=dict)
    """Of each pair of files, by the name that they share; empty without clean files."""

    scores_statement: str = ""
    """How the scores were computed: data range, clipping, colours, window; empty without clean files."""

    evidence: dict[str, Evidence] = field(default_factory=dict)
    """Of each plane and channel, by file name and index; empty without noisy files."""

    unit: str = UNKNOWN_UNIT
    """What the noisy images' intensities count, in the plural, as far as their files say."""

    rows: list[Row] = field(default_factory=list)
    """What the evidence of all planes together says, and what examining the denoiser showed."""

    change: Change | None = None
    """The correction that would gain most, where the denoiser was examined and needs one."""

    numbers: Mapping[str, Any] = field(default_factory=dict)
    """Which planted spots survive, and what the output keeps of each fineness, where it was examined."""

    @property
    def sentences(self) -> list[str]:
        """The rows in words; those that ask for attention begin with ``Warning:`` or ``Note:``."""
        return [row.sentence for row in self.rows]

    def __getitem__(self, name: str) -> Score:
        return self.scores[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.scores)

    def __len__(self) -> int:
        return len(self.scores)

    def __str__(self) -> str:
        mean = self.mean_score
        lines = list(self.sentences)
        if mean is not None:
            lines.insert(0, f"{mean}; {self.scores_statement}")
        return "\n".join(lines)

    @property
    def mean_score(self) -> Score | None:
        """The mean over all files; None without clean files."""
        scores = list(self.scores.values())
        return mean_score(scores) if scores else None

    def as_dict(self) -> dict[str, Any]:
        """All numbers by name, as ``pairfree evaluate --json`` writes them; NaN where one is not defined."""
        found: dict[str, Any] = {}
        if self.scores_statement:
            found["scores"] = {name: vars(one) for name, one in self.scores.items()}
            found["scores_statement"] = self.scores_statement
        if self.rows:
            found["evidence"] = {name: vars(one) for name, one in self.evidence.items()}
            found["rows"] = [row.as_dict() for row in self.rows]
        if self.change is not None:
            found["change"] = self.change.as_dict()
        return {**found, **self.numbers}


def compare_folders(order: EvaluationOrder, left_out: Sequence[str] = ()) -> Evaluation:
    """Score denoised files against clean ones, or gather evidence against the noisy ones, or both.

    ``left_out`` names rows that an examination of the denoiser itself replaces.
    """
    if order.denoised is None:
        return Evaluation()
    scores: dict[str, Score] = {}
    statement = ""
    if order.clean is not None and order.data_range is not None:
        scores = score_folder(order.denoised, order.clean, order.data_range, order)
        statement = state_scores(order.data_range, order)
    if order.noisy is None:
        return Evaluation(scores, statement)
    evidence, unit = gather_evidence(order.noisy, order.denoised)
    rows = interpret_pooled(evidence, unit, left_out)
    return Evaluation(scores, statement, evidence, unit, rows)


def score_folder(
    denoised: str | Path, clean: str | Path, data_range: float, order: EvaluationOrder
) -> dict[str, Score]:
    """Scores of denoised files against clean ones of the same name, by stem."""
    found = {}
    low, high = order.low, order.low + data_range
    for name, (first, second) in partners(clean, denoised).items():
        truth = open_image(first)
        result = open_image(second)
        for image in (truth, result):
            check_range(image.pixels, shown(str(image.source)))
        beyond = (truth.pixels < low) | (truth.pixels > high)
        outside = float(np.mean(beyond))
        if outside > CLIPPED_SHARE:
            _say.warning(
                "%s: %.0f %% of its pixels lie outside %g .. %g and are clipped",
                first,
                100 * outside,
                low,
                high,
            )
        with name_files(second, first):
            found[name] = score(
                _intensities(truth),
                _intensities(result),
                data_range,
                low,
                fit=order.fit,
                luma=order.luma,
            )
    return found


def state_scores(data_range: float, order: EvaluationOrder) -> str:
    """How scores were computed, in words: without it they cannot be compared."""
    low = order.low
    colours = "luma (BT.601) of colour images" if order.luma else "mean over colour channels"
    words = [f"data range {data_range:g}"]
    if order.fit:
        words.append("gain and offset of each denoised image fitted")
    words += [
        f"both sides clipped to {low:g} .. {low + data_range:g}",
        colours,
        "SSIM window Gaussian sigma 1.5",
    ]
    return ", ".join(words)


def gather_evidence(noisy: str | Path, denoised: str | Path) -> tuple[dict[str, Evidence], str]:
    """Residual evidence for every plane of two folders whose files match by stem.

    Returns
    -------
    dict
        Evidence by file name, index and channel.
    str
        The unit of the noisy files.
    """
    found: dict[str, Evidence] = {}
    units = []
    for name, (first, second) in partners(noisy, denoised).items():
        before = open_image(first)
        after = open_image(second)
        if before.shape != after.shape:
            raise InputError(
                f"{second}: shape {after.shape}, but {first} has {before.shape}; these are not partners"
            )
        units.append(intensity_unit(before))
        for index in before.planes():
            planes = []
            for one in (before, after):
                plane = to_channels_first(one.plane(index), before.colours)
                planes.append(plane.astype(np.float64))
            if missing_alike(*planes):
                planes = [complete_plane(plane, name)[0] for plane in planes]
            label = f"{name}{list(index)}" if index else name
            for path, plane in zip((first, second), planes, strict=True):
                check_range(plane, shown(path))
            with name_files(second, first):
                found |= dict(examine_channels(label, *planes))
    return found, common_unit(units)


def missing_alike(noisy: np.ndarray, denoised: np.ndarray) -> bool:
    """Whether the same pixels of both, some and not all, are NaN or Inf, as ``nan="mask"`` leaves them."""
    missing = ~np.isfinite(noisy)
    if missing.all() or not missing.any():
        return False
    return np.array_equal(missing, ~np.isfinite(denoised))


def examine_channels(
    name: str, noisy: np.ndarray, denoised: np.ndarray
) -> list[tuple[str, Evidence]]:
    """Residual evidence of each channel with its label, each apart: channels have noise of their own.

    Nothing where a side is under ``MIN_EVIDENCE_PX``.

    Parameters
    ----------
    name
        Of the image, for the labels.
    noisy, denoised
        (C, H, W).
    """
    if min(noisy.shape[1:]) < MIN_EVIDENCE_PX:
        return []
    found = []
    for channel, (first, second) in enumerate(zip(noisy, denoised, strict=True)):
        label = name if len(noisy) == 1 else f"{name}, channel {channel}"
        found.append((label, residual_evidence(first.astype(np.float64), second)))
    return found


def interpret_pooled(
    evidence: Mapping[str, Evidence], unit: str = UNKNOWN_UNIT, left_out: Sequence[str] = ()
) -> list[Row]:
    """Rows for all images together."""
    if not evidence:
        text = f"No image of at least {MIN_EVIDENCE_PX} px a side: too small for evidence."
        return [Row("size", "Whether images are large enough", "untold", text)]
    return interpret(pool(list(evidence.values())), unit, left_out)


@contextmanager
def name_files(denoised: Path, other: Path) -> Iterator[None]:
    """What is wrong with a pair of images, with the names of their files."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{denoised} against {other}: {error}") from None


def _intensities(image: Image) -> np.ndarray:
    """Pixels without transparency, which is not scored; samples that are no RGB as images of their own."""
    if not image.axes.endswith("S"):
        return image.pixels
    pixels = image.pixels[..., : image.colours]
    if image.colours == 3:
        return pixels
    return np.moveaxis(pixels, -1, 0)
