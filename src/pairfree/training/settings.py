"""What can be set of a method, listed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from pairfree.config import choose, field_docs
from pairfree.methods import METHODS, PRESETS


@dataclass(frozen=True)
class Setting:
    """A field of a method's config."""

    name: str
    kind: str
    """Its type, as the source spells it."""

    defaults: dict[str, Any]
    """Its value in each preset."""

    meaning: str
    """What stands beneath it in the source."""


def list_settings(method: str) -> list[Setting]:
    """Every setting of a method, in the order of its config.

    Parameters
    ----------
    method
        A key of ``METHODS``.

    Returns
    -------
    list of Setting
        Name, type, default in each preset and meaning of each.

    Raises
    ------
    ConfigError
        For a method that does not exist, with a suggestion.
    """
    choose(method, METHODS, "method")
    presets = PRESETS[method]
    fields = {
        field.name: field for config in presets.values() for field in dataclasses.fields(config)
    }
    docs: dict[str, str] = {}
    for config in presets.values():
        kind: Any = type(config)
        docs |= field_docs(kind)
    found = []
    for name, field in fields.items():
        defaults = {preset: getattr(config, name, "-") for preset, config in presets.items()}
        found.append(Setting(name, str(field.type), defaults, " ".join(docs[name].split())))
    return found
