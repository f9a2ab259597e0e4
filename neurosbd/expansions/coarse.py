"""Scores of coarser questions: which group of classes it is, leaving open which of them."""

from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from neurosbd.expansions.expansion import no_statistics
from neurosbd.losses import Brier, CrossEntropy, RankedProbability, Spherical
from neurosbd.neuromodulators.neuromodulator import Broadcast, unchanged
from neurosbd.schema.constants import Count, NotNegative, Range, constants


class Groups(NamedTuple):
    """Which classes belong together."""

    together: Tensor  # 1 for two classes of one group, [L C, C], grouping by grouping


@constants
class Coarse:
    """Score of the cross-entropy of groups of classes, for random groupings.

        loss_l = -log P_g(y),   P_g = sum_{c in g} p_c          g the group of a class in grouping l
        column[b, (l, c)] = p_c / P_g(c) S_g(c),   S_g = sum_{c in g} (p_c - y_c)

    The sums S_g themselves are linear in the score and would add nothing; the share p_c / P_g of a class in its group
    is not constant, so these columns do. What is left, the score within the groups, is the score less these columns.
    The mean is 0 for every p that is the distribution of the label. D = L C.

    Args:
        groupings: L >= 1, each a random partition of the classes.
        groups: of every grouping, of sizes that differ by one at most, >= 2.
        weight: of the block, when it has been made as loud as the score, >= 0.
    Raises:
        ValueError: if a constant is out of range; at the start, if the loss is not one of softmax probabilities, or
            there are no fewer groups than classes.
    Source: this project's own reading, docs/expansions.md.
    """

    groupings: Count = 2
    groups: Annotated[int, Range(least=2)] = 3
    weight: NotNegative = 1.0

    statistics = no_statistics
    update = unchanged

    def width(self, broadcast: Broadcast) -> int:
        """L C."""
        return self.groupings * broadcast.score.shape[1]

    def init(self, broadcast: Broadcast, generator: torch.Generator) -> Groups:
        """Draw the groupings."""
        loss, classes = broadcast.loss, broadcast.score.shape[1]
        softmax = isinstance(loss, Brier | Spherical | RankedProbability)
        if not (softmax or (isinstance(loss, CrossEntropy) and loss.plain)):
            raise ValueError(f"the expansion 'coarse' wants a loss whose optimum is softmax(output), got {loss}")
        if self.groups >= classes:
            raise ValueError(f"Coarse.groups must be fewer than the {classes} classes, got {self.groups}")
        drawn = [torch.randperm(classes, generator=generator) % self.groups for _ in range(self.groupings)]
        return Groups(torch.cat([group[:, None] == group for group in drawn]).to(broadcast.score))

    def columns(self, state: Groups, broadcast: Broadcast) -> Tensor:
        """[B, L C]."""
        # p - y, and through logarithms, so that groups that are all but ruled out give shares, not 0 / 0
        score = CrossEntropy().score(broadcast.output, broadcast.target) @ state.together.t() / broadcast.examples
        log_p = torch.log_softmax(broadcast.output, 1)
        members = log_p[:, None, :].masked_fill(state.together == 0, -torch.inf)
        share = torch.exp(log_p.repeat(1, self.groupings) - torch.logsumexp(members, 2))
        return share * score
