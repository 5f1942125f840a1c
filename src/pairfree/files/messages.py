"""Words for one-line messages: names, sizes and reasons shown so that a message never spans two lines."""

from __future__ import annotations

from pathlib import Path

_LONGEST_NAME = 240


def shown(path: str | Path) -> str:
    """A path as printable text: control and undecodable characters escaped, very long names cut in the
    middle."""
    text = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii")
        for c in str(path)
    )
    if len(text) > _LONGEST_NAME:
        half = _LONGEST_NAME // 2
        text = f"{text[:half]}...{text[-half:]}"
    return text


def size_text(n_bytes: int) -> str:
    """A number of bytes for people and for programs: ``1.5 GiB (1610612736 bytes)``."""
    value, unit = float(n_bytes), "bytes"
    for bigger in ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        if value < 1024:
            break
        value, unit = value / 1024, bigger
    return f"{n_bytes} bytes" if unit == "bytes" else f"{value:.1f} {unit} ({n_bytes} bytes)"


def reason(error: BaseException) -> str:
    """What an exception says, as one short line; its class name where it says nothing."""
    text = " ".join(shown(" ".join(str(error).split())).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
