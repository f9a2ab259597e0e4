"""Whether a step is short enough for a neuron: its time constants, its wait after a spike, its longest step."""

import math

import torch
from torch import Tensor

from neurosbd.errors import warn
from neurosbd.filters import decay

GONE = 0.01  # of a leak: what is left after a step when it is over within it


def check_step_length(neuron: object, dt: float, where: str) -> None:
    """Warn of times of a neuron that steps of dt, s, cannot show, and refuse a step that makes another neuron of it.

    A leak that leaves less than 1 % after a step is gone within it; a translated network may well have leaks shorter
    than its step, such as a beta of 0.3. What a neuron follows by Euler steps must not be shorter than one.

    Args:
        neuron: constants; time constants are those whose name begins with 'tau_'. None: nothing is asked.
        dt: step, s.
        where: begins the message.
    Raises:
        ValueError: if a neuron that names its `longest_step` takes one five times as long.
    """
    if neuron is None:
        return
    _check_longest(neuron, dt, where)
    name, by_euler = type(neuron).__name__, getattr(neuron, "euler", False)
    for field, value in vars(neuron).items():
        if field.startswith("tau_") and isinstance(value, float | Tensor):
            least = torch.as_tensor(value).min().item()
            left = decay(least, dt)
            if least < dt if by_euler else left < GONE:
                what = "its Euler step overshoots" if by_euler else f"{left:.1g} of it is left after one"
                warn(
                    f"{where}: {name}.{field} = {least:g} s is short beside a step of dt = {dt:g} s: {what}; times are "
                    f"in s: if that is not meant, change it or take a smaller time.dt"
                )
    resting = getattr(neuron, "refractory", 0.0) / dt
    if abs(resting - round(resting)) > 1e-6 * max(1.0, resting):
        warn(
            f"{where}: {name}.refractory = {resting * dt:g} s is no whole number of steps of dt = {dt:g} s; it is "
            f"rounded to {round(resting)} of them"
        )


def _check_longest(neuron: object, dt: float, where: str) -> None:
    """Beyond the longest step whose spikes come about in time, and far beyond it, where hardly any come."""
    longest = getattr(neuron, "longest_step", math.inf)
    beside = f"{where}: a step of dt = {dt:g} s is long for {type(neuron).__name__}, whose gates move within it"
    if dt > 5.001 * longest:
        raise ValueError(f"{beside}: hardly a spike is left; take time.dt = {longest:g} or less, such as '25 us'")
    if dt > 1.001 * longest:
        warn(f"{beside}: its spikes come late by a step or more each; take time.dt = {longest:g} or less")
