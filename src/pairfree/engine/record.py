"""What a checkpoint says of its model beside the numbers: settings, intensity map, budget, versions.

JSON in, JSON out, typed in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pairfree.data.normalize import Normalizer
from pairfree.engine.plan import Clock, Plan
from pairfree.engine.watch import Watch
from pairfree.errors import CheckpointError
from pairfree.facts import is_finite
from pairfree.version import __version__

REQUIRED: dict[str, type] = {
    "method": str,
    "config": dict,
    "preset": str,
    "normalizer": dict,
    "channels": int,
    "seed": int,
    "plan": list,
    "step": int,
    "data_sha256": str,
    "precision": str,
    "versions": dict,
}
"""What the JSON of a checkpoint holds of a record, and of which type."""
OPTIONAL: dict[str, type] = {
    "slices_around": int,
    "denoiser": str,
    "weights": int,
    "clock": dict,
    "start": str,
    "start_kind": str,
    "ending": str,
}
"""Likewise, but not in every checkpoint: older ones lack the first three, and a clock has a run whose budget
is minutes."""

MOST_STEPS = 2**53
"""Of a run, and of anything else that is counted."""
RANGES = {
    "channels": (1, 2**16),
    "slices_around": (0, 2**10),
    "seed": (0, 2**63 - 1),
    "step": (0, MOST_STEPS),
    "weights": (0, MOST_STEPS),
}
"""Least and most of whole numbers."""
EARLY, START_KEPT, EARLIER_KEPT = "early", "start kept", "earlier kept"
ENDINGS = ("", EARLY, START_KEPT, EARLIER_KEPT)
"""How a run ended: as planned; before, as nothing was gained; with its start, or an earlier state, kept."""
WORDS = {"precision": ("float32", "bfloat16"), "start": ("shipped", "none"), "ending": ENDINGS}
"""What a text may be."""
LONGEST_TEXT = 200
"""Characters of any other."""
REMEDY = "use an earlier checkpoint, or train anew"


@dataclass(frozen=True)
class Record:
    """The facts of a checkpoint: what was trained, on what, how far, by which versions."""

    method: str
    """Key of the method."""
    config: Mapping[str, Any]
    """Settings of the method by name, as JSON holds them."""
    preset: str
    """The preset that the settings began as."""
    normalizer: Normalizer
    """Intensity map of the noisy images, and of results."""
    channels: int
    """Channels of an image as the network sees it; with slices around each, that many slices."""
    seed: int
    """What all random draws of the run follow from."""
    plan: Plan
    """Steps of each stage."""
    step: int
    """Steps done."""
    data_sha256: str
    """Digest of all training pixels in network units: a resumed run must see the same."""
    precision: str
    """Number format of convolutions, as it was found best where the run began."""
    versions: Mapping[str, str]
    """Of pairfree and torch, where the run began."""
    clean_normalizer: Normalizer | None = None
    """Intensity map of the unpaired clean set; None of a method without one."""
    slices_around: int = 0
    """Slices of a stack on each side that the network sees with each; 0 for planes by themselves."""
    denoiser: str = "net"
    """Which of the method's networks denoises."""
    weights: int | None = None
    """How many numbers the denoiser learned; None in a checkpoint that does not say."""
    start: str = "none"
    """What the denoiser began from: "shipped", the start that was trained on scenes; "none", random weights
    or another run."""
    start_kind: str = ""
    """Which of the starts that was."""
    ending: str = ""
    """One of ``ENDINGS``."""
    clock: Clock | None = None
    """The time budget as it is used up; None where steps are counted."""
    watch: Watch | None = None
    """Signs of a collapse that stand; None where there are none."""

    @classmethod
    def untrained(cls, method: str, normalizer: Normalizer, channels: int) -> Record:
        """Of a model that no run made: no settings, no steps."""
        return cls(
            method, {}, "", normalizer, channels, 0, Plan(()), 0, "", "float32", current_versions()
        )

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any], where: Path | str) -> Record:
        """Inverse of ``as_facts``.

        What older checkpoints do not say is at its default, what is no fact of a record is passed over.

        Parameters
        ----------
        facts
            The JSON of a checkpoint.
        where
            The file that is named when something is wrong.

        Raises
        ------
        CheckpointError
            Naming the first field that is missing, of the wrong type, or outside its range.
        """
        check_types(facts, where)
        _check_values(facts, where)
        clean = facts.get("clean_normalizer")
        return cls(
            method=facts["method"],
            config=facts["config"],
            preset=facts["preset"],
            normalizer=Normalizer(**facts["normalizer"]),
            channels=facts["channels"],
            seed=facts["seed"],
            plan=Plan.of(facts["plan"]),
            step=facts["step"],
            data_sha256=facts["data_sha256"],
            precision=facts["precision"],
            versions=facts["versions"],
            clean_normalizer=None if clean is None else Normalizer(**clean),
            slices_around=facts.get("slices_around", 0),
            denoiser=facts.get("denoiser", "net"),
            weights=facts.get("weights"),
            start=facts.get("start", "none"),
            start_kind=facts.get("start_kind", ""),
            ending=facts.get("ending", ""),
            clock=_read_clock(facts, where),
            watch=Watch.of(facts["watch"]) if "watch" in facts else None,
        )

    def as_facts(self) -> dict[str, Any]:
        """The record as a checkpoint's JSON holds it."""
        facts: dict[str, Any] = {
            "method": self.method,
            "config": self.config,
            "preset": self.preset,
            "normalizer": self.normalizer.as_dict(),
            "channels": self.channels,
            "slices_around": self.slices_around,
            "seed": self.seed,
            "denoiser": self.denoiser,
            "data_sha256": self.data_sha256,
            "precision": self.precision,
            "versions": self.versions,
            "step": self.step,
            "plan": self.plan.as_list(),
        }
        if self.clean_normalizer is not None:
            facts["clean_normalizer"] = self.clean_normalizer.as_dict()
        if self.weights is not None:
            facts["weights"] = self.weights
        if self.start != "none":
            facts["start"] = self.start
        if self.start_kind:
            facts["start_kind"] = self.start_kind
        if self.ending:
            facts["ending"] = self.ending
        if self.clock is not None:
            facts["clock"] = self.clock.as_dict()
        if self.watch is not None and self.watch.standing:
            facts["watch"] = dict(self.watch.standing)
        return facts


