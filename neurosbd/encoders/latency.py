"""Time to first spike."""

from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.schema.constants import Fraction, Seconds, constants


class LatencyState(NamedTuple):
    """How many steps have passed, and when each unit spikes."""

    steps: Tensor  # int64 []
    late: Tensor  # time of the spike in durations, infinite if there is none, float64 [B, *size]


@constants
class Latency:
    """One spike per unit, the earlier the larger the value: at time (1 - value) duration.

        step = floor((1 - value) duration / dt)

    A time that falls on the border of two steps is in the later one, whatever the rounding of the value: k / 255 is met
    exactly for durations of up to 10,000 steps in float32.

    Args:
        duration: time of the spike of a unit whose value is 0, s, > 0.
        least: units with a smaller value stay silent, 0..1.
    Raises:
        ValueError: if a constant is out of range.
    Source: Thorpe, Delorme, Van Rullen 2001, Neural Netw. 14; linear as in Goupy et al. 2024.
    """

    duration: Seconds = 20e-3
    least: Fraction = 0.01

    @property
    def intensity(self) -> bool:
        """Intensities 0..1."""
        return True

    def init(self, value: Tensor, generator: torch.Generator | None = None) -> LatencyState:
        """Before the first step; the times are those of these values, whatever is shown later."""
        steps = torch.zeros((), dtype=torch.int64, device=value.device)
        return LatencyState(steps, self.late(value).masked_fill_(value < self.least, torch.inf))

    def step(self, state: LatencyState, value: Tensor, dt: float) -> tuple[Tensor, LatencyState]:
        """Spikes 0 or 1, [B, *size]; the spike falls into the step that holds its time."""
        spikes = torch.floor(state.late * (self.duration / dt)) == state.steps
        return spikes.to(value.dtype), state._replace(steps=state.steps + 1)

    def late(self, value: Tensor) -> Tensor:
        """Time of the spike in durations, float64, [B, *size]."""
        rounding = 2 * torch.finfo(value.dtype).eps  # of a value k / 255 that was scaled in its own precision
        return 1 - value.clamp(0, 1).double() + rounding

    def when(self, value: Tensor, dt: float) -> Tensor:
        """Number of the step that holds the spike, whole numbers in float64, [B, *size]."""
        return torch.floor(self.late(value) * (self.duration / dt))
