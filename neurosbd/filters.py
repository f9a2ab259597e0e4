"""Times in steps: the one place where time constants become factors, and durations numbers of steps."""

import math
from typing import overload

import torch
from torch import Tensor

COUNTED = 2.0**53  # above it not every whole number is a float


@overload
def decay(tau: float, dt: float) -> float: ...
@overload
def decay(tau: Tensor, dt: float) -> Tensor: ...
def decay(tau: float | Tensor, dt: float) -> float | Tensor:
    """exp(-dt / tau): what is left after one step.

    Args:
        tau: time constant, s, > 0; a number or one per unit.
        dt: step, s.

    >>> round(decay(20e-3, 1e-3), 4)
    0.9512
    """
    return torch.exp(-dt / tau) if isinstance(tau, Tensor) else math.exp(-dt / tau)


def leak(value: Tensor, factor: float | Tensor, added: Tensor) -> Tensor:
    """factor * value + added, in one pass over memory where the factor is a number."""
    if isinstance(factor, Tensor):
        return torch.addcmul(added, value, factor)
    return torch.add(added, value, alpha=factor)


def whole_steps(time: float, dt: float, name: str) -> int:
    """A duration as a number of steps, which it must be up to rounding.

    Args:
        time: s.
        dt: step, s, > 0.
        name: of the duration, for the message.
    Raises:
        ValueError: if it lies between two steps, or is none at all (says which times do not), or has more than can
            be counted.

    >>> whole_steps(0.3e-3, 1e-4, "every")
    3
    """
    exact = time / dt
    if exact > COUNTED:
        raise ValueError(f"{name} = {time:g} s has {exact:.3g} steps of dt = {dt:.6g} s; make it shorter")
    if not abs(exact - round(exact)) <= 1e-6 * max(1.0, abs(exact)) or (time > 0 and round(exact) == 0):
        low = math.floor(exact)
        near = " and ".join(f"{number * dt:.6g}" for number in (low, low + 1) if number)
        raise ValueError(f"{name} = {time:g} s is no whole number of steps of dt = {dt:.6g} s; near it: {near} s")
    return round(exact)


def probability(rate: float, dt: float, name: str) -> float:
    """Of a spike in a step of dt, s, at a rate in Hz.

    Raises:
        ValueError: if it would be above 1.
    """
    if rate * dt > 1:
        raise ValueError(
            f"{name} = {rate:g} Hz is more than one spike in a step of dt = {dt:g} s; the most is {1 / dt:g}"
        )
    return rate * dt
