"""Pages that are written by the code: the verbs of the command line, settings, numbers of the evidence.

A page asks for one with a comment that stands in a line of its own, so that the file also reads well where
comments are hidden:

    <!-- pairfree: commands -->
    <!-- pairfree: settings iddp -->
    <!-- pairfree: evidence -->
    <!-- pairfree: face -->

``fill`` puts Markdown in its place. Sphinx calls it for each page it reads; the tests call it without Sphinx.
"""

from __future__ import annotations

import inspect
import math
import re
from typing import Any

from typer.main import get_command

import pairfree
from pairfree.cli.main import app
from pairfree.config import field_docs
from pairfree.evidence.noref import Evidence
from pairfree.methods import PRESETS
from pairfree.training.settings import Setting, list_settings

MARK = re.compile(r"^<!-- pairfree: (commands|settings|evidence|face) ?([\w-]*) -->$", re.MULTILINE)
FIRST = (
    "train",
    "load",
    "denoise",
    "evaluate",
    "verify",
    "simulate",
    "info",
    "open_image",
    "save_image",
)
"""Functions of the package, in the order in which they are needed."""
ERRORS = (
    "Every error of pairfree is a `PairfreeError` with a message of one line: what, where, "
    "and what to do next."
)
BAR = re.compile(r"(?<!\\)\|(?=[^`]*(?:`[^`]*`[^`]*)*$)")
"""A bar that stands in no literal."""
OPTION = re.compile(r"(?<![\w`-])(--[a-z][a-z-]+)")
COLUMN = re.compile(r"(\w+(?:, \w+)*)\s{2,}(\S.*)$")
AGAIN = re.compile(r";\s+(?=\w+(?:, \w+)*\s{3,}\S)")
"""Where a second name stands on the line of another."""
KINDS = {"str": "TEXT", "int": "NUMBER", "float": "NUMBER", "Path": "PATH", "bool": ""}
SHARED = ("SingleConfig", "UnpairedConfig", "ImitationConfig", "OneImageConfig")
"""Classes of settings that several methods have in common; what a method adds comes first."""


def setup(sphinx: Any) -> dict[str, bool]:
    """Tell Sphinx to fill each page as it is read."""
    sphinx.connect("source-read", fill_page)
    sphinx.connect("autodoc-process-docstring", tidy_docstring)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def fill_page(sphinx: Any, name: str, source: list[str]) -> None:
    """What Sphinx calls with the text of a page in a list of one."""
    source[0] = fill(source[0])


