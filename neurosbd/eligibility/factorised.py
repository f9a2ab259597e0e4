"""Eligibility as a product of one trace per presynaptic unit and one gain per postsynaptic unit."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.connections.synapses import Synapses
from neurosbd.eligibility.local import Arrival, Local, Site
from neurosbd.neurons.neuron import gated


class Traces(NamedTuple):
    """Presynaptic activity behind each filter of the cascade, first to last; for the bias the same of ones."""

    pre: tuple[Tensor, ...]  # [B, *arriving] each
    ones: tuple[float, ...]


@dataclass(frozen=True)
class Factors:
    """e[b, i, j] = gain[b, i] trace[b, j] (and for the bias gain[b, i] age), never multiplied out in full."""

    trace: Tensor  # [B, *arriving]
    age: float  # the trace of a constant 1
    post: Tensor  # value of the post units, [B, *size]
    gate: Callable[[Tensor], Tensor]
    outer: Callable[[Tensor, Tensor], Synapses]

    def contract(self, third_factor: Tensor) -> Synapses:
        """outer(third_factor * gain, trace)."""
        return self.weighted(self.gate(third_factor))

    def weighted(self, factor: Tensor) -> Synapses:
        """outer(factor, trace), for a factor that is not the gain."""
        weight, bias = self.outer(factor, self.trace)
        return Synapses(weight, bias if bias is None or self.age == 1 else bias.mul_(self.age))

    def onto(self, pending: Synapses, kept: float) -> Synapses:
        """kept pending + e multiplied out, in one pass: weight [B, post, pre], bias [B, post]."""
        assert pending.bias is not None
        gain = self.gate(torch.ones_like(self.post))
        weight = torch.baddbmm(pending.weight, gain[:, :, None], self.trace[:, None, :], beta=kept)
        return Synapses(weight, torch.add(gain * self.age, pending.bias, alpha=kept))

    def of(self, examples: Tensor, local: Local) -> Tensor:
        """gain x trace of each example by itself."""
        gain = self.gate(torch.ones_like(self.post))[examples]
        weight = local.synapses.weight
        return local.each(gain[None], self.trace[examples][None], weight.new_zeros(len(gain), *weight.shape), 0.0)


@dataclass(frozen=True)
class Factorised:
    """Presynaptic activity, filtered as the postsynaptic membrane filters its drive.

        trace[t] = alpha trace[t-1] + pre[t];    e[t] = gain[t] trace[t]

    Exact for neurons whose drive reaches the potential through a cascade of leaks that all units share
    (LIF, CubaLIF, LI, IF and every rate neuron), and ignores what else there is: the threshold of an
    ALIF, a reset to a value. O(B (pre + post)) memory, on every kind of connection.

    Source: Bellec et al. 2020, Nat. Commun. 11:3625, Methods, equation 22; Zenke, Ganguli 2018 (SuperSpike).
    """

    def check(self, site: Site) -> None:
        """Raise ValueError unless a presynaptic filter does what the neurons do with their drive."""
        if site.neuron.filters(site.dt) is None:
            raise ValueError(
                f"the eligibility of these {type(site.neuron).__name__} neurons does not factorise into pre and "
                f"post, since their drive passes no cascade of leaks that all units share; give them one time constant "
                f"if they differ in it, else use rule.eligibility = 'exact' (dense connections), or 'settled' for a "
                f"network that is scored at rest (time.scored = 'last')"
            )

    def init(self, arrival: Arrival, dt: float) -> Traces:
        """Silence before the first step."""
        stages = len(_filters(arrival, dt))
        return Traces((torch.zeros_like(arrival.pre),) * stages, (0.0,) * stages)

    def step(self, state: Traces, arrival: Arrival, dt: float) -> tuple[Factors, Traces]:
        """Factors of this step."""
        trace, age = arrival.pre, 1.0
        traces, ages = [], []
        for before, once, factor in zip(state.pre, state.ones, _filters(arrival, dt), strict=True):
            trace, age = torch.add(trace, before, alpha=factor), age + factor * once
            traces.append(trace)
            ages.append(age)
        neuron, post = arrival.neuron, arrival.post
        factors = Factors(
            trace, age, post.value, lambda third_factor: gated(neuron, post, third_factor, dt), arrival.outer
        )
        return factors, Traces(tuple(traces), tuple(ages))


def _filters(arrival: Arrival, dt: float) -> tuple[float, ...]:
    filters = arrival.neuron.filters(dt)
    assert filters is not None, "Factorised.check refuses these neurons"
    return filters
