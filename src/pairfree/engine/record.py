"""What a checkpoint says of its model beside the numbers: settings, intensity map, budget, versions.

JSON in, JSON out, typed in between.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pairfree.data.normalize import Normalizer
from pairfree.engine.plan import Clock, Plan
from pairfree.engine.watch import Watch
from pairfree.errors import CheckpointError
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
}
"""Likewise, but not in every checkpoint: older ones lack the first three, and a clock has a run whose budget
is minutes."""


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
                raise CheckpointError(f"{where}: field {key!r} is missing")
            continue
        if not isinstance(facts[key], kind) or isinstance(facts[key], bool):
            raise CheckpointError(
                f"{where}: field {key!r} is {facts[key]!r:.40}, expected {kind.__name__}"
            )


def _check_values(facts: Mapping[str, Any], where: Path | str) -> None:
    """CheckpointError naming the first field that holds what cannot be."""
    for key in ("normalizer", "clean_normalizer"):
        if key in facts and not _is_map(facts[key]):
            raise CheckpointError(
                f"{where}: field {key!r} is {facts[key]!r:.60}, expected a finite offset and a positive scale"
            )
    plan = facts["plan"]
    if not plan or not all(_is_stage(stage) for stage in plan):
        raise CheckpointError(
            f"{where}: field 'plan' is {plan!r:.60}, expected [name, steps] for each stage, and no / in names"
        )
    if facts["channels"] < 1 or not 0 <= facts["step"] <= sum(steps for _, steps in plan):
        raise CheckpointError(
            f"{where}: field 'channels' is {facts['channels']}, 'step' {facts['step']}: outside their range"
        )


def _is_map(value: object) -> bool:
    """Whether these are offset and scale of an intensity map, and whether it makes noise even."""
    switches = {"even", "one_law"}
    if not isinstance(value, dict) or set(value) - switches != {"offset", "scale"}:
        return False
    if not all(isinstance(value.get(name, False), bool) for name in switches):
        return False
    return _is_finite(value["offset"]) and _is_finite(value["scale"]) and value["scale"] > 0


def _is_finite(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max  # an integer may be too large for math.isfinite


def _is_stage(value: object) -> bool:
    """Whether this is [name, steps], and the name one of a folder."""
    if not isinstance(value, list) or [type(part) for part in value] != [str, int]:
        return False
    name, steps = value
    return steps > 0 and name not in ("", ".", "..") and not set(name) & set("/\\\0")


def _read_clock(facts: Mapping[str, Any], where: Path | str) -> Clock | None:
    if "clock" not in facts:
        return None
    try:
        return Clock.from_dict(facts["clock"])
    except ValueError as error:
        raise CheckpointError(f"{where}: field 'clock': {error}") from None
