"""Words for one-line messages: names, sizes and reasons shown so that a message never spans two lines."""

from __future__ import annotations

import re
from pathlib import Path

_LONGEST_NAME = 240
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/+(?=.)")
"""How an address of a server begins, also one that was taken for a path; drives have one letter."""


def address_of(path: str | Path) -> str | None:
    """The address of what lies on a server, as its users write it; None for what lies on a disk.

    Paths make one slash of two: ``https:/host/a.zarr`` is https://host/a.zarr.
    """
    text = str(path)
    begin = _ADDRESS.match(text)
    return None if begin is None else f"{begin.group(1)}://{text[begin.end() :]}"


def shown(path: str | Path) -> str:
    """A path as printable text.

    Control and undecodable characters are escaped, very long names cut in the middle.
    """
    text = address_of(path) or str(path)
    if not text.isprintable():
        text = "".join(map(_printable, text))
    if len(text) > _LONGEST_NAME:
        half = _LONGEST_NAME // 2
        text = f"{text[:half]}...{text[-half:]}"
    return text


def shown_scene(path: str | Path, scene: int | None) -> str:
    """A path as ``shown``, with the number of the image where its file holds several."""
    return shown(path) if scene is None else f"{shown(path)}, scene {scene}"


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def size_text(n_bytes: int) -> str:
    """A number of bytes for people and for programs: ``1.5 GiB (1610612736 bytes)``."""
    value, unit = float(n_bytes), "bytes"
    for bigger in ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        if value < 1024:
            break
        value, unit = value / 1024, bigger
    exactly = f"{n_bytes} bytes"
    return exactly if unit == "bytes" else f"{value:.1f} {unit} ({exactly})"


def reason(error: BaseException) -> str:
    """What an exception says, as one short line; its class name where it says nothing."""
    name = type(error).__name__
    one_line = " ".join(str(error).split())
    text = " ".join(shown(one_line).split())
    return f"{name}: {text}" if text else name
