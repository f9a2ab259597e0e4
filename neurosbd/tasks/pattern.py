"""Pattern generation: a readout follows a sum of sines, out of frozen noise."""

import math

import numpy as np
import torch
from torch import Tensor

from neurosbd.filters import probability, whole_steps
from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.noise import happens
from neurosbd.schema.constants import Count, Hertz, Seconds, constants
from neurosbd.seeds import generator as seeded
from neurosbd.tasks.findings import Panel

_PERIODS = (1.0, 0.5, 1 / 3, 0.2)  # s
_MOST_FROZEN = 100_000_000  # numbers that are drawn at once: 1000 s of 100 units at 1 ms


@constants(called="pattern_generation")
class PatternGeneration:
    """The same Poisson input spikes in every trial; the output should be the same sum of four sines.

        target(t) = sum_k A_k sin(2 pi t / P_k + phase_k), moved to start at 0 and scaled to max |target| = 1

    Args:
        duration: s, two steps or more.
        units: Poisson inputs, >= 1.
        rate: of each, Hz, > 0.
        outputs: number of independent targets, >= 1.
        seed: of the frozen input and the target.
    Raises:
        ValueError: if a constant is out of range.
    Source: Bellec et al. 2020, Nat. Commun. 11:3625 (supplement) and the authors' code; success is
        1 - normalised error, sum (y - target)^2 / sum (target - its mean)^2.
    """

    duration: Seconds = 1.0
    units: Count = 100
    rate: Hertz = 50.0
    outputs: Count = 1
    seed: int = 0

    def steps(self, dt: float) -> int:
        """Whole trial."""
        probability(self.rate, dt, "pattern_generation.rate")
        steps = whole_steps(self.duration, dt, "pattern_generation.duration")
        if steps < 2:
            raise ValueError(
                f"pattern_generation.duration = {self.duration:g} s is too short for a pattern at dt = {dt:g} s"
            )
        if steps * self.units > _MOST_FROZEN:
            raise ValueError(
                f"pattern_generation.duration and units make a frozen input of {steps * self.units:.3g} numbers; legal "
                f"are {_MOST_FROZEN:,}"
            )
        return steps

    def sizes(self) -> tuple[int, int]:
        """Inputs and targets."""
        return self.units, self.outputs

    def batch(self, size: int, dt: float, generator: torch.Generator) -> Batch:
        """The frozen input, `size` times, and the target [T, B, outputs]."""
        frozen = seeded(self.seed, "pattern")
        steps = self.steps(dt)
        spikes = happens(torch.full((steps, 1, self.units), self.rate * dt), frozen).float()
        target = self._target(steps, dt, frozen)[:, None, :].expand(-1, size, -1)
        return Batch(spikes.expand(-1, size, -1), target, [1 / steps] * steps)

    def _target(self, steps: int, dt: float, frozen: torch.Generator) -> Tensor:
        time = torch.arange(steps)[:, None, None] * dt
        shape = (len(_PERIODS), self.outputs)
        amplitude = 0.5 + 1.5 * torch.rand(shape, generator=frozen)
        phase = 2 * math.pi * torch.rand(shape, generator=frozen)
        waves = amplitude * torch.sin(2 * math.pi * time / torch.tensor(_PERIODS)[:, None] + phase)
        target = waves.sum(1)
        target = target - target[:1]
        return target / target.abs().amax(0)

    def success(self, batch: Batch, result: BatchResult) -> Tensor:
        """1 - normalised error, not below 0: the loss is 1/2 sum_k of the mean squared error."""
        variance = batch.target.var((0, 1), correction=0).sum()
        return (1 - 2 * result.loss / variance).clamp(min=0)[None].double()

    def measures(self, success: float) -> dict[str, float]:
        """Mean squared error over the variance of the target."""
        return {"normalised_error": 1 - success}

    def picture(self, batch: Batch, outputs: Tensor, dt: float) -> Panel:
        """Output and target."""
        time = np.arange(len(outputs)) * dt
        lines = {"target": (time, batch.target[:, 0, 0].numpy()), "output": (time, outputs[:, 0, 0].numpy())}
        return Panel("one trial", "time, s", "output", lines)
