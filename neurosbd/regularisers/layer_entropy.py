"""Layer entropy: the activity of a population shall vary along as many directions as it can."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.neuromodulators.layouts import NO_BASIS, Shared
from neurosbd.regularisers.regulariser import Part
from neurosbd.schema.constants import Count, NotNegative, Positive, Share, constants

WAITING = 64  # activities; products with fewer of them at once are dearer, with more they take memory
CHANNELS = Shared()  # the coordinates of a map: the mean of each channel over its positions


class Spread(NamedTuple):
    """State of a layer entropy over N units (of a map: channels)."""

    correlation: Tensor  # R, running mean of h h^T, when activities were last taken into it, [N, N]
    pending: Tensor  # those heard since, each as faded as it is old, [K, N], K < WAITING
    since: Tensor  # batches since then, []; on the host, so that asking for it makes no device wait
    inverse: Tensor  # (R + epsilon I)^-1 when it was last taken, [N, N]
    age: Tensor  # batches since then, []; on the host


@constants
class LayerEntropy:
    """cost = -weight/2 logdet(R + epsilon I), with R the running correlation of the activity h.

        R <- lam R + (1 - lam) mean_b h[b] h[b]^T
        pull[b] = -weight (R + epsilon I)^-1 h[b] / B

    That cost is the negative entropy of a Gaussian with the correlation R, up to a constant. It falls with every
    direction that opens up, and with sheer power too: alone it makes the activity large, beside `power` it makes it
    rich. h is the activity of every unit; of a map, the mean of every channel over its positions. lam is per batch; the
    steps of a spiking run each take their share. At lam = 0 and refresh = 1 the pull is the derivative of the cost of
    this batch; else the factor (1 - lam) is left to the learning rate. R starts at the identity.

    Cost: two products of N^2 x `examples` a step, one of them put off until it is large enough to be quick, and one
    Cholesky inverse, N^3, in `refresh` batches; 2 N^2 numbers of memory. Only the first `examples` of every batch are
    heard and pulled, each in the name of as many others; batches come shuffled, so the mean is the same. The inverse is
    taken anew from R each time, so no error builds up.

    Args:
        weight: of the cost, >= 0.
        forgetting: lam, per batch, 0 <= lam < 1.
        epsilon: added to the diagonal, > 0: directions with less power than this are not pulled harder.
        examples: of every batch that are heard, >= 1.
        refresh: batches after which the inverse is taken again, >= 1.
    Raises:
        ValueError: if a constant is out of range.
    Source: Erdogan, Pehlevan, Erdogan 2025 (EBD), arXiv 2504.11558: layer entropy, weight about 1e-10.
    Differs: a subset of the examples, and an inverse as old as `refresh` batches, where the paper inverts for every
        batch; the channels of a map are our own reading: there the paper has the entropy of the weights, which is
        `weight_entropy` among the upkeeps.
    """

    weight: NotNegative = 1e-3
    forgetting: Share = 0.995
    epsilon: Positive = 1e-2
    examples: Count = 8
    refresh: Count = 100

    def init(self, value: Tensor, generator: torch.Generator) -> Spread:
        """As if every unit had varied by itself, with power 1."""
        one = torch.eye(CHANNELS.summary(value[:1], NO_BASIS).shape[1], dtype=value.dtype, device=value.device)
        now = torch.zeros((), dtype=torch.float64)
        return Spread(one, one[:0], now, one / (1 + self.epsilon), now)

    def statistics(self, state: Spread, value: Tensor, part: Part) -> tuple[Tensor]:
        """h of the first `examples` of the batch, in their places, 0 where they are not at hand, [heard, N]."""
        heard = min(self.examples, part.examples)
        own = CHANNELS.summary(self._heard(value, part), NO_BASIS)
        if len(own) == heard:
            return (own,)
        h = own.new_zeros((heard, own.shape[1]))
        h[part.first : part.first + len(own)] = own
        return (h,)

    def update(self, state: Spread, sums: tuple[Tensor, ...], share: float) -> Spread:
        """R and its inverse with this step in them, when they are due."""
        (h,) = sums
        lam, heard = self.forgetting**share, len(h)
        pending = torch.cat((state.pending * math.sqrt(lam), h * math.sqrt((1 - lam) / heard)))
        state = state._replace(pending=pending, since=state.since + share, age=state.age + share)
        due = bool(state.age >= self.refresh - 1e-6)  # shares add up to a batch but for rounding
        if due or len(pending) >= WAITING:
            state = self.settled(state)
        if due:
            inverse = self._inverted(state.correlation, state.inverse)
            state = state._replace(inverse=inverse, age=torch.zeros_like(state.age))
        return state

    def apply(self, state: Spread, value: Tensor, part: Part) -> Tensor:
        """-weight (R + epsilon I)^-1 h / B, [B, *size]."""
        h = CHANNELS.summary(self._heard(value, part), NO_BASIS)
        units = math.prod(value.shape[1:]) / h.shape[1]  # a unit has this part in the mean of its channel
        pull = value.new_zeros((len(value), h.shape[1]))
        torch.mm(h, state.inverse, out=pull[: len(h)])
        pull[: len(h)].mul_(-self.weight / (min(self.examples, part.examples) * units))
        return CHANNELS.spread(pull, value, NO_BASIS)

    def _heard(self, value: Tensor, part: Part) -> Tensor:
        """Those at hand of the first `examples` of the batch."""
        return value[: max(0, self.examples - part.first)]

    def settled(self, state: Spread) -> Spread:
        """The same with nothing waiting: R <- lam^since R + pending^T pending."""
        pending, faded = state.pending, self.forgetting ** float(state.since)
        correlation = torch.addmm(state.correlation, pending.t(), pending, beta=faded)
        return state._replace(correlation=correlation, pending=pending[:0], since=torch.zeros_like(state.since))

    def _inverted(self, correlation: Tensor, before: Tensor) -> Tensor:
        """(R + epsilon I)^-1; the one before if R is no correlation any more. Nothing is looked at, no device waits."""
        ridge = correlation.clone()
        ridge.diagonal().add_(self.epsilon)
        factor, failed = torch.linalg.cholesky_ex(ridge)
        one = torch.eye(len(ridge), dtype=ridge.dtype, device=ridge.device)  # of half a factor there is no inverse
        return torch.where(failed == 0, torch.cholesky_inverse(torch.where(failed == 0, factor, one)), before)
