"""An eligibility that waits for a reward: one number per example and synapse, the newest steps still as factors."""

from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.axes import inner
from neurosbd.connections.synapses import Synapses, is_matrix
from neurosbd.eligibility.local import Local
from neurosbd.neurons.scan import apart

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

    @classmethod
    def empty(cls, local: Local) -> "PendingEligibility":
        """No pairing yet."""
        weight = local.synapses.weight
        post, pre = (apart(each, local.steps)[0] for each in (local.post.value, local.pre))
        folded = weight.new_zeros((len(pre), *weight.shape))
        return cls(folded, 1.0, post.new_empty((0, *post.shape)), pre.new_empty((0, *pre.shape)))

    def append(self, posts: list[Tensor], pres: list[Tensor], kept: float, local: Local) -> "PendingEligibility":
        """One step later: e[b] <- kept e[b] + sum_k posts[k][b] x pres[k][b]; of a block, after all of its steps."""
        faded = kept**local.steps
        fade = self.fade * faded
        new = torch.cat([_of_steps(each, local) for each in pres])
        weighted = torch.cat([_fading(_of_steps(each, local), kept) for each in posts])
        both = torch.cat((self.posts * faded, weighted)), torch.cat((self.pres, new))
        # The factors of a convolution are maps, larger than the kernels they make up: they do not wait.
        if len(both[0]) < PENDING and (is_matrix(local.synapses.weight) or local.sides.listed):
            return PendingEligibility(self.folded, fade, *both)
        return PendingEligibility(local.each(*both, self.folded, fade), 1.0, self.posts[:0], self.pres[:0])

    def materialise(self, local: Local, examples: Tensor | slice) -> Tensor:
        """e of these examples, in memory of its own, [E, *weight]."""
        posts, pres = self.posts[:, examples], self.pres[:, examples]
        return local.each(posts, pres, self.folded[examples].clone(), self.fade)

    def contract(self, third_factor: Tensor | None, local: Local) -> Synapses | None:
        """sum_b third_factor[b, i] e[b, i, ...]; one factor per example, expanded over i, is not multiplied out."""
        if third_factor is None:
            return None
        if not any(third_factor.stride()[1:]):
            one = third_factor.flatten(1)[:, 0] * self.fade
            weight = (one @ self.folded.flatten(1)).view(self.folded.shape[1:])
        elif not inner(third_factor):
            weight = local.sides.sum_post(third_factor * self.fade, self.folded)
        else:
            raise ValueError(
                f"an eligibility [batch, *weight] = {list(self.folded.shape)} of a map or of vectors takes one third "
                f"factor per example [batch], "
                f"got [batch, *size] = {list(third_factor.shape)}"
            )
        if len(self.posts):
            posts, pres = (self.posts * third_factor).flatten(0, 1), self.pres.flatten(0, 1)
            weight += local.outer(posts, pres).weight
        return Synapses(weight, None)

    def contract_block(self, posts: list[Tensor], pres: list[Tensor], kept: float, local: Local) -> Synapses | None:
        """What `contract` gives after each of K calls of `append`, summed; asked before `append` folds what waits.

        sum_k third_factor[k] e[k] = kept late[0] e[-1] + sum_k (late[k] posts[k]) x pres[k]
        late[k] = third_factor[k] + kept late[k+1]
        """
        if local.third_factor is None:
            return None
        late = local.third_factor.clone()
        each = apart(late, local.steps)
        for now, later in zip(reversed(each[:-1]), reversed(each[1:]), strict=True):
            now.add_(later, alpha=kept)
        total = self.contract(each[0] * kept, local)
        for post, pre in zip(posts, pres, strict=True):
            assert total is not None
            total.weight.add_(local.outer(late * post, pre).weight)
        return total


def _of_steps(block: Tensor, local: Local) -> Tensor:
    """[K B, ..] as [K, B, ..]."""
    return block.unflatten(0, (local.steps, -1))


def _fading(steps: Tensor, kept: float) -> Tensor:
    """What is left of each of K steps after the last, [K, B, ..]."""
    if len(steps) == 1:
        return steps
    left = steps.new_tensor([kept ** (len(steps) - 1 - k) for k in range(len(steps))])
    return torch.einsum("k,k...->k...", left, steps)
