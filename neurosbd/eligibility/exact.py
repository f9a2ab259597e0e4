"""Eligibility per synapse: the exact forward derivative through everything a neuron keeps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.connections.sides import Sides
from neurosbd.connections.synapses import Synapses
from neurosbd.eligibility.factorised import weighted_gains
from neurosbd.eligibility.local import Arrival, Local, Site
from neurosbd.neurons.neuron import Activity, Flow, gain
from neurosbd.neurons.scan import apart, together
from neurosbd.surrogates import check_gain


class Sensitivity(NamedTuple):
    """d h / d (weight, bias) for each inner variable h of the postsynaptic units, as `Sides.joined` has them."""

    eps: tuple[Tensor, ...]  # [B, post, pre + 1] each, of a list [B, synapses + post]; (): all are 0
    flow: Flow  # how it goes on from here


@dataclass(frozen=True)
class PerSynapse:
    """e[b] of every synapse in full, with that of the biases, as `Sides.joined` has them."""

    e: Tensor  # [B, post, pre + 1], of a list [B, synapses + post]
    sides: Sides

    @property
    def trace(self) -> Tensor:
        """There is none that all post units share."""
        raise ValueError("an exact eligibility has no presynaptic trace; use rule.eligibility = 'factorised'")

    def contract(self, third_factor: Tensor) -> Synapses:
        """sum_b third_factor[b, i] e[b, i, j]."""
        return self.sides.apart(self.sides.biased.sum_post(third_factor, self.e))

    def onto(self, pending: Synapses, kept: float) -> Synapses:
        """kept pending + e."""
        assert pending.bias is not None
        weight, bias = self.sides.apart(self.e)
        assert bias is not None
        return Synapses(torch.add(weight, pending.weight, alpha=kept), torch.add(bias, pending.bias, alpha=kept))

    def of(self, examples: Tensor, local: Local) -> Tensor:
        """As it stands."""
        return self.sides.apart(self.e[examples]).weight


@dataclass(frozen=True)
class Exact:
    """Forward-mode derivative of the postsynaptic value with respect to each of its own weights.

        eps[t] = jacobian[t-1] eps[t-1] + entry pre[t];    e[t] = (gain[t] direction + direct) . eps[t]

    Exact for every neuron (threshold adaptation, resets to a value, time constants that differ between
    units), through its own state; not through other neurons. O(B synapses) memory for each inner variable,
    so dense connections only, stored as a matrix or as a list.

    Source: Bellec et al. 2020, Nat. Commun. 11:3625, equations 13-14 and 24-25 (ALIF); Williams, Zipser 1989.
    """

    def check(self, site: Site) -> None:
        """Raise ValueError unless the connection is dense and the neurons have a gain."""
        if not site.joins_pairs:
            raise ValueError(
                f"an exact eligibility keeps a value per synapse, position and example, so it needs a dense "
                f"connection; this one has weights {list(site.synapses.weight.shape)}. Use "
                f"rule.eligibility = 'factorised'"
            )
        check_gain(site.neuron)

    def init(self, arrival: Arrival, dt: float) -> Sensitivity:
        """No synapse has done anything yet."""
        return Sensitivity((), _flows(arrival, dt)[0])

    def step(
        self, state: "Sensitivity | SensitivityBlock", arrival: Arrival, dt: float
    ) -> tuple[PerSynapse, Sensitivity]:
        """Eligibility of this step."""
        state = state if isinstance(state, Sensitivity) else state.after()
        sides = arrival.sides.biased
        pre = sides.of_pre(torch.cat((arrival.pre, torch.ones_like(arrival.pre[:, :1])), 1))
        shape = torch.broadcast_shapes(sides.of_post(arrival.post.value).shape, pre.shape)
        nothing = pre.new_zeros(()).expand(shape)
        present = state.eps or (nothing,) * len(state.flow.entry)
        eps = []
        for row, entry in zip(state.flow.jacobian, state.flow.entry, strict=True):
            terms = [(f, e) for f, e in zip(row, present, strict=True) if not _absent(f)]
            moved = torch.zeros_like(present[0]) if not terms else _per_unit(terms[0][0], sides) * terms[0][1]
            for factor, before in terms[1:]:
                moved = _added(moved, factor, before, sides)
            eps.append(moved if _absent(entry) else _added(moved, entry, pre, sides))
        (flow,) = _flows(arrival, dt)
        slope = gain(arrival.neuron, arrival.post, dt)
        parts = [(slope * part, moved) for part, moved in zip(flow.direction, eps, strict=True) if not _absent(part)]
        parts += [(_sent(arrival.post), moved) for part, moved in zip(flow.direct, eps, strict=False) if part]
        e = sides.of_post(parts[0][0]) * parts[0][1]
        for factor, moved in parts[1:]:
            e = torch.addcmul(e, moved, sides.of_post(factor))
        return PerSynapse(e, arrival.sides), Sensitivity(tuple(eps), flow)

    def block(
        self, state: "Sensitivity | SensitivityBlock", arrival: Arrival, dt: float
    ) -> tuple["SensitivityBlock", "SensitivityBlock"]:
        """What `step` gives in as many steps as `arrival` has, without a value per synapse and step."""
        before = state if isinstance(state, Sensitivity) else state.after()
        block = SensitivityBlock(arrival, before, _flows(arrival, dt), arrival.gate(dt))
        return block, block


@dataclass(frozen=True)
class SensitivityBlock:
    """The eligibilities of K steps, of which only sums are made up: the derivative goes backwards in time, per unit.

    sum_k third_factor[k] e[k] = sum_k (entry . back[k]) pre[k] + (jacobian[-1]^T back[0]) . eps[-1]
    back[k] = third_factor[k] (gain[k] direction[k] + direct) + jacobian[k]^T back[k+1]
    """

    arrival: Arrival  # of K steps
    before: Sensitivity  # as the block found it
    flows: list[Flow]  # after every step
    gate: Callable[[Tensor], Tensor]

    @property
    def trace(self) -> Tensor:
        """There is none that all post units share."""
        raise ValueError("an exact eligibility has no presynaptic trace; use rule.eligibility = 'factorised'")

    def contract(self, third_factor: Tensor) -> Synapses:
        """Sum over steps and examples of third factor x e, like the synapses; third factor is [K B, *size]."""
        post, late = self._backwards(self.gate(third_factor), third_factor)
        weight, bias = self.arrival.outer(together(post), self.arrival.pre)
        sides = self.arrival.sides
        for factor, eps in zip(late, self.before.eps, strict=False):
            if isinstance(factor, Tensor):
                late_weight, late_bias = sides.apart(sides.biased.sum_post(factor, eps))
                weight.add_(late_weight)
                bias = bias if bias is None or late_bias is None else bias.add_(late_bias)
        return Synapses(weight, bias)

    def each(self, weights: Sequence[float]) -> Synapses:
        """sum_k weights[k] e[k] for each example, weight [B, *weight], bias [B, post]."""
        post, late = self._backwards(
            weighted_gains(self.gate, self.arrival, weights),
            weighted_gains(torch.clone, self.arrival, weights) if self.before.flow.direct else None,
        )
        weight, bias = self._paired(post)
        for moved, eps in zip(late, self.before.eps, strict=False):
            if isinstance(moved, Tensor):
                before, before_bias = self.arrival.sides.apart(eps)
                assert before_bias is not None, "sensitivities have one for the bias, whether there is one or not"
                weight.addcmul_(before, self.arrival.sides.of_post(moved))
                bias.addcmul_(before_bias, moved)
        return Synapses(weight, bias)

    def after(self) -> Sensitivity:
        """The sensitivity after the block."""
        size = range(len(self.flows[0].entry))
        way: list[list[float | Tensor]] = [[float(u == v) for u in size] for v in size]  # to the end, from step k
        posts: list[list[float | Tensor]] = []  # of every variable, what enters at step k and is left at the end
        for flow in reversed([self.before.flow, *self.flows[:-1]]):
            posts.append([_dot(way[v], flow.entry) for v in size])
            way = [[_dot(way[v], [flow.jacobian[w][u] for w in size]) for u in size] for v in size]
        eps = []
        for v in size:
            weight, bias = self._paired([self._full(post[v]) for post in reversed(posts)])
            whole = self.arrival.sides.joined(weight, bias)
            for u, before in zip(size, self.before.eps, strict=False):
                if not _absent(way[v][u]):
                    whole = _added(whole, way[v][u], before, self.arrival.sides.biased)
            eps.append(whole)
        return Sensitivity(tuple(eps), self.flows[-1])

    def _backwards(self, factor: Tensor, ungated: Tensor | None) -> tuple[list[Tensor], list[float | Tensor]]:
        """Of every step the factor of what arrived, [B, post]; of every variable that of the sensitivity of before.
        `ungated` is the factor without the gain, for what reaches the value behind it."""
        gated = apart(factor, self.arrival.steps)
        size = range(len(self.flows[0].entry))
        direct = self.flows[0].direct or tuple(0.0 for _ in size)
        passed = gated
        if any(direct) and ungated is not None:
            passed = apart(ungated * _sent(self.arrival.post), self.arrival.steps)
        back: list[float | Tensor] = [0.0 for _ in size]
        posts = []
        for k in reversed(range(self.arrival.steps)):
            flow, earlier = self.flows[k], self.flows[k - 1] if k else self.before.flow
            moved = [_dot([flow.jacobian[w][u] for w in size], back) for u in size]
            told = [_sum(_times(flow.direction[u], gated[k]), _times(direct[u], passed[k])) for u in size]
            back = [_sum(told[u], moved[u]) for u in size]
            posts.append(self._full(_dot(earlier.entry, back)))
        jacobian = self.before.flow.jacobian
        return posts[::-1], [_dot([jacobian[w][u] for w in size], back) for u in size]

    def _full(self, factor: float | Tensor) -> Tensor:
        """A factor of every unit and example."""
        shape = self.arrival.post.value.shape
        return self.arrival.post.value.new_zeros(shape[0] // self.arrival.steps, *shape[1:]) + factor

    def _paired(self, posts: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Sum over the steps of factor x pre for each example, and of the factor itself."""
        stacked = torch.stack(posts)
        return self.arrival.each(stacked, self.arrival.pre.unflatten(0, (self.arrival.steps, -1))), stacked.sum(0)


