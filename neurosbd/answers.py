"""How an answer is read off the readout over the steps of a trial: a mean, the last step, spikes, a maximum.

An answer is what accuracy, predictions and rewards look at. The loss stays one of every scored step.
"""

from collections.abc import Callable
from typing import ClassVar, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from neurosbd.schema.constants import constants
from neurosbd.schema.namespace import is_table

S = TypeVar("S")  # what has been read so far


class Answer(Protocol[S]):
    """Reads [B, C] off the outputs of the steps that count, those with a weight above 0.

    Declared are:
        keeps_units: an answer is in the units of the output, so that it can be a value as well as a class.
        counts_spikes: only a readout that spikes can be read in this way.
    """

    keeps_units: ClassVar[bool]
    counts_spikes: ClassVar[bool]

    def init(self, output: Tensor) -> S:
        """Before the first step, for outputs like this one [B, C]."""
        ...

    def step(self, state: S, output: Tensor, t: int, weight: float) -> S:
        """After step t, whose score has this weight > 0."""
        ...

    def value(self, state: S) -> Tensor:
        """The answer so far, [B, C]."""
        ...


class Weighted(NamedTuple):
    """A sum over steps."""

    total: Tensor  # [B, C]
    weight: float


@constants
class Mean:
    """Mean over the steps, weighted as their scores: sum_t weight[t] output[t] / sum_t weight[t].

    Source: Eshraghian et al. 2023, Proc. IEEE 111:9 (spike rates and membrane potentials over time).
    """

    keeps_units: ClassVar[bool] = True
    counts_spikes: ClassVar[bool] = False

    def init(self, output: Tensor) -> Weighted:
        """Nothing yet."""
        return Weighted(torch.zeros_like(output), 0.0)

    def step(self, state: Weighted, output: Tensor, t: int, weight: float) -> Weighted:
        """One more term."""
        return Weighted(state.total + output * weight, state.weight + weight)

    def value(self, state: Weighted) -> Tensor:
        """The mean."""
        return state.total / state.weight


@constants
class Last:
    """The output of the last step that counts.

    Source: Werbos 1990, Proc. IEEE 78 (a sequence that is answered at its end).
    """

    keeps_units: ClassVar[bool] = True
    counts_spikes: ClassVar[bool] = False

    def init(self, output: Tensor) -> Tensor:
        """Nothing yet."""
        return output

    def step(self, state: Tensor, output: Tensor, t: int, weight: float) -> Tensor:
        """What is there now."""
        return output

    def value(self, state: Tensor) -> Tensor:
        """The output."""
        return state


@constants
class Maximum:
    """The largest output of every unit over the steps: max_t output[t].

    Source: Gutig, Sompolinsky 2006, Nat. Neurosci. 9 (tempotron: the maximum of the potential decides).
    """

    keeps_units: ClassVar[bool] = False
    counts_spikes: ClassVar[bool] = False

    def init(self, output: Tensor) -> Tensor:
        """Below all outputs."""
        return torch.full_like(output, -torch.inf)

    def step(self, state: Tensor, output: Tensor, t: int, weight: float) -> Tensor:
        """The larger one."""
        return torch.maximum(state, output)

    def value(self, state: Tensor) -> Tensor:
        """The maximum."""
        return state


@constants
class MostSpikes:
    """The number of spikes of every unit over the steps: sum_t z[t].

    Source: Diehl, Cook 2015, Front. Comput. Neurosci. 9:99 (the class that spikes most).
    """

    keeps_units: ClassVar[bool] = False
    counts_spikes: ClassVar[bool] = True

    def init(self, output: Tensor) -> Tensor:
        """No spike."""
        return torch.zeros_like(output)

    def step(self, state: Tensor, output: Tensor, t: int, weight: float) -> Tensor:
        """With the spikes of this step."""
        return state + output

    def value(self, state: Tensor) -> Tensor:
        """The count."""
        return state


@constants
class FirstSpike:
    """1 / (1 + t) at the step t of a unit's first spike; 0 of one that is silent. The first to spike has the largest.

    Source: Thorpe, Delorme, Van Rullen 2001, Neural Netw. 14; Mozafari et al. 2018, IEEE TNNLS 29.
    """

    keeps_units: ClassVar[bool] = False
    counts_spikes: ClassVar[bool] = True

    def init(self, output: Tensor) -> Tensor:
        """No spike."""
        return torch.zeros_like(output)

    def step(self, state: Tensor, output: Tensor, t: int, weight: float) -> Tensor:
        """The earlier one stays."""
        return state.masked_fill((state == 0) & (output > 0), 1 / (1 + t))

    def value(self, state: Tensor) -> Tensor:
        """How early it came."""
        return state


ANSWERS: dict[str, Callable[..., Answer]] = {
    "mean": Mean,
    "last": Last,
    "maximum": Maximum,
    "most_spikes": MostSpikes,
    "first_spike": FirstSpike,
}
is_table(__name__, ANSWERS)
