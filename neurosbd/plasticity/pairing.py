"""Which spikes of the two sides of a synapse make a pair: the schemes that NEST has, as traces."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

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
    paired: Tensor | None = None  # share of `pre` that post spikes have met, [B, *weight]; of 'nn_pre_centered'
    since: Since | None = None  # of 'nn_restr'


class Instant(NamedTuple):
    """What meets at a synapse where one step ends and the next begins."""

    arrived: Tensor  # what arrives, [B, *arriving]
    fired: Tensor  # post spikes of the step that ends, [B, *size]
    pre: Tensor  # trace that these spikes find: of all that has arrived, now as well, [B, *arriving]
    post: Tensor  # trace that the arrivals find: of the spikes before, [B, *size]
    pre_of: Tensor | None = None  # the first of both where it is another at every synapse, [B, *weight]
    post_of: Tensor | None = None  # the second, likewise

    def depression(self, local: Local) -> Tensor:
        """Trace that arrivals find, summed over the batch, like the weight."""
        if self.post_of is None:
            return local.outer(self.post, self.arrived).weight
        return local.sides.sum_pre(self.arrived, self.post_of)

    def potentiation(self, local: Local) -> Tensor:
        """Trace that post spikes find, summed over the batch, like the weight."""
        if self.pre_of is None:
            return local.outer(self.fired, self.pre).weight
        return local.sides.sum_post(self.fired, self.pre_of)

    def depression_of_each(self, local: Local, like: Tensor) -> Tensor:
        """The same per example, [B, *weight]; a convolution writes it over `like`."""
        if self.post_of is None:
            return local.each(self.post[None], self.arrived[None], like, 0.0)
        return self.post_of * local.sides.of_pre(self.arrived)

    def potentiation_of_each(self, local: Local) -> Tensor:
        """The same per example, [B, *weight]."""
        if self.pre_of is None:
            return local.each(self.fired[None], self.pre[None])
        return self.pre_of * local.sides.of_post(self.fired)


def check_site(pairing: Pairing, site: Site) -> None:
    """Raise ValueError of pairs that depend on both sides where a synapse joins more than one unit of each."""
    if pairing in PER_SYNAPSE and not site.joins_pairs:
        raise ValueError(
            f"pairing = '{pairing}' looks at every pair of a pre and a post unit, so it needs a dense connection "
            f"between populations without a map, got a weight {list(site.synapses.weight.shape)}; take 'all_to_all' or "
            f"'nn_symm'"
        )


def no_spike(pairing: Pairing, local: Local) -> PairTraces:
    """Before the first spike."""
    pre, post = torch.zeros_like(local.pre), torch.zeros_like(local.post.value)
    paired = post.new_zeros((len(post), *local.synapses.weight.shape)) if pairing == "nn_pre_centered" else None
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
    pre = pre + local.pre if pairing in ("all_to_all", "nn_pre_centered") else latest(pre, local.pre)
    post = found + fired if pairing == "all_to_all" else latest(found, fired)
    now, after = Instant(local.pre, fired, pre, found), PairTraces(pre, post, local.post.value)
    if state.paired is not None:
        met = state.paired * kept_pre
        there = local.sides.of_pre(pre)
        now = now._replace(pre_of=there - met)
        after = after._replace(paired=torch.where(local.sides.of_post(fired) > 0, there, met))
    if state.since is not None:
        before, since_post = state.since.pre + 1, state.since.post + 1
        since_pre = torch.where(local.pre > 0, 0.0, before)
        of_post, of_pre = local.sides.of_post, local.sides.of_pre
        no_pre_since = of_post(since_post) <= of_pre(before)
        no_post_since = of_pre(since_pre) < of_post(since_post)
        now = now._replace(pre_of=of_pre(pre) * no_post_since, post_of=of_post(found) * no_pre_since)
        after = after._replace(since=Since(since_pre, torch.where(fired > 0, 0.0, since_post)))
    return now, after


def latest(trace: Tensor, spikes: Tensor) -> Tensor:
    """A trace of the latest spike alone."""
    return torch.where(spikes > 0, spikes, trace)