def _flows(arrival: Arrival, dt: float) -> list[Flow]:
    """How a change of the inner state goes on after every step."""
    if arrival.steps == 1:
        return [arrival.neuron.flow(arrival.state, arrival.post, dt)]
    shown = (apart(arrival.post.value, arrival.steps), apart(arrival.post.potential, arrival.steps))
    return [
        arrival.neuron.flow(state, Activity(*post), dt) for state, *post in zip(arrival.states, *shown, strict=True)
    ]


def _sent(post: Activity) -> Tensor:
    """What of the value is sent, of every unit: 1 without dropout."""
    return torch.ones_like(post.value) if post.sent is None else post.sent


def _absent(factor: float | Tensor) -> bool:
    return isinstance(factor, float) and factor == 0


def _times(one: float | Tensor, other: float | Tensor) -> float | Tensor:
    """one * other; nothing where one of them is nothing."""
    return 0.0 if _absent(one) or _absent(other) else one * other


def _sum(one: float | Tensor, other: float | Tensor) -> float | Tensor:
    return other if _absent(one) else one if _absent(other) else one + other


def _dot(one: Sequence[float | Tensor], other: Sequence[float | Tensor]) -> float | Tensor:
    """sum_u one[u] other[u]."""
    total: float | Tensor = 0.0
    for pair in zip(one, other, strict=True):
        total = _sum(total, _times(*pair))
    return total


def _added(total: Tensor, factor: float | Tensor, value: Tensor, sides: Sides) -> Tensor:
    """total + factor value, in one pass."""
    if isinstance(factor, Tensor):
        return torch.addcmul(total, value, sides.of_post(factor))
    return torch.add(total, value, alpha=factor)


def _per_unit(value: float | Tensor, sides: Sides) -> float | Tensor:
    """One value per post unit, [post] or [B, post], as it goes with the weights."""
    return sides.of_post(value) if isinstance(value, Tensor) else value
