"""A fixed projection that has a chosen overlap with the readout: how well a brain may know who moves what."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from neurosbd.neuromodulators.fixed_random import Frozen
from neurosbd.neuromodulators.neuromodulator import Broadcast, Receiver, no_statistics, unchanged
from neurosbd.schema.constants import Fraction, constants


@constants
class Aligned:
    """third_factor[b] = score[b] M, with M drawn once at a chosen angle to the readout's weights W of that moment.

        M = |W| (overlap W / |W| + sqrt(1 - overlap^2) Z / |Z|),    Z Gaussian, orthogonal to W

    so that <M, W> = overlap |M| |W| and |M| = |W|. It stays when the readout moves on.

    Args:
        overlap: cosine of the angle, 0..1; 1: the readout's weights, as they were.
    Raises:
        ValueError: if `overlap` is out of range, or a population has no dense connection to the readout.
    Source: Portes, Schmid, Murray 2022, NeurIPS 35 (credit assignment matrices of brain machine interfaces).
    """

    rewarded: ClassVar[bool] = False
    reads_activity: ClassVar[bool] = False
    steady: ClassVar[bool] = True
    statistics = no_statistics
    update = unchanged

    overlap: Fraction = 0.5

    def init(self, receiver: Receiver, broadcast: Broadcast, generator: torch.Generator) -> Frozen:
        """Draw M."""
        readout_weight = receiver.weight_to_readout("a projection that is aligned with the readout").detach()
        return Frozen(overlapping(readout_weight, self.overlap, generator))

    def third_factor(self, state: Frozen, receiver: Receiver, broadcast: Broadcast) -> Tensor:
        """score M, [B, units]."""
        return broadcast.score @ state.frozen

    def projection(self, state: Frozen) -> Tensor:
        """M, [C, units]."""
        return state.frozen


def overlapping(reference: Tensor, overlap: float, generator: torch.Generator) -> Tensor:
    """A random matrix of the norm of `reference` whose cosine with it is `overlap`; zeros of a reference that is 0."""
    other = torch.randn(reference.shape, generator=generator).to(reference)
    norm = reference.norm()
    if not overlap < 1 or norm == 0:
        return reference.clone()
    other -= reference * ((other * reference).sum() / norm**2)
    return overlap * reference + math.sqrt(1 - overlap**2) * norm / other.norm() * other
