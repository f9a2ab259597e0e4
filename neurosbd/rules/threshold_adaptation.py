"""How the thresholds of channels move with every winner: towards a target time, and so that all take turns."""

from typing import Annotated

import torch
from torch import Tensor

from neurosbd.rules.lateral_inhibition import Winners
from neurosbd.schema.constants import Fraction, NotNegative, Positive, Range, constants

TargetTime = Annotated[float, Range(above=0, below=1)]


@constants(called="threshold_adaptation")
class ThresholdAdaptation:
    """Every winner moves the thresholds of all channels of its population:

        threshold[c] <- threshold[c] - threshold_rate (t - target_time)     of all: they are to spike at the target time
                        + threshold_rate                                    of the channel that has won
                        - threshold_rate / (channels - 1)                   of all others
        threshold    <- max(threshold, lowest_threshold)

    The last two add up to 0, so a channel that often wins is harder to excite, and those that never do come to win.

    Args:
        threshold_rate: how much they move, in units of the potential, >= 0; 0: they stay.
        target_time: of the spike of a winner, to which thresholds are drawn, in trials, between 0 and 1.
        lowest_threshold: below which none falls, in units of the potential, > 0.
        annealing: factor on the rate after each epoch, 0..1.
    Raises:
        ValueError: if a constant is out of range.
    Source: Falez, Tirilly, Bilasco, Devienne, Boulet 2019, IJCNN, arXiv 1904.01908.
    Differs: in a batch all examples meet the thresholds of before it, and the moves of their winners add up.
    """

    threshold_rate: NotNegative = 0.0
    target_time: TargetTime = 0.75
    lowest_threshold: Positive = 1.0
    annealing: Fraction = 1.0

    def moves(self, winners: Winners, channels: int, like: Tensor) -> Tensor:
        """Sum over winners at a rate of 1, [channels].

        Args:
            winners: of all examples.
            channels: of their population, > 1.
            like: gives type and device.
        """
        wins = torch.bincount(winners.channel, minlength=channels).to(like)
        late = (winners.time.to(like) - self.target_time).sum()
        return wins - (wins.sum() - wins) / (channels - 1) - late
