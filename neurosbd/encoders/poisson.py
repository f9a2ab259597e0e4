"""Poisson spike trains."""

from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.noise import new_key, uniform
from neurosbd.schema.constants import Hertz, constants


class PoissonState(NamedTuple):
    """State of the noise."""

    key: Tensor  # int64 []
    steps: Tensor  # int64 []


@constants
class Poisson:
    """Independent spikes with a rate in proportion to the value: P(spike) = 1 - exp(-rate value dt).

    Args:
        rate: of a unit whose value is 1, Hz, > 0. Values below 0 never spike.
    Raises:
        ValueError: if `rate` is not positive, or a run has no generator.
    Source: standard; Heeger 2000, Poisson model of spike generation.
    Differs: most encoders take rate value dt itself for the probability, which exceeds 1 at high rates.
    """

    rate: Hertz = 200.0

    @property
    def intensity(self) -> bool:
        """Intensities 0..1."""
        return True

    def init(self, value: Tensor, generator: torch.Generator | None = None) -> PoissonState:
        """The noise of this run, drawn from `generator`."""
        key = new_key(generator, "a Poisson encoder", value.device)
        return PoissonState(key, torch.zeros((), dtype=torch.int64, device=value.device))

    def step(self, state: PoissonState, value: Tensor, dt: float) -> tuple[Tensor, PoissonState]:
        """Spikes 0 or 1, [B, *size]."""
        probability = -torch.expm1(value * (-self.rate * dt))
        spikes = (uniform(state.key, state.steps, value.contiguous()) < probability).to(value.dtype)
        return spikes, PoissonState(state.key, state.steps + 1)
