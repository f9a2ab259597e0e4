"""Reward as a third factor: the same for all units, less what was to be expected."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.process import Heard


class Expectation(NamedTuple):
    """Running mean of the reward, one for each task."""

    mean: Tensor  # [tasks]
    seen: Tensor  # rewards so far, [tasks]


@dataclass(frozen=True)
class Reward:
    """signal[b, i] = -(R[b] - Rbar[task[b]]) / B: a success is a loss of the other sign, shared by all units.

        Rbar[k] <- Rbar[k] + rate (mean of R over the examples of task k - Rbar[k])

    The first rewards of a task count as if all before had been equal to them.

    Args:
        rate: of the running mean, per batch, 0..1; 0 means no baseline.
        tasks: number of separate baselines, >= 1; without `Heard.task` all examples are of task 0.
    Raises:
        ValueError: if a constant is out of range.
    Source: Fremaux, Sprekeler, Gerstner 2010, J. Neurosci. 30 (why the baseline is per task); Williams 1992.
    """

    rate: float = 0.1
    tasks: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ValueError(f"Reward.rate must be in 0..1, got {self.rate}")
        if self.tasks < 1:
            raise ValueError(f"Reward.tasks must be at least 1, got {self.tasks}")

    def init(self, heard: Heard, generator: torch.Generator) -> Expectation:
        """Nothing expected."""
        zero = heard.value.new_zeros(self.tasks)
        return Expectation(zero, zero.clone())

    def step(self, state: Expectation, heard: Heard, dt: float) -> tuple[Tensor, Expectation]:
        """[B, *size], an expanded view."""
        reward = heard.reward
        if reward is None:
            raise ValueError("a reward rule was given a score instead of a reward")
        if reward.shape != heard.value.shape[:1]:
            raise ValueError(
                f"a reward is one value per example, [batch] = [{len(heard.value)}], got {list(reward.shape)}; "
                f"the population is [batch, *size] = {list(heard.value.shape)}"
            )
        task = torch.zeros_like(reward, dtype=torch.int64) if heard.task is None else heard.task
        count = torch.zeros_like(state.mean).index_add_(0, task, torch.ones_like(reward))
        mean = torch.zeros_like(state.mean).index_add_(0, task, reward) / count.clamp(min=1)
        first = state.seen == 0
        expected = torch.where(first & (count > 0), mean, state.mean) if self.rate > 0 else state.mean
        signal = (expected[task] - reward) / len(reward)
        after = torch.where(count > 0, expected + self.rate * (mean - expected), expected)
        spread = signal.view(-1, *(1,) * (heard.value.ndim - 1)).expand_as(heard.value)
        return spread, Expectation(after, state.seen + count)
