"""One cell under way: what is measured, and where it leaves what it makes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pairfree.bench.base import Cell, Experiment, Task
from pairfree.bench.cache import cache_key
from pairfree.engine.trainer import OnStep


@dataclass(frozen=True)
class Work:
    """A cell with its data, and how it is to be measured."""

    experiment: Experiment
    """The table that it belongs to."""
    cell: Cell
    """What is measured."""
    task: Task
    """Its data."""
    folder: Path
    """For its run, its denoised images and all that a killed process needs to go on; may be deleted."""
    device: str = "auto"
    """What is trained on: auto, cpu or cuda."""
    on_step: OnStep | None = None
    """Called after each step of training."""

    @cached_property
    def key(self) -> str:
        """Digest of what decides the cell's number."""
        return cache_key(self.task, self.cell)

    @property
    def run(self) -> Path:
        """Run folder of the training."""
        return self.folder / "run"
