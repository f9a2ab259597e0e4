"""Encoders: from a picture or a signal to what the input population shows at each step."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from neurosbd.encoders.constant import Constant
from neurosbd.encoders.delta import Delta
from neurosbd.encoders.encoder import Encoder
from neurosbd.encoders.latency import Latency
from neurosbd.encoders.poisson import Poisson
from neurosbd.schema.namespace import is_table

ENCODERS: dict[str, Callable[..., Encoder]] = {
    "constant": Constant,
    "poisson": Poisson,
    "latency": Latency,
    "delta": Delta,
}
is_table(__name__, ENCODERS)

__all__ = ["ENCODERS", "Constant", "Delta", "Encoder", "Latency", "Poisson", "encode"]


def encode(
    encoder: Encoder, value: Tensor, steps: int, dt: float, generator: torch.Generator | None = None
) -> Iterator[Tensor]:
    """What the input population shows, step by step; nothing is stored.

    Args:
        encoder: an entry of ENCODERS.
        value: a picture [B, *size] that stays.
        steps: number of steps, >= 1.
        dt: s.
        generator: for encoders that are random.

    >>> frames = encode(Constant(), torch.ones(2, 3), steps=4, dt=1e-3)
    >>> [tuple(frame.shape) for frame in frames]
    [(2, 3), (2, 3), (2, 3), (2, 3)]
    """
    state = encoder.init(value, generator)
    for _ in range(steps):
        frame, state = encoder.step(state, value, dt)
        yield frame
