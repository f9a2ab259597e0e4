"""Currents that are functions of time, and noise."""

import math
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neurosbd.filters import decay
from neurosbd.noise import new_key, normal, normals
from neurosbd.schema.constants import Constant, Hertz, NotNegative, NotNegativeSeconds, Seconds, constants
from neurosbd.stimuli.stimulus import StepsDone, check_steps, shown, stepped, steps_at, times


@constants(called="current")
class Current:
    """The same drive at every step; `start` and `stop` of the stimulus make a pulse of it.

    Args:
        amplitude: one, one per unit, or drawn.
    Source: standard.
    """

    fires: ClassVar[bool] = False
    amplitude: Constant = 1.0

    def check(self, size: tuple[int, ...], dt: float) -> None:
        """Always possible."""

    def init(self, like: Tensor, dt: float, generator: torch.Generator) -> StepsDone:
        """Its beginning."""
        return StepsDone(0)

    def block(self, state: StepsDone, like: Tensor, steps: int, dt: float) -> tuple[Tensor, StepsDone]:
        """[steps, B, *size]."""
        value = torch.as_tensor(self.amplitude, dtype=torch.float64, device=like.device)
        return shown(value.expand(steps, *like.shape), like), StepsDone(state.done + steps)


@constants(called="current_steps")
class CurrentSteps:
    """A drive that jumps: from times[n] on it is values[n], before the first of them 0.

    Args:
        times: s, >= 0, ascending.
        values: as many.
    Raises:
        ValueError: if there are more of one than of the other, or a time is not after the one before.
    Source: standard.
    """

    fires: ClassVar[bool] = False
    times: tuple[NotNegativeSeconds, ...] = (0.0,)
    values: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        check_steps(self.times, self.values, "current_steps")

    def check(self, size: tuple[int, ...], dt: float) -> None:
        """Always possible."""

    def moments(self, dt: float) -> np.ndarray:
        """The steps at which it jumps."""
        return steps_at(self.times, dt)

    def init(self, like: Tensor, dt: float, generator: torch.Generator) -> StepsDone:
        """Its beginning."""
        return StepsDone(0)

    def block(self, state: StepsDone, like: Tensor, steps: int, dt: float) -> tuple[Tensor, StepsDone]:
        """[steps, B, *size]."""
        current = stepped(self.times, self.values, state.done, steps, dt, like.device)
        return shown(current.view(steps, *(1 for _ in like.shape)), like), StepsDone(state.done + steps)


@constants(called="ramp")
class Ramp:
    """A drive that moves from one value to another in a straight line, and stays there.

        drive(t) = low + (high - low) t / duration   until t = duration, then high

    Args:
        low: at the start.
        high: at the end; may be lower.
        duration: s, > 0.
    Raises:
        ValueError: if a constant is out of range.
    Source: standard.
    """

    fires: ClassVar[bool] = False
    low: float = 0.0
    high: float = 1.0
    duration: Seconds = 1.0

    def check(self, size: tuple[int, ...], dt: float) -> None:
        """Always possible."""

    def init(self, like: Tensor, dt: float, generator: torch.Generator) -> StepsDone:
        """Its beginning."""
        return StepsDone(0)

    def block(self, state: StepsDone, like: Tensor, steps: int, dt: float) -> tuple[Tensor, StepsDone]:
        """[steps, B, *size]."""
        share = (times(state.done, steps, dt, like) / self.duration).clamp(max=1.0)
        return shown(self.low + (self.high - self.low) * share, like), StepsDone(state.done + steps)


@constants(called="sine")
class Sine:
    """drive(t) = offset + amplitude sin(2 pi frequency t + phase).

    Args:
        amplitude: one, one per unit, or drawn.
        frequency: Hz, > 0.
        phase: radians: one, one per unit, or drawn.
        offset: what it swings about.
    Raises:
        ValueError: if a constant is out of range, or a period has less than two steps.
    Source: standard.
    """

    fires: ClassVar[bool] = False
    amplitude: Constant = 1.0
    frequency: Hertz = 10.0
    phase: Constant = 0.0
    offset: float = 0.0

    def check(self, size: tuple[int, ...], dt: float) -> None:
        """Two steps per period or more."""
        if self.frequency * dt > 0.5:
            raise ValueError(
                f"sine.frequency = {self.frequency:g} Hz has less than two steps of dt = {dt:g} s per period; the most "
                f"is {0.5 / dt:g} Hz"
            )

    def init(self, like: Tensor, dt: float, generator: torch.Generator) -> StepsDone:
        """Its beginning."""
        return StepsDone(0)

    def block(self, state: StepsDone, like: Tensor, steps: int, dt: float) -> tuple[Tensor, StepsDone]:
        """[steps, B, *size]."""
        amplitude, phase = (
            torch.as_tensor(value, dtype=torch.float64, device=like.device) for value in (self.amplitude, self.phase)
        )
        angle = 2 * math.pi * self.frequency * times(state.done, steps, dt, like) + phase
        return shown(self.offset + amplitude * torch.sin(angle), like), StepsDone(state.done + steps)


class Wandering(NamedTuple):
    """State of a noise that remembers."""

    key: Tensor  # int64 []
    done: int  # steps
    value: Tensor  # distance from the mean, [B, *size]


@constants(called="noise_current")
class NoiseCurrent:
    """A Gaussian drive, of every unit by itself, white or with a memory (Ornstein, Uhlenbeck).

        tau = 0:  drive[n] = mean + std xi[n]
        tau > 0:  x[n] = a x[n-1] + std sqrt(1 - a^2) xi[n],   drive[n] = mean + x[n],   a = exp(-dt / tau)

    Args:
        mean: of the drive.
        std: its standard deviation, >= 0, from the first step on and at every dt.
        tau: correlation time, s, >= 0; 0: white.
    Raises:
        ValueError: if a constant is out of range.
    Source: Uhlenbeck, Ornstein 1930, Phys. Rev. 36; Gillespie 1996, Phys. Rev. E 54 (the exact step).
    """

    fires: ClassVar[bool] = False
    mean: float = 0.0
    std: NotNegative = 1.0
    tau: NotNegativeSeconds = 0.0

    def check(self, size: tuple[int, ...], dt: float) -> None:
        """Always possible."""

    def init(self, like: Tensor, dt: float, generator: torch.Generator) -> Wandering:
        """Drawn from where it will be in the long run."""
        key = new_key(generator, "a noise current", like.device)
        return Wandering(key, 1, self.std * normal(key, torch.zeros_like(key), like))

    def block(self, state: Wandering, like: Tensor, steps: int, dt: float) -> tuple[Tensor, Wandering]:
        """[steps, B, *size]."""
        kept = decay(self.tau, dt) if self.tau else 0.0
        fresh = normals(state.key, state.done, steps, like).mul_(self.std * math.sqrt(1 - float(kept) ** 2))
        value, found = state.value, []
        for each in fresh:
            value = torch.add(each, value, alpha=float(kept))
            found.append(value)
        return torch.stack(found).add_(self.mean), Wandering(state.key, state.done + steps, value)
