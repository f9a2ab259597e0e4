"""Responses in closed form: each step takes them exactly to the next, whatever its duration."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.filters import decay
from neurosbd.schema.constants import Seconds, constants

_Share = Callable[[float, float, Tensor], Tensor]  # tau, dt, tau_mem of every unit -> what of a response a step takes


class Pulse(NamedTuple):
    """What has arrived in this step."""

    arrived: Tensor


@constants
class Delta:
    """A pulse: what arrives is felt in the step of its arrival, and no longer.

        value[t] = arrived[t]

    Source: standard (NEST's iaf_psc_delta).
    """

    def init(self, arrived: Tensor) -> Pulse:
        """Nothing."""
        return Pulse(torch.zeros_like(arrived))

    def arrive(self, state: Pulse, arrived: Tensor, dt: float) -> Pulse:
        """What arrives."""
        return Pulse(arrived)

    def value(self, state: Pulse, dt: float, tau_mem: float | Tensor | None) -> Tensor:
        """What has arrived."""
        return state.arrived.clone()


class Decaying(NamedTuple):
    """One exponential."""

    i: Tensor  # at the beginning of the step


@constants
class Exponential:
    """A jump that decays.

        i[t] = exp(-dt / tau) i[t-1] + arrived[t];    within the step i(s) = i[t] exp(-s / tau)

    A weight of 1 makes a peak of 1, at the arrival.

    Args:
        tau: time constant, s, > 0.
    Source: Rotter, Diesmann 1999, Biol. Cybern. 81 (exact integration); NEST's iaf_psc_exp.
    """

    tau: Seconds = 5e-3

    def init(self, arrived: Tensor) -> Decaying:
        """Nothing."""
        return Decaying(torch.zeros_like(arrived))

    def arrive(self, state: Decaying, arrived: Tensor, dt: float) -> Decaying:
        """Decayed, and what arrives added."""
        return Decaying(torch.add(arrived, state.i, alpha=decay(self.tau, dt)))

    def value(self, state: Decaying, dt: float, tau_mem: float | Tensor | None) -> Tensor:
        """i times its mean over the step."""
        return state.i * mean(self.tau, dt, tau_mem)


class Rising(NamedTuple):
    """An alpha function: what is there, and what drives it up."""

    i: Tensor  # at the beginning of the step
    a: Tensor  # slope of i times tau, but for its decay


@constants
class Alpha:
    """A rise and a fall of one time constant.

        i(s) after an arrival of 1 = (s / tau) exp(1 - s / tau), whose peak is 1, at s = tau
        a[t] = exp(-dt / tau) a[t-1] + e arrived[t];    i[t] = exp(-dt / tau) (i[t-1] + a[t-1] dt / tau)

    Args:
        tau: time from the arrival to the peak, s, > 0.
    Source: Rall 1967, J. Neurophysiol. 30; Rotter, Diesmann 1999, Biol. Cybern. 81; NEST's iaf_psc_alpha.
    """

    tau: Seconds = 2e-3

    def init(self, arrived: Tensor) -> Rising:
        """Nothing."""
        zero = torch.zeros_like(arrived)
        return Rising(zero, zero)

    def arrive(self, state: Rising, arrived: Tensor, dt: float) -> Rising:
        """One step later, and what arrives added to what drives it up."""
        left = decay(self.tau, dt)
        i = torch.add(state.i, state.a, alpha=dt / self.tau).mul_(left)
        return Rising(i, torch.mul(arrived, math.e).add_(state.a, alpha=left))

    def value(self, state: Rising, dt: float, tau_mem: float | Tensor | None) -> Tensor:
        """The mean over the step of both parts."""
        return state.i * mean(self.tau, dt, tau_mem) + state.a * mean_ramp(self.tau, dt, tau_mem)


class Difference(NamedTuple):
    """Two exponentials; their difference is felt."""

    slow: Tensor
    fast: Tensor


@constants
class DoubleExponential:
    """A rise and a fall of two time constants.

        i(s) after an arrival of 1 = norm (exp(-s / tau_decay) - exp(-s / tau_rise)), whose peak is 1

    Args:
        tau_rise: s, > 0, and < tau_decay.
        tau_decay: s, > 0.
    Raises:
        ValueError: unless tau_rise < tau_decay; where both are one, take 'alpha'.
    Source: Roth, van Rossum 2009, in Computational Modeling Methods for Neuroscientists, ch. 6; NEURON's Exp2Syn.
    """

    tau_rise: Seconds = 0.5e-3
    tau_decay: Seconds = 3e-3

    def __post_init__(self) -> None:
        if not self.tau_rise < self.tau_decay:
            raise ValueError(
                f"DoubleExponential needs tau_rise < tau_decay, got {self.tau_rise:g} and {self.tau_decay:g} s; where "
                f"both are one, take 'alpha'"
            )

    @property
    def norm(self) -> float:
        """Makes the peak 1."""
        ratio = self.tau_rise / self.tau_decay
        return 1 / (ratio ** (ratio / (1 - ratio)) - ratio ** (1 / (1 - ratio)))

    def init(self, arrived: Tensor) -> Difference:
        """Nothing."""
        zero = torch.zeros_like(arrived)
        return Difference(zero, zero)

    def arrive(self, state: Difference, arrived: Tensor, dt: float) -> Difference:
        """Both decayed, and what arrives added to both."""
        arrived = arrived * self.norm
        slow, fast = (decay(tau, dt) for tau in (self.tau_decay, self.tau_rise))
        return Difference(torch.add(arrived, state.slow, alpha=slow), torch.add(arrived, state.fast, alpha=fast))

    def value(self, state: Difference, dt: float, tau_mem: float | Tensor | None) -> Tensor:
        """The difference of their means over the step."""
        return state.slow * mean(self.tau_decay, dt, tau_mem) - state.fast * mean(self.tau_rise, dt, tau_mem)


def mean(tau: float, dt: float, tau_mem: float | Tensor | None) -> float | Tensor:
    """The constant current that changes a membrane over a step as much as exp(-s / tau) does.

        integral of exp(-(dt - s) / tau_mem) exp(-s / tau) over that of exp(-(dt - s) / tau_mem), s in 0..dt

    >>> mean(5e-3, 1e-3, None), round(mean(5e-3, 1e-3, 20e-3), 6)
    (1.0, 0.905592)
    """
    return 1.0 if tau_mem is None else _of_each(_mean, tau, dt, tau_mem)


def _of_each(share: _Share, tau: float, dt: float, tau_mem: float | Tensor) -> float | Tensor:
    """The share of a step, in double precision, of one time constant of the membrane or of one per unit."""
    if isinstance(tau_mem, Tensor):
        return share(tau, dt, tau_mem.double()).to(tau_mem.dtype)
    return _of_number(share, tau, dt, tau_mem)


@functools.lru_cache(256)  # it is asked for in every step, and of numbers it is always the same
def _of_number(share: _Share, tau: float, dt: float, tau_mem: float) -> float:
    return float(share(tau, dt, torch.tensor(tau_mem, dtype=torch.float64)))


def _mean(tau: float, dt: float, tau_mem: Tensor) -> Tensor:
    x = dt / tau_mem - dt / tau
    whole = _average_of_exp(-dt / tau_mem)
    return torch.exp(-dt / tau_mem) * _average_of_exp(x) / whole


def _average_of_exp(x: Tensor) -> Tensor:
    """(exp(x) - 1) / x, the mean of exp over 0..x."""
    near = x.abs() < 1e-8
    return torch.where(near, 1 + x / 2, torch.expm1(x) / torch.where(near, 1.0, x))


def mean_ramp(tau: float, dt: float, tau_mem: float | Tensor | None) -> float | Tensor:
    """The same for (s / tau) exp(-s / tau).

    >>> mean_ramp(5e-3, 1e-3, None), round(mean_ramp(5e-3, 1e-3, 20e-3), 6)
    (0.0, 0.088296)
    """
    return 0.0 if tau_mem is None else _of_each(_mean_ramp, tau, dt, tau_mem)


def _mean_ramp(tau: float, dt: float, tau_mem: Tensor) -> Tensor:
    x = dt / tau_mem - dt / tau
    near = x.abs() < 1e-2  # where the difference of two nearly equal numbers is left to their series
    far = torch.where(near, 1.0, x)
    series = 1 / 2 + x / 3 + x**2 / 8 + x**3 / 30 + x**4 / 144 + x**5 / 840 + x**6 / 5760
    ramp = torch.where(near, series, (torch.exp(far) - _average_of_exp(far)) / far)
    whole = _average_of_exp(-dt / tau_mem)
    return dt / tau * torch.exp(-dt / tau_mem) * ramp / whole
