"""Regular spike trains."""

from typing import Annotated

import torch
from torch import Tensor

from neurosbd.filters import probability
from neurosbd.schema.constants import Constant, Range, constants
from neurosbd.stimuli.stimulus import StepsDone, shown, times


@constants(called="regular")
class Regular:
    """A spike every 1 / rate: the n-th in the step nearest to first + n / rate, n = 0, 1, ...

    Args:
        rate: Hz, > 0: one, one per unit, or drawn.
        first: time of the first spike, s, >= 0: one, one per unit, or drawn.
        amplitude: what a spike adds to the drive.
    Raises:
        ValueError: if a constant is out of range.
    Source: standard.
    """

    rate: Annotated[Constant, Range(above=0, unit="Hz")] = 10.0
    first: Annotated[Constant, Range(least=0, unit="s")] = 0.0
    amplitude: float = 1.0

    def check(self, size: tuple[int, ...], dt: float) -> None:
        """At most a spike per step."""
        probability(torch.as_tensor(self.rate).max().item(), dt, "regular.rate")

    def init(self, like: Tensor, dt: float, generator: torch.Generator) -> StepsDone:
        """Its beginning."""
        return StepsDone(0)

    def block(self, state: StepsDone, like: Tensor, steps: int, dt: float) -> tuple[Tensor, StepsDone]:
        """amplitude where a spike falls, [steps, B, *size]."""
        rate, first = (
            torch.as_tensor(constant, dtype=torch.float64, device=like.device) for constant in (self.rate, self.first)
        )
        now = times(state.done, steps, dt, like)
        until, before = (((now + half * dt - first) * rate).floor() + 1 for half in (0.5, -0.5))
        count = until.clamp(min=0) - before.clamp(min=0)
        return shown(count * self.amplitude, like), StepsDone(state.done + steps)
