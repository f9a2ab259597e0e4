"""An eligibility that waits for a reward: one number per example and synapse, the newest steps still as factors."""

from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.axes import inner
from neurosbd.connections.synapses import Synapses, is_matrix
from neurosbd.eligibility.local import Local

PENDING = 8  # outer products; with more of them a reward is dearer, with fewer they are folded more often


class PendingEligibility(NamedTuple):
    """The pairings that wait for a reward.

        e[b] = fade folded[b] + sum_k posts[k, b] x pres[k, b]

    `folded` is a buffer that the run owns and writes over at every folding, so a state is stepped once.
    """

    folded: Tensor  # [B, *weight]
    fade: float  # what is left of it since
    posts: Tensor  # as faded as their step is old, [K, B, *size], K < PENDING
    pres: Tensor  # [K, B, *arriving]


def nothing(local: Local) -> PendingEligibility:
    """No pairing yet."""
    weight, post, pre = local.synapses.weight, local.post.value, local.pre
    folded = weight.new_zeros((len(pre), *weight.shape))
    return PendingEligibility(folded, 1.0, post.new_empty((0, *post.shape)), pre.new_empty((0, *pre.shape)))


def joined(
    pending: PendingEligibility, posts: list[Tensor], pres: list[Tensor], kept: float, local: Local
) -> PendingEligibility:
    """One step later: e[b] <- kept e[b] + sum_k posts[k][b] x pres[k][b]."""
    fade = pending.fade * kept
    both = torch.cat((pending.posts * kept, torch.stack(posts))), torch.cat((pending.pres, torch.stack(pres)))
    # The factors of a convolution are maps, larger than the kernels they make up: they do not wait.
    if len(both[0]) < PENDING and is_matrix(local.synapses.weight):
        return PendingEligibility(pending.folded, fade, *both)
    return PendingEligibility(local.each(*both, pending.folded, fade), 1.0, pending.posts[:0], pending.pres[:0])


def standing(pending: PendingEligibility, local: Local, examples: Tensor | slice) -> Tensor:
    """e of these examples, in memory of its own, [E, *weight]."""
    posts, pres = pending.posts[:, examples], pending.pres[:, examples]
    return local.each(posts, pres, pending.folded[examples].clone(), pending.fade)


def rewarded(third_factor: Tensor | None, pending: PendingEligibility, local: Local) -> Synapses | None:
    """sum_b third_factor[b, i] e[b, i, ...]; one factor per example, expanded over i, is not multiplied out."""
    if third_factor is None:
        return None
    folded, fade = pending.folded, pending.fade
    if not any(third_factor.stride()[1:]):
        one = third_factor.flatten(1)[:, 0] * fade
        weight = (one @ folded.flatten(1)).view(folded.shape[1:])
    elif not inner(third_factor):
        weight = torch.einsum("bi,bij->ij", third_factor * fade, folded)
    else:
        raise ValueError(
            f"an eligibility [batch, *weight] = {list(folded.shape)} of a map or of vectors takes one third "
            f"factor per example [batch], "
            f"got [batch, *size] = {list(third_factor.shape)}"
        )
    if len(pending.posts):
        posts, pres = (pending.posts * third_factor).flatten(0, 1), pending.pres.flatten(0, 1)
        weight += local.outer(posts, pres).weight
    return Synapses(weight, None)
