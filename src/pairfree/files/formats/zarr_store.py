"""What zarr reads of a folder or a zip archive: only what ``ZarrFiles`` gives it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

from zarr.abc.buffer import Buffer
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.buffer import default_buffer_prototype

from pairfree.files.formats.zarr_files import ZarrFiles


class FilesStore(Store):
    """zarr's way to files, which opens no link, no pipe and no device, and writes nothing.

    Parameters
    ----------
    files
        Of the image.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True

    def __init__(self, files: ZarrFiles) -> None:
        super().__init__(read_only=True)
        self.files = files

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FilesStore) and other.files is self.files

    def __hash__(self) -> int:
        return id(self.files)

    def __str__(self) -> str:
        return str(self.files.path)

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Buffer | None:
        """Content of a file, or the part of it that is asked for; None where there is none."""
        content = await asyncio.to_thread(self._read, key, byte_range)
        buffers = (prototype or default_buffer_prototype()).buffer
        return None if content is None else buffers.from_bytes(content)

    def _read(self, key: str, byte_range: Any) -> bytes | None:
        size = self.files.size(key)
        if size is None:
            return None
        if byte_range is None:
            return self.files.read(key)
        start, length = _part_of(size, byte_range)
        return self.files.read(key, start, length)

    async def get_partial_values(
        self, prototype: Any, key_ranges: Iterable[tuple[str, Any]]
    ) -> list[Buffer | None]:
        """As ``get``, of several files."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        """Whether there is a file of that name."""
        return await asyncio.to_thread(self.files.size, key) is not None

    async def set(self, key: str, value: Buffer) -> None:
        """Nothing is written."""
        self._check_writable()

    async def delete(self, key: str) -> None:
        """Nothing is removed."""
        self._check_writable()

    async def list(self) -> AsyncIterator[str]:
        """Names of all files."""
        for name in self.files.below(""):
            yield name

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Names of all files whose names begin so."""
        for name in self.files.below(""):
            if name.startswith(prefix):
                yield name

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Names of all that lies directly in a folder."""
        folder = prefix.strip("/")
        try:
            folders, names = await asyncio.to_thread(self.files.members, folder)
        except (FileNotFoundError, NotADirectoryError):
            return
        for name in (*folders, *names):
            yield name


def _part_of(size: int, byte_range: Any) -> tuple[int, int]:
    """Where the part of a file begins that is asked for, and how long it is."""
    if isinstance(byte_range, RangeByteRequest):
        start, stop = byte_range.start, min(byte_range.end, size)
    elif isinstance(byte_range, SuffixByteRequest):
        start, stop = max(0, size - byte_range.suffix), size
    elif isinstance(byte_range, OffsetByteRequest):
        start, stop = byte_range.offset, size
    else:
        raise TypeError(f"no part of a file: {byte_range}")
    return start, max(0, stop - start)
