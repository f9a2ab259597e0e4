"""Which spikes of the two sides of a synapse make a pair: the schemes that NEST has, as traces."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from neurosbd.connections.synapses import joins_pairs
from neurosbd.eligibility.local import Local, Site

Pairing = Literal["all_to_all", "nn_symm", "nn_pre_centered", "nn_restr"]
Kept = float | Tensor
PER_SYNAPSE: tuple[Pairing, ...] = ("nn_pre_centered", "nn_restr")  # whose pairs depend on both sides


class Since(NamedTuple):
    """Steps since the latest spike of either side, infinitely many before the first."""

    pre: Tensor  # [B, *arriving]
    post: Tensor  # [B, *size]


class PairTraces(NamedTuple):
    """What earlier spikes have left behind."""

    pre: Tensor  # of what has arrived, [B, *arriving]
    post: Tensor  # of the spikes before those of the last step, [B, *size]
    fired: Tensor  # spikes of the last step, which end as the next one begins, [B, *size]
    paired: Tensor | None = None  # share of `pre` that post spikes have met, [B, post, pre]; of 'nn_pre_centered'
    since: Since | None = None  # of 'nn_restr'


class Instant(NamedTuple):
    """What meets at a synapse where one step ends and the next begins."""

    arrived: Tensor  # what arrives, [B, *arriving]
    fired: Tensor  # post spikes of the step that ends, [B, *size]
    pre: Tensor  # trace that these spikes find: of all that has arrived, now as well, [B, *arriving]
    post: Tensor  # trace that the arrivals find: of the spikes before, [B, *size]
    pre_of: Tensor | None = None  # the first of both where it is another at every synapse, [B, post, pre]
    post_of: Tensor | None = None  # the second, likewise

    def depression(self, local: Local) -> Tensor:
        """Trace that arrivals find, summed over the batch, like the weight."""
        if self.post_of is None:
            return local.outer(self.post, self.arrived).weight
        return torch.einsum("bij,bj->ij", self.post_of, self.arrived)

    def potentiation(self, local: Local) -> Tensor:
        """Trace that post spikes find, summed over the batch, like the weight."""
        if self.pre_of is None:
            return local.outer(self.fired, self.pre).weight
        return torch.einsum("bij,bi->ij", self.pre_of, self.fired)

    def depression_of_each(self, local: Local, like: Tensor) -> Tensor:
        """The same per example, [B, *weight]; a convolution writes it over `like`."""
        if self.post_of is None:
            return local.each(self.post[None], self.arrived[None], like, 0.0)
        return self.post_of * self.arrived[:, None]

    def potentiation_of_each(self, local: Local) -> Tensor:
        """The same per example, [B, *weight]."""
        if self.pre_of is None:
            return local.each(self.fired[None], self.pre[None])
        return self.pre_of * self.fired[:, :, None]


def check_site(pairing: Pairing, site: Site) -> None:
    """Raise ValueError of pairs that depend on both sides where a synapse joins more than one unit of each."""
    if pairing in PER_SYNAPSE and not joins_pairs(site.synapses.weight, site.size):
        raise ValueError(
            f"pairing = '{pairing}' looks at every pair of a pre and a post unit, so it needs a dense connection "
            f"between populations without a map, stored as a matrix, got a weight {list(site.synapses.weight.shape)}; "
            f"take 'all_to_all' or 'nn_symm', or set storage = 'dense'"
        )


def no_spike(pairing: Pairing, local: Local) -> PairTraces:
    """Before the first spike."""
    pre, post = torch.zeros_like(local.pre), torch.zeros_like(local.post.value)
    paired = post.new_zeros((*post.shape, *pre.shape[1:])) if pairing == "nn_pre_centered" else None
    since = Since(pre + torch.inf, post + torch.inf) if pairing == "nn_restr" else None
    return PairTraces(pre, post, post, paired, since)


def paired(
    pairing: Pairing, state: PairTraces, local: Local, kept_pre: Kept, kept_post: Kept
) -> tuple[Instant, PairTraces]:
    """(what meets as a step begins, the traces after it), arrivals first, then the spikes of the step before.

    Args:
        pairing: the scheme.
        state: after the step before.
        local: of this step.
        kept_pre, kept_post: what is left of the traces after one step.
    """
    fired, found = state.fired, state.post * kept_post
    pre = state.pre * kept_pre
    pre = pre + local.pre if pairing in ("all_to_all", "nn_pre_centered") else _replaced(pre, local.pre)
    post = found + fired if pairing == "all_to_all" else _replaced(found, fired)
    now, after = Instant(local.pre, fired, pre, found), PairTraces(pre, post, local.post.value)
    if state.paired is not None:
        met = state.paired * kept_pre
        now = now._replace(pre_of=pre[:, None] - met)
        after = after._replace(paired=torch.where(fired[:, :, None] > 0, pre[:, None], met))
    if state.since is not None:
        before, since_post = state.since.pre + 1, state.since.post + 1
        since_pre = torch.where(local.pre > 0, 0.0, before)
        no_pre_since = since_post[:, :, None] <= before[:, None]
        no_post_since = since_pre[:, None] < since_post[:, :, None]
        now = now._replace(pre_of=pre[:, None] * no_post_since, post_of=found[:, :, None] * no_pre_since)
        after = after._replace(since=Since(since_pre, torch.where(fired > 0, 0.0, since_post)))
    return now, after


def _replaced(trace: Tensor, spikes: Tensor) -> Tensor:
    """A trace of the latest spike alone."""
    return torch.where(spikes > 0, spikes, trace)
