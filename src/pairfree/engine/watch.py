"""Signs that an adversarial training has collapsed, told while there is still time to stop it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PATIENCE_STEPS = 500
"""How long a sign must stand without a break. Healthy runs cross the limits for some steps, at their beginning above all."""


@dataclass(frozen=True)
class Sign:
    """A quantity that a method logs (``methods.parts.unpaired.vital_signs``), its limit, and what to say beyond it."""

    name: str
    limit: float
    above: bool
    words: str


SIGNS = (
    Sign(
        "accuracy", 0.99, True,
        "the critics tell {value:.1%} of the made images from real ones and teach no more; "
        "try a lower critic_lr, more start, or a clean set more like the noisy one",
    ),
    Sign(
        "contrast", 0.01, False,
        "what the denoiser makes has {value:.2%} of the contrast of its input: it has collapsed to an even grey; "
        "try a lower lr, or another seed",
    ),
)  # fmt: skip


@dataclass
class Watch:
    """Counts, for each sign, the steps in a row beyond its limit."""

    standing: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, standing: Any) -> Watch:
        """From the facts of a checkpoint; a new one where they are no counts."""
        known = {sign.name for sign in SIGNS}
        sound = isinstance(standing, dict) and all(
            name in known and type(count) is int for name, count in standing.items()
        )
        return cls(dict(standing)) if sound else cls()

    def see(self, logged: Mapping[str, Any]) -> list[str]:
        """Warnings that fall due with this step, each once for as long as its sign stands."""
        found = []
        for sign in SIGNS:
            if sign.name not in logged:
                continue
            value = float(logged[sign.name])
            beyond = value > sign.limit if sign.above else value < sign.limit
            self.standing[sign.name] = self.standing.get(sign.name, 0) + 1 if beyond else 0
            if self.standing[sign.name] == PATIENCE_STEPS:
                found.append(f"for {PATIENCE_STEPS} steps {sign.words.format(value=value)}")
        return found
