"""Evidence accumulation: on which side were there more cues?"""

from collections.abc import Iterator
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from neurosbd.filters import probability, whole_steps
from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.network.inputs import Frames
from neurosbd.noise import happens
from neurosbd.schema.constants import (
    Count,
    Hertz,
    Legal,
    NotNegativeHertz,
    NotNegativeSeconds,
    Range,
    Seconds,
    constants,
)
from neurosbd.tasks.findings import Panel

_GROUPS = ("left", "right", "recall", "noise")


@constants(called="evidence_accumulation")
class EvidenceAccumulation:
    """A row of cues to the left or right, a delay, a recall cue: answer with the side of the majority.

    Four groups of Poisson inputs: left cues, right cues, recall, and noise all the time. Each trial draws a
    side; each cue falls on it with probability `bias`, else on the other. Only the recall period is scored.

    Args:
        cues: number of cues, odd, >= 1.
        cue: duration of a cue, s, > 0.
        pause: between the starts of two cues, s, >= cue.
        delay: from the end of the last pause to the recall, s, >= 0.
        recall: duration of the recall cue, s, > 0.
        group: inputs per group, >= 1.
        bias: probability of a cue on the drawn side, 0.5..1.
        rate: of a cue, Hz, > 0.
        noise: of the noise group, Hz, >= 0.
    Raises:
        ValueError: if a constant is out of range.
    Source: Bellec et al. 2020, Nat. Commun. 11:3625 (figure 3), after Morcos, Harvey 2016; constants as in the
        authors' code.
    """

    cues: Annotated[int, Legal("odd, so that there is a majority", lambda cues: cues > 0 and cues % 2 == 1)] = 7
    cue: Seconds = 0.1
    pause: Seconds = 0.15
    delay: NotNegativeSeconds = 1.05
    recall: Seconds = 0.15
    group: Count = 10
    bias: Annotated[float, Range(least=0.5, most=1)] = 0.7
    rate: Hertz = 40.0
    noise: NotNegativeHertz = 10.0

    def __post_init__(self) -> None:
        if self.cue > self.pause:
            raise ValueError(f"evidence_accumulation needs cue <= pause, got {self.cue:g} s and {self.pause:g} s")

    def steps(self, dt: float) -> int:
        """Cues, delay and recall."""
        probability(max(self.rate, self.noise), dt, "the rate of evidence_accumulation")
        return self.cues * self._steps("pause", dt) + self._steps("delay", dt) + self._steps("recall", dt)

    def _steps(self, name: str, dt: float) -> int:
        return whole_steps(getattr(self, name), dt, f"evidence_accumulation.{name}")

    def sizes(self) -> tuple[int, int]:
        """Four groups; left and right."""
        return len(_GROUPS) * self.group, 2

    def batch(self, size: int, dt: float, generator: torch.Generator) -> Batch:
        """Cues drawn per example; the input spikes are drawn as they are asked for."""
        side = torch.randint(2, (size, 1), generator=generator)
        on_side = torch.rand(size, self.cues, generator=generator) < self.bias
        where = torch.where(on_side, side, 1 - side)  # 0 left, 1 right
        majority = (where.sum(1) * 2 > self.cues).long()
        steps, recall = self.steps(dt), self._steps("recall", dt)
        weights = [0.0] * (steps - recall) + [1 / recall] * recall
        return Batch(Frames(steps, self._frames(where, dt, generator)), majority, weights)

    def _frames(self, where: Tensor, dt: float, generator: torch.Generator) -> Iterator[Tensor]:
        cue, pause, recall = (self._steps(name, dt) for name in ("cue", "pause", "recall"))
        steps = self.steps(dt)
        for t in range(steps):
            rates = torch.zeros(len(where), len(_GROUPS))
            number, into = divmod(t, pause)
            if number < self.cues and into < cue:
                rates.scatter_(1, where[:, number : number + 1], self.rate)
            if t >= steps - recall:
                rates[:, 2] = self.rate
            rates[:, 3] = self.noise
            chance = (rates * dt).repeat_interleave(self.group, 1)
            yield happens(chance, generator).float()

    def success(self, batch: Batch, result: BatchResult) -> Tensor:
        """Whether the larger output over the recall is the majority's."""
        return (result.output.argmax(1) == batch.target).double()

    def measures(self, success: float) -> dict[str, float]:
        """Fraction of wrong decisions."""
        return {"error_rate": 1 - success}

    def picture(self, batch: Batch, outputs: Tensor, dt: float) -> Panel:
        """The two outputs over one trial."""
        time = np.arange(len(outputs)) * dt
        lines = {name: (time, outputs[:, 0, k].numpy()) for k, name in enumerate(("left", "right"))}
        right = ("left", "right")[int(batch.target[0])]
        return Panel(f"one trial; the majority was {right}", "time, s", "output", lines)
