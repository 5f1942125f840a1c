"""Checkpoints: safetensors for numbers, JSON for facts; no pickle, no class paths.

The JSON, renamed last, is what makes one complete.

    step-000001200.safetensors    every tensor of the method, by name
    step-000001200.json           the ``Record``, sha256 of the tensor file, digest of itself

The digest finds damage; it is no signature: who can write the folder can write a valid checkpoint. Such a one
still runs no code.
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
import torch
from safetensors import SafetensorError
from torch import Tensor

from pairfree.engine.record import REQUIRED, Record, check_types
from pairfree.errors import CheckpointError
from pairfree.files.atomic import atomic_path, output_error, write_text
from pairfree.files.regular import read_regular

FORMAT = 1
"""Of the JSON; raised by a change that older versions cannot read."""
KEEP = 2
"""Checkpoints that a folder holds, the newest."""
FILE_FIELDS: dict[str, type] = {"tensors_sha256": str}
FIELDS: dict[str, type] = {**REQUIRED, **FILE_FIELDS}
"""What a checkpoint's JSON must hold beside ``format`` and ``digest``, and of which type."""


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint, whole and verified."""

    record: Record
    """What the JSON says of the model."""
    tensors: dict[str, Tensor]
    """The numbers, on the CPU."""

    @property
    def step(self) -> int:
        """Steps done."""
        return self.record.step


def save(folder: Path, record: Record, tensors: Mapping[str, Tensor]) -> Path:
    """Write one checkpoint atomically and drop all but the newest ``KEEP``.

    Parameters
    ----------
    folder
        Is made where it is missing.
    record
        What the JSON says.
    tensors
        The numbers, by name.

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
        "tensors_sha256": hashlib.sha256(blob).hexdigest(),
    }
    write_text(words, _text({**facts, "digest": _digest(facts)}), overwrite=True)
    # the new one stands; what cannot be dropped now is dropped next time
    with contextlib.suppress(OSError):
        _drop_old(folder)
    return words


def _drop_old(folder: Path) -> None:
    """Remove all but the newest, and the tensors of a process that was killed before it wrote the JSON."""
    for old in listing(folder)[:-KEEP]:
        old.unlink()
    for numbers in folder.glob("step-*.safetensors"):
        if not numbers.with_suffix(".json").exists():
            numbers.unlink()


def listing(folder: Path) -> list[Path]:
    """The JSON files of a checkpoint folder, oldest first."""
    return sorted(folder.glob("step-*.json")) if folder.is_dir() else []


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
    record, expected = _read_words(words)
    numbers = words.with_suffix(".safetensors")
    try:
        blob = read_regular(numbers)
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(
            f"{numbers}: cannot be read ({reason}); its partner {words.name} is useless without it"
        ) from None
    sha256 = hashlib.sha256(blob).hexdigest()
    if sha256 != expected:
        raise CheckpointError(
            f"{numbers}: damaged: sha256 is {sha256[:12]}..., expected {expected[:12]}...; use an earlier "
            "checkpoint"
        )
    try:
        tensors = safetensors.torch.load(blob)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{numbers}: not a safetensors file: {error}") from None
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"{numbers}: tensor {name!r} holds NaN or Inf; use an earlier checkpoint"
            )
    return Checkpoint(record, tensors)


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


def _read_words(words: Path) -> tuple[Record, str]:
    """What the JSON says of the model, and the sha256 of the tensor file."""
    text, facts = _read_json(words)
    # before the digest is taken out: a changed blank or letter case is damage too
    is_whole = text == _text(facts)
    digest = facts.pop("digest")
    written_as = facts.get("format")
    if isinstance(written_as, int) and written_as > FORMAT:
        raise CheckpointError(
            f"{words}: checkpoint format {written_as} is newer than this pairfree reads ({FORMAT}); update "
            "pairfree"
        )
    if not is_whole or digest != _digest(facts):
        raise CheckpointError(
            f"{words}: damaged: its digest does not match its content; use an earlier checkpoint"
        )
    check_types(facts, words, FILE_FIELDS)
    return Record.from_facts(facts, words), facts["tensors_sha256"]


def _read_json(words: Path) -> tuple[str, dict[str, Any]]:
    """The text of a checkpoint's JSON, and what it holds."""
    try:
        text = read_regular(words).decode("utf-8")
        facts = json.loads(text)
    except OSError as error:
        raise CheckpointError(f"{words}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{words}: damaged: not JSON ({error}); use an earlier checkpoint"
        ) from None
    if not isinstance(facts, dict) or "digest" not in facts:
        raise CheckpointError(f"{words}: not a checkpoint of pairfree: field 'digest' is missing")
    return text, facts


def check_fits(stored: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: Path) -> None:
    """Refuse weights that are not those of a network.

    Parameters
    ----------
    stored
        Tensors by name, as ``Method.tensors`` gives them.
    expected
        Likewise, as ``Method.weights`` gives them.
    where
        The file or folder that is named.

    Raises
    ------
    CheckpointError
        Naming the first weight of ``stored`` that is missing, extra, or of another shape or type than in
        ``expected``.
    """
    mine = {name: tensor for name, tensor in expected.items() if name.startswith("net/")}
    theirs = {name: tensor for name, tensor in stored.items() if name.startswith("net/")}
    own = "a network of your own is passed as net="
    for name in sorted(mine.keys() | theirs.keys()):
        if name not in theirs:
            raise CheckpointError(f"{where}: tensor {name!r} is missing; {own}")
        if name not in mine:
            raise CheckpointError(
                f"{where}: tensor {name!r} does not belong to this network; {own}"
            )
        have, want = theirs[name], mine[name]
        if have.shape != want.shape or have.dtype != want.dtype:
            raise CheckpointError(
                f"{where}: tensor {name!r} is {have.dtype} {tuple(have.shape)}, expected {want.dtype} "
                f"{tuple(want.shape)}; it belongs to a network of other settings"
            )


def _text(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, indent=1, sort_keys=True) + "\n"


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
