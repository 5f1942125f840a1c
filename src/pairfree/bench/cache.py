"""Whether a stored result is that of a cell as it would be measured now: same data, same revision of the method, same settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from pairfree.bench.base import Cell, Scored, Task
from pairfree.bench.baselines import BASELINES, REVISIONS
from pairfree.config import updated
from pairfree.methods import METHODS, PRESETS, extend_config, settings_beside
from pairfree.methods.parts.one_image import apply_budget
from pairfree.version import __version__


def cache_key(task: Task, cell: Cell, known: Collection[str] | None = None) -> str:
    """Digest of what decides a cell's number beside its method's config: data, cell, budget, version of pairfree, revision of the method.

    known   names of the settings that there were when a result was made, None for all
    """
    digest = hashlib.sha256()
    scored = (
        [image.noisy for image in task.test],
        [image.clean for image in task.test if image.clean is not None],
    )
    for group in (
        task.noisy,
        task.clean,
        task.second_noisy,
        task.unpaired,
        task.noise_images,
        *scored,
    ):
        for array in group:
            digest.update(np.ascontiguousarray(array).data)
    settings = sorted(
        (name, value) for name, value in cell.settings.items() if known is None or name in known
    )
    words: list[Any] = [cell.name, settings, cell.minutes, __version__]
    windows = [(image.low, image.data_range) for image in task.test]
    if set(windows) != {(Scored.low, Scored.data_range)}:
        words.append(windows)
    if (revision := revision_of(cell)) > 1:
        words.append(revision)
    digest.update(json.dumps(words, default=str, sort_keys=True).encode())
    return digest.hexdigest()


def holds(result: Mapping[str, Any], task: Task, cell: Cell) -> bool:
    """Whether a stored result is that of this cell as it would be measured now."""
    known = None if cell.method in BASELINES else result["training"]["config"]
    return up_to_date(result, cell) and any(
        result["key"] == cache_key(task, cell, names) for names in (known, None)
    )


def up_to_date(result: Mapping[str, Any], cell: Cell) -> bool:
    """Whether a stored result has the cell's settings of today, and the method's revision."""
    alike = cell.method in BASELINES or same_settings(result["training"]["config"], cell)
    return alike and result.get("revision", 1) == revision_of(cell)


def revision_of(cell: Cell) -> int:
    return REVISIONS[cell.method] if cell.method in BASELINES else METHODS[cell.method].revision


def same_settings(stored: Mapping[str, Any], cell: Cell) -> bool:
    """Whether a cell was trained with the config it has now. An option that did not exist then must be at its default, which by our rule
    does what was done before there was the option."""
    config = extend_config(cell.method, _config(cell), stored)
    defaults = {field.name: field.default for field in fields(config)}
    return set(stored) <= set(defaults) and json.dumps(
        {**defaults, **stored}, sort_keys=True
    ) == json.dumps(asdict(config), sort_keys=True)


def settings_of(cell: Cell) -> dict[str, Any]:
    """The full config of a trained cell: a changed preset is another cell.

    With the settings of the extended method, where the cell has only the paper's: they are then at their defaults.
    """
    return settings_beside(cell.method, asdict(_config(cell)))


def _config(cell: Cell) -> Any:
    base = extend_config(cell.method, PRESETS[cell.method][cell.preset], cell.settings)
    return apply_budget(updated(base, cell.settings, cell.name), cell.minutes, None)
