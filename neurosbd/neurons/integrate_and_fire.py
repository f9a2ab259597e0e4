"""Integrate-and-fire neuron without a leak."""

import math
from dataclasses import field

import torch
from torch import Tensor

import neurosbd.neurons.membrane as membrane
from neurosbd.neurons.lif import LIFState
from neurosbd.neurons.membrane import Refractoriness, Reset, number
from neurosbd.neurons.neuron import Activity, Flow
from neurosbd.neurons.scan import Scan, apart
from neurosbd.schema.constants import NotNegativeSeconds, PositiveConstant, Potential, constants
from neurosbd.surrogates import Surrogate, Triangle


@constants
class IF:
    """Perfect integrator that spikes and resets on crossing the threshold: a LIF without leak.

        v[t] = v[t-1] + r drive[t] - v_threshold z[t-1];   z[t] = 1 if v[t] > v_threshold else 0

    Args:
        v_threshold: > v_reset.
        v_reset: where reset = 'to_value' puts the membrane.
        reset: 'subtract', 'to_value' or 'none'.
        r: what a drive of 1 adds to the potential in one step, > 0.
        refractory: least time from one spike to the next, s, >= 0, as in LIF.
        refractoriness: 'integrating' or 'clamped', as in LIF.
        surrogate: pseudo-derivative.
    Raises:
        ValueError: if a constant is out of range.
    Source: Lapicque 1907 (without leak: Stein 1965, Biophys. J. 5).
    """

    v_threshold: Potential = 1.0
    v_reset: Potential = 0.0
    reset: Reset = "subtract"
    r: PositiveConstant = 1.0
    refractory: NotNegativeSeconds = 0.0
    refractoriness: Refractoriness = "integrating"
    surrogate: Surrogate = field(default_factory=Triangle)

    def __post_init__(self) -> None:
        membrane.check("IF", self.reset, self.refractoriness, self.v_threshold, self.v_reset)

    @property
    def unit(self) -> float | Tensor:
        """From the reset to the threshold."""
        return membrane.unit(self)

    def init(self, drive: Tensor, generator: torch.Generator | None = None) -> LIFState:
        """Empty and silent."""
        zero = torch.zeros_like(drive)
        return LIFState(zero, zero, membrane.first_wait(self, drive))

    def step(self, state: LIFState, drive: Tensor, dt: float) -> tuple[Activity, LIFState]:
        """Potential and spike, [B, *size]."""
        drive = membrane.times(drive, number(self.r))
        v = membrane.held(self, membrane.integrate(self, state.v, state.spike, 1.0, drive), state.refractory)
        activity, refractory = membrane.fire(self, v, state.refractory, dt)
        return activity, LIFState(v, activity.value, refractory)

    def scan(self, state: LIFState, drives: Tensor, steps: int, dt: float) -> Scan[LIFState] | None:
        """All steps in memory that is asked for once."""
        if not membrane.is_number(self.r, 1):
            return None
        found = membrane.scan(self, state.v, state.spike, 1.0, drives, steps)
        if found is None:
            return None
        shown = [Activity(z, v) for v, z in zip(*(apart(each, steps) for each in found), strict=True)]
        states = [LIFState(each.potential, each.value, None) for each in shown]
        return Scan(found[1], found[0], shown, states)

    @property
    def leak_time(self) -> float:
        """There is no leak."""
        return math.inf

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """third factor * psi * r."""
        return membrane.gate(self, activity, third_factor, self.r)

    @property
    def factorises(self) -> bool:
        """If no reset cuts the sum."""
        return self.reset != "to_value"

    def filters(self, dt: float) -> tuple[float, ...]:
        """A sum over all steps."""
        return (1.0,)

    def flow(self, state: LIFState, activity: Activity, dt: float) -> Flow:
        """The membrane keeps everything."""
        return Flow(((membrane.survives(self, state.spike, activity),),), (1.0,), (1.0,))
