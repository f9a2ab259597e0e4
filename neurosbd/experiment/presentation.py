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


def score_weights(steps: int, first: int) -> tuple[float, ...]:
    """Equal weights of all steps from `first` on; they sum to 1."""
    return (*(0.0,) * first, *(1 / (steps - first),) * (steps - first))
