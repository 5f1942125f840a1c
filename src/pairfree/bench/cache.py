"""Whether a stored result is that of a cell as it would be measured now.

That is: same data, same revision of the method, same settings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.bench.base import Cell, Scored, Task
from pairfree.bench.baselines import BASELINES, REVISIONS
from pairfree.config import updated
from pairfree.data import even as even_noise
from pairfree.facts import (
    NUMBER,
    TABLE,
    TEXT,
    WHOLE,
    Kind,
    Unreadable,
    check,
    list_of,
    or_none,
    read_json,
    table_of,
    table_with,
)
from pairfree.methods import METHODS, PRESETS, extend_config, settings_beside
from pairfree.methods.parts.one_image import apply_budget
from pairfree.version import __version__

Result = Mapping[str, Any]
"""What a cell's JSON file holds, see ``cell.measure``."""
MEASURED = Kind("a number", lambda value: NUMBER.fits(value) or isinstance(value, float | bool))
"""Images without an error have an infinite PSNR."""
DATE = Kind("a date", lambda value: TEXT.fits(value) and bool(value.strip()))
STAGE = Kind(
    "a name and a number of steps",
    lambda value: isinstance(value, list) and [type(one) for one in value] == [str, int],
)
SCORES = table_of(table_with({"psnr_db": MEASURED, "ssim": MEASURED}))
"""Of groups of images, by their names."""
RESULT = {
    "cell": TEXT,
    "scores": SCORES,
    "training": TABLE,
    "environment": table_with({"date": DATE, "processor": TEXT, "threads": WHOLE}, {"gpu": TEXT}),
}
"""What a stored result must say, and may, of what is read back."""
RESULT_FURTHER = {"key": TEXT, "revision": WHOLE, "evidence": table_of(MEASURED)}
TRAINING = {"config": TABLE}
TRAINING_FURTHER = {
    "refused": TEXT,
    "seconds": or_none(NUMBER),
    "seconds_an_image": NUMBER,
    "steps": list_of(STAGE),
    "scores_after": table_of(SCORES),
}


def read_result(path: Path) -> Result:
    """What is stored of a cell.

    Raises
    ------
    FileNotFoundError
        Where nothing is.
    Unreadable
        Where the file does not say what it should.
    """
    found = check(read_json(path), RESULT, RESULT_FURTHER)
    training = found["training"]
    if training:
        check(training, TRAINING, TRAINING_FURTHER)
        if "refused" not in training and not {"steps", "seconds"} <= training.keys():
            raise Unreadable("field 'training' says neither steps nor why there are none")
    return found


def cache_key(task: Task, cell: Cell, known: Collection[str] | None = None) -> str:
    """Digest of what decides a cell's number beside its method's config.

    That is: data, cell, budget, version of pairfree, revision of the method.

    Parameters
    ----------
    task
        The data.
    cell
        What is measured.
    known
        Names of the settings that there were when a result was made, None for all.
    """
    digest = hashlib.sha256()
    for array in _arrays_of(task):
        digest.update(np.ascontiguousarray(array).data)
    settings = []
    for name, value in sorted(cell.settings.items()):
        if known is None or name in known:
            settings.append((name, value))
    words: list[Any] = [cell.name, settings, cell.minutes, __version__]
    if cell.start != "none":
        words.append(cell.start)
    windows = [(image.low, image.data_range) for image in task.test]
    usual = Scored.low, Scored.data_range
    if set(windows) != {usual}:
        words.append(windows)
    revision = revision_of(cell)
    if revision > 1:
        words.append(revision)
    text = json.dumps(words, default=str, sort_keys=True)
    digest.update(text.encode())
    return digest.hexdigest()


def _arrays_of(task: Task) -> Iterator[np.ndarray]:
    """All of its data, always in the same order."""
    yield from task.noisy
    yield from task.clean
    yield from task.second_noisy
    yield from task.unpaired
    yield from task.noise_images
    for image in task.test:
        yield image.noisy
    for image in task.test:
        if image.clean is not None:
            yield image.clean


def holds(result: Result, task: Task, cell: Cell) -> bool:
    """Whether a stored result is that of this cell as it would be measured now."""
    if not up_to_date(result, cell):
        return False
    key = result.get("key")
    known = None if cell.method in BASELINES else result["training"].get("config", {})
    return key == cache_key(task, cell, known) or key == cache_key(task, cell)


def up_to_date(result: Result, cell: Cell) -> bool:
    """Whether a stored result has the cell's settings of today, and the method's revision."""
    if result.get("revision", 1) != revision_of(cell):
        return False
    if cell.method in BASELINES:
        return True
    return same_settings(result["training"].get("config", {}), cell)


def revision_of(cell: Cell) -> int:
    """Of the method, and of the noise's law where it works on even noise: raised where numbers change."""
    if cell.method in BASELINES:
        return REVISIONS[cell.method]
    revision = METHODS[cell.method].revision
    even = getattr(_config(cell), "even", False)
    return revision + even_noise.REVISION_OF_RESULTS - 1 if even else revision


def same_settings(stored: Mapping[str, Any], cell: Cell) -> bool:
    """Whether a cell was trained with the config it has now.

    An option that did not exist then must be at its default, which by our rule does what was done before
    there was the option.

    Parameters
    ----------
    stored
        The config that it was trained with.
    cell
        As it is now.
    """
    config = extend_config(cell.method, _config(cell), stored)
    defaults = {one.name: one.default for one in fields(config)}
    if not set(stored) <= set(defaults):
        return False
    then = json.dumps({**defaults, **stored}, sort_keys=True)
    now = json.dumps(asdict(config), sort_keys=True)
    return then == now


def settings_of(cell: Cell) -> dict[str, Any]:
    """The full config of a trained cell: a changed preset is another cell.

    With the settings of the extended method, where the cell has only the paper's: they are then at their
    defaults.
    """
    return settings_beside(cell.method, asdict(_config(cell)))


FROM_RANDOM: dict[str, Any] = {"net": "shuffle-unet", "even": False, "started_minutes": 0.0}
"""Settings of preset cpu, where they have other values today, in rows from random weights."""
FROM_RANDOM_OF: dict[str, dict[str, Any]] = {
    "gan2gan": {"iterations": 2},
    "iscl": {"nets": "residual"},
}
"""Likewise, of single methods."""


def given_settings(cell: Cell) -> dict[str, Any]:
    """What a cell changes of its method's preset: its own settings, and those of its start."""
    preset = PRESETS[cell.method][cell.preset]
    given: dict[str, Any] = {}
    if cell.start == "none" and getattr(preset, "net", "") == "even-unet":
        given |= FROM_RANDOM
    if cell.start == "none" and cell.preset == "cpu":
        given |= FROM_RANDOM_OF.get(cell.method, {})
    return given | dict(cell.settings)


def _config(cell: Cell) -> Any:
    preset = PRESETS[cell.method][cell.preset]
    settings = given_settings(cell)
    base = extend_config(cell.method, preset, settings)
    config = updated(base, settings, cell.name)
    return apply_budget(config, cell.minutes, None)
