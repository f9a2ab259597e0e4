"""A unit that sends what drives it: where spike trains from outside enter a network."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.neurons.neuron import Activity, Flow


class RelayState(NamedTuple):
    """What was sent, as spikes."""

    spike: Tensor  # 0 or 1, [B, *size]


@dataclass(frozen=True)
class Relay:
    """A spike source: value = drive, gain = 1; there is a spike where the drive is above 0.

    With a stimulus that fires, such as 'poisson' or 'spikes', it is the spike generator of other simulators.

    Source: Goodman, Brette 2009, Front. Neurosci. 3 (Brian's PoissonGroup and SpikeGeneratorGroup).
    """

    def init(self, drive: Tensor, generator: torch.Generator | None = None) -> RelayState:
        """Silent."""
        return RelayState(torch.zeros_like(drive))

    def step(self, state: RelayState, drive: Tensor, dt: float) -> tuple[Activity, RelayState]:
        """value = drive, [B, *size]."""
        return Activity(drive, drive), RelayState((drive > 0).to(drive.dtype))

    @property
    def factorises(self) -> bool:
        """Gain x pre is the whole derivative."""
        return True

    def filters(self, dt: float) -> tuple[()]:
        """No filter between drive and value."""
        return ()

    def flow(self, state: RelayState, activity: Activity, dt: float) -> Flow:
        """Nothing of this step reaches the next."""
        return Flow(((0.0,),), (1.0,), (1.0,))

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """third factor * 1."""
        return third_factor
