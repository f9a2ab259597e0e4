"""Leaky integrator without spikes: the readout of spiking networks."""

from typing import NamedTuple

import torch
from torch import Tensor

import neurosbd.neurons.membrane as membrane
from neurosbd.filters import decay, leak
from neurosbd.neurons.membrane import number
from neurosbd.neurons.neuron import Activity, Flow
from neurosbd.schema.constants import PositiveConstant, TimeConstant, constants


class LIState(NamedTuple):
    """The integral so far."""

    v: Tensor  # [B, *size]


@constants
class LI:
    """Leaky integrator: value[t] = kappa value[t-1] + r drive[t], kappa = exp(-dt / tau_mem), gain = r.

    Args:
        tau_mem: time constant, s, > 0.
        r: what a drive of 1 adds in one step, > 0.
    Raises:
        ValueError: if a constant is not positive.
    Source: Bellec et al. 2020, Nat. Commun. 11:3625, Methods (output neurons).
    """

    tau_mem: TimeConstant = 20e-3
    r: PositiveConstant = 1.0

    def init(self, drive: Tensor, generator: torch.Generator | None = None) -> LIState:
        """Empty."""
        return LIState(torch.zeros_like(drive))

    def step(self, state: LIState, drive: Tensor, dt: float) -> tuple[Activity, LIState]:
        """value, [B, *size]."""
        v = leak(state.v, decay(number(self.tau_mem), dt), membrane.times(drive, number(self.r)))
        return Activity(v, v), LIState(v)

    @property
    def leak_time(self) -> float | Tensor:
        """tau_mem."""
        return number(self.tau_mem)

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """third factor * r."""
        return membrane.times(third_factor, number(self.r))

    @property
    def factorises(self) -> bool:
        """If all units share the leak."""
        return membrane.uniform(self.tau_mem)

    def filters(self, dt: float) -> tuple[float, ...] | None:
        """One leak."""
        return membrane.cascade(dt, self.tau_mem)

    def flow(self, state: LIState, activity: Activity, dt: float) -> Flow:
        """The integral leaks on; the gate already holds r."""
        return Flow(((decay(number(self.tau_mem), dt),),), (1.0,), (1.0,))
