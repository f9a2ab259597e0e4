"""Spikes at changes, as in an event camera."""

from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.schema.constants import Positive, constants


class DeltaState(NamedTuple):
    """The value that was last reported."""

    reported: Tensor  # in thresholds, whole numbers [B, *size]


@constants
class Delta:
    """A spike of +1 or -1 whenever the value has moved by a threshold since it was last reported.

        shown[t] = sign(value - threshold reported) if |value - threshold reported| >= threshold else 0
        reported <- reported + shown[t]

    What was reported is counted in thresholds, so that no rounding adds up: a step of 1 at a threshold of 0.1 makes 10
    spikes.

    Args:
        threshold: change that makes a spike, > 0.
    Raises:
        ValueError: if `threshold` is not positive.
    Source: Lichtsteiner, Posch, Delbruck 2008, IEEE J. Solid-State Circuits 43 (address-event vision sensor).
    """

    threshold: Positive = 0.1

    @property
    def intensity(self) -> bool:
        """Intensities 0..1."""
        return True

    def init(self, value: Tensor, generator: torch.Generator | None = None) -> DeltaState:
        """Darkness was reported last."""
        return DeltaState(torch.zeros_like(value))

    def step(self, state: DeltaState, value: Tensor, dt: float) -> tuple[Tensor, DeltaState]:
        """-1, 0 or 1, [B, *size]."""
        level = value / self.threshold
        change = level - state.reported
        rounding = (4 * torch.finfo(value.dtype).eps * level.abs()).clamp(max=0.5)  # of value, threshold and quotient
        shown = change.sign() * (change.abs() >= 1 - rounding)
        return shown, DeltaState(state.reported + shown)
