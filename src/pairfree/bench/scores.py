"""What a trained model makes of the test images, and the mean scores of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pairfree.bench.base import Experiment, Images, Scored
from pairfree.engine.model import Model
from pairfree.evidence.metrics import Score, mean_score, score
from pairfree.files.image import samples_last

Scores = dict[str, dict[str, Any]]
"""By group: ``psnr_db``, ``ssim``, and the number of images, ``n``."""


def denoise_all(model: Model, test: Sequence[Scored]) -> list[np.ndarray]:
    """Every test image denoised, (C, H, W), in their order."""
    return [model.predictor.predict(image.noisy) for image in test]


def score_groups(experiment: Experiment, test: Sequence[Scored], outputs: Images) -> Scores:
    """Mean scores of each group of the test images.

    Parameters
    ----------
    experiment
        Says whether the Y channel of colour images is scored too.
    test
        The images; those without ground truth are passed over.
    outputs
        What became of them, (C, H, W), in their order.

    Returns
    -------
    Scores
        By the group's name, and "all" where all are scored in one window. Where the experiment asks for the
        Y channel, names end with "RGB" or "Y", and there is no "all".
    """
    if experiment.luma:
        rgb = _mean_scores(test, outputs, together=False)
        luma = _mean_scores(test, outputs, together=False, luma=True)
        found = {f"{group} RGB": mean for group, mean in rgb.items()}
        found |= {f"{group} Y": mean for group, mean in luma.items()}
    else:
        windows = {(image.low, image.data_range) for image in test}
        found = _mean_scores(test, outputs, together=len(windows) == 1)
    return dict(sorted(found.items()))


def _mean_scores(
    test: Sequence[Scored],
    outputs: Images,
    together: bool,
    luma: bool = False,
) -> Scores:
    """By group, and under "all" where they are put ``together``."""
    each: dict[str, list[Score]] = {}
    for image, output in zip(test, outputs, strict=True):
        if image.clean is None:
            continue
        one = score(
            samples_last(image.clean),
            samples_last(output),
            image.data_range,
            image.low,
            luma=luma,
        )
        each.setdefault(image.group, []).append(one)
        if together and image.group != "all":
            each.setdefault("all", []).append(one)
    return {group: _mean_of(scores) for group, scores in each.items()}


def _mean_of(scores: Sequence[Score]) -> dict[str, Any]:
    mean = mean_score(scores)
    return {
        "psnr_db": round(mean.psnr_db, 4),
        "ssim": round(mean.ssim, 5),
        "n": len(scores),
    }
