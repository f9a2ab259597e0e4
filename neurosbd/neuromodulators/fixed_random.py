"""Fixed random projection of the score: direct feedback alignment."""

import math
from dataclasses import field
from functools import partial
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from neurosbd.neuromodulators.layouts import NO_BASIS, Layout, Shared
from neurosbd.neuromodulators.neuromodulator import Broadcast, Receiver, no_statistics, unchanged
from neurosbd.neuromodulators.projection import columns, draw_projection, first_columns
from neurosbd.schema.constants import NotNegative, constants


class Frozen(NamedTuple):
    """State of a projection that does not learn."""

    frozen: Tensor  # [C, M], float32
    basis: Tensor = NO_BASIS  # of the layout


@constants
class FixedRandom:
    """third_factor[b] = score[b] R0, with R0 drawn once.

    With matrix = 'shared', scale = 1 and per = 'projection' it is the R0 of Launay et al. 2019: N(0, 1) / sqrt(C M),
    the first M columns of one matrix for all populations. TinyDFA (2020) and Clark et al. (2021) draw
    entries = 'uniform', which are those of +-sqrt(3) scale.

    Args:
        layout: which units share a column of R0, see LAYOUTS.
        scale: size of R0, >= 0; of what, says `per`.
        per: 'entry': `scale` is the standard deviation of the entries; 'projection': the root mean square of the norm
            sqrt(sum R0^2), the same for populations of any size.
        entries: 'normal', or 'uniform' around 0.
        matrix: 'own': every population draws; 'shared': all take the first columns of one matrix.
        sent: the 'score', or the 'sign' of each of its values: sign(score[b]) R0 / B, one bit per output.
    Raises:
        ValueError: if `scale` is negative or not finite.
    Source: Nokland 2016, NeurIPS (arXiv 1609.01596), equation 7; sizes and the shared matrix: Launay, Poli, Krzakala
        2019, arXiv 1906.04554, and their code; the sign: sDFA in Frenkel, Lefebvre, Bol 2021, Front. Neurosci. 15.
    Differs: injected at the activity after the nonlinearity and before pooling, as in EBD. Populations keep copies of
        the shared matrix.
    """

    rewarded: ClassVar[bool] = False
    reads_activity: ClassVar[bool] = False
    steady: ClassVar[bool] = True
    statistics = no_statistics
    update = unchanged

    layout: Layout = field(default_factory=Shared)
    scale: NotNegative = 0.02
    per: Literal["entry", "projection"] = "entry"
    entries: Literal["normal", "uniform"] = "normal"
    matrix: Literal["own", "shared"] = "own"
    sent: Literal["score", "sign"] = "score"

    def init(self, receiver: Receiver, broadcast: Broadcast, generator: torch.Generator) -> Frozen:
        """Draw R0."""
        if self.matrix == "shared":
            draw = partial(first_columns, generator.initial_seed(), self.entries)
        else:
            draw = partial(columns, generator, self.entries)
        frozen, basis = draw_projection(
            receiver.value, broadcast.outputs, self.layout, self.scale, generator, broadcast.n_expanded, draw
        )
        count = broadcast.outputs * frozen.shape[1]
        return Frozen(frozen / math.sqrt(count) if self.per == "projection" else frozen, basis)

    def third_factor(self, state: Frozen, receiver: Receiver, broadcast: Broadcast) -> Tensor:
        """score R0, or sign(score) R0 / B, spread over the population, [B, *size]."""
        sent = broadcast.score.sign() / broadcast.examples if self.sent == "sign" else broadcast.score
        return self.layout.spread(sent @ state.frozen, receiver.value, state.basis)

    def projection(self, state: Frozen) -> Tensor | None:
        """R0, [C, M]; None of signs, since they are no multiple of the score."""
        return None if self.sent == "sign" else state.frozen
