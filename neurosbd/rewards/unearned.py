"""Rewards that come by themselves: at given times, or at random."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from neurosbd.filters import probability
from neurosbd.noise import new_key, uniform
from neurosbd.schema.constants import NotNegativeHertz, NotNegativeSeconds, constants
from neurosbd.stimuli.stimulus import KeyedStepsDone, StepsDone, steps_at


@constants(called="times")
class Times:
    """Rewards at given times, each in the step nearest to it.

    Args:
        times: s, >= 0, in any order; one at least.
    Raises:
        ValueError: if a time is negative.
    Source: Izhikevich 2007, Cereb. Cortex 17 (dopamine at given times: classical conditioning).
    """

    times: tuple[NotNegativeSeconds, ...] = (0.5,)

    def check(self, sizes: Mapping[str, tuple[int, ...]], dt: float) -> None:
        """Some time."""
        if not self.times:
            raise ValueError("times is empty, so that no reward would come; give some, such as times = ['1 s']")

    def moments(self, dt: float) -> np.ndarray:
        """The steps in which a reward comes."""
        return steps_at(self.times, dt)

    def init(self, like: Tensor, dt: float, generator: torch.Generator) -> StepsDone:
        """Its beginning."""
        return StepsDone(0)

    def step(self, state: StepsDone, activity: Mapping[str, Tensor], dt: float) -> tuple[Tensor, StepsDone]:
        """How many of the times are in this step."""
        like = next(iter(activity.values()))
        count = (self.moments(dt) == state.done).sum()
        return like.new_full((len(like),), float(count)), StepsDone(state.done + 1)


@constants(called="poisson")
class RandomTimes:
    """Rewards at random, of every example at times of its own: the control, in which nothing earns them.

    Args:
        rate: of rewards, Hz, >= 0.
    Raises:
        ValueError: if the rate is negative; `check`: more than one per step.
    Source: Rescorla 1967, Psychol. Rev. 74 (the truly random control).
    """

    rate: NotNegativeHertz = 1.0

    def check(self, sizes: Mapping[str, tuple[int, ...]], dt: float) -> None:
        """At most one per step."""
        probability(self.rate, dt, "reward.rate")

    def init(self, like: Tensor, dt: float, generator: torch.Generator) -> KeyedStepsDone:
        """The key of its noise."""
        return KeyedStepsDone(new_key(generator, "rewards at random", like.device), 0)

    def step(self, state: KeyedStepsDone, activity: Mapping[str, Tensor], dt: float) -> tuple[Tensor, KeyedStepsDone]:
        """Which examples have one in this step."""
        like = next(iter(activity.values())).flatten(1)[:, 0]
        drawn = uniform(state.key, torch.tensor(state.done, device=like.device), like)
        return (drawn < self.rate * dt).to(like.dtype), KeyedStepsDone(state.key, state.done + 1)
