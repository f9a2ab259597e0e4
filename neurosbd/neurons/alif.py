"""LIF neuron with an adaptive threshold: memory over seconds."""

from dataclasses import field, replace
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

import neurosbd.neurons.membrane as membrane
from neurosbd.filters import decay, leak
from neurosbd.neurons.membrane import Refractoriness, Reset, number
from neurosbd.neurons.neuron import Activity, Conductances, Flow
from neurosbd.schema.constants import (
    Conductance,
    Constant,
    NotNegativeHertz,
    NotNegativeSeconds,
    PositiveConstant,
    Potential,
    Range,
    TimeConstant,
    constants,
)
from neurosbd.surrogates import Surrogate, Triangle


class ALIFState(NamedTuple):
    """Membrane, adaptation, and the spike whose effects are still to come."""

    v: Tensor  # potential before the reset of this step's spike, [B, *size]
    a: Tensor  # adaptation of the threshold, in spikes, [B, *size]
    spike: Tensor  # 0 or 1, [B, *size]
    refractory: Tensor | None  # refractory steps left, [B, *size]


@constants
class ALIF:
    """LIF whose threshold rises by beta with every spike and relaxes slowly, or until the unit fires at a rate.

        v[t] = v_leak + alpha (v[t-1] - v_leak) + r drive[t] - v_threshold z[t-1],   alpha = exp(-dt / tau_mem)
        a[t] = rho a[t-1] + z[t-1] - rate dt,   rho = exp(-dt / tau_adapt)
        z[t] = 1 if v[t] > v_threshold + beta a[t] else 0

    On average a unit fires at rate + a / tau_adapt: with a `tau_adapt` far longer than the run its threshold moves
    until it fires at `rate`, which is intrinsic plasticity. With `rate` 0 and a long `tau_adapt` it is the adaptive
    threshold of Diehl, Cook 2015, under which units that spike often spike less.

    Args:
        tau_mem: membrane time constant, s, > 0.
        tau_adapt: time constant of the threshold, s, > 0.
        beta: rise of the threshold per spike, >= 0, in its unit; with 0 this is exactly a LIF.
        v_threshold: resting threshold, > v_reset.
        v_reset: where reset = 'to_value' puts the membrane.
        reset: 'subtract', 'to_value' or 'none'.
        r: what a drive of 1 adds to the potential in one step, > 0.
        refractory: least time from one spike to the next, s, >= 0, as in LIF.
        refractoriness: 'integrating' or 'clamped', as in LIF.
        v_leak: resting potential; a steady current I through a resistance R raises it by R I.
        surrogate: pseudo-derivative.
        rate: that the threshold draws the unit to, Hz, >= 0; 0: it only makes spikes rarer.
        g_leak: leak conductance, S, > 0, as in LIF.
    Raises:
        ValueError: if a constant is out of range.
    Source: Bellec et al. 2020, Nat. Commun. 11:3625, Methods (equation 7 and following); `rate`: Lazar, Pipa, Triesch
        2009, Front. Comput. Neurosci. 3:23, equation 4; Diehl, Cook 2015, Front. Comput. Neurosci. 9:99.
    """

    tau_mem: TimeConstant = 20e-3
    tau_adapt: TimeConstant = 200e-3
    beta: Annotated[Constant, Range(least=0, unit="V")] = 0.1
    v_threshold: Potential = 1.0
    v_reset: Potential = 0.0
    reset: Reset = "subtract"
    r: PositiveConstant = 1.0
    refractory: NotNegativeSeconds = 0.0
    refractoriness: Refractoriness = "integrating"
    v_leak: Potential = 0.0
    surrogate: Surrogate = field(default_factory=Triangle)
    rate: NotNegativeHertz = 0.0
    g_leak: Conductance | None = None

    def __post_init__(self) -> None:
        membrane.check("ALIF", self.reset, self.refractoriness, self.v_threshold, self.v_reset)

    @property
    def unit(self) -> float | Tensor:
        """From the reset to the resting threshold."""
        return membrane.unit(self)

    def init(self, drive: Tensor, generator: torch.Generator | None = None) -> ALIFState:
        """At rest, silent, not adapted."""
        zero = torch.zeros_like(drive)
        return ALIFState(zero + number(self.v_leak), zero, zero, membrane.first_wait(self, drive))

    def step(self, state: ALIFState, drive: Tensor, dt: float) -> tuple[Activity, ALIFState]:
        """Potential less the rise of the threshold, and spike, [B, *size]."""
        drive = membrane.times(drive, number(self.r))
        alpha = decay(number(self.tau_mem), dt)
        drive = membrane.resting(drive, alpha, number(self.v_leak))
        v = membrane.held(self, membrane.integrate(self, state.v, state.spike, alpha, drive), state.refractory)
        a = self._adapted(state, dt)
        activity, refractory = membrane.fire(self, v - number(self.beta) * a, state.refractory, dt)
        return activity, ALIFState(v, a, activity.value, refractory)

    def _adapted(self, state: ALIFState, dt: float) -> Tensor:
        """a[t], of what the step before left."""
        a = leak(state.a, decay(number(self.tau_adapt), dt), state.spike)
        return a - self.rate * dt if self.rate else a

    def settled(self, state: ALIFState) -> "ALIF":
        """The same neuron with every threshold where it is now, mean over the examples, for good."""
        return replace(self, v_threshold=number(self.v_threshold) + number(self.beta) * state.a.mean(0), beta=0.0)

    def check_volts(self) -> None:
        """Those of its constants."""
        membrane.check_volts(self, self.v_leak)

    def membrane(self, state: ALIFState) -> Tensor:
        """After the reset, or clamped."""
        return membrane.held(self, membrane.after_reset(self, state.v, state.spike), state.refractory)

    def conduct(self, state: ALIFState, drive: Tensor, opened: Conductances, dt: float) -> tuple[Activity, ALIFState]:
        """The same with conductances, in units of the leak."""
        alpha, v = decay(number(self.tau_mem), dt), membrane.after_reset(self, state.v, state.spike)
        resting = number(self.v_leak) + drive * (number(self.r) / (1 - alpha))
        v = membrane.held(self, membrane.conduct(v, alpha, resting, opened), state.refractory)
        a = self._adapted(state, dt)
        activity, refractory = membrane.fire(self, v - number(self.beta) * a, state.refractory, dt)
        return activity, ALIFState(v, a, activity.value, refractory)

    @property
    def leak_time(self) -> float | Tensor:
        """tau_mem."""
        return number(self.tau_mem)

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """third factor * psi * r."""
        return membrane.gate(self, activity, third_factor, self.r)

    @property
    def factorises(self) -> bool:
        """Never: the threshold remembers."""
        return False

    def filters(self, dt: float) -> tuple[float, ...] | None:
        """The membrane alone: the slow way through the threshold is per synapse, see `flow`."""
        return membrane.cascade(dt, self.tau_mem)

    def flow(self, state: ALIFState, activity: Activity, dt: float) -> Flow:
        """(v, a): a change of the spike moves the threshold, which moves later spikes."""
        psi = membrane.psi(self, activity)
        alpha, rho = (decay(number(tau), dt) for tau in (self.tau_mem, self.tau_adapt))
        beta = number(self.beta)
        membranous = (alpha * membrane.survives(self, state.spike, activity), 0.0)
        return Flow((membranous, (psi, rho - psi * beta)), (1.0, 0.0), (1.0, -beta))
