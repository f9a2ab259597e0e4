"""Gates of ion channels: their rates of opening and closing as functions of the potential, and their exact step."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

_FARTHEST = 0.2  # V; rates are those of the nearest potential within +-: there every gate is open or shut

Shape = Callable[[Tensor], tuple[Tensor, Tensor]]  # x -> the shape of a rate there, and its derivative by x
Rates = Literal["squid", "traub_miles"]


def exponential(x: Tensor) -> tuple[Tensor, Tensor]:
    """exp(x)."""
    value = torch.exp(x)
    return value, value


def sigmoid(x: Tensor) -> tuple[Tensor, Tensor]:
    """1 / (1 + exp(-x))."""
    value = torch.sigmoid(x)
    return value, value * (1 - value)


def linear(x: Tensor) -> tuple[Tensor, Tensor]:
    """x / (1 - exp(-x)), which rises in a straight line far above 0 and is 1 there; both by their series around 0."""
    near = x.abs() < 1e-2
    far = torch.where(near, 1.0, x)
    value = torch.where(near, 1 + x / 2 + x**2 / 12 - x**4 / 720, -far / torch.expm1(-far))
    return value, torch.where(near, 1 / 2 + x / 6 - x**3 / 180, value / far * (1 + far - value))


class Rate(NamedTuple):
    """size shape((v - middle) / width)."""

    shape: Shape
    size: float  # 1/s
    middle: float  # V
    width: float  # V; below 0 it falls with the potential


class Gate(NamedTuple):
    """A gate that is shut opens at one rate, one that is open shuts at another."""

    opening: Rate
    closing: Rate


class Gates(NamedTuple):
    """Those of sodium channels, m and h, and of potassium channels, n."""

    m: Gate
    h: Gate
    n: Gate


GATES: dict[Rates, Gates] = {
    "squid": Gates(
        Gate(Rate(linear, 1e3, -40e-3, 10e-3), Rate(exponential, 4e3, -65e-3, -18e-3)),
        Gate(Rate(exponential, 70.0, -65e-3, -20e-3), Rate(sigmoid, 1e3, -35e-3, 10e-3)),
        Gate(Rate(linear, 100.0, -55e-3, 10e-3), Rate(exponential, 125.0, -65e-3, -80e-3)),
    ),
    "traub_miles": Gates(
        Gate(Rate(linear, 1.28e3, -50e-3, 4e-3), Rate(linear, 1.4e3, -23e-3, -5e-3)),
        Gate(Rate(exponential, 128.0, -46e-3, -18e-3), Rate(sigmoid, 4e3, -23e-3, 5e-3)),
        Gate(Rate(linear, 160.0, -48e-3, 5e-3), Rate(exponential, 500.0, -53e-3, -40e-3)),
    ),
}


def steady(gate: Gate, v: Tensor) -> Tensor:
    """Share that is open where the potential has long been v, in V."""
    opening, closing = (_rate(rate, v)[0] for rate in gate)
    return opening / (opening + closing)


def step(gate: Gate, share: Tensor, v: Tensor, dt: float) -> Tensor:
    """One step of dt s at the potential v, exactly: goal + (share - goal) exp(-(opening + closing) dt)."""
    opening, closing = (_rate(rate, v)[0] for rate in gate)
    both = opening + closing
    goal = opening / both
    return goal + (share - goal) * torch.exp(-both * dt)


def slopes(gate: Gate, share: Tensor, v: Tensor, dt: float) -> tuple[Tensor, Tensor]:
    """Derivatives of `step` by the share and by the potential, 1/V."""
    (opening, rise), (closing, fall) = (_rate(rate, v) for rate in gate)
    both, change = opening + closing, rise + fall
    goal, left = opening / both, torch.exp(-both * dt)
    shifts = (rise - goal * change) / both
    return left, shifts * (1 - left) - (share - goal) * left * dt * change


def _rate(rate: Rate, v: Tensor) -> tuple[Tensor, Tensor]:
    """In 1/s, and its derivative by the potential."""
    held = v.clamp(-_FARTHEST, _FARTHEST)
    value, slope = rate.shape((held - rate.middle) / rate.width)
    return rate.size * value, rate.size / rate.width * slope * (held == v)
