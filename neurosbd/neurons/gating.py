"""Gates of ion channels: their rates of opening and closing as functions of the potential, and their exact step."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

_FARTHEST = 0.2  # V; rates are those of the nearest potential within +-: there every gate is open or shut

Rates = Literal["squid", "traub_miles"]


class Shape(NamedTuple):
    """How a rate depends on the potential, as a function of x."""

    value: Callable[[Tensor], Tensor]  # x -> the rate
    slope: Callable[[Tensor, Tensor], Tensor]  # x, value there -> its derivative by x


def _linear(x: Tensor) -> Tensor:
    near = x.abs() < 1e-2
    far = torch.where(near, 1.0, x)
    square = x * x
    return torch.where(near, 1 + x / 2 + square / 12 - square * square / 720, -far / torch.expm1(-far))


def _linear_slope(x: Tensor, value: Tensor) -> Tensor:
    near = x.abs() < 1e-2
    far = torch.where(near, 1.0, x)
    return torch.where(near, 1 / 2 + x / 6 - x**3 / 180, value / far * (1 + far - value))


exponential = Shape(torch.exp, lambda x, value: value)  # exp(x)
sigmoid = Shape(torch.sigmoid, lambda x, value: value * (1 - value))  # 1 / (1 + exp(-x))
# x / (1 - exp(-x)), which rises in a straight line far above 0 and is 1 there; both by their series around 0
linear = Shape(_linear, _linear_slope)


class Rate(NamedTuple):
    """size shape((v - middle) / width)."""

    shape: Shape
    size: float  # 1/s
    middle: float  # V
    width: float  # V; below 0 it falls with the potential

    def at(self, v: Tensor) -> Tensor:
        """In 1/s."""
        return self.shape.value((v - self.middle) / self.width) * self.size

    def slope(self, v: Tensor) -> Tensor:
        """Its derivative by the potential, 1/(V s)."""
        x = (v - self.middle) / self.width
        return self.shape.slope(x, self.shape.value(x)) * (self.size / self.width)


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


def _rates(gate: Gate, v: Tensor) -> tuple[Tensor, Tensor]:
    held = v.clamp(-_FARTHEST, _FARTHEST)
    return gate.opening.at(held), gate.closing.at(held)


def steady(gate: Gate, v: Tensor) -> Tensor:
    """Share that is open where the potential has long been v, in V."""
    opening, closing = _rates(gate, v)
    return opening / (opening + closing)


def step(gate: Gate, share: Tensor, v: Tensor, dt: float) -> Tensor:
    """One step of dt s at the potential v, exactly: goal + (share - goal) exp(-(opening + closing) dt)."""
    opening, closing = _rates(gate, v)
    both = opening + closing
    goal = opening / both
    return goal + (share - goal) * torch.exp(both * -dt)


def slopes(gate: Gate, share: Tensor, v: Tensor, dt: float) -> tuple[Tensor, Tensor]:
    """Derivatives of `step` by the share and by the potential, 1/V."""
    opening, closing = _rates(gate, v)
    held = v.clamp(-_FARTHEST, _FARTHEST)
    rise, fall = (rate.slope(held) * (held == v) for rate in gate)
    both, change = opening + closing, rise + fall
    goal, left = opening / both, torch.exp(both * -dt)
    shifts = (rise - goal * change) / both
    return left, shifts * (1 - left) - (share - goal) * left * dt * change
