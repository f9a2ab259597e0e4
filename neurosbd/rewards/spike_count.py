"""A reward for spikes of a population: as many as are asked for, within a window."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.filters import whole_steps
from neurosbd.rewards.contingency import check_unit
from neurosbd.schema.constants import Count, Seconds, Whole, constants


class Counted(NamedTuple):
    """Spikes of the last steps."""

    spikes: Tensor  # of the steps of a window, one after another in a ring, [W, B]
    done: int  # steps


@constants(called="spike_count")
class SpikeCount:
    """Earned when units of a population have spiked `count` times within `window`; then counting begins anew.

    Args:
        population: its name.
        units: which count, 0, 1, 2, ...; of a map counted through; none: all.
        count: spikes, >= 1. With 1 every step with a spike earns a reward: operant conditioning of a unit.
        window: s, > 0, in whole steps of dt.
    Raises:
        ValueError: if a constant is out of range; `check`: if there is no such population or unit.
    Source: Fetz 1969, Science 163 (operant conditioning of a cell); Izhikevich 2007, Cereb. Cortex 17, figure 4 (a
        group that fires more than another one after a stimulus; here the number is given).
    """

    population: str = "output"
    units: tuple[Whole, ...] = ()
    count: Count = 1
    window: Seconds = 20e-3

    def check(self, sizes: Mapping[str, tuple[int, ...]], dt: float) -> None:
        """Units that are there, and a window of whole steps."""
        check_unit(self.population, max(self.units, default=0), sizes)
        whole_steps(self.window, dt, "spike_count.window")

    def init(self, like: Tensor, dt: float, generator: torch.Generator) -> Counted:
        """No spike yet."""
        return Counted(like.new_zeros((whole_steps(self.window, dt, "spike_count.window"), len(like))), 0)

    def step(self, state: Counted, activity: Mapping[str, Tensor], dt: float) -> tuple[Tensor, Counted]:
        """1 where there are as many spikes as are asked for."""
        value = activity[self.population].flatten(1)
        spikes = state.spikes.clone()
        spikes[state.done % len(spikes)] = ((value[:, list(self.units)] if self.units else value) > 0).sum(1)
        met = spikes.sum(0) >= self.count
        return met.to(spikes.dtype), Counted(torch.where(met, 0.0, spikes), state.done + 1)
