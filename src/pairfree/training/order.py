"""What was asked of a training run: one dataclass, read from a TOML file, from options or from arguments.

A field of ``Order`` is an option of ``pairfree train`` and an argument of ``pairfree.train``; the words
beneath it are the help of both. A new option is a field here and what it does in the room that does it,
nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairfree import facts
from pairfree.config import (
    did_you_mean,
    option,
    options_of,
    parse_bytes,
    parse_set,
    read_arguments,
)
from pairfree.errors import ConfigError
from pairfree.facts import MOST_WHOLE, shorten

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from pairfree.methods.base import Method

    Images = str | Path | np.ndarray | Sequence[str] | Sequence[Path] | Sequence[np.ndarray]

_say = logging.getLogger("pairfree")
AUTO = "auto"
"""The method that is chosen by the noise of the images."""
TEXT = (str,)
WHOLE = (int,)
NUMBER = (int, float)
TABLE = (dict,)
PATHS = (str, list)
"""What a field is in a TOML file."""
EXPECTED: dict[tuple[type, ...], str] = {
    TEXT: "text",
    WHOLE: "a whole number",
    NUMBER: "a number",
    TABLE: "a table",
    PATHS: "a path, or a list of paths",
}


@dataclass(frozen=True)
class Order:
    """What was asked of a training run: nothing is read yet, nothing is checked against the files.

    Every field is an argument of ``pairfree.train``; those with an ``option`` stand on the command line too.
    Words between single backticks are names of fields, which the command line spells as its flags.
    """

    noisy: Images | None = option(
        None,
        list[str],
        argument=True,
        toml=PATHS,
    )
    """Noisy files, folders or globs.

    From Python also a list of arrays (H, W) or (C, H, W), or one array (H, W), (N, H, W) or (N, C, H, W).
    """

    out: str | Path | None = option(None, Path, asked_default=Path("run"))
    """Run folder to write.

    From Python None keeps the run in memory only.
    """

    clean: Images | None = option(None, list[Path], toml=PATHS)
    """Unpaired clean images of other scenes; one or more, after NOISY."""

    target: Images | None = option(None, Path, toml=PATHS)
    """Partner of each noisy file, by name (n2c, n2n, noisy-n2n)."""

    noise_images: Images | None = option(None, Path, toml=PATHS)
    """Images of the noise alone (quan, noisy-n2n)."""

    method: str | type[Method] | Method | None = option(
        None,
        str,
        toml=TEXT,
        fixed=True,
    )
    """Noisy files only: iddp, nb2nb, n2v, n2s, b2u, cvf-sid, gan2gan, bm3d, shipped; dip, s2s (each image by
    itself).

    With `clean`: iscl, cyclegan, uidnet, gcbd, dncnn-b, and quan (also `noise_images`). With `target`: n2n,
    n2c, and noisy-n2n (also `noise_images`). Default: that of `init`, else auto, which looks at the noise and
    takes what fits, or says why nothing does.

    From Python also your own Method: an instance, or a class that is called with (channels, device).
    """

    minutes: float | None = option(None, float, toml=NUMBER, fixed=True)
    """Budget in minutes. Default: the preset's, 10 with cpu."""

    steps: int | None = option(None, int, toml=WHOLE, fixed=True)
    """Budget in steps."""

    preset: str = option("cpu", str, toml=TEXT, fixed=True)
    """cpu (short budgets, the default), paper, or paper-200k (its schedule, a tenth as long)."""

    init: str | Path | None = option(None, Path, toml=TEXT, fixed=True)
    """Run folder to fine-tune from."""

    start: str | None = option(None, str, toml=TEXT, fixed=True)
    """shipped (weights that were trained on drawn scenes) or none (random weights).

    Default: shipped with preset cpu, for methods that train the default network; none with `init`.
    """

    settings: Mapping[str, Any] | None = option(
        None,
        list[str],
        flag="--set",
        read=parse_set,
        toml=TABLE,
    )
    """KEY=VALUE, changes one setting of the method; may be repeated.

    From Python a mapping.
    """

    device: str = option("auto", str)
    """auto, cpu or cuda."""

    seed: int = option(0, int, toml=WHOLE, fixed=True)
    """Everything random follows from it. Default 0."""

    nan: str = option("error", str, toml=TEXT, fixed=True)
    """Pixels that are NaN or Inf: error (default), or mask, which trains on their neighbours' mean and leaves
    them in results.
    """

    scene: int | str | None = option(None, str, toml=(int, str), fixed=True)
    """Of files that hold several images (CZI, LIF, ND2, EMD, TIFF, OME-Zarr): number of one, from 0, or all.

    Without it the first is used.
    """

    slices_around: int = option(0, int, toml=WHOLE, fixed=True)
    """2.5-D: slices of a stack on each side that the network sees with each. Default 0.

    A stack's axis is Z, else T, else one without a name.
    """

    max_bytes: float | None = option(
        None,
        str,
        flag="--max-memory",
        read=parse_bytes,
        toml=NUMBER,
        fixed=True,
    )
    """Bound for the memory of training, such as 4GB: of larger sets, crops. Default: 2 GB of pixels a set.

    From Python a number of bytes. Arrays stay whole.
    """

    resume: bool = option(False, bool)
    """Go on with the run in `out`."""

    net: nn.Module | None = None
    """Your own network, (B, C, H, W) -> same; its ``stride`` is what H and W must be multiples of (1 where it
    has none).
    """

    command: str = ""
    """What the report names as the command."""

    report: bool = True
    """Write report.html into ``out`` when training ends."""

    @property
    def own_parts(self) -> bool:
        """Whether the method is the caller's own."""
        return self.method is not None and not isinstance(self.method, str)

    @property
    def images(self) -> dict[str, Images | None]:
        """What is read, by the name of its field."""
        return {name: getattr(self, name) for name in IMAGES}


