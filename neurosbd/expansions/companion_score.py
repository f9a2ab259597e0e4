"""The score of another loss of the same outputs, which has its optimum at the same place."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from neurosbd.expansions.expansion import no_statistics
from neurosbd.losses import Brier, CrossEntropy, NegativeBinomial, Poisson, RankedProbability, Spherical
from neurosbd.losses.log_link import Gamma
from neurosbd.losses.loss import Loss
from neurosbd.neuromodulators.neuromodulator import Broadcast, unchanged
from neurosbd.schema.constants import NotNegative, constants

Name = Literal["cross_entropy", "brier", "spherical", "ranked_probability", "poisson", "negative_binomial"]
# Every family has one optimum, whatever the distribution of the target: the probabilities of the labels as a softmax,
# the mean as an exponential.
_SOFTMAX = {
    "cross_entropy": CrossEntropy(), "brier": Brier(), "spherical": Spherical(),
    "ranked_probability": RankedProbability(),
}  # fmt: skip
_LOG_MEAN = {"poisson": Poisson(), "negative_binomial": NegativeBinomial()}
_ALL: Mapping[str, Loss] = {**_SOFTMAX, **_LOG_MEAN}


@constants
class CompanionScore:
    """Score of another admissible loss, whose optimum is that of the loss in use.

        column[b] = d other(output, target) / d output

    'cross_entropy' (without options), 'brier', 'spherical' and 'ranked_probability' share an optimum, and so do
    'poisson', 'negative_binomial' and gamma; there every mean is 0, whatever the distribution of the target. Others
    agree under a model at best, or read the outputs differently. For labels the column is J(p) s: the score,
    recombined as the forecast wants it. D = C.

    Args:
        loss: whose score it is.
        weight: of the block, when it has been made as loud as the score, >= 0.
    Raises:
        ValueError: if a constant is out of range; at the start, if the optima differ.
    Source: this project's own reading, docs/expansions.md.
    """

    loss: Name = "brier"
    weight: NotNegative = 1.0

    statistics = no_statistics
    update = unchanged

    def width(self, broadcast: Broadcast) -> int:
        """C."""
        return broadcast.score.shape[1]

    def init(self, broadcast: Broadcast, generator: torch.Generator) -> tuple[()]:
        """Nothing of its own."""
        family = _family(broadcast.loss)
        if self.loss not in family:
            legal = f"; legal here: {', '.join(family)}" if family else ""
            raise ValueError(
                f"the expansion 'another' cannot take '{self.loss}' beside {broadcast.loss}: they do not have the same "
                f"optimum{legal}"
            )
        if type(family[self.loss]) is type(broadcast.loss):
            raise ValueError(f"the expansion 'another' adds nothing with the loss in use, '{self.loss}'")
        return ()

    def columns(self, state: tuple[()], broadcast: Broadcast) -> Tensor:
        """[B, C]."""
        return _ALL[self.loss].score(broadcast.output, broadcast.target) / broadcast.examples


def _family(loss: object) -> Mapping[str, Loss]:
    """Losses that have the optimum of this one."""
    if isinstance(loss, Brier | Spherical | RankedProbability) or (isinstance(loss, CrossEntropy) and loss.plain):
        return _SOFTMAX
    return _LOG_MEAN if isinstance(loss, Poisson | NegativeBinomial | Gamma) else {}
