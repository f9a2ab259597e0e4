"""Integrate-and-fire unit whose threshold is learned, one for each channel."""

from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.neurons.integrate_and_fire import IF
from neurosbd.neurons.lif import LIFState
from neurosbd.neurons.neuron import Activity, Flow, Total
from neurosbd.schema.constants import Positive, constants


class Thresholds(NamedTuple):
    """What such a population has learned of itself."""

    threshold: Tensor  # [units], or [channels, 1, 1] of a map


@constants
class LearnedThreshold:
    """Adds up what arrives without a leak or a reset, and spikes above a threshold that a rule moves:

        v[t] = v[t-1] + drive[t];   z[t] = 1 if v[t] > threshold[c] else 0

    It is `{ kind = "if", reset = "none" }` with a threshold per channel, all alike at first, that is kept with the
    weights: in checkpoints, exports and runs that start from this one. Which rule moves it, and how, is the rule's
    business (`wta_stdp`); without one it stays.

    Args:
        v_threshold: where the threshold of every channel starts, > 0.
    Raises:
        ValueError: if a constant is out of range.
    Source: Falez et al. 2019, IJCNN, arXiv 1904.01908.
    """

    v_threshold: Positive = 1.0

    @property
    def _at_start(self) -> IF:
        return IF(v_threshold=self.v_threshold, reset="none")

    def init(self, drive: Tensor, generator: torch.Generator | None = None) -> LIFState:
        """Empty and silent."""
        return self._at_start.init(drive, generator)

    def step(self, state: LIFState, drive: Tensor, dt: float) -> tuple[Activity, LIFState]:
        """Potential and spike of a unit that has learned nothing yet, [B, *size]."""
        return self._at_start.step(state, drive, dt)

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """third factor * psi."""
        return self._at_start.gate(activity, third_factor, dt)

    @property
    def factorises(self) -> bool:
        """Nothing resets it."""
        return True

    def filters(self, dt: float) -> tuple[float, ...]:
        """A sum over all steps."""
        return self._at_start.filters(dt)

    def flow(self, state: LIFState, activity: Activity, dt: float) -> Flow:
        """The membrane keeps everything."""
        return self._at_start.flow(state, activity, dt)

    def init_moments(self, size: tuple[int, ...]) -> Thresholds:
        """Every channel where the constant says."""
        return Thresholds(torch.full((size[0], *(1 for _ in size[1:])), self.v_threshold))

    def statistics(self, activity: Activity) -> tuple[Tensor, ...]:
        """It measures nothing by itself."""
        return ()

    def update(self, moments: Thresholds, measured: tuple[Tensor, ...], share: float) -> Thresholds:
        """Nor does it move anything."""
        return moments

    def learning(self, moments: Thresholds, total: Total | None) -> IF:
        """The unit at the thresholds it has now."""
        return self.with_moments(moments)

    def with_moments(self, moments: Thresholds) -> IF:
        """The same."""
        return IF(v_threshold=moments.threshold, reset="none")
