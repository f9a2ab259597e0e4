"""Scores gated by what is known without the label: functions of the input, of hidden activity, of the forecast."""

from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.errors import nearest
from neurosbd.losses import HasProbabilities
from neurosbd.neuromodulators.neuromodulator import Broadcast
from neurosbd.schema.constants import NotNegative, Whole, constants

FORGETTING = 0.99  # of the running mean of a gate, per batch
TOP = "top"
FORECAST = "forecast"


class Gates(NamedTuple):
    """What a gate is made of."""

    directions: Tensor  # of the random features, [units, M]; [0, M] if the gates are the forecast itself
    mean: Tensor  # running mean of the gates, of earlier batches, [M]


@constants
class Gated:
    """The score times functions a(x) of the stimulus: a projection that depends on the input.

        column[b, (m, c)] = (a_m(x[b]) - mean a_m) s_c[b],    a_m = tanh(W_m . u / |u|),   W_mj ~ N(0, 1)

    so that the signal is s (R + sum_m (a_m - mean a_m) R_m). u is the activity of a population, the forecast, or
    the input; the direction alone counts, so a gate is bounded and depends on no scale. The conditional mean is
    a(x) E[s|x] = 0 whenever that of the score is: no model is needed. The running mean is of earlier batches.
    D = M C.

    Args:
        source: 'input', 'top' (the population before the readout), another population, or 'forecast' (the
            probabilities of the labels).
        features: M >= 1; 0: all probabilities of the forecast as they are, p (x) s.
        weight: of the block, when it has been made as loud as the score, >= 0.
    Raises:
        ValueError: if a constant is out of range; at the start, if there is no such population or no forecast.
    Source: this project's own reading, docs/expansions.md.
    """

    source: str = TOP
    features: Whole = 4
    weight: NotNegative = 1.0

    def __post_init__(self) -> None:
        if self.features == 0 and self.source != FORECAST:
            raise ValueError(f"Gated.features must be at least 1 of '{self.source}', got 0")

    def width(self, broadcast: Broadcast) -> int:
        """M C."""
        gates = self.features or broadcast.score.shape[1]
        return gates * broadcast.score.shape[1]

    def init(self, broadcast: Broadcast, generator: torch.Generator) -> Gates:
        """Draw W; means start at 0."""
        units = self._gating(broadcast).shape[1]
        directions = torch.randn(units, self.features, generator=generator) if self.features else torch.zeros(0, units)
        return Gates(directions.to(broadcast.score), broadcast.score.new_zeros(directions.shape[1]))

    def columns(self, state: Gates, broadcast: Broadcast) -> Tensor:
        """[B, M C], gate by gate."""
        columns = (self._gates(state, broadcast) - state.mean)[:, :, None] * broadcast.score[:, None, :]
        return columns.flatten(1)

    def statistics(self, state: Gates, broadcast: Broadcast) -> tuple[Tensor]:
        """sum_b a(x[b]) / B, [M]."""
        return (self._gates(state, broadcast).sum(0) / broadcast.examples,)

    def update(self, state: Gates, sums: tuple[Tensor, ...], broadcast: Broadcast) -> Gates:
        """The running mean with this step in it."""
        return state._replace(mean=torch.lerp(sums[0], state.mean, FORGETTING**broadcast.step_share))

    def _gates(self, state: Gates, broadcast: Broadcast) -> Tensor:
        """a(x), [B, M]."""
        gates = self._gating(broadcast)
        return torch.tanh(torch.nn.functional.normalize(gates) @ state.directions) if self.features else gates

    def _gating(self, broadcast: Broadcast) -> Tensor:
        """What the gates are functions of, [B, units]."""
        if self.source == FORECAST:
            if not isinstance(broadcast.loss, HasProbabilities):
                raise ValueError(
                    f"the loss {type(broadcast.loss).__name__} forecasts no probabilities; give Gated.source = 'top'"
                )
            return broadcast.loss.probabilities(broadcast.output)
        names = list(broadcast.activity)
        name = names[-2] if self.source == TOP else self.source
        if name not in broadcast.activity:
            legal = nearest(name, [TOP, FORECAST, *names])
            raise ValueError(f"Gated.source: there is no population '{name}'{legal}")
        return broadcast.activity[name].value.flatten(1).to(broadcast.score.dtype)
