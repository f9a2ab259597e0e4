"""Current-based leaky integrate-and-fire neuron: an exponential synapse before the membrane."""

from dataclasses import field
from typing import NamedTuple

import torch
from torch import Tensor

import neurosbd.neurons.membrane as membrane
from neurosbd.filters import decay, leak
from neurosbd.neurons.membrane import Refractoriness, Reset, number
from neurosbd.neurons.neuron import Activity, Flow
from neurosbd.schema.constants import NotNegativeSeconds, PositiveConstant, Potential, TimeConstant, constants
from neurosbd.surrogates import Surrogate, Triangle


class CubaLIFState(NamedTuple):
    """Synaptic current, membrane, and the spike whose reset is still to come."""

    i: Tensor  # synaptic current, [B, *size]
    v: Tensor  # potential before the reset of this step's spike, [B, *size]
    spike: Tensor  # 0 or 1, [B, *size]
    refractory: Tensor | None  # refractory steps left, [B, *size]


@constants
class CubaLIF:
    """Current-based LIF: the drive passes an exponential synapse on its way to the membrane.

        i[t] = alpha_syn i[t-1] + r drive[t],   alpha_syn = exp(-dt / tau_syn)
        v[t] = v_leak + alpha_mem (v[t-1] - v_leak) + i[t] - v_threshold z[t-1],   alpha_mem = exp(-dt / tau_mem)
        z[t] = 1 if v[t] > v_threshold else 0

    Args:
        tau_mem: membrane time constant, s, > 0.
        tau_syn: synaptic time constant, s, > 0.
        v_threshold: > v_reset.
        v_reset: where reset = 'to_value' puts the membrane; the current is never reset.
        reset: 'subtract', 'to_value' or 'none'.
        r: what a drive of 1 adds to the current in one step, > 0.
        refractory: least time from one spike to the next, s, >= 0, as in LIF.
        refractoriness: 'integrating' or 'clamped', as in LIF.
        v_leak: resting potential; a steady current I through a resistance R raises it by R I.
        surrogate: pseudo-derivative.
    Raises:
        ValueError: if a constant is out of range.
    Source: Zenke, Ganguli 2018, Neural Comput. 30; `snntorch.Synaptic(reset_mechanism="subtract")`.
    """

    tau_mem: TimeConstant = 20e-3
    tau_syn: TimeConstant = 5e-3
    v_threshold: Potential = 1.0
    v_reset: Potential = 0.0
    reset: Reset = "subtract"
    r: PositiveConstant = 1.0
    refractory: NotNegativeSeconds = 0.0
    refractoriness: Refractoriness = "integrating"
    v_leak: Potential = 0.0
    surrogate: Surrogate = field(default_factory=Triangle)

    def __post_init__(self) -> None:
        membrane.check("CubaLIF", self.reset, self.refractoriness, self.v_threshold, self.v_reset)

    @property
    def unit(self) -> float | Tensor:
        """From the reset to the threshold."""
        return membrane.unit(self)

    def init(self, drive: Tensor, generator: torch.Generator | None = None) -> CubaLIFState:
        """No current, at rest, silent."""
        zero = torch.zeros_like(drive)
        return CubaLIFState(zero, zero + number(self.v_leak), zero, membrane.first_wait(self, drive))

    def step(self, state: CubaLIFState, drive: Tensor, dt: float) -> tuple[Activity, CubaLIFState]:
        """Potential and spike, [B, *size]."""
        i = leak(state.i, decay(number(self.tau_syn), dt), membrane.times(drive, number(self.r)))
        alpha = decay(number(self.tau_mem), dt)
        drive = membrane.resting(i, alpha, number(self.v_leak))
        v = membrane.held(self, membrane.integrate(self, state.v, state.spike, alpha, drive), state.refractory)
        activity, refractory = membrane.fire(self, v, state.refractory, dt)
        return activity, CubaLIFState(i, v, activity.value, refractory)

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """third factor * psi * r."""
        return membrane.gate(self, activity, third_factor, self.r)

    @property
    def factorises(self) -> bool:
        """If all units share both leaks and no reset cuts them."""
        return membrane.uniform(self.tau_mem, self.tau_syn) and self.reset != "to_value"

    def filters(self, dt: float) -> tuple[float, ...] | None:
        """Synapse, then membrane. Exact for 'subtract' and 'none'; a reset to a value is ignored."""
        return membrane.cascade(dt, self.tau_syn, self.tau_mem)

    def flow(self, state: CubaLIFState, activity: Activity, dt: float) -> Flow:
        """(i, v): the current decays and what is left of it reaches the membrane in the same step."""
        synapse, leaking = decay(number(self.tau_syn), dt), decay(number(self.tau_mem), dt)
        kept = leaking * membrane.survives(self, state.spike, activity)
        return Flow(((synapse, 0.0), (synapse, kept)), (1.0, 1.0), (0.0, 1.0))
