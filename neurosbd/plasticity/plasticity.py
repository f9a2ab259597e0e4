"""What a plasticity is."""

from typing import ClassVar, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from neurosbd.connections.synapses import Synapses
from neurosbd.eligibility.local import Local

S = TypeVar("S")  # its state
F = TypeVar("F", contravariant=True)  # a state that is only looked at


class Plasticity(Protocol[S]):
    """Turns local quantities into a loss-gradient-shaped change. No learning rate in here.

    What it needs and can do is declared, so that nobody has to find out by running it; one that does not work at the
    synapses of every connection has a `check(site)` besides (`Selective`, beside `Local`):
        modulated: changes nothing without a third factor.
        states_changes: its gradients are minus changes of the weights whose size is part of the rule.
        waits: keeps an eligibility that a third factor meets, and that can be looked at.
        rate_regulated: may be drawn to a firing rate besides, by the same eligibility.
        eligibilities: names of those it works with; (): it looks at none.

    One that makes of the weights only what `local.outer`, `local.each` and `local.eligible` give, values of units as
    `local.sides` puts them beside the weights, and the weights themselves number by number, may declare `per_synapse
    = True`: it learns connections that are stored sparsely, whose weight is [synapses]. One that adds up what waits,
    a number per weight and example, may declare `adds_up = True`: on maps and vectors, where that is made of many
    pairs of values, it takes one third factor for all units.
    """

    modulated: ClassVar[bool]
    states_changes: ClassVar[bool]
    waits: ClassVar[bool]
    rate_regulated: ClassVar[bool]
    eligibilities: ClassVar[tuple[str, ...]]

    def init(self, local: Local) -> S:
        """Traces at the start of a run."""
        ...

    def step(self, state: S, local: Local, dt: float) -> tuple[Synapses | None, S]:
        """Gradient to be descended, summed over the batch, like `local.synapses`; None if there is none."""
        ...

    def eligibility(self, state: S, local: Local, examples: Tensor) -> Tensor:
        """What a third factor would meet after this step, of some examples [E]: [E, *weight]. For looking at it;
        `no_eligibility` of a plasticity that does not wait.

        Raises:
            ValueError: if this plasticity keeps nothing that waits.
        """
        ...


@runtime_checkable
class Blockwise(Protocol[S]):
    """A plasticity that takes several steps at once.

    `in_blocks` says whether it does with these constants.
    """

    @property
    def in_blocks(self) -> bool:
        """Whether it does."""
        ...

    def block(self, state: S, local: Local, dt: float) -> tuple[Synapses | None, S]:
        """The sum of the gradients of `local.steps` steps, up to the order of summation; in `local` steps count as
        examples, and `eligible` sums over them."""
        ...


def no_eligibility(plasticity: object, state: object, local: Local, examples: Tensor) -> Tensor:
    """There is none: every change is made at once."""
    name = type(plasticity).__name__
    raise ValueError(f"{name} waits for nothing, so it has no eligibility; record dweight instead")


def takes_blocks(plasticity: object) -> bool:
    """Whether a plasticity takes several steps at once."""
    return isinstance(plasticity, Blockwise) and plasticity.in_blocks


@runtime_checkable
class Tracking(Protocol[F]):
    """A plasticity some of whose weights follow a statistic of the activity, which is no gradient to be descended."""

    def track(self, state: F, weight: Tensor) -> Tensor:
        """Weight after a trial that ended in `state`; the same tensor where there is nothing to follow."""
        ...


@runtime_checkable
class Bounded(Protocol):
    """A plasticity whose weights stay within bounds: the learner clamps them after each update."""

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and largest weight; both infinite where weights are free."""
        ...


@runtime_checkable
class EventDriven(Protocol[F]):
    """A plasticity that leaves a synapse as it is while neither of its units spikes.

    `by_events` says whether it does with these constants. One that is `per_synapse` besides moves, in a free run,
    only the synapses that spikes reach: its `step` is then given those alone, as if there were no others, and its
    state, which is of the units, in full.
    """

    @property
    def by_events(self) -> bool:
        """Whether it does."""
        ...

    def movers(self, state: F, local: Local) -> tuple[Tensor, Tensor]:
        """(of what arrives, [B, *arriving]; of the post units, [B, *size]): a synapse moves in this step only if one of
        both is not 0 at it."""
        ...


def takes_lists(plasticity: object) -> bool:
    """Whether a plasticity learns connections that are stored sparsely."""
    return bool(getattr(plasticity, "per_synapse", False))


def adds_up(plasticity: object) -> bool:
    """Whether a plasticity keeps one number per weight and example, whatever a weight joins."""
    return bool(getattr(plasticity, "adds_up", False))


def takes_events(plasticity: object) -> bool:
    """Whether a plasticity leaves synapses as they are while neither of their units spikes."""
    return isinstance(plasticity, EventDriven) and plasticity.by_events
