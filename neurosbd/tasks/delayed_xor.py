"""Exclusive or of two Poisson-coded bits, taught by a reward that comes late."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from neurosbd.filters import probability, whole_steps
from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.network.inputs import Frames
from neurosbd.network.network import Frame
from neurosbd.noise import happens
from neurosbd.schema.constants import Count, Hertz, NotNegativeSeconds, Seconds, constants
from neurosbd.tasks.findings import Panel


def _right(counts: Tensor, target: Tensor) -> Tensor:
    """1 where the target's output fired more, a half where both the same, [B]."""
    right, wrong = counts.gather(1, target[:, None])[:, 0], counts.gather(1, 1 - target[:, None])[:, 0]
    return (right > wrong).to(counts) + 0.5 * (right == wrong).to(counts)


class _Reward:
    """Counts the spikes of the outputs and judges them at the last step."""

    def __init__(self, target: Tensor, steps: int) -> None:
        self.target = target
        self.steps = steps
        self.counts: Tensor | None = None

    def __call__(self, t: int, frame: Frame) -> Tensor | None:
        spikes = frame.activity["output"].value
        self.counts = spikes if self.counts is None else self.counts + spikes
        return _right(self.counts, self.target.to(spikes.device)) if t == self.steps - 1 else None


@constants(called="delayed_xor")
class DelayedXor:
    """Two bits, each shown by a group of inputs that fires for 1 and another that fires for 0.

    Output 0 stands for equal, output 1 for different bits; the one that has fired more is the answer. The
    reward, 1 for a right answer, 0.5 for a tie, 0 for a wrong one, comes at the last step of the trial, `wait`
    after the inputs have fallen silent, and is all that is ever told.

    Args:
        duration: of the inputs, s, > 0.
        wait: from their end to the reward, s, >= 0.
        group: inputs per group (four groups), >= 1.
        rate: of an active group, Hz, > 0.
    Raises:
        ValueError: if a constant is out of range.
    Source: Florian 2007, Neural Comput. 19, section 4.2 (rate-coded XOR).
    Differs: there one output is rewarded or punished for each spike at once; here two compete, and one reward
        comes late.
    """

    duration: Seconds = 0.1
    wait: NotNegativeSeconds = 50e-3
    group: Count = 15
    rate: Hertz = 100.0

    def steps(self, dt: float) -> int:
        """Inputs and waiting."""
        probability(self.rate, dt, "delayed_xor.rate")
        return self._shown(dt) + whole_steps(self.wait, dt, "delayed_xor.wait")

    def _shown(self, dt: float) -> int:
        return whole_steps(self.duration, dt, "delayed_xor.duration")

    def sizes(self) -> tuple[int, int]:
        """Four groups; equal and different."""
        return 4 * self.group, 2

    def batch(self, size: int, dt: float, generator: torch.Generator) -> Batch:
        """Bits drawn per example; all four pairs are equally frequent in batches that are multiples of 4."""
        pairs = torch.arange(size)[torch.randperm(size, generator=generator)] % 4
        first, second = pairs % 2, pairs // 2
        target = (first != second).long()
        active = torch.stack((first, 1 - first, second, 1 - second), 1).float()
        chance = (active * self.rate * dt).repeat_interleave(self.group, 1)
        steps, shown = self.steps(dt), self._shown(dt)
        weights = [1 / shown] * shown + [0.0] * (steps - shown)
        frames = Frames(steps, self._frames(chance, shown, steps, generator))
        return Batch(frames, target, weights, task=pairs, reward=_Reward(target, steps))

    def _frames(self, chance: Tensor, shown: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
        for t in range(steps):
            spikes = happens(chance, generator).float()
            yield spikes if t < shown else torch.zeros_like(spikes)

    def success(self, batch: Batch, result: BatchResult) -> Tensor:
        """1 if the right output fired more, a half if both the same."""
        return _right(result.output, batch.target)

    def measures(self, success: float) -> dict[str, float]:
        """Fraction of wrong answers."""
        return {"error_rate": 1 - success}

    def picture(self, batch: Batch, outputs: Tensor, dt: float) -> Panel:
        """Mean output rates for each pair of bits."""
        assert batch.task is not None
        rate = outputs.mean(0) / dt
        pairs = np.arange(4)
        lines = {
            name: (pairs, np.array([rate[batch.task == p, k].mean().item() for p in range(4)]))
            for k, name in enumerate(("equal", "different"))
        }
        return Panel("answers", "pair of bits: 00, 10, 01, 11", "rate of the output, Hz", lines, frozenset(lines))
