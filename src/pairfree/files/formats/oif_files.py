"""Where the parts of Olympus' OIF and OIB files lie: settings, and a TIFF for each plane.

They lie in a folder beside an OIF file, and within an OIB file (a compound file, which olefile
opens: ``pip install 'pairfree[vendors]'``).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pairfree.errors import InputError
from pairfree.files.messages import shown

Settings = dict[str, dict[str, str]]
"""Values by section and key."""
INFO = "OibInfo.txt"
"""Of an OIB file: which stream is which file."""
MOST_TEXT = 2**26
"""Bytes of settings that are read."""


class Folder:
    """The files beside an OIF file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = folder_of(path)
        if not self.folder.is_dir():
            raise InputError(
                f"{shown(path)}: its planes are missing; put the folder {self.folder.name} beside it"
            )

    def settings(self) -> Settings:
        """Of the whole image."""
        with self.path.open("rb") as file:
            return parse_settings(file.read(MOST_TEXT), self.path)

    def size(self) -> int:
        """Bytes of all files."""
        return sum(one.stat().st_size for one in self.folder.iterdir())

    def names(self) -> list[str]:
        """Of all files."""
        return [one.name for one in self.folder.iterdir()]

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """A file by its name; InputError for a pipe, which would never answer."""
        path = self.folder / name
        if path.exists() and not path.is_file():
            raise InputError(
                f"{shown(self.path)}: its part {shown(name)} is no regular file; copy it again"
            )
        yield path


class Compound:
    """The files within an OIB file, which are numbered streams."""

    def __init__(self, path: Path) -> None:
        self.path = path
        info = parse_settings(self._read(INFO), path).get("OibSaveInfo", {})
        self._main = info.get("MainFileName", "")
        self._streams = {}
        for key, name in info.items():
            if key.startswith("Stream"):
                self._streams[name.rpartition("/")[2]] = key

    def settings(self) -> Settings:
        """Of the whole image."""
        return parse_settings(self._read(self._main), self.path)

    def size(self) -> int:
        """Bytes of all files."""
        return self.path.stat().st_size

    def names(self) -> list[str]:
        """Of all files."""
        return list(self._streams)

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """A copy of a file, by its name, for as long as the block lasts."""
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "plane.tif"
            copy.write_bytes(self._read(self._streams[name]))
            yield copy

    def _read(self, stream: str) -> bytes:
        import olefile

        # At this level olefile refuses chains that are longer than the file.
        level = olefile.DEFECT_INCORRECT
        with olefile.OleFileIO(str(self.path), raise_defects=level) as file:
            places = {one[-1]: one for one in file.listdir()}
            if stream not in places:
                raise InputError(
                    f"{shown(self.path)}: its part {shown(stream)} is missing; "
                    "copy or export the file again"
                )
            content: bytes = file.openstream(places[stream]).read()
            return content


def files_of_oif(path: Path) -> tuple[Path, ...]:
    """All files that an image is read from: of OIF those of its folder, too."""
    folder = folder_of(path)
    if path.suffix.lower() != ".oif" or not folder.is_dir():
        return (path,)
    return (path, *sorted(folder.iterdir()))


def folder_of(path: Path) -> Path:
    """Where the planes of an OIF file lie."""
    return path.with_name(path.name + ".files")


def is_of_oif(folder: Path) -> bool:
    """Whether a folder holds the planes of an OIF file beside it, and no images of their own."""
    name = folder.name.removesuffix(".files")
    beside = name != folder.name and name.lower().endswith(".oif")
    return beside and folder.with_name(name).is_file()


def parse_settings(content: bytes, path: Path) -> Settings:
    """Sections of keys and values, in UTF-16 or UTF-8.

    Raises
    ------
    InputError
        Where it is no such text.
    """
    if content.startswith(b"\xff\xfe"):
        text = content.decode("utf-16", "replace")
    else:
        text = content.decode("utf-8", "replace")
    text = text.partition("[ColorLUTData]")[0]  # bytes follow
    found: Settings = {}
    section: dict[str, str] = {}
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("[") and line.endswith("]"):
            section = found.setdefault(line[1:-1], {})
        else:
            key, equals, value = line.partition("=")
            if equals:
                section[key] = value.strip("\"'")
    if not found:
        raise InputError(f"{shown(path)}: holds no settings of Olympus; copy or export it again")
    return found