def tidy_docstring(
    sphinx: Any, kind: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """What Sphinx calls with the lines of a docstring: bars are absolute values, columns are a list."""
    lines[:] = [OPTION.sub(r"``\1``", BAR.sub(r"\\|", line)) for line in list_columns(lines)]


def list_columns(lines: list[str]) -> list[str]:
    """``name   meaning`` in columns becomes a list of definitions; other lines stay as they are."""
    found: list[str] = []
    inside = False
    for line in lines:
        if COLUMN.match(line):
            for part in AGAIN.split(line):
                names, meaning = COLUMN.match(part).groups()  # type: ignore[union-attr]
                found += ["", f"**{names}**", f"    {meaning}"]
            inside = True
        elif inside and line.startswith("  "):
            found.append(f"    {line.strip()}")
        else:
            found += ["", line] if inside and line.strip() else [line]
            inside = False
    return found


def fill(page: str) -> str:
    """The page with Markdown in place of its marks."""

    writers = {"commands": commands, "evidence": evidence, "face": face}

    def written(mark: re.Match[str]) -> str:
        return settings(mark[2]) if mark[1] == "settings" else writers[mark[1]]()

    return MARK.sub(written, page)


# -- the command line ------------------------------------------------------------------------------


def commands() -> str:
    """A heading for each verb, how it is called, and tables of its arguments and options."""
    parts = []
    for name, command in get_command(app).commands.items():
        parts.append(f"## `pairfree {name}`\n\n{describe_command(name, command)}")
    return "\n\n".join(parts)


def describe_command(name: str, command: Any) -> str:
    """The verb's help text, its call and its parameters."""
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [
        one
        for one in command.params
        if one.param_type_name == "option" and "--help" not in one.opts
    ]
    words = " ".join(["pairfree", name, *(argument_name(one) for one in arguments), "[OPTIONS]"])
    parts = [prose(command.help or ""), f"```text\n{words}\n```"]
    if arguments:
        rows = [f"| `{argument_name(one)}` | {cell(one.help or '')} |" for one in arguments]
        parts.append("\n".join(["| argument | meaning |", "|---|---|", *rows]))
    if options:
        rows = [
            f"| {option_name(one)} | {cell(one.help or '')} | {default_of(one)} |"
            for one in options
        ]
        parts.append("\n".join(["| option | meaning | default |", "|---|---|---|", *rows]))
    return "\n\n".join(parts)


def argument_name(parameter: Any) -> str:
    """``INPUTS...`` in brackets where it may be left out."""
    name = (parameter.metavar or parameter.name).upper()
    if parameter.nargs == -1:
        name += "..."
    return name if parameter.required else f"[{name}]"


def option_name(parameter: Any) -> str:
    """``--out PATH``, with a note where it may be repeated."""
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    kind = value_kind(parameter)
    return f"`{names} {kind}`".replace(" `", "`") + (
        ", may be repeated" if parameter.multiple else ""
    )


def value_kind(parameter: Any) -> str:
    """What stands behind the option: TEXT, NUMBER or PATH; nothing behind a flag."""
    if parameter.is_flag:
        return ""
    annotation = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    name = getattr(annotation, "__name__", "") if annotation is not None else parameter.type.name
    inner = getattr(annotation, "__args__", None)
    if inner:
        name = inner[0].__name__
    return KINDS.get(name, "TEXT")


def default_of(parameter: Any) -> str:
    """As it is typed; nothing for flags and for options whose default is said in words."""
    if parameter.required:
        return "must be given"
    if parameter.is_flag or parameter.default in (None, ()):
        return ""
    value = parameter.default
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


# -- the settings of a method ----------------------------------------------------------------------


def settings(key: str) -> str:
    """Tables of a method's settings: its own, then those it shares; name, value in each preset, meaning."""
    common = shared_names(key)
    own, shared = [], []
    for setting in list_settings(key):
        (shared if setting.name in common else own).append(settings_row(setting))
    parts = [settings_table(own, key)] if own else []
    if shared:
        heading = "Shared with other methods"
        if not own:
            heading += ", which are all it has"
        parts.append(f":::{{dropdown}} {heading}\n{settings_table(shared, key)}\n:::")
    words = (
        "`--set NAME=VALUE` changes one of these; "
        f"`pairfree train --method {key} --settings` prints them."
    )
    return "\n\n".join([words, *parts])


def shared_names(key: str) -> set[str]:
    """Settings that a class of several methods declares."""
    kinds = {kind for preset in PRESETS[key].values() for kind in type(preset).__mro__}
    return {
        name for kind in kinds if kind.__name__ in SHARED for name in inspect.get_annotations(kind)
    }


def settings_table(rows: list[str], key: str) -> str:
    """Rows under the names of the presets."""
    names = "".join(f" `{name}` |" for name in PRESETS[key])
    return "\n".join(
        [f"| setting |{names} meaning |", "|---|" + "---|" * len(PRESETS[key]) + "---|", *rows]
    )


def settings_row(setting: Setting) -> str:
    """``| `lr` | 0.002 | 0.0002 | peak learning rate |``"""
    values = [value_text(value) for value in setting.defaults.values()]
    return f"| `{setting.name}` | " + " | ".join(values) + f" | {cell(setting.meaning)} |"


def value_text(value: Any) -> str:
    """A value as ``--set`` takes it; a dash where a preset has no such setting."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.4g}"
    return f"{value}" if value != "" else "(empty)"


# -- the numbers of the evidence -------------------------------------------------------------------


def evidence() -> str:
    """Each number that ``pairfree evaluate --json`` writes for an image, and its meaning."""
    rows = [f"| `{name}` | {cell(meaning)} |" for name, meaning in field_docs(Evidence).items()]
    return "\n".join(["| name | meaning |", "|---|---|", *rows])


# -- what Python callers see --------------------------------------------------------------------------------


def face() -> str:
    """Every public name of the package: functions in the order of a day's work, then classes, then errors."""
    things = {
        name: getattr(pairfree, name) for name in pairfree.__all__ if not name.startswith("_")
    }
    errors = [
        name
        for name, thing in things.items()
        if isinstance(thing, type) and issubclass(thing, Exception)
    ]
    classes = [
        name for name, thing in things.items() if isinstance(thing, type) and name not in errors
    ]
    functions = [name for name, thing in things.items() if inspect.isroutine(thing)]
    functions.sort(key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
    parts = [
        section("Functions", [f".. autofunction:: pairfree.{name}" for name in functions]),
        section("Classes", [f".. autoclass:: pairfree.{name}\n   :members:" for name in classes]),
        section("Errors", [".. automodule:: pairfree.errors\n   :members:"], ERRORS),
    ]
    return "\n\n".join(parts)


def section(title: str, directives: list[str], words: str = "") -> str:
    """Directives of autodoc under a heading."""
    body = "\n\n".join(directives)
    return "\n\n".join(
        [f"## {title}", *([words] if words else []), f"```{{eval-rst}}\n{body}\n```"]
    )


# -- words -----------------------------------------------------------------------------------------


def prose(text: str) -> str:
    """A help text as Markdown: options and verbs in the type they are typed in."""
    return " ".join(re.sub(r"``([^`]+)``", r"`\1`", text).split())


def cell(text: str) -> str:
    """Text for a cell of a table: nothing in it may end the cell or be read as markup."""
    plain = (
        prose(text).replace("|", r"\|").replace("<", "&lt;").replace("*", r"\*").replace("$", r"\$")
    )
    return OPTION.sub(r"`\1`", plain)
