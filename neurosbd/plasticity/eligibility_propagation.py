"""e-prop: eligibilities that wait for the readout, and the regulariser of firing rates."""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from neurosbd.connections.synapses import Synapses, per_post_unit, shared
from neurosbd.eligibility.local import Eligible, Local, Selective, Site
from neurosbd.neurons.scan import apart
from neurosbd.plasticity.plasticity import Blockwise, Plasticity, takes_blocks, takes_lists
from neurosbd.schema.constants import Hertz, NotNegative, constants
from neurosbd.surrogates import check_gain


class EligibilityTrace(NamedTuple):
    """What waits for the readout, with a block of steps after it that is added when somebody asks for it."""

    ebar: Synapses | None  # weight [B, *weight], bias [B, post]; None: nothing
    block: Eligible | None = None
    kappa: float = 0.0
    steps: int = 0  # of the block

    def now(self) -> Synapses | None:
        """ebar after the block: kappa^K ebar + sum_k kappa^(K - 1 - k) e[k]."""
        if self.block is None:
            return self.ebar
        found = self.block.each([self.kappa ** (self.steps - 1 - k) for k in range(self.steps)])
        return found if self.ebar is None else _sum(found, self.ebar, self.kappa**self.steps)


@dataclass(frozen=True)
class EligibilityPropagation:
    """Third factor x eligibility filtered by the readout's leak.

        ebar[t] = kappa ebar[t-1] + e[t];    d weight[i, j] = sum_b third_factor[b, i, t] ebar[b, i, j, t]

    kappa is the decay of the readout (0 without one); a delay on the way to it is not waited for. Dense connections,
    stored as a matrix or as a list; O(B synapses) memory. Where the readout forgets at once nothing waits, and nothing
    is kept per synapse: the change is that of `ThreeFactor`.

    Source: Bellec et al. 2020, Nat. Commun. 11:3625, equation 28.
    """

    modulated: ClassVar[bool] = True
    states_changes: ClassVar[bool] = False
    waits: ClassVar[bool] = True
    rate_regulated: ClassVar[bool] = True
    in_blocks: ClassVar[bool] = True
    per_synapse: ClassVar[bool] = True
    eligibilities: ClassVar[tuple[str, ...]] = ("exact",)

    def check(self, site: Site) -> None:
        """Raise ValueError unless the connection is dense, the readout has one leak, and the neurons have a gain."""
        weight = site.synapses.weight
        if not site.joins_pairs:
            raise ValueError(
                f"eprop keeps an eligibility per synapse, position and example until the readout has forgotten it, so "
                f"it needs dense connections; this one has weights {list(weight.shape)}. Use rule 'sbd', 'dfa' or 'ebd'"
            )
        if site.kappa is None:
            raise ValueError(
                "eprop waits as long as the readout remembers, so it needs a readout with one leak that all its units "
                "share (li, lif), or none; sbd and dfa do not wait"
            )
        check_gain(site.neuron)

    def init(self, local: Local) -> EligibilityTrace:
        """Nothing waits before the first step."""
        return EligibilityTrace(None)

    def step(self, state: EligibilityTrace, local: Local, dt: float) -> tuple[Synapses | None, EligibilityTrace]:
        """sum_b third_factor ebar."""
        assert local.kappa is not None
        if local.kappa == 0:
            return _at_once(local), EligibilityTrace(None)
        waiting = local.eligible.onto(state.now() or _nothing(local), local.kappa)
        gradient = None if local.third_factor is None else _met(local.third_factor, waiting, local)
        return gradient, EligibilityTrace(waiting)

    def block(self, state: EligibilityTrace, local: Local, dt: float) -> tuple[Synapses | None, EligibilityTrace]:
        """The same of several steps, without a value per synapse as long as nothing waits from before:

        sum_t third_factor[t] ebar[t] = sum_t late[t] e[t] + kappa late[0] ebar[-1]
        late[t] = third_factor[t] + kappa late[t+1]
        """
        assert local.kappa is not None
        if local.kappa == 0:
            return _at_once(local), EligibilityTrace(None)
        before = state.now()
        after = EligibilityTrace(before, local.eligible, local.kappa, local.steps)
        if local.third_factor is None:
            return None, after
        late = local.third_factor.clone()
        each = apart(late, local.steps)
        for now, later in zip(reversed(each[:-1]), reversed(each[1:]), strict=True):
            now.add_(later, alpha=local.kappa)
        gradient = local.eligible.contract(late)
        if before is not None:
            gradient = _sum(gradient, _met(each[0], before, local), local.kappa)
        return gradient, after

    def eligibility(self, state: EligibilityTrace, local: Local, examples: Tensor) -> Tensor:
        """ebar, [E, *weight]."""
        if local.kappa == 0:
            return local.eligible.of(examples, local)
        return (state.now() or _nothing(local)).weight[examples]


def _at_once(local: Local) -> Synapses | None:
    """sum third_factor e over examples and steps: what is eligible now is all there is."""
    return None if local.third_factor is None else local.eligible.contract(local.third_factor)


def _nothing(local: Local) -> Synapses:
    weight, batch = local.synapses.weight, len(local.pre) // local.steps
    return Synapses(weight.new_zeros((batch, *weight.shape)), weight.new_zeros((batch, *local.post.value.shape[1:])))


