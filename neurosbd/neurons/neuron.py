"""What a neuron is: constants, a state that the caller keeps, a pure step, and the gain of that step."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

Compartment = Literal["soma", "basal", "apical", "lateral"]


S = TypeVar("S")  # the state of a neuron
M = TypeVar("M")  # what it remembers from batch to batch
# The state of any neuron: a NamedTuple, its first field [B, *size]; () of one that keeps nothing.
NeuronState = tuple[Tensor, *tuple[Tensor | None, ...]] | tuple[()]
Total = Callable[..., tuple[Tensor, ...]]  # tensors -> their sums over all processes that share a batch


class Activity(NamedTuple):
    """What a population shows after one step."""

    value: Tensor  # what its axons send, rate or spike, [B, *size]
    potential: Tensor  # where the gain is read, [B, *size]: the value of a rate neuron, the distance of a
    # spiking one from its momentary threshold plus its resting threshold
    cache: Any = None  # what else a gate needs, of neurons whose gain is no function of the potential; of one with
    # compartments the potential of each, by its name
    sent: Tensor | None = None  # share of the value that is sent, 0 or 1 / (1 - dropout), [B, *size]; None: all of it


class Flow(NamedTuple):
    """How a small change h of a neuron's inner state travels: h[t+1] = jacobian h[t] + entry drive[t+1].

    Entries are numbers or [B, *size]. d value / d h = gain * direction + direct.
    """

    jacobian: tuple[tuple[float | Tensor, ...], ...]
    entry: tuple[float | Tensor, ...]
    direction: tuple[float | Tensor, ...]
    direct: tuple[float, ...] = ()  # of what reaches the value behind the gain, 0 or 1 each; (): nothing does


class Neuron(Protocol[S]):
    """Turns a drive into an activity; knows the gain of that step, d value / d drive."""

    def init(self, drive: Tensor, generator: torch.Generator | None = None) -> S:
        """State at rest for a drive of this shape [B, *size], dtype and device; noise from `generator`."""
        ...

    def step(self, state: S, drive: Tensor, dt: float) -> tuple[Activity, S]:
        """Advance by `dt` seconds under `drive` [B, *size]."""
        ...

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """`third_factor * gain`, in one pass over memory; shape of `third_factor`.

        Where units share their drives (`Coupled`), the derivative is a matrix and this its transpose times it.
        """
        ...

    @property
    def factorises(self) -> bool:
        """Whether `filters` is all there is between drive and value, so that pre x post is the exact eligibility."""
        ...

    def filters(self, dt: float) -> tuple[float, ...] | None:
        """Decays per step of the cascade of filters between drive and potential; () if there is none, None if the way
        from the drive to the potential is not such a cascade, or not the same of all units."""
        ...

    def flow(self, state: S, activity: Activity, dt: float) -> Flow:
        """How a change of the inner state after this step goes on, resets taken as they fell."""
        ...


@runtime_checkable
class Coupled(Protocol):
    """A neuron whose value depends on the drives of other units of its population, too."""

    @property
    def coupled(self) -> str:
        """Which units those are, in words."""
        ...


@runtime_checkable
class Adaptive(Neuron[S], Protocol[S, M]):
    """A neuron that measures every batch it learns from, and remembers something of it:

        neuron.learning(moments, total)                       the neuron of a network that learns
        measured = neuron.statistics(activity)                measure, at every step
        moments = neuron.update(moments, measured, share)     remember
        neuron.with_moments(moments)                          the neuron of a network that does not learn

    The network keeps the moments, a NamedTuple of tensors, and the learner brings them up to date after every batch.
    """

    def init_moments(self, size: tuple[int, ...]) -> M:
        """The memory of a population of this size before any learning."""
        ...

    def statistics(self, activity: Activity) -> tuple[Tensor, ...]:
        """What was measured at a step of a neuron that learns, over all examples of the batch."""
        ...

    def update(self, moments: M, measured: tuple[Tensor, ...], share: float) -> M:
        """The memory after a step that stands for `share` of a batch."""
        ...

    def with_moments(self, moments: M) -> Neuron[S]:
        """The neuron that works with the memory, and measures nothing."""
        ...

    def learning(self, moments: M, total: Total | None) -> Neuron[S]:
        """The neuron that learns, while the memory is this.

        Args:
            moments: tensors whose values change when a batch has been learned from.
            total: sums over the processes that share a batch, all of whose examples it measures; None: there is one.
        """
        ...


class Conductances(NamedTuple):
    """What is open at the membranes of a population in one step, summed over its synapses."""

    total: Tensor  # sum of g, [B, *size]
    pull: Tensor  # sum of g times reversal potential


@runtime_checkable
class Conducting(Neuron[S], Protocol[S]):
    """A neuron that conductances can reach: its potentials are in volts."""

    def check_volts(self) -> None:
        """Raise ValueError, with the fix, unless they are with these constants."""
        ...

    def membrane(self, state: S) -> Tensor:
        """Potential at the beginning of the step that follows this state, after its reset, V."""
        ...

    def conduct(self, state: S, drive: Tensor, opened: Conductances, dt: float) -> tuple[Activity, S]:
        """`step` with conductances open, that are held over the step; with none it is `step`."""
        ...


@runtime_checkable
class Leaking(Protocol):
    """A neuron whose membrane is one leak of its drive, so that it knows what a current within a step does to it."""

    @property
    def leak_time(self) -> float | Tensor:
        """Its time constant, s; infinite without a leak."""
        ...


@runtime_checkable
class Settling(Protocol[S]):
    """A neuron that adapts to how often it spikes, and can be told to stay as it is."""

    def settled(self, state: S) -> Neuron[S]:
        """The same neuron, adapted as it is in this state, that adapts no more."""
        ...


@runtime_checkable
class Compartmental(Protocol):
    """A neuron with compartments: its `step` takes the drive of each by name, {compartment: [B, *size]}."""

    @property
    def compartments(self) -> tuple[Compartment, ...]:
        """Where its synapses can sit."""
        ...


@runtime_checkable
class Particular(Protocol):
    """A neuron that not every network can drive; a learner asks it before anything runs."""

    def check(self, drive: Tensor, compartments: tuple[Compartment, ...], dt: float) -> None:
        """Raise ValueError unless steps of `dt` s work.

        Args:
            drive: an example of what it gets, one silent example [1, *size].
            compartments: that have synapses; of a neuron without compartments the soma.
            dt: s.
        """
        ...


@runtime_checkable
class Stochastic(Protocol):
    """A neuron that draws its spikes or its value, and knows how unlikely they were."""

    @property
    def draws(self) -> bool:
        """Whether it does with these constants."""
        ...

    def surprise(self, activity: Activity) -> Tensor:
        """d log P(spikes) / d drive of this step, or of the density of its value, [B, *size]."""
        ...


def gated(neuron: Neuron, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
    """third_factor * d value / d drive, of what a population sends: its gate, and its dropout if there is any."""
    return neuron.gate(activity, third_factor if activity.sent is None else third_factor * activity.sent, dt)


def gain(neuron: Neuron, activity: Activity, dt: float) -> Tensor:
    """d value / d drive of every unit at this step of `dt` s, [B, *size]; of coupled units, of the sum of values."""
    return gated(neuron, activity, torch.ones_like(activity.value), dt)
