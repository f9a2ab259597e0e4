"""Eligibility as a product of one trace per presynaptic unit and one gain per postsynaptic unit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.connections.synapses import Synapses
from neurosbd.eligibility.local import Arrival, Local, Site
from neurosbd.neurons.scan import apart, together


class Traces(NamedTuple):
    """Presynaptic activity behind each filter of the cascade, first to last; for the bias the same of ones."""

    pre: tuple[Tensor, ...]  # [B, *arriving] each
    ones: tuple[float, ...]


class Later(NamedTuple):
    """Traces after a block, made up if there is another."""

    before: Traces
    pres: Sequence[Tensor]  # [B, *arriving] of every step
    filters: tuple[float, ...]


def _after(traces: Traces, pre: Tensor, filters: tuple[float, ...]) -> Traces:
    """The traces one step later."""
    once = 1.0
    found, ages = [], []
    for before, age, factor in zip(traces.pre, traces.ones, filters, strict=True):
        pre, once = torch.add(pre, before, alpha=factor), once + factor * age
        found.append(pre)
        ages.append(once)
    return Traces(tuple(found), tuple(ages))


def _filtered(traces: Traces, pres: Sequence[Tensor], filters: tuple[float, ...]) -> tuple[list[Tensor], Traces]:
    """The last trace of the cascade at every step, and all after the last."""
    found = []
    for pre in pres:
        traces = _after(traces, pre, filters)
        found.append(traces.pre[-1])
    return found, traces


def _now(state: Traces | Later) -> Traces:
    return _filtered(*state)[1] if isinstance(state, Later) else state


def weighted_gains(gate: Callable[[Tensor], Tensor], arrival: Arrival, weights: Sequence[float]) -> Tensor:
    """The gain at every step of a block, times the weight of the step, [K B, *size]."""
    gains = gate(torch.ones_like(arrival.post.value))
    for gain, weight in zip(apart(gains, arrival.steps), weights, strict=True):
        gain.mul_(weight)
    return gains


def _added(bias: Tensor | None, other: Tensor | None, factor: float) -> Tensor | None:
    return bias if bias is None or other is None else bias.add_(other, alpha=factor)


@dataclass(frozen=True)
class Factors:
    """e[b, i, j] = gain[b, i] trace[b, j] (and for the bias gain[b, i] age), never multiplied out in full."""

    trace: Tensor  # [B, *arriving]
    age: float  # the trace of a constant 1
    gate: Callable[[Tensor], Tensor]  # third factor -> third factor x gain
    arrival: Arrival

    def contract(self, third_factor: Tensor) -> Synapses:
        """outer(third_factor * gain, trace)."""
        return self.weighted(self.gate(third_factor))

    def weighted(self, factor: Tensor) -> Synapses:
        """outer(factor, trace), for a factor that is not the gain."""
        weight, bias = self.arrival.outer(factor, self.trace)
        return Synapses(weight, bias if bias is None or self.age == 1 else bias.mul_(self.age))

    def onto(self, pending: Synapses, kept: float) -> Synapses:
        """kept pending + e multiplied out, in one pass: weight [B, *weight], bias [B, post]."""
        assert pending.bias is not None
        gain = self.gate(torch.ones_like(self.arrival.post.value))
        weight = self.arrival.sides.onto(pending.weight, kept, gain, self.trace)
        return Synapses(weight, torch.add(gain * self.age, pending.bias, alpha=kept))

    def each(self, weights: Sequence[float]) -> Synapses:
        """sum_k weights[k] e[k] for each example, weight [B, *weight], bias [B, post]."""
        gains = weighted_gains(self.gate, self.arrival, weights)
        gains, trace = (each.unflatten(0, (self.arrival.steps, -1)) for each in (gains, self.trace))
        return Synapses(self.arrival.each(gains, trace), gains.sum(0).mul_(self.age))

    def of(self, examples: Tensor, local: Local) -> Tensor:
        """gain x trace of each example by itself."""
        gain = self.gate(torch.ones_like(self.arrival.post.value))[examples]
        weight = local.synapses.weight
        return local.each(gain[None], self.trace[examples][None], weight.new_zeros(len(gain), *weight.shape), 0.0)


@dataclass(frozen=True)
class FactorBlock:
    """The same of K steps, with the filters on the post side, where they run backwards in time.

        sum_k gain[k] third_factor[k] x trace[k] = sum_k back[k] x pre[k] + alpha back[0] x trace[-1]
        back[k] = gain[k] third_factor[k] + alpha back[k+1]

    with one such filter after another where there are several.
    """

    arrival: Arrival  # of K steps
    before: Traces  # as the block found them
    filters: tuple[float, ...]
    gate: Callable[[Tensor], Tensor]

    @property
    def trace(self) -> Tensor:
        """Presynaptic activity behind all filters at every step, [K B, *arriving]."""
        return together(_filtered(self.before, apart(self.arrival.pre, self.arrival.steps), self.filters)[0])

    def contract(self, third_factor: Tensor) -> Synapses:
        """Sum over steps and examples of third factor x e, like the synapses; third factor is [K B, *size]."""
        gated = self.gate(third_factor)  # where the gain is 1, the third factor itself
        back, late = self._backwards(gated.clone() if gated.data_ptr() == third_factor.data_ptr() else gated)
        total = self.arrival.outer(back, self.arrival.pre)
        for post, trace, age in zip(late, self.before.pre, self.before.ones, strict=True):
            if age:
                weight, bias = self.arrival.outer(post, trace)
                total = Synapses(total.weight.add_(weight), _added(total.bias, bias, age))
        return total

    def each(self, weights: Sequence[float]) -> Synapses:
        """sum_k weights[k] e[k] for each example, weight [B, *weight], bias [B, post]."""
        back, late = self._backwards(weighted_gains(self.gate, self.arrival, weights))
        back, pre = (each.unflatten(0, (self.arrival.steps, -1)) for each in (back, self.arrival.pre))
        weight, bias = self.arrival.each(back, pre), back.sum(0)
        for post, trace, age in zip(late, self.before.pre, self.before.ones, strict=True):
            if age:
                weight, bias = self.arrival.each(post[None], trace[None], weight, 1.0), bias.add_(post, alpha=age)
        return Synapses(weight, bias)

    def _backwards(self, back: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The filters of `back` [K B, *size] backwards in time, in its place, and what each keeps for its trace of
        before."""
        views, late = apart(back, self.arrival.steps), []
        for alpha in reversed(self.filters):
            for now, later in zip(reversed(views[:-1]), reversed(views[1:]), strict=True):
                now.add_(later, alpha=alpha)
            late.append(views[0] * alpha)
        return back, late[::-1]


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
        if not stages:
            return Traces((), ())
        first = apart(arrival.pre, arrival.steps)[0]
        return Traces((torch.zeros_like(first),) * stages, (0.0,) * stages)

    def step(self, state: Traces | Later, arrival: Arrival, dt: float) -> tuple[Factors, Traces]:
        """Factors of this step."""
        traces = _after(_now(state), arrival.pre, _filters(arrival, dt))
        trace, age = (traces.pre[-1], traces.ones[-1]) if traces.pre else (arrival.pre, 1.0)
        return Factors(trace, age, arrival.gate(dt), arrival), traces

    def block(self, state: Traces | Later, arrival: Arrival, dt: float) -> tuple[Factors | FactorBlock, Traces | Later]:
        """What `step` gives in as many steps as `arrival` has, for `contract` to sum over all of them.

        The filters run on the side that has fewer numbers.
        """
        filters, before, gate = _filters(arrival, dt), _now(state), arrival.gate(dt)
        if not filters:
            return Factors(arrival.pre, 1.0, gate, arrival), before
        pres = apart(arrival.pre, arrival.steps)
        if arrival.synapses.bias is None and arrival.pre.numel() < arrival.post.value.numel():
            traces, after = _filtered(before, pres, filters)
            return Factors(together(traces), 1.0, gate, arrival), after
        return FactorBlock(arrival, before, filters, gate), Later(before, pres, filters)


def _filters(arrival: Arrival, dt: float) -> tuple[float, ...]:
    """Of neurons without a cascade, which `check` refuses to whoever looks at the eligibility, none."""
    return arrival.neuron.filters(dt) or ()
