"""Leaky integrate-and-fire neuron, the workhorse."""

from dataclasses import field
from typing import NamedTuple

import torch
from torch import Tensor

import neurosbd.neurons.membrane as membrane
from neurosbd.filters import decay
from neurosbd.neurons.membrane import Refractoriness, Reset, number
from neurosbd.neurons.neuron import Activity, Conductances, Flow
from neurosbd.neurons.scan import Scan, apart
from neurosbd.schema.constants import (
    Conductance,
    NotNegativeSeconds,
    PositiveConstant,
    Potential,
    TimeConstant,
    constants,
)
from neurosbd.surrogates import Surrogate, Triangle


class LIFState(NamedTuple):
    """Membrane and the spike whose reset is still to come."""

    v: Tensor  # potential before the reset of this step's spike, [B, *size]
    spike: Tensor  # 0 or 1, [B, *size]
    refractory: Tensor | None  # refractory steps left, [B, *size]


@constants
class LIF:
    """Leaky integrate-and-fire: integrate the drive with a leak, spike and reset on crossing the threshold.

        v[t] = v_leak + alpha (v[t-1] - v_leak) + r drive[t] - v_threshold z[t-1],   alpha = exp(-dt / tau_mem)
        z[t] = 1 if v[t] > v_threshold else 0

    Args:
        tau_mem: membrane time constant, s, > 0.
        v_threshold: > v_reset; the unit of all potentials unless you set it otherwise, to volts, say.
        v_leak: resting potential; a steady current I through a resistance R raises it by R I.
        v_reset: where reset = 'to_value' puts the membrane: v[t-1] becomes v_reset before it leaks on.
        reset: 'subtract' (as in the equation), 'to_value' or 'none'.
        r: what a drive of 1 adds to the potential in one step, > 0; 1 - alpha normalises by the leak.
        refractory: least time from one spike to the next, s, >= 0, in whole steps: with 5e-3 the earliest next spike
            comes 5 ms later.
        refractoriness: what the membrane does meanwhile: 'integrating' goes on without a threshold; 'clamped' stays at
            v_reset until the first step that can spike, and needs reset = 'to_value'.
        surrogate: pseudo-derivative.
        g_leak: leak conductance, S, > 0: what currents and conductances that are written or recorded with a unit count
            in; the dynamics know none. none: nothing says it.
    Raises:
        ValueError: if a constant is out of range.
    Source: Bellec et al. 2020, Nat. Commun. 11:3625, Methods; `snntorch.Leaky(reset_mechanism="subtract")`.
    Differs: snnTorch's 'zero' reset also discards the drive of the step after the spike; Norse and NIR always reset to
        a value. `refractory` is that of Brian2, whose `unless refractory` is 'clamped', and that of Bellec et al. NEST
        holds the membrane for t_ref, so its next spike comes a step later, and its t_ref is `refractory` - dt.
    """

    tau_mem: TimeConstant = 20e-3
    v_threshold: Potential = 1.0
    v_leak: Potential = 0.0
    v_reset: Potential = 0.0
    reset: Reset = "subtract"
    r: PositiveConstant = 1.0
    refractory: NotNegativeSeconds = 0.0
    refractoriness: Refractoriness = "integrating"
    surrogate: Surrogate = field(default_factory=Triangle)
    g_leak: Conductance | None = None

    def __post_init__(self) -> None:
        membrane.check("LIF", self.reset, self.refractoriness, self.v_threshold, self.v_reset)

    @property
    def unit(self) -> float | Tensor:
        """From the reset to the threshold."""
        return membrane.unit(self)

    def init(self, drive: Tensor, generator: torch.Generator | None = None) -> LIFState:
        """At rest, silent."""
        zero = torch.zeros_like(drive)
        return LIFState(zero + number(self.v_leak), zero, membrane.first_wait(self, drive))

    def step(self, state: LIFState, drive: Tensor, dt: float) -> tuple[Activity, LIFState]:
        """Potential and spike, [B, *size]."""
        alpha, rest = decay(number(self.tau_mem), dt), number(self.v_leak)
        drive = membrane.times(drive, number(self.r))
        v = membrane.integrate(self, state.v, state.spike, alpha, membrane.resting(drive, alpha, rest))
        v = membrane.held(self, v, state.refractory)
        activity, refractory = membrane.fire(self, v, state.refractory, dt)
        return activity, LIFState(v, activity.value, refractory)

    def check_volts(self) -> None:
        """Those of its constants."""
        membrane.check_volts(self, self.v_leak)

    def membrane(self, state: LIFState) -> Tensor:
        """After the reset, or clamped."""
        return membrane.held(self, membrane.after_reset(self, state.v, state.spike), state.refractory)

    def conduct(self, state: LIFState, drive: Tensor, opened: Conductances, dt: float) -> tuple[Activity, LIFState]:
        """The same with conductances, in units of the leak."""
        alpha, v = decay(number(self.tau_mem), dt), membrane.after_reset(self, state.v, state.spike)
        resting = number(self.v_leak) + drive * (number(self.r) / (1 - alpha))
        v = membrane.held(self, membrane.conduct(v, alpha, resting, opened), state.refractory)
        activity, refractory = membrane.fire(self, v, state.refractory, dt)
        return activity, LIFState(v, activity.value, refractory)

    @property
    def leak_time(self) -> float | Tensor:
        """tau_mem."""
        return number(self.tau_mem)

    def scan(self, state: LIFState, drives: Tensor, steps: int, dt: float) -> Scan[LIFState] | None:
        """All steps in memory that is asked for once."""
        if not (membrane.is_number(self.v_leak, 0) and membrane.is_number(self.r, 1)):
            return None
        found = membrane.scan(self, state.v, state.spike, decay(number(self.tau_mem), dt), drives, steps)
        if found is None:
            return None
        shown = [Activity(z, v) for v, z in zip(*(apart(each, steps) for each in found), strict=True)]
        states = [LIFState(each.potential, each.value, None) for each in shown]
        return Scan(found[1], found[0], shown, states)

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """third factor * psi * r."""
        return membrane.gate(self, activity, third_factor, self.r)

    @property
    def factorises(self) -> bool:
        """If all units share the leak and no reset cuts it."""
        return membrane.uniform(self.tau_mem) and self.reset != "to_value"

    def filters(self, dt: float) -> tuple[float, ...] | None:
        """One leak. Exact for 'subtract' and 'none'; a reset to a value is ignored."""
        return membrane.cascade(dt, self.tau_mem)

    def flow(self, state: LIFState, activity: Activity, dt: float) -> Flow:
        """The membrane leaks on."""
        alpha = decay(number(self.tau_mem), dt)
        return Flow(((alpha * membrane.survives(self, state.spike, activity),),), (1.0,), (1.0,))
