"""Poisson spike trains."""

import math
from typing import Annotated

import torch
from torch import Tensor

from neurosbd.filters import probability
from neurosbd.noise import new_key, uniforms
from neurosbd.schema.constants import Constant, Count, Range, constants
from neurosbd.stimuli.stimulus import KeyedStepsDone, shown

_LEFT_OUT = 1e-13  # probability of counts beyond those that are tabled


@constants(called="poisson")
class Poisson:
    """Independent spikes in every step: P(spike) = rate dt, so that the mean rate is the one that is asked for.

    Args:
        rate: of every source, Hz, >= 0: one, one per unit, or drawn.
        sources: independent ones that reach each unit, >= 1; their spikes in a step add up.
        amplitude: what a spike adds to the drive: 1 at a relay, the weight of a synapse at any other neuron.
    Raises:
        ValueError: if a constant is out of range, or there are several sources of different rates.
    Source: Heeger 2000, Poisson model of spike generation; Goodman, Brette 2009 (PoissonGroup, PoissonInput of Brian).
    """

    rate: Annotated[Constant, Range(least=0, unit="Hz")] = 10.0
    sources: Count = 1
    amplitude: float = 1.0

    def check(self, size: tuple[int, ...], dt: float) -> None:
        """At most a spike per source and step."""
        probability(torch.as_tensor(self.rate).max().item(), dt, "poisson.rate")
        if self.sources > 1 and not isinstance(self.rate, float):
            raise ValueError("poisson.rate must be one number where sources is more than 1; give a stimulus per rate")

    def init(self, like: Tensor, dt: float, generator: torch.Generator) -> KeyedStepsDone:
        """The key of its noise."""
        return KeyedStepsDone(new_key(generator, "a Poisson stimulus", like.device), 0)

    def block(self, state: KeyedStepsDone, like: Tensor, steps: int, dt: float) -> tuple[Tensor, KeyedStepsDone]:
        """amplitude times the number of spikes, [steps, B, *size]."""
        if self.sources == 1:
            rate = self.rate.to(like) if isinstance(self.rate, Tensor) else self.rate
            spikes = uniforms(state.key, state.done, steps, like) < rate * dt  # type: ignore[operator]
        else:
            assert isinstance(self.rate, float)
            table = torch.tensor(_cumulated(self.sources, self.rate * dt), dtype=torch.float64, device=like.device)
            drawn = uniforms(state.key, state.done, steps, like.double())
            spikes = torch.searchsorted(table, drawn, right=True)
        return shown(spikes * self.amplitude, like), KeyedStepsDone(state.key, state.done + steps)


def _cumulated(sources: int, p: float) -> list[float]:
    """P(so many spikes or fewer) of independent sources with probability p each: 0, 1, 2, ..., as far as it matters."""
    if p in (0.0, 1.0):
        return [] if p == 0 else [0.0] * sources
    total, found = 0.0, []
    for count in range(sources):
        ways = math.lgamma(sources + 1) - math.lgamma(count + 1) - math.lgamma(sources - count + 1)
        total += math.exp(ways + count * math.log(p) + (sources - count) * math.log1p(-p))
        found.append(total)
        if count > sources * p and 1 - total < _LEFT_OUT:
            break
    return found
