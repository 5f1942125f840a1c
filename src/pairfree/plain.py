"""Text that others wrote, made safe to print: one line stays one line.

Nothing steers a terminal, a log or a page. File names, metadata and settings may hold anything.
"""

from __future__ import annotations

import json
import logging
import unicodedata

NOTE = 25
"""Level of what is told but is no reason to worry, between information and warnings."""
logging.addLevelName(NOTE, "NOTE")


def one_line(text: str) -> str:
    """Text in which whatever is neither a visible character nor a blank is spelled out.

    Escaped, as Python does it, are control characters of both sets (C0 and C1), line and paragraph
    separators, marks that turn the direction of writing, other invisible marks, and bytes that are no UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(map(_spell_out, text))


def _spell_out(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def quote_toml(text: str) -> str:
    """A string of TOML that shows the same; bytes of a file name that are no text are spelled out."""
    # JSON's escapes are a subset of those of TOML's basic strings; DEL, and what is beyond ASCII, it leaves
    quoted = json.dumps(text.encode("utf-8", "backslashreplace").decode(), ensure_ascii=False)
    return "".join(map(_spell_out_in_toml, quoted))


def _spell_out_in_toml(character: str) -> str:
    return character if one_line(character) == character else f"\\U{ord(character):08x}"


class OneLine(logging.Filter):
    """Makes each message one line, whoever prints it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Put the finished words in the place of message and arguments; nothing is left out."""
        record.msg, record.args = one_line(record.getMessage()), ()
        return True
