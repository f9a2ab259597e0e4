"""Time to first spike."""

from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.constants import Fraction, Seconds, constants


class LatencyState(NamedTuple):
    """How many steps have passed."""

    steps: Tensor  # int64 []


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
        """Before the first step."""
        return LatencyState(torch.zeros((), dtype=torch.int64, device=value.device))

    def step(self, state: LatencyState, value: Tensor, dt: float) -> tuple[Tensor, LatencyState]:
        """Spikes 0 or 1, [B, *size]; the spike falls into the step that holds its time."""
        spikes = (self.when(value, dt) == state.steps) & (value >= self.least)
        return spikes.to(value.dtype), LatencyState(state.steps + 1)

    def when(self, value: Tensor, dt: float) -> Tensor:
        """Number of the step that holds the spike, whole numbers in float64, [B, *size]."""
        steps = self.duration / dt
        rounding = 2 * torch.finfo(value.dtype).eps  # of a value k / 255 that was scaled in its own precision
        return torch.floor((1 - value.clamp(0, 1).double() + rounding) * steps)
