"""Tensors in a safetensors file: what it declares is checked first, then each is read when it is asked for.

Written by the package safetensors, read here: that package maps a file into memory, where all that was read
stays counted, and where a file that shrinks meanwhile ends the process.
"""

from __future__ import annotations

import hashlib
import math
import os
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pairfree.errors import CheckpointError
from pairfree.facts import Unreadable, parse_json
from pairfree.regular import fill, open_regular

DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
}
"""What safetensors calls the types of numbers."""
MAX_HEADER_BYTES = 2**22
"""A tensor takes about a hundred of them."""
MAX_DIMENSIONS = 16
PIECE_BYTES = 2**24
"""How much is read at once where a whole tensor is not needed."""
_FIRST = 8
"""Bytes before the header, its length."""


@dataclass(frozen=True)
class Declared:
    """What a file says of a tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    """Where its numbers begin, bytes from the beginning of the file."""

    @property
    def count(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)

    @property
    def n_bytes(self) -> int:
        """How much they take."""
        return self.count * self.dtype.itemsize


class TensorFile(Mapping[str, Tensor]):
    """The tensors of a file by name; one that is asked for is read, on the CPU.

    Parameters
    ----------
    path
        The file. It stays open, so that what is read is what was checked, until ``close``.

    Raises
    ------
    CheckpointError
        Where it cannot be read, or where what it declares cannot be: naming the tensor, before memory is
        taken for any.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: FileIO = open_regular(path, buffering=0)  # type: ignore[assignment]
            self.close = weakref.finalize(self, self._file.close)
            self.size = os.fstat(self._file.fileno()).st_size
            header, begin = self._read_header()
        except OSError as error:
            raise CheckpointError(
                f"{path}: cannot be read ({error.strerror or error}); use an earlier checkpoint"
            ) from None
        self.declared: dict[str, Declared] = {}
        """What the file says of each tensor."""
        for name, entry in header.items():
            if name != "__metadata__":
                self.declared[name] = self._declare(name, entry, begin)
        self._check_places(begin)

    def __getitem__(self, name: str) -> Tensor:
        declared = self.declared[name]
        value = torch.empty(declared.shape, dtype=declared.dtype)
        if declared.n_bytes:
            self._read_into(value.view(-1).view(torch.uint8), declared.begin)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self.declared)

    def __len__(self) -> int:
        return len(self.declared)

    def sha256(self) -> str:
        """Digest of the file, read in pieces."""
        self._file.seek(0)
        return hashlib.file_digest(self._file, "sha256").hexdigest()

    def check_finite(self) -> None:
        """CheckpointError naming the first tensor with a number that is NaN or Inf; reads in pieces."""
        for name, declared in self.declared.items():
            if not (declared.dtype.is_floating_point or declared.dtype.is_complex):
                continue
            for numbers in self._pieces(declared):
                if not bool(torch.isfinite(numbers).all()):
                    raise self._refusal(f"tensor {name!r:.80} holds NaN or Inf")

    def _pieces(self, declared: Declared) -> Iterator[Tensor]:
        """The numbers of a tensor, a part at a time."""
        each = PIECE_BYTES // declared.dtype.itemsize
        for first in range(0, declared.count, each):
            numbers = torch.empty(min(each, declared.count - first), dtype=declared.dtype)
            place = declared.begin + first * declared.dtype.itemsize
            self._read_into(numbers.view(torch.uint8), place)
            yield numbers

    def _read_into(self, numbers: Tensor, place: int) -> None:
        """Fill bytes (N,) with those of the file from ``place`` on."""
        room = memoryview(numbers.numpy().data)
        try:
            self._file.seek(place)
            if fill(room, self._file) < len(room):
                raise self._refusal("has become shorter while it was read")
        except OSError as error:
            raise self._refusal(f"cannot be read ({error.strerror or error})") from None

    def _read_header(self) -> tuple[dict[str, Any], int]:
        """What is said of each tensor, and where the first begins."""
        length = int.from_bytes(self._file.read(_FIRST), "little")
        most = min(MAX_HEADER_BYTES, self.size - _FIRST)
        if not 0 < length <= most:
            raise self._refusal(
                f"its header is said to take {length} bytes, expected 1 to {max(1, most)}"
            )
        try:
            header = parse_json(self._file.read(length))
        except Unreadable:
            header = None
        if not isinstance(header, dict):
            raise self._refusal("its header is no JSON, or says of no tensor")
        return header, _FIRST + length

    def _declare(self, name: str, entry: object, begin: int) -> Declared:
        """What the header says of a tensor; CheckpointError where it cannot be."""
        if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
            raise self._refusal(
                f"of tensor {name!r:.80} it says {entry!r:.60}, expected dtype, shape and data_offsets"
            )
        dtype, shape, places = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise self._refusal(
                f"tensor {name!r:.80} has type {dtype!r:.40}, expected one of {', '.join(DTYPES)}"
            )
        if not _are_counts(shape) or len(shape) > MAX_DIMENSIONS:
            raise self._refusal(f"tensor {name!r:.80} has shape {shape!r:.60}, expected sizes")
        if not _are_counts(places) or len(places) != 2:
            raise self._refusal(
                f"tensor {name!r:.80} lies at {places!r:.60}, expected its first byte and the one after"
            )
        declared = Declared(DTYPES[dtype], tuple(shape), begin + places[0])
        if declared.n_bytes != places[1] - places[0]:
            raise self._refusal(
                f"tensor {name!r:.80} has {places[1] - places[0]} bytes, expected {declared.n_bytes} of "
                f"{dtype} {shape!r:.60}"
            )
        return declared

    def _check_places(self, begin: int) -> None:
        """CheckpointError where tensors do not lie side by side, from the header to the end of the file."""
        end = begin
        for name, declared in sorted(self.declared.items(), key=_place_of):
            if declared.begin != end:
                raise self._refusal(
                    f"tensor {name!r:.80} begins at byte {declared.begin}, expected {end}, where the one "
                    "before ends"
                )
            end += declared.n_bytes
        if end != self.size:
            raise self._refusal(f"has {self.size} bytes, expected {end} for its tensors")

    def _refusal(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: {what}; use an earlier checkpoint")


def _are_counts(values: object) -> bool:
    """Whether this is a list of whole numbers, none negative, none beyond what a file can hold."""
    if not isinstance(values, list):
        return False
    return all(type(value) is int and 0 <= value < 2**62 for value in values)


def _place_of(item: tuple[str, Declared]) -> tuple[int, int]:
    _, declared = item
    return declared.begin, declared.n_bytes
