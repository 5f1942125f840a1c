"""What is spent of a budget of minutes or steps, and what of it is for the result."""

from __future__ import annotations

import math
import time


class Spent:
    """What is spent of the budget of one image.

    Parameters
    ----------
    minutes
        The budget.
    steps
        The budget where ``minutes`` are 0.
    finishing
        What the result takes, in steps.

    Attributes
    ----------
    step : int
        Steps that were made.
    learning : float
        Share of the budget that is for steps, as far as is known; the rest is for the result.
    share : float
        What is spent of that.
    """

    def __init__(self, minutes: float, steps: int, finishing: float) -> None:
        self.steps = steps
        self.limit_s = 60.0 * minutes
        self.finishing = finishing
        self.began = time.monotonic()
        self.step = 0
        self.learning = 1.0
        self.share = 0.0

    def expect_steps(self) -> int:
        """How many steps there will be."""
        if self.limit_s and self.share:
            return round(self.step / self.share)
        return self.steps

    def count_step(self) -> None:
        """One more step was made."""
        self.step += 1
        if self.limit_s:
            # a coarse clock may not have moved yet
            spent_s = max(1e-9, time.monotonic() - self.began)
            expected = self.limit_s * self.step / spent_s
            self.learning = self._learning_of(expected)
            self.share = spent_s / (self.learning * self.limit_s)
        else:
            self.learning = self._learning_of(self.steps + self.finishing)
            self.share = self.step / self.steps

    @property
    def until(self) -> float:
        """``time.monotonic()`` when the result should be there."""
        return self.began + self.limit_s if self.limit_s else math.inf

    def _learning_of(self, budget: float) -> float:
        """Share of a budget of so many steps that is for steps, the rest for the result: half at least."""
        return max(0.5, 1.0 - self.finishing / budget)
