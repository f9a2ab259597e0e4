"""Izhikevich's quadratic neuron with recovery."""

from dataclasses import field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

import neurosbd.neurons.membrane as membrane
from neurosbd.distributions import check_above
from neurosbd.neurons.membrane import Reset, number
from neurosbd.neurons.neuron import Activity, Flow
from neurosbd.neurons.units import Units
from neurosbd.schema.constants import Constant, constants
from neurosbd.surrogates import Surrogate, Triangle

_CURVATURE = 0.04  # 1 / (mV ms)


class IzhikevichState(NamedTuple):
    """Membrane, recovery, and the spike whose reset is still to come."""

    v: Tensor  # mV, before the reset of this step's spike, [B, *size]
    u: Tensor  # recovery, mV / ms, before that reset, [B, *size]
    spike: Tensor  # 0 or 1, [B, *size]


@constants
class Izhikevich:
    """Quadratic integrate-and-fire with a recovery variable; potentials in mV, drive in mV per ms.

        v[t] = v + h (0.04 v^2 + slope v + offset - u + drive[t]),   h = dt in ms
        u[t] = u + h a (b (v - v_recovery) - leak u)
        where v, u are those of t-1, after the reset of its spike: v = c, u = u + d
        z[t] = 1 if v[t] > v_threshold else 0

    Args:
        a: rate of recovery, 1 / ms; below 0 it runs away from b v, as in inhibition-induced spiking.
        b: sensitivity of recovery, 1 / ms.
        c: v after a spike, mV.
        d: rise of u per spike, mV / ms.
        v_threshold: peak that counts as a spike, mV.
        v_start: v before the first step, mV, where u is b (v - v_recovery); None: c.
        slope: of the polynomial at v = 0, 1 / ms; 4.1, and 108 for `offset`, where it is to spike at any low rate.
        offset: its value there, mV / ms.
        v_recovery: where recovery rests, mV.
        leak: of recovery, in units of a; 0 for one that only adds up.
        surrogate: pseudo-derivative, of the distance from the peak in units of v_threshold - c.
    Raises:
        ValueError: if a constant is no finite number, or the peak lies below c.
    Source: Izhikevich 2003, IEEE Trans. Neural Netw. 14; the 20 patterns of 2004, IEEE Trans. Neural Netw. 15, of which
        class 1 and the integrator have another polynomial, and accommodation another recovery.
    Differs: one Euler step per dt, as in Brian2, where the paper's script takes two half steps for v; use dt <= 0.5 ms.
        The polynomial is computed as 0.04 (v + 62.5)^2 - 16.25, with the constants of another one in their place,
        since near rest its terms are many times their sum.
        What is left of rounding grows with every upswing, as any change of v does: gradients through many spikes of
        one example want float64.
    """

    a: Constant = 0.02
    b: Constant = 0.2
    c: Constant = -65.0
    d: Constant = 8.0
    v_threshold: Constant = 30.0
    v_start: Constant | None = None
    slope: Constant = 5.0
    offset: Constant = 140.0
    v_recovery: Constant = 0.0
    leak: Constant = 1.0
    surrogate: Surrogate = field(default_factory=Triangle)

    def __post_init__(self) -> None:
        check_above(self, "v_threshold", "c", " mV")

    reset: Reset = field(default="to_value", init=False)
    refractory: float = field(default=0.0, init=False)
    units: ClassVar[Units] = Units("mV", "V/s")  # mV per ms

    @property
    def v_reset(self) -> Constant:
        """c, under the name the others use."""
        return self.c

    @property
    def unit(self) -> float | Tensor:
        """From reset to peak, mV."""
        return number(self.v_threshold) - number(self.c)

    @property
    def vertex(self) -> float | Tensor:
        """How far below 0 the polynomial is smallest, mV."""
        return number(self.slope) / (2 * _CURVATURE)

    @property
    def depth(self) -> float | Tensor:
        """How far below 0 it is there, mV / ms."""
        return _CURVATURE * self.vertex * self.vertex - number(self.offset)

    def init(self, drive: Tensor, generator: torch.Generator | None = None) -> IzhikevichState:
        """v = v_start, u = b (v_start - v_recovery), silent."""
        zero = torch.zeros_like(drive)
        v = zero + number(self.c if self.v_start is None else self.v_start)
        return IzhikevichState(v, number(self.b) * (v - number(self.v_recovery)), zero)

    def step(self, state: IzhikevichState, drive: Tensor, dt: float) -> tuple[Activity, IzhikevichState]:
        """Potential and spike, [B, *size]."""
        h, z = 1e3 * dt, state.spike.detach()
        v = torch.where(z > 0, number(self.c), state.v)
        u = state.u + number(self.d) * state.spike
        above = v + self.vertex
        after = v + h * (_CURVATURE * above * above - self.depth - u + drive)
        u = u + h * number(self.a) * (number(self.b) * (v - number(self.v_recovery)) - number(self.leak) * u)
        activity, _ = membrane.fire(self, after, None, dt)
        return activity, IzhikevichState(after, u, activity.value)

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """third factor * psi h."""
        return membrane.gate(self, activity, third_factor, 1e3 * dt)

    @property
    def factorises(self) -> bool:
        """Never."""
        return False

    def filters(self, dt: float) -> None:
        """Not a cascade of leaks."""

    def flow(self, state: IzhikevichState, activity: Activity, dt: float) -> Flow:
        """(v, u), linearised where the neuron is; a spike's reset cuts v, its jump of u is differentiated."""
        h, a, b = 1e3 * dt, number(self.a), number(self.b)
        fading = 1 - h * a * number(self.leak)
        keep = 1 - state.spike
        v = torch.where(state.spike > 0, number(self.c), state.v)
        jump = number(self.d) * membrane.psi(self, activity)  # d u / d v through the spike
        slope = keep * (1 + h * 2 * _CURVATURE * (v + self.vertex))
        return Flow(((slope - h * jump, -h), (h * a * b * keep + fading * jump, fading)), (1.0, 0.0), (1.0, 0.0))
