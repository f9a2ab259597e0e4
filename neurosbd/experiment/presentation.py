"""How an example is shown to a network over time, and which steps of that count."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from neurosbd.datasets.events import EventBatch
from neurosbd.encoders import Encoder, encode


@dataclass(frozen=True)
class Presentation:
    """Turns a batch of examples into one frame per step, made when it is asked for.

    encoder: for pictures and features; events are binned.
    steps: per example.
    dt: s.
    weights: of the score of each step; they sum to 1.
    """

    encoder: Encoder
    steps: int
    dt: float
    weights: tuple[float, ...]

    def frames(self, batch: Tensor | EventBatch, noise: torch.Generator) -> Iterable[Tensor]:
        """`steps` tensors [B, *size]."""
        if isinstance(batch, EventBatch):
            return batch.frames(self.steps, self.dt)
        return encode(self.encoder, batch, self.steps, self.dt, noise)


def score_weights(steps: int, warmup: int, last: bool) -> tuple[float, ...]:
    """Equal weights of all steps but the first `warmup`, or all on the last step."""
    if last:
        return (*(0.0,) * (steps - 1), 1.0)
    return (*(0.0,) * warmup, *(1 / (steps - warmup),) * (steps - warmup))
