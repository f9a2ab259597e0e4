"""Second moments of the score, less what the model expects them to be."""

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor

from neurosbd.errors import UsageError
from neurosbd.expansions.expansion import no_statistics
from neurosbd.losses import Informative
from neurosbd.losses.targets import CLASSES
from neurosbd.neuromodulators.neuromodulator import Broadcast, unchanged
from neurosbd.schema.constants import NotNegative, Whole, constants


class Pairs(NamedTuple):
    """The two sides of every quadratic form."""

    left: Tensor  # [C, D]
    right: Tensor  # [C, D]


@constants
class Bartlett:
    """Products of two components of the score, less their mean under the model of the loss.

        column[b, (i, j)] = s_i s_j - I_ij,   i <= j,        I = E_model[s s^T | x]      D = C (C + 1) / 2
        column[b, m] = v_m^T (s s^T - I) w_m,                v, w ~ N(0, 1) / sqrt(C)    D = features

    At the optimum the model is the distribution of the target, and by the second Bartlett identity the mean is 0.
    For labels it is so whatever their distribution; for values only if the loss has their distribution right, and
    several values are independent. For softmax and labels the column is p_i s_j + p_j s_i - [i = j] s_i: the symmetric
    part of p (x) s.

    Args:
        features: 0: all pairs; else the number of random quadratic forms, for outputs with many components.
        weight: of the block, when it has been made as loud as the score, >= 0.
    Raises:
        ValueError: if a constant is out of range; at the start, if the loss has no model.
        UsageError: at the first step, if targets are probabilities of classes: their second moment is not known.
    Source: this project's own reading, docs/expansions.md; Bartlett 1953, Biometrika 40, for the identity.
    """

    features: Whole = 0
    weight: NotNegative = 1.0

    statistics = no_statistics
    update = unchanged

    def width(self, broadcast: Broadcast) -> int:
        """C (C + 1) / 2, or `features`."""
        outputs = broadcast.score.shape[1]
        return self.features or outputs * (outputs + 1) // 2

    def init(self, broadcast: Broadcast, generator: torch.Generator) -> Pairs | tuple[()]:
        """Draw the forms, if they are random."""
        if not isinstance(broadcast.loss, Informative):
            raise ValueError(
                f"the loss {type(broadcast.loss).__name__} has no model of its targets, so the mean of s s^T is not "
                f"known; give it a method information(output, target), or another expansion"
            )
        if not self.features:
            return ()
        outputs = broadcast.score.shape[1]
        drawn = torch.randn(2, outputs, self.features, generator=generator) / math.sqrt(outputs)
        return Pairs(*drawn.to(broadcast.score))

    def columns(self, state: Pairs | tuple[()], broadcast: Broadcast) -> Tensor:
        """[B, D]."""
        loss, batch = broadcast.loss, broadcast.examples
        if getattr(loss, "targets", None) is CLASSES and broadcast.target.ndim == 2:
            raise UsageError(
                "the expansion 'bartlett' wants labels: targets that are probabilities have no known second moment"
            )
        expected = cast(Informative, loss).information(broadcast.output, broadcast.target) / batch
        if state:
            seen = (broadcast.score @ state.left) * (broadcast.score @ state.right) * batch
            return seen - torch.einsum("bij,im,jm->bm", expected, *state)
        i, j = torch.triu_indices(*expected.shape[1:], device=expected.device)
        return broadcast.score[:, i] * broadcast.score[:, j] * batch - expected[:, i, j]
