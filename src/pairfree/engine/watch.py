"""Signs that an adversarial training has collapsed, told while there is still time to stop it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

PATIENCE_STEPS = 500
"""How long a sign must stand without a break. Healthy runs cross the limits for some steps, at their
beginning above all."""


@dataclass(frozen=True)
class Sign:
    """A quantity that a method logs (``methods.parts.unpaired.vital_signs``), and its limit."""

    name: str
    limit: float
    above: bool
    """Whether values above the limit are bad; else those below."""
    words: str
    """What to say of a ``value`` beyond it."""

    def is_beyond(self, value: float) -> bool:
        """Whether a value is on the bad side of the limit."""
        return value > self.limit if self.above else value < self.limit


SIGNS = (
    Sign(
        "accuracy",
        0.99,
        True,
        "the critics tell {value:.1%} of the made images from real ones and teach no more; "
        "try a lower critic_lr, more start, or a clean set more like the noisy one",
    ),
    Sign(
        "contrast",
        0.01,
        False,
        "what the denoiser makes has {value:.2%} of the contrast of its input: it has collapsed to an even "
        "grey; try a lower lr, or another seed",
    ),
)


@dataclass
class Watch:
    """Counts, for each sign, the steps in a row beyond its limit."""

    standing: dict[str, int] = field(default_factory=dict)
    """The counts, by the name of the sign."""

    @classmethod
    def of(cls, standing: object) -> Watch:
        """From the facts of a checkpoint; a new one where they are no counts."""
        known = {sign.name for sign in SIGNS}
        if not isinstance(standing, dict) or not known.issuperset(standing):
            return cls()
        if not all(type(count) is int for count in standing.values()):
            return cls()
        return cls(dict(standing))

    def find_signs(self, logged: Mapping[str, float | Tensor]) -> list[str]:
        """Warnings that fall due with a step, each once for as long as its sign stands.

        Parameters
        ----------
        logged
            What the step logged, by name.
        """
        lines = []
        for sign in SIGNS:
            if sign.name not in logged:
                continue
            value = float(logged[sign.name])
            steps = self.standing.get(sign.name, 0) + 1 if sign.is_beyond(value) else 0
            self.standing[sign.name] = steps
            if steps == PATIENCE_STEPS:
                lines.append(f"for {PATIENCE_STEPS} steps {sign.words.format(value=value)}")
        return lines