def current_versions() -> dict[str, str]:
    """Of pairfree and torch, as they run."""
    return {"pairfree": __version__, "torch": torch.__version__}


def check_types(
    facts: Mapping[str, Any], where: Path | str, more: Mapping[str, type] | None = None
) -> None:
    """CheckpointError naming the first field that is missing or of the wrong type.

    ``more`` are required beside those of a record.
    """
    required = {**REQUIRED, **(more or {})}
    for key, kind in {**required, **OPTIONAL}.items():
        if key not in facts:
            if key in required:
                raise CheckpointError(f"{where}: field {key!r} is missing; {REMEDY}")
            continue
        if not isinstance(facts[key], kind) or isinstance(facts[key], bool):
            raise _wrong(facts, key, where, kind.__name__)


def _wrong(facts: Mapping[str, Any], key: str, where: Path | str, expected: str) -> CheckpointError:
    return CheckpointError(
        f"{where}: field {key!r} is {facts[key]!r:.60}, expected {expected}; {REMEDY}"
    )


def _check_values(facts: Mapping[str, Any], where: Path | str) -> None:
    """CheckpointError naming the first field that holds what cannot be."""
    for key in ("normalizer", "clean_normalizer"):
        if key in facts and not _is_map(facts[key]):
            raise _wrong(facts, key, where, "a finite offset and a positive scale")
    _check_numbers(facts, where)
    _check_texts(facts, where)
    if "watch" in facts:
        check_counts(facts, "watch", where)
    _check_plan(facts, where)


def _check_numbers(facts: Mapping[str, Any], where: Path | str) -> None:
    """CheckpointError naming the first whole number that is too small or too large."""
    for key, (least, most) in RANGES.items():
        if key in facts and not least <= facts[key] <= most:
            raise _wrong(facts, key, where, f"{least} to {most}")
    around = facts.get("slices_around", 0)
    if around and facts["channels"] != 2 * around + 1:
        raise _wrong(facts, "channels", where, f"{2 * around + 1} with {around} slices around each")


def _check_texts(facts: Mapping[str, Any], where: Path | str) -> None:
    """CheckpointError naming the first text that is none of those that it may be, or too long."""
    for key, words in WORDS.items():
        if key in facts and facts[key] not in words:
            raise _wrong(facts, key, where, f"one of {', '.join(words)}")
    for key in ("method", "preset", "data_sha256", "denoiser"):
        if len(facts.get(key, "")) > LONGEST_TEXT:
            raise _wrong(facts, key, where, f"at most {LONGEST_TEXT} characters")
    if not all(isinstance(text, str) for text in facts["versions"].values()):
        raise _wrong(facts, "versions", where, "a text for each package")


def _check_plan(facts: Mapping[str, Any], where: Path | str) -> None:
    """CheckpointError where the plan is none, or where more steps are done than it has."""
    plan = facts["plan"]
    if not plan or not all(_is_stage(stage) for stage in plan):
        raise _wrong(facts, "plan", where, "[name, steps] for each stage, and no / in names")
    total = sum(steps for _, steps in plan)
    if facts["step"] > total:
        raise _wrong(facts, "step", where, f"at most {total}, the steps of its plan")


def _is_map(value: object) -> bool:
    """Whether these are offset and scale of an intensity map, and whether it makes noise even."""
    switches = {"even", "one_law"}
    if not isinstance(value, dict) or set(value) - switches - {"law"} != {"offset", "scale"}:
        return False
    if not _is_count(value.get("law", 1)):
        return False
    if not all(isinstance(value.get(name, False), bool) for name in switches):
        return False
    return is_finite(value["offset"]) and is_finite(value["scale"]) and value["scale"] > 0


def _is_stage(value: object) -> bool:
    """Whether this is [name, steps], and the name one of a folder."""
    if not isinstance(value, list) or [type(part) for part in value] != [str, int]:
        return False
    name, steps = value
    is_name = name not in ("", ".", "..") and not set(name) & set("/\\\0")
    return is_name and len(name) <= LONGEST_TEXT and 0 < steps <= MOST_STEPS


def check_counts(facts: Mapping[str, Any], key: str, where: Path | str) -> None:
    """CheckpointError where a field does not hold whole numbers by name, none negative."""
    counts = facts[key]
    if not isinstance(counts, dict) or not all(map(_is_count, counts.values())):
        raise _wrong(facts, key, where, "counts by name")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MOST_STEPS


def _read_clock(facts: Mapping[str, Any], where: Path | str) -> Clock | None:
    if "clock" not in facts:
        return None
    try:
        clock = Clock.from_dict(facts["clock"])
    except ValueError as error:
        raise CheckpointError(f"{where}: field 'clock': {error}; {REMEDY}") from None
    if len(clock.shares) != len(facts["plan"]):
        raise _wrong(facts, "clock", where, f"{len(facts['plan'])} shares, as many as stages")
    return clock