IMAGES = ("noisy", "clean", "target", "noise_images")
STORED = {name: one.toml for name, one in options_of(Order).items() if one.toml}
"""Fields that a TOML file may hold, and their types there."""
NOTED = ("device", "command", "auto", "noise", "stage_names", "stage_steps")
"""Keys of config.toml that say how the run went, not what to do."""
FIXED = tuple(name for name, one in options_of(Order).items() if one.fixed)
"""Fields that a resumed run has from its beginning."""


def place_order(given: Mapping[str, Any], config: str | Path | None = None) -> Order:
    """An order from what was given and, beside it, a TOML file.

    What is given wins over the file. A budget that is given takes the place of the file's. Settings are
    merged; where another method or preset is given, the file's settings are those of something else and left
    out.

    Parameters
    ----------
    given
        Fields of ``Order`` by name; None means not given.
    config
        A run's config.toml, or a file of one's own.

    Raises
    ------
    ConfigError
        For names that are no fields, with a suggestion, and for a file that does not hold what it should.
    """
    asked = read_arguments(Order, given, "train")
    if not isinstance(asked.get("settings", {}), Mapping):
        found = type(asked["settings"]).__name__
        raise ConfigError(f"train: `settings` is a mapping such as {{'lr': 0.001}}, found {found}")
    stored = {} if config is None else read_order(Path(config))
    if "minutes" in asked or "steps" in asked:
        stored.pop("minutes", None)
        stored.pop("steps", None)
    settings = dict(asked.get("settings", {}))
    of_file = stored.get("settings", {})
    if not _changes_method(asked, stored):
        settings = {**of_file, **settings}
    elif of_file:
        names = ", ".join(of_file)
        _say.warning(
            "%s: its settings belong to its method and preset, left out: %s", config, names
        )
    chosen = {**stored, **asked}
    chosen["settings"] = settings
    return Order(**chosen)


def _changes_method(asked: Mapping[str, Any], stored: Mapping[str, Any]) -> bool:
    """Whether another method or preset is asked for than a file says."""

    def differs(name: str) -> bool:
        return name in asked and name in stored and asked[name] != stored[name]

    return differs("method") or differs("preset")


def read_order(path: Path) -> dict[str, Any]:
    """The choices of a TOML file, a run's config.toml or one's own: fields of ``Order``.

    A run's budget comes back as it was given: minutes, or the number of steps.

    Raises
    ------
    ConfigError
        With all that is wrong in it.
    """
    values = read_toml(path)
    problems = _problems_of(values)
    if problems:
        raise ConfigError(f"{path}: " + " | ".join(problems))
    stored = {}
    for key, value in values.items():
        if key in STORED and value not in ([], ""):
            stored[key] = value
    if not stored.get("minutes"):
        stored.pop("minutes", None)
        lengths = values.get("stage_steps")
        if lengths:
            stored.setdefault("steps", sum(lengths))
    return stored


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says. ConfigError where there is none, or none that can be read."""
    try:
        return facts.read_toml(path)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config file") from None
    except facts.Unreadable as error:
        if path.is_dir():
            raise ConfigError(
                f"{path}: is a folder; name the file, such as run/config.toml"
            ) from None
        raise ConfigError(f"{path}: not readable as TOML: {error}") from None


def _problems_of(values: Mapping[str, Any]) -> list[str]:
    """What is wrong in a TOML file, a phrase each."""
    problems = []
    for key in values:
        if key not in STORED and key not in NOTED:
            problems.append(f"unknown key {key!r}{did_you_mean(key, STORED)}")
    for key, kinds in STORED.items():
        if key in values and not _is(values[key], kinds):
            problems.append(f"{key} = {shorten(values[key])}: expected {EXPECTED[kinds]}")
    lengths = values.get("stage_steps", [])
    if not isinstance(lengths, list) or not all(_is(length, WHOLE) for length in lengths):
        problems.append("stage_steps: expected whole numbers")
    return problems


def fixed_fields(order: Order, given: Mapping[str, Any]) -> dict[str, Any]:
    """Of what was given, the fields that a resumed run has from its beginning.

    They are spelled as in its config.toml.
    """
    found = {}
    for name in FIXED:
        if given.get(name) is not None:
            found[name] = getattr(order, name)
    if order.own_parts or order.method == AUTO:
        found.pop("method", None)
    if "init" in found:
        found["init"] = str(Path(found["init"]).absolute())
    return found


def changed_settings(before: Any, after: Any, names: Sequence[str]) -> list[tuple[str, Any, Any]]:
    """(name, value before, value after) of the settings among ``names`` that differ between two configs."""
    changed = []
    for name in names:
        old = getattr(before, name)
        new = getattr(after, name)
        if old != new:
            changed.append((name, old, new))
    return changed


def _is(value: Any, kinds: tuple[type, ...]) -> bool:
    """Whether a value of a TOML file is of a kind; numbers are those that all programs can hold."""
    if isinstance(value, list):
        return list in kinds and all(isinstance(one, str) for one in value)
    if isinstance(value, int) and abs(value) > MOST_WHOLE:
        return False
    return isinstance(value, kinds) and not isinstance(value, bool)
