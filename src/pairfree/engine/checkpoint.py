"""Checkpoints: safetensors for numbers, JSON for facts; no pickle, no class paths.

The JSON, renamed last, is what makes one complete.

    step-000001200.safetensors    every tensor of the method, by name
    step-000001200.json           the ``Record``, what the tensor file holds and its sha256, digest of itself

The digest finds damage; it is no signature: who can write the folder can write a valid checkpoint. Such a one
still runs no code, takes no more memory than its files have bytes, and is refused where its tensors are not
those that its words ask for (``fits``). Other numbers in the right places cannot be told.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from pairfree.engine.fits import count_tensors
from pairfree.engine.record import REQUIRED, Record, check_counts, check_types
from pairfree.errors import CheckpointError
from pairfree.facts import Unreadable, parse_json, read_bytes
from pairfree.files.atomic import atomic_path, output_error, write_text
from pairfree.nets.tensor_file import TensorFile

FORMAT = 1
"""Of the JSON; raised by a change that older versions cannot read."""
KEEP = 2
"""Checkpoints that a folder holds, the newest."""
MAX_WORDS_BYTES = 2**20
"""Of the JSON; a run's is about two thousand."""
COUNTS = "tensor_counts"
"""Field of the JSON: how many tensors each network and each optimiser has; older checkpoints lack it."""
FILE_FIELDS: dict[str, type] = {"tensors_sha256": str}
FIELDS: dict[str, type] = {**REQUIRED, **FILE_FIELDS}
"""What a checkpoint's JSON must hold beside ``format`` and ``digest``, and of which type."""


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint, whole and verified."""

    record: Record
    """What the JSON says of the model."""
    tensors: TensorFile
    """The numbers by name, on the CPU; each is read when it is asked for."""
    counts: Mapping[str, int] | None = None
    """How many tensors each network and each optimiser had; None in a checkpoint that does not say."""

    @property
    def step(self) -> int:
        """Steps done."""
        return self.record.step


def save(folder: Path, record: Record, tensors: Mapping[str, Tensor], keep: int = KEEP) -> Path:
    """Write one checkpoint atomically and drop all but the newest.

    Parameters
    ----------
    folder
        Is made where it is missing.
    record
        What the JSON says.
    tensors
        The numbers, by name.
    keep
        How many stay.

    Returns
    -------
    Path
        Of its JSON.

    Raises
    ------
    OutputError
        Where it cannot be written; what stood before stands.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(error, folder) from None
    stem = folder / f"step-{record.step:09d}"
    numbers, words = stem.with_suffix(".safetensors"), stem.with_suffix(".json")
    own = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in tensors.items()}
    blob = safetensors.torch.save(own)
    with atomic_path(numbers, overwrite=True, bytes_needed=len(blob)) as temporary:
        temporary.write_bytes(blob)
    facts = {
        "format": FORMAT,
        **record.as_facts(),
        COUNTS: count_tensors(own),
        "tensors_sha256": hashlib.sha256(blob).hexdigest(),
    }
    write_text(words, _text({**facts, "digest": _digest(facts)}), overwrite=True)
    # the new one stands; what cannot be dropped now is dropped next time
    with contextlib.suppress(OSError):
        _drop_old(folder, keep)
    return words


def _drop_old(folder: Path, keep: int) -> None:
    """Remove all but the newest, and the tensors of a process that was killed before it wrote the JSON."""
    for old in listing(folder)[:-keep]:
        old.unlink()
    for numbers in folder.glob("step-*.safetensors"):
        if not numbers.with_suffix(".json").exists():
            numbers.unlink()


def listing(folder: Path) -> list[Path]:
    """The JSON files of a checkpoint folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.glob("step-*.json") if path.stem[5:].isdecimal())


def load(words: Path) -> Checkpoint:
    """Read and verify one checkpoint.

    Parameters
    ----------
    words
        Its JSON.

    Raises
    ------
    CheckpointError
        Naming the file and what is wrong.
    """
    record, facts = _read_words(words)
    tensors = TensorFile(words.with_suffix(".safetensors"))
    sha256, expected = tensors.sha256(), facts["tensors_sha256"]
    if sha256 != expected:
        raise CheckpointError(
            f"{tensors.path}: damaged: sha256 is {sha256[:12]}..., expected {expected[:12]!r}...; use an "
            "earlier checkpoint"
        )
    tensors.check_finite()
    return Checkpoint(record, tensors, facts.get(COUNTS))


def load_latest(folder: Path) -> tuple[Checkpoint, list[str]]:
    """The newest checkpoint that is whole, and a line for each newer one that is not.

    Raises
    ------
    CheckpointError
        When there is none.
    """
    problems: list[str] = []
    for words in reversed(listing(folder)):
        try:
            return load(words), problems
        except CheckpointError as error:
            problems.append(str(error))
    detail = f": {problems[0]}" if problems else ""
    raise CheckpointError(
        f"{folder}: no usable checkpoint{detail}; train the model (again), or name another run folder"
    )


def _read_words(words: Path) -> tuple[Record, dict[str, Any]]:
    """What the JSON says of the model, and all that it says."""
    text, facts = _read_json(words)
    # before the digest is taken out: a changed blank or letter case is damage too
    is_whole = text == _text(facts)
    digest = facts.pop("digest")
    written_as = facts.get("format")
    if isinstance(written_as, int) and written_as > FORMAT:
        raise CheckpointError(
            f"{words}: checkpoint format {written_as!r:.40} is newer than this pairfree reads ({FORMAT}); "
            "update pairfree"
        )
    if not is_whole or digest != _digest(facts):
        raise CheckpointError(
            f"{words}: damaged: its digest does not match its content; use an earlier checkpoint"
        )
    if type(written_as) is not int or written_as < 1:
        raise CheckpointError(
            f"{words}: field 'format' is {written_as!r:.40}, expected 1 to {FORMAT}; use an earlier "
            "checkpoint"
        )
    check_types(facts, words, FILE_FIELDS)
    if COUNTS in facts:
        check_counts(facts, COUNTS, words)
    return Record.from_facts(facts, words), facts


def _read_json(words: Path) -> tuple[str, dict[str, Any]]:
    """The text of a checkpoint's JSON, and what it holds."""
    try:
        data = read_bytes(words, MAX_WORDS_BYTES)
        facts = parse_json(data)
    except FileNotFoundError:
        raise CheckpointError(f"{words}: there is none; use an earlier checkpoint") from None
    except Unreadable as error:
        raise CheckpointError(f"{words}: damaged: {error}; use an earlier checkpoint") from None
    if not isinstance(facts, dict) or "digest" not in facts:
        raise CheckpointError(
            f"{words}: not a checkpoint of pairfree: field 'digest' is missing; use an earlier checkpoint"
        )
    return data.decode("utf-8"), facts


def _text(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, indent=1, sort_keys=True) + "\n"


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
