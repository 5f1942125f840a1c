"""Checkpoints: safetensors for numbers, JSON for facts; no pickle, no class paths. The JSON, renamed last, is what makes one complete.

    step-000001200.safetensors    every tensor of the method, by name
    step-000001200.json           method key, config by value, normaliser, step, versions, sha256 of the tensor file, digest of itself
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from pairfree.errors import CheckpointError
from pairfree.files.atomic import atomic_path, write_text

FORMAT = 1
KEEP = 2


@dataclass(frozen=True)
class Checkpoint:
    """facts   what the JSON holds; ``step`` is the number of steps done
    tensors the numbers, on the CPU
    """

    facts: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def step(self) -> int:
        return int(self.facts["step"])


def save(folder: Path, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """Write one checkpoint atomically and drop all but the newest ``KEEP``. Returns the path of its JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"step-{int(facts['step']):09d}"
    blob = safetensors.torch.save({name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()})
    numbers, words = stem.with_suffix(".safetensors"), stem.with_suffix(".json")
    with atomic_path(numbers, overwrite=True) as temporary:
        temporary.write_bytes(blob)
    full = {"format": FORMAT, **facts, "tensors_sha256": hashlib.sha256(blob).hexdigest()}
    write_text(words, json.dumps({**full, "digest": _digest(full)}, indent=1, sort_keys=True) + "\n", overwrite=True)
    for old in listing(folder)[:-KEEP]:
        os.unlink(old)  # the JSON first: without it the numbers are only a stray file
        old.with_suffix(".safetensors").unlink(missing_ok=True)
    return words


def listing(folder: Path) -> list[Path]:
    """The JSON files of a checkpoint folder, oldest first."""
    return sorted(folder.glob("step-*.json")) if folder.is_dir() else []


def load(words: Path) -> Checkpoint:
    """Read and verify one checkpoint. CheckpointError names the file and what is wrong."""
    facts = _read_facts(words)
    numbers = words.with_suffix(".safetensors")
    try:
        blob = numbers.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{numbers}: cannot be read ({error.strerror or error}); its partner {words.name} is useless without it") from None
    found = hashlib.sha256(blob).hexdigest()
    if found != facts["tensors_sha256"]:
        raise CheckpointError(f"{numbers}: damaged: sha256 is {found[:12]}..., expected {facts['tensors_sha256'][:12]}...; use an earlier checkpoint")
    try:
        tensors = safetensors.torch.load(blob)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{numbers}: not a safetensors file: {error}") from None
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{numbers}: tensor {name!r} holds NaN or Inf; use an earlier checkpoint")
    return Checkpoint(facts, tensors)


def load_latest(folder: Path) -> tuple[Checkpoint, list[str]]:
    """The newest checkpoint that is whole, and a line for each newer one that is not. CheckpointError when there is none."""
    problems: list[str] = []
    for words in reversed(listing(folder)):
        try:
            return load(words), problems
        except CheckpointError as error:
            problems.append(str(error))
    detail = f": {problems[0]}" if problems else ""
    raise CheckpointError(f"{folder}: no usable checkpoint{detail}; train the model (again), or name another run folder")


def _read_facts(words: Path) -> dict[str, Any]:
    try:
        facts = json.loads(words.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{words}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{words}: damaged: not JSON ({error}); use an earlier checkpoint") from None
    if not isinstance(facts, dict) or "digest" not in facts:
        raise CheckpointError(f"{words}: not a checkpoint of pairfree: field 'digest' is missing")
    digest = facts.pop("digest")
    if isinstance(facts.get("format"), int) and facts["format"] > FORMAT:
        raise CheckpointError(f"{words}: checkpoint format {facts['format']} is newer than this pairfree reads ({FORMAT}); update pairfree")
    if digest != _digest(facts):
        raise CheckpointError(f"{words}: damaged: its digest does not match its content; use an earlier checkpoint")
    missing = [key for key in ("method", "config", "normalizer", "channels", "step", "tensors_sha256") if key not in facts]
    if missing:
        raise CheckpointError(f"{words}: field {missing[0]!r} is missing")
    return facts


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
