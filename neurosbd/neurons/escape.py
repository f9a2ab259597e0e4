"""LIF neuron that spikes at random, more likely the higher its potential: for policy gradients."""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

import neurosbd.neurons.membrane as membrane
from neurosbd.filters import decay
from neurosbd.neurons.membrane import Reset, number
from neurosbd.neurons.neuron import Activity, Flow
from neurosbd.noise import new_key, uniform
from neurosbd.schema.constants import Constant, PositiveConstant, TimeConstant, constants


class EscapeState(NamedTuple):
    """Membrane, the spike whose reset is still to come, and the state of the noise."""

    v: Tensor  # potential before the reset of this step's spike, [B, *size]
    spike: Tensor  # 0 or 1, [B, *size]
    key: Tensor  # of this run's noise, int64 []
    steps: Tensor  # taken so far, int64 []


@constants
class Escape:
    """LIF with escape noise: P(z[t] = 1) = sigmoid((v[t] - v_threshold) / width), v as in a LIF.

        gain = r p (1 - p) / width,    d log P(z) / d v = (z - p) / width

    Args:
        tau_mem: membrane time constant, s, > 0.
        v_threshold: where a spike is as likely as none, > 0.
        width: of the soft threshold, > 0; towards 0 this becomes a LIF.
        v_reset: where reset = 'to_value' puts the membrane.
        reset: 'subtract', 'to_value' or 'none'.
        r: what a drive of 1 adds to the potential in one step, > 0.
    Raises:
        ValueError: if a constant is out of range, or a run has no generator for the noise.
    Source: Gerstner, Kistler, Naud, Paninski 2014, Neuronal Dynamics, chapter 9; Pfister et al. 2006,
        Neural Comput. 18.
    Differs: a probability per step in place of a rate, as in Florian 2007, Neural Comput. 19.
    """

    tau_mem: TimeConstant = 20e-3
    v_threshold: PositiveConstant = 1.0
    width: PositiveConstant = 0.2
    v_reset: Constant = 0.0
    reset: Reset = "subtract"
    r: PositiveConstant = 1.0

    draws: ClassVar[bool] = True

    def init(self, drive: Tensor, generator: torch.Generator | None = None) -> EscapeState:
        """At rest, silent; the noise of this run is drawn from `generator`."""
        zero = torch.zeros_like(drive)
        key = new_key(generator, "an escape neuron", drive.device)
        return EscapeState(zero, zero, key, torch.zeros((), dtype=torch.int64, device=drive.device))

    def step(self, state: EscapeState, drive: Tensor, dt: float) -> tuple[Activity, EscapeState]:
        """Potential and spike, [B, *size]."""
        drive = membrane.times(drive, number(self.r))
        v = membrane.integrate(self, state.v, state.spike, decay(number(self.tau_mem), dt), drive)
        p = self.probability(v)
        z = (uniform(state.key, state.steps, v) < p.detach()).to(v.dtype)
        value = z + (p - p.detach())  # the spike itself; its derivative is that of p
        return Activity(value, v), EscapeState(v, value, state.key, state.steps + 1)

    def probability(self, potential: Tensor) -> Tensor:
        """Of a spike at this step."""
        return torch.sigmoid((potential - number(self.v_threshold)) / number(self.width))

    @property
    def leak_time(self) -> float | Tensor:
        """tau_mem."""
        return number(self.tau_mem)

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """third factor * r p (1 - p) / width."""
        p = self.probability(activity.potential)
        return third_factor * (1 - p) * p * (number(self.r) / number(self.width))

    def surprise(self, activity: Activity) -> Tensor:
        """d log P(spike) / d drive of this step: r (z - p) / width."""
        return (activity.value - self.probability(activity.potential)) * (number(self.r) / number(self.width))

    @property
    def factorises(self) -> bool:
        """If all units share the leak and no reset cuts it."""
        return membrane.uniform(self.tau_mem) and self.reset != "to_value"

    def filters(self, dt: float) -> tuple[float, ...] | None:
        """One leak."""
        return membrane.cascade(dt, self.tau_mem)

    def flow(self, state: EscapeState, activity: Activity, dt: float) -> Flow:
        """The membrane leaks on."""
        alpha = decay(number(self.tau_mem), dt)
        return Flow(((alpha * membrane.kept(self, state.spike),),), (1.0,), (1.0,))
