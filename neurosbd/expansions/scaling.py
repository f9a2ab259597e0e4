"""How loud a block of an expansion is: its columns together have the second moment of the score."""

from typing import NamedTuple

import torch
from torch import Tensor

FORGETTING = 0.99  # of the running moments, per batch


class Moments(NamedTuple):
    """Running second moments, of a batch before the present one."""

    score: Tensor  # sum_b |score[b]|^2, []
    block: Tensor  # sum_b |column[b]|^2, []


def silent_moments(score: Tensor) -> Moments:
    """Moments before the first batch."""
    return Moments(score.new_zeros(()), score.new_zeros(()))


def match_loudness(moments: Moments, block: Tensor, weight: float) -> Tensor:
    """A block as loud as the score, times `weight`.

        block <- weight sqrt(M_score / M_block) block

    The scale comes from earlier batches alone. If it saw the labels of the present one, a mean of 0 given the
    inputs would not survive the product. So the first batch, before anything is known, hears 0.

    Args:
        moments: of earlier batches.
        block: columns, [B, D].
        weight: of the block, >= 0.
    Source: this project's own reading, docs/expansions.md.
    """
    ratio = moments.score / moments.block.clamp_min(torch.finfo(block.dtype).tiny)
    return block * (weight * torch.sqrt(torch.where(moments.block > 0, ratio, 0.0)))


def loudness(score: Tensor, block: Tensor) -> tuple[Tensor, Tensor]:
    """sum_b |.[b]|^2 over the examples at hand of the score [B, C] and of a block [B, D]."""
    return score.square().sum(), block.square().sum()


def update_moments(moments: Moments, sums: tuple[Tensor, ...], share: float) -> Moments:
    """M <- m M + (1 - m) sum_b |.[b]|^2, of a step that stands for the share of a batch; m is to the power of it."""
    return Moments(*(torch.lerp(x, before, FORGETTING**share) for before, x in zip(moments, sums, strict=True)))
