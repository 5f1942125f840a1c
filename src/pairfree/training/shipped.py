"""The shipped network as a model, without a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from pairfree.data.normalize import Normalizer
from pairfree.engine.predictor import Predictor
from pairfree.engine.record import Record
from pairfree.methods.shipped import Shipped, ShippedConfig

NAME = "shipped"
"""Stands where a run folder would."""
MOST_CHANNELS = 3
"""Of an image, for which memory is foretold; more go through one by one as well."""
EVEN = Normalizer(0.0, 1.0, even=True)
"""Each plane by itself; there were no training images whose range could be told."""


def is_shipped(run: str | Path) -> bool:
    """Whether the shipped network is meant, and not a run in a folder of that name."""
    return str(run) == NAME and not (Path(run) / "checkpoints").is_dir()


def make_shipped(device: torch.device, max_bytes: float, symmetries: bool = False) -> Predictor:
    """What applies it."""
    method = Shipped(ShippedConfig(), MOST_CHANNELS, device)
    return Predictor(method, EVEN, MOST_CHANNELS, max_bytes, symmetries=symmetries)


def shipped_record() -> Record:
    """What is said of it in the place of a checkpoint."""
    record = Record.untrained(Shipped.key, EVEN, MOST_CHANNELS)
    settings = dataclasses.asdict(ShippedConfig())
    return dataclasses.replace(record, config=settings, preset="cpu")
