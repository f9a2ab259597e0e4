"""Eligibility per synapse: the exact forward derivative through everything a neuron keeps."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.connections.synapses import Synapses, joins_pairs
from neurosbd.eligibility.local import Arrival, Local, Site
from neurosbd.neurons.neuron import Flow, gain
from neurosbd.surrogates import check_gain


class Sensitivity(NamedTuple):
    """d h / d (weight, bias) for each inner variable h of the postsynaptic units, bias as a last column."""

    eps: tuple[Tensor, ...]  # [B, post, pre + 1] each
    flow: Flow  # how it goes on from here


@dataclass(frozen=True)
class PerSynapse:
    """e[b, i, j] in full, the bias as a last column."""

    e: Tensor  # [B, post, pre + 1]

    @property
    def trace(self) -> Tensor:
        """There is none that all post units share."""
        raise ValueError("an exact eligibility has no presynaptic trace; use rule.eligibility = 'factorised'")

    def contract(self, third_factor: Tensor) -> Synapses:
        """sum_b third_factor[b, i] e[b, i, j]."""
        full = torch.einsum("bi,bij->ij", third_factor, self.e)
        return Synapses(full[:, :-1], full[:, -1])

    def onto(self, pending: Synapses, kept: float) -> Synapses:
        """kept pending + e."""
        assert pending.bias is not None
        weight = torch.add(self.e[:, :, :-1], pending.weight, alpha=kept)
        return Synapses(weight, torch.add(self.e[:, :, -1], pending.bias, alpha=kept))

    def of(self, examples: Tensor, local: Local) -> Tensor:
        """As it stands."""
        return self.e[examples, :, :-1]


@dataclass(frozen=True)
class Exact:
    """Forward-mode derivative of the postsynaptic value with respect to each of its own weights.

        eps[t] = jacobian[t-1] eps[t-1] + entry pre[t];    e[t] = gain[t] direction . eps[t]

    Exact for every neuron (threshold adaptation, resets to a value, time constants that differ between
    units), through its own state; not through other neurons. O(B post pre) memory for each inner variable,
    so dense connections only.

    Source: Bellec et al. 2020, Nat. Commun. 11:3625, equations 13-14 and 24-25 (ALIF); Williams, Zipser 1989.
    """

    def check(self, site: Site) -> None:
        """Raise ValueError unless the connection is dense and the neurons have a gain."""
        if not joins_pairs(site.synapses.weight, site.size):
            raise ValueError(
                f"an exact eligibility keeps a value per synapse, position and example, so it needs a dense "
                f"connection; this one has weights {list(site.synapses.weight.shape)}. Use "
                f"rule.eligibility = 'factorised'"
            )
        check_gain(site.neuron)

    def init(self, arrival: Arrival, dt: float) -> Sensitivity:
        """No synapse has done anything yet."""
        flow = arrival.neuron.flow(arrival.state, arrival.post, dt)
        batch, post, pre = len(arrival.pre), *arrival.synapses.weight.shape
        nothing = arrival.pre.new_zeros((batch, post, pre + 1))
        return Sensitivity((nothing,) * len(flow.entry), flow)

    def step(self, state: Sensitivity, arrival: Arrival, dt: float) -> tuple[PerSynapse, Sensitivity]:
        """Eligibility of this step."""
        pre = torch.cat((arrival.pre, torch.ones_like(arrival.pre[:, :1])), 1)[:, None, :]
        eps = []
        for row, entry in zip(state.flow.jacobian, state.flow.entry, strict=True):
            terms = [(f, e) for f, e in zip(row, state.eps, strict=True) if not _absent(f)]
            moved = torch.zeros_like(state.eps[0]) if not terms else _per_unit(terms[0][0]) * terms[0][1]
            for factor, before in terms[1:]:
                moved = _added(moved, factor, before)
            eps.append(moved if _absent(entry) else _added(moved, entry, pre))
        flow = arrival.neuron.flow(arrival.state, arrival.post, dt)
        slope = gain(arrival.neuron, arrival.post, dt)
        parts = [(slope * part, moved) for part, moved in zip(flow.direction, eps, strict=True) if not _absent(part)]
        e = parts[0][0][..., None] * parts[0][1]
        for factor, moved in parts[1:]:
            e = torch.addcmul(e, moved, factor[..., None])
        return PerSynapse(e), Sensitivity(tuple(eps), flow)


def _absent(factor: float | Tensor) -> bool:
    return isinstance(factor, float) and factor == 0


def _added(total: Tensor, factor: float | Tensor, value: Tensor) -> Tensor:
    """total + factor value, in one pass."""
    if isinstance(factor, Tensor):
        return torch.addcmul(total, value, factor[..., None])
    return torch.add(total, value, alpha=factor)


def _per_unit(value: float | Tensor) -> float | Tensor:
    """One value per post unit, [post] or [B, post], against [B, post, pre]."""
    return value[..., None] if isinstance(value, Tensor) else value
