"""Adaptive exponential integrate-and-fire neuron."""

from dataclasses import field
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

import neurosbd.neurons.membrane as membrane
from neurosbd.distributions import check_above
from neurosbd.neurons.membrane import Reset, number
from neurosbd.neurons.neuron import Activity, Conductances, Flow
from neurosbd.schema.constants import Conductance, Constant, Potential, Range, TimeConstant, constants
from neurosbd.surrogates import Surrogate, Triangle

_STEEPEST = 40.0  # the exponent is held here, where exp is finite in float32 and a spike within the step is certain


class AdExState(NamedTuple):
    """Membrane, adaptation current, and the spike whose reset is still to come."""

    v: Tensor  # before the reset of this step's spike, [B, *size]
    w: Tensor  # adaptation, before that reset, [B, *size]
    spike: Tensor  # 0 or 1, [B, *size]


@constants
class AdEx:
    """Exponential integrate-and-fire with an adaptation current; potentials in units of the spike's peak, or V.

        v[t] = v + dt / tau_mem (v_leak - v + sharpness exp((v - v_rheobase) / sharpness) - w + drive[t])
        w[t] = w + dt / tau_adapt (a (v - v_leak) - w)
        where v, w are those of t-1, after the reset of its spike: v = v_reset, w = w + b
        z[t] = 1 if v[t] > v_threshold else 0

    Args:
        tau_mem: membrane time constant, s, > 0.
        tau_adapt: time constant of the adaptation, s, > 0.
        a: subthreshold adaptation, in units of the leak.
        b: rise of w per spike; w is a current over the leak, and counts as potentials do.
        v_leak: resting potential; also the start.
        v_rheobase: where the exponential takes off.
        sharpness: of the take-off, > 0 (Delta_T).
        v_threshold: peak that counts as a spike.
        v_reset: v after a spike, < v_threshold.
        surrogate: pseudo-derivative, of the distance from the peak in units of v_threshold - v_reset.
        g_leak: leak conductance, S, > 0, that currents and conductances with a unit count in, as in LIF.
    Raises:
        ValueError: if a constant is out of range.
    Source: Brette, Gerstner 2005, J. Neurophysiol. 94, in dimensionless form.
    Differs: one Euler step per dt, as in Brian2, so that spikes of steep take-offs come late in proportion to dt: with
        the constants of the paper in mV and 1 nA, the first after 12.1 and 11.83 ms for dt = 0.1 and 0.01 ms, in NEST
        after 11.80. The potential of a step that spikes is what that step makes of it, far above the peak. The
        exponent (v - v_rheobase) / sharpness is held at 40, far beyond where the spike is certain.
    """

    tau_mem: TimeConstant = 10e-3
    tau_adapt: TimeConstant = 100e-3
    a: Constant = 0.0
    b: Potential = 0.1
    v_leak: Potential = 0.0
    v_rheobase: Potential = 0.5
    sharpness: Annotated[Constant, Range(above=0, unit="V")] = 0.1
    v_threshold: Potential = 1.0
    v_reset: Potential = 0.0
    surrogate: Surrogate = field(default_factory=Triangle)
    g_leak: Conductance | None = None

    def __post_init__(self) -> None:
        check_above(self, "v_threshold", "v_reset")

    reset: Reset = field(default="to_value", init=False)
    refractory: float = field(default=0.0, init=False)
    euler: bool = field(default=True, init=False)  # follows its time constants by Euler steps

    @property
    def unit(self) -> float | Tensor:
        """From reset to peak."""
        return number(self.v_threshold) - number(self.v_reset)

    def init(self, drive: Tensor, generator: torch.Generator | None = None) -> AdExState:
        """At rest, silent, not adapted."""
        zero = torch.zeros_like(drive)
        return AdExState(zero + number(self.v_leak), zero, zero)

    def step(self, state: AdExState, drive: Tensor, dt: float) -> tuple[Activity, AdExState]:
        """Potential and spike, [B, *size]."""
        v = torch.where(state.spike.detach() > 0, number(self.v_reset), state.v)
        w = state.w + number(self.b) * state.spike
        rest, sharpness = number(self.v_leak), number(self.sharpness)
        exponent = ((v - number(self.v_rheobase)) / sharpness).clamp(max=_STEEPEST)
        after = v + dt / number(self.tau_mem) * (rest - v + sharpness * exponent.exp() - w + drive)
        w = w + dt / number(self.tau_adapt) * (number(self.a) * (v - rest) - w)
        activity, _ = membrane.fire(self, after, None, dt)
        return activity, AdExState(after, w, activity.value)

    def check_volts(self) -> None:
        """Those of its constants."""
        membrane.check_volts(self, self.v_leak)

    def membrane(self, state: AdExState) -> Tensor:
        """After the reset."""
        return torch.where(state.spike.detach() > 0, number(self.v_reset), state.v)

    def conduct(self, state: AdExState, drive: Tensor, opened: Conductances, dt: float) -> tuple[Activity, AdExState]:
        """The same Euler step with conductances, in units of the leak."""
        return self.step(state, drive + opened.pull - opened.total * self.membrane(state), dt)

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """third factor * psi dt / tau_mem."""
        return membrane.gate(self, activity, third_factor, dt / number(self.tau_mem))

    @property
    def factorises(self) -> bool:
        """Never."""
        return False

    def filters(self, dt: float) -> None:
        """Not a cascade of leaks."""

    def flow(self, state: AdExState, activity: Activity, dt: float) -> Flow:
        """(v, w), linearised where the neuron is; a spike's reset cuts v, its jump of w is differentiated."""
        leaking, adapting = dt / number(self.tau_mem), dt / number(self.tau_adapt)
        keep = 1 - state.spike
        v = torch.where(state.spike > 0, number(self.v_reset), state.v)
        exponent = (v - number(self.v_rheobase)) / number(self.sharpness)
        rising = torch.where(exponent < _STEEPEST, exponent.clamp(max=_STEEPEST).exp(), 0.0)
        jump = number(self.b) * membrane.psi(self, activity)  # d w / d v through the spike
        slope = keep * (1 + leaking * (rising - 1))
        return Flow(
            (
                (slope - leaking * jump, -leaking),
                (adapting * number(self.a) * keep + (1 - adapting) * jump, 1 - adapting),
            ),
            (1.0, 0.0),
            (1.0, 0.0),
        )
