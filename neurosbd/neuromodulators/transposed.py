"""Feedback through the readout's own weights, or weights that follow them: symmetric and adaptive e-prop."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from neurosbd.neuromodulators.neuromodulator import Broadcast, Receiver, no_statistics, unchanged
from neurosbd.schema.constants import Fraction, NotNegative, constants


def _drive_score(broadcast: Broadcast) -> Tensor:
    """The score at the drive of the readout, or the score itself where that is not known, [B, C]."""
    return broadcast.score if broadcast.output_drive_score is None else broadcast.output_drive_score


@dataclass(frozen=True)
class Transposed:
    """third_factor[b] = (score[b] x gain of the readout) W_out: the readout's weights used backwards.

    Not local, which is its point: with it e-prop of a population next to a readout with one leak or none, reached
    without a delay, is the true gradient.

    Source: Bellec et al. 2020, Nat. Commun. 11:3625 (symmetric e-prop).
    """

    rewarded: ClassVar[bool] = False
    reads_activity: ClassVar[bool] = False
    steady: ClassVar[bool] = True
    statistics = no_statistics
    update = unchanged

    def init(self, receiver: Receiver, broadcast: Broadcast, generator: torch.Generator) -> tuple[()]:
        """Nothing of its own."""
        receiver.weight_to_readout("symmetric feedback")
        return ()

    def third_factor(self, state: tuple[()], receiver: Receiver, broadcast: Broadcast) -> Tensor:
        """score gain W_out, [B, units]."""
        return _drive_score(broadcast) @ receiver.weight_to_readout("symmetric feedback")

    def projection(self, state: tuple[()]) -> None:
        """The readout's own weights, nothing else."""
        return None


class Followed(NamedTuple):
    """State of feedback weights that follow the readout."""

    feedback: Tensor  # B^T [C, units]
    seen: Tensor  # the readout's weights when last seen, [C, units]


@constants
class Following:
    """Feedback weights that receive the same changes as the readout's and forget where they started.

        B <- B + (W_out - W_seen) - forgetting (B - W_seen);    third_factor[b] = (score[b] x gain of the readout) B

    so that |B - W_out| shrinks by exactly (1 - forgetting) per batch.

    Args:
        scale: standard deviation of B at the start, >= 0.
        forgetting: per batch, 0..1.
    Raises:
        ValueError: if a constant is out of range.
    Source: Bellec et al. 2020, Nat. Commun. 11:3625 (adaptive e-prop); Kolen, Pollack 1994.
    Differs: in the paper both B and W_out decay; here only their difference does, so the readout is left alone.
    """

    rewarded: ClassVar[bool] = False
    reads_activity: ClassVar[bool] = False
    steady: ClassVar[bool] = False

    scale: NotNegative = 1.0
    forgetting: Fraction = 0.01

    def init(self, receiver: Receiver, broadcast: Broadcast, generator: torch.Generator) -> Followed:
        """Draw B."""
        seen = receiver.weight_to_readout("adaptive feedback").detach().clone()
        return Followed((torch.randn(seen.shape, generator=generator) * self.scale).to(seen), seen)

    def statistics(self, state: Followed, receiver: Receiver, broadcast: Broadcast) -> tuple[Tensor]:
        """sum_b W_out / B, [C, units]: the weights of the readout, of which every example tells its part."""
        now = receiver.weight_to_readout("adaptive feedback").detach()
        return (now * (len(receiver.value) / broadcast.examples),)

    def update(self, state: Followed, sums: tuple[Tensor, ...], broadcast: Broadcast) -> Followed:
        """Follow what the readout did since the last step."""
        (now,) = sums
        kept = (1 - self.forgetting) ** broadcast.step_share
        return Followed(now + kept * (state.feedback - state.seen), now)

    def third_factor(self, state: Followed, receiver: Receiver, broadcast: Broadcast) -> Tensor:
        """score gain B, [B, units]."""
        return _drive_score(broadcast) @ state.feedback

    def projection(self, state: Followed) -> Tensor:
        """B^T, [C, units]."""
        return state.feedback