def _met(third_factor: Tensor, waiting: Synapses, local: Local) -> Synapses:
    """sum_b third_factor[b] of what waits, like the synapses."""
    assert waiting.bias is not None
    weight = local.sides.sum_post(third_factor, waiting.weight)
    return Synapses(weight, None if local.synapses.bias is None else (third_factor * waiting.bias).sum(0))


class Regulation(NamedTuple):
    """State of a regulated rule."""

    inner: object  # state of the rule
    examples: int  # of every step, all steps together
    spikes: Tensor  # sum over batch, steps and the positions that share a kernel, one per unit or channel
    eligible: Synapses  # sum over batch and steps
    pulled: Synapses  # gradient given out so far


@constants
class RateRegulated:
    """A rule plus the gradient that draws every unit's firing rate towards a target.

        E = cost / 2 sum_i (f_i - f_target)^2,     f_i = mean spikes per ms over batch and time (conv: and positions)
        d weight[i, j] += cost (f_i - f_target) (1 / T) sum_t mean_b e[b, i, j, t]

    Every step adds what makes the sum so far equal to this gradient for the steps so far, so at the end of
    a run it is exact and nobody needs to know when that is.

    Args:
        inner: the rule.
        target: firing rate, Hz, > 0.
        cost: >= 0, per (spikes per ms)^2.
    Raises:
        ValueError: if `target` or `cost` is out of range.
    Source: Bellec et al. 2020, Nat. Commun. 11:3625, Methods, 'firing rate regularization'. NEST's
        documentation writes target minus rate, because its gradient has the other sign.
    """

    inner: Plasticity
    target: Hertz = 10.0
    cost: NotNegative = 1.0

    modulated: ClassVar[bool] = False
    states_changes: ClassVar[bool] = False
    waits: ClassVar[bool] = True
    rate_regulated: ClassVar[bool] = False
    eligibilities: ClassVar[tuple[str, ...]] = ("factorised", "exact", "settled")

    def check(self, site: Site) -> None:
        """What the rule refuses, and neurons without a gain."""
        if isinstance(self.inner, Selective):
            self.inner.check(site)
        check_gain(site.neuron)

    def init(self, local: Local) -> Regulation:
        """No spike yet."""
        zero = Synapses(*(None if s is None else torch.zeros_like(s) for s in local.synapses))  # type: ignore[arg-type]
        spikes = torch.zeros_like(local.post.value).sum((0, *_shared(local)))
        return Regulation(self.inner.init(local), 0, spikes, zero, zero)

    def step(self, state: Regulation, local: Local, dt: float) -> tuple[Synapses | None, Regulation]:
        """The rule's gradient and the next part of the pull."""
        return self._regulated(state, local, dt, self.inner.step(state.inner, local, dt))

    @property
    def in_blocks(self) -> bool:
        """If the rule takes them."""
        return takes_blocks(self.inner)

    @property
    def per_synapse(self) -> bool:
        """If the rule is."""
        return takes_lists(self.inner)

    def block(self, state: Regulation, local: Local, dt: float) -> tuple[Synapses | None, Regulation]:
        """The same of several steps."""
        assert isinstance(self.inner, Blockwise)
        return self._regulated(state, local, dt, self.inner.block(state.inner, local, dt))

    def _regulated(
        self, state: Regulation, local: Local, dt: float, ruled: tuple[Synapses | None, object]
    ) -> tuple[Synapses | None, Regulation]:
        gradient, inner = ruled
        value, examples = local.post.value, state.examples + len(local.post.value)
        positions = math.prod(value.shape[axis] for axis in _shared(local))
        spikes = state.spikes + value.sum((0, *_shared(local)))
        eligible = _sum(state.eligible, local.eligible.contract(torch.ones_like(value)))
        ms = examples * positions * dt * 1e3
        share = self.cost * (spikes / ms - self.target * 1e-3) / ms
        pulled = Synapses(
            eligible.weight * _beside(share, eligible.weight, local),
            None if eligible.bias is None else eligible.bias * per_post_unit(share, eligible.bias),
        )
        change = _sum(pulled, state.pulled, -1)
        total = change if gradient is None else _sum(gradient, change)
        return total, Regulation(inner, examples, spikes, eligible, pulled)

    def eligibility(self, state: Regulation, local: Local, examples: Tensor) -> Tensor:
        """That of the rule."""
        return self.inner.eligibility(state.inner, local, examples)


def _beside(values: Tensor, weight: Tensor, local: Local) -> Tensor:
    """One value per post unit or channel, as it goes with the weights."""
    return local.sides.of_post(values) if local.sides.listed else per_post_unit(values, weight)


def _shared(local: Local) -> tuple[int, ...]:
    """Axes of the activity along which units share weights."""
    return () if local.sides.listed else shared(local.synapses.weight, local.post.value)


def _sum(one: Synapses, other: Synapses, factor: float = 1.0) -> Synapses:
    bias = None if one.bias is None or other.bias is None else torch.add(one.bias, other.bias, alpha=factor)
    return Synapses(torch.add(one.weight, other.weight, alpha=factor), bias)
