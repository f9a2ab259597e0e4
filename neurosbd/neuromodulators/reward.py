"""Reward as a third factor: how much better than expected, sent to all units alike or through a projection."""

from dataclasses import field
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from neurosbd.axes import per_example
from neurosbd.neuromodulators.layouts import Full, Layout
from neurosbd.neuromodulators.neuromodulator import Broadcast, Receiver
from neurosbd.neuromodulators.projection import draw_projection
from neurosbd.schema.constants import Count, Fraction, NotNegative, constants


class Expectation(NamedTuple):
    """Running mean of the reward, one for each task and channel, and the way of the channels to the units."""

    mean: Tensor  # [tasks, channels]
    expected: Tensor  # before the rewards of the last step, [tasks, channels]
    seen: Tensor  # rewards so far, [tasks]
    projection: Tensor  # [channels, M]; [1, 0] for one channel, which reaches all units alike
    basis: Tensor  # of the layout of the projection


@constants
class Reward:
    """third_factor[b] = -(R[b] - Rbar[task[b]]) / B: a success is a loss of the other sign.

        Rbar[k] <- Rbar[k] + baseline (mean of R over the examples of task k - Rbar[k])

    R is that of a step, and so is what is expected, unless `expects` says otherwise. One channel is the same for all
    units; several ([B, channels]) go through a fixed random projection, which gives every unit its own mixture. The
    first rewards of a task count as if all before had been equal to them.

    Args:
        baseline: rate of the running mean of the reward, per batch, 0..1; 0 means no baseline.
        expects: 'step': Rbar moves with the rewards of every step that has some; 'trial': with those of the last step
            of a trial alone, so that it stays while a trial goes on.
        tasks: number of separate baselines, >= 1; without `Broadcast.task` all examples are of task 0.
        channels: rewards per example, >= 1.
        scale: standard deviation of the projection of several channels, >= 0.
        layout: which units share a column of the projection, see LAYOUTS.
    Raises:
        ValueError: if a constant is out of range; at a step, if a task or the shape of the rewards is.
    Source: Fremaux, Sprekeler, Gerstner 2010, J. Neurosci. 30 (why the baseline is per task); Williams 1992.
    """

    rewarded: ClassVar[bool] = True
    reads_activity: ClassVar[bool] = False
    steady: ClassVar[bool] = False

    baseline: Fraction = 0.1
    expects: Literal["step", "trial"] = "step"
    tasks: Count = 1
    channels: Count = 1
    scale: NotNegative = 1.0
    layout: Layout = field(default_factory=Full)

    def init(self, receiver: Receiver, broadcast: Broadcast, generator: torch.Generator) -> Expectation:
        """Nothing expected; the projection of several channels is drawn."""
        zero = receiver.value.new_zeros(self.tasks, self.channels)
        projection, basis = zero.new_empty(1, 0), zero.new_empty(0)
        if self.channels > 1:
            projection, basis = draw_projection(receiver.value, self.channels, self.layout, self.scale, generator)
        return Expectation(zero, zero.clone(), zero[:, 0].clone(), projection, basis)

    def statistics(self, state: Expectation, receiver: Receiver, broadcast: Broadcast) -> tuple[Tensor, Tensor]:
        """How many examples of every task there are, [tasks], and the sum of their rewards, [tasks, channels]."""
        reward = self._checked(receiver.value, broadcast)
        task = _task(reward, broadcast)
        count = torch.zeros_like(state.seen).index_add_(0, task, torch.ones_like(reward[:, 0]))
        return count, torch.zeros_like(state.mean).index_add_(0, task, reward)

    def update(self, state: Expectation, sums: tuple[Tensor, ...], broadcast: Broadcast) -> Expectation:
        """What is expected of the next rewards, and what was of these."""
        count, total = sums
        mean = total / count.clamp(min=1)[:, None]
        there, first = (count > 0)[:, None], (state.seen == 0)[:, None]
        expected = torch.where(first & there, mean, state.mean) if self.baseline > 0 else state.mean
        if self.expects == "trial" and not broadcast.last:
            return state._replace(expected=expected)
        moved = torch.where(there, expected + self.baseline * (mean - expected), expected)
        return state._replace(mean=moved, expected=expected, seen=state.seen + count)

    def third_factor(self, state: Expectation, receiver: Receiver, broadcast: Broadcast) -> Tensor:
        """By how much the rewards are less than was expected, [B, *size]; an expanded view where all units get the
        same."""
        assert broadcast.reward is not None
        reward = broadcast.reward.view(-1, self.channels)
        third_factor = (state.expected[_task(reward, broadcast)] - reward) / broadcast.examples
        if self.channels > 1:
            return self.layout.spread(third_factor @ state.projection, receiver.value, state.basis)
        return per_example(third_factor, receiver.value).expand_as(receiver.value)

    def projection(self, state: Expectation) -> Tensor | None:
        """Of several channels, [channels, M]; one channel reaches all units alike."""
        return state.projection if self.channels > 1 else None

    def _checked(self, value: Tensor, broadcast: Broadcast) -> Tensor:
        """The reward as [B, channels]."""
        reward, batch = broadcast.reward, len(value)
        if reward is None:
            raise ValueError("neuromodulator 'reward' was sent a score and no reward; set Broadcast.reward, [batch]")
        wanted = (batch,) if self.channels == 1 else (batch, self.channels)
        if reward.shape != wanted:
            axes = "[batch]" if self.channels == 1 else "[batch, channels]"
            raise ValueError(
                f"a reward is one value per example{' and channel' if self.channels > 1 else ''}, {axes} = "
                f"{list(wanted)}, got {list(reward.shape)}; the population is [batch, *size] = "
                f"{list(value.shape)}"
            )
        task = broadcast.task
        if task is not None and task.device.type == "cpu" and not bool(((task >= 0) & (task < self.tasks)).all()):
            raise ValueError(
                f"tasks go from {task.min().item()} to {task.max().item()}, but there are {self.tasks} baselines; "
                f"legal are integers in 0..{self.tasks - 1}, set tasks to how many there are"
            )
        return reward.view(batch, self.channels)


def _task(reward: Tensor, broadcast: Broadcast) -> Tensor:
    """Of which task every example is, [B]."""
    return reward.new_zeros(len(reward), dtype=torch.int64) if broadcast.task is None else broadcast.task
