"""The one shape of everything that changes in time, and the records that pass between processes.

A *process* is a frozen dataclass of constants with two pure functions:

    init(example)          -> state
    step(state, input, dt) -> (output, state)

State is a NamedTuple of tensors and is handed back to the caller, so saving, resetting, copying and
moving it are the caller's plain operations. Neurons, encoders, eligibilities, expansions, neuromodulators,
homeostases and rules are processes.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

Compartment = Literal["soma", "basal", "apical", "lateral"]


NOTHING = torch.empty(0)


class Activity(NamedTuple):
    """What a population shows after one step."""

    value: Tensor  # what its axons send, rate or spike, [B, *size]
    potential: Tensor  # where the gain is read, [B, *size]: the value of a rate neuron, the distance of a
    # spiking one from its momentary threshold plus its resting threshold
    cache: Any = None  # what else a gate needs, for neurons whose gain is no function of the potential; of one with
    # compartments their potentials, {compartment: [B, *size]}


class Synapses(NamedTuple):
    """The plastic quantities of one connection, or anything of their shape (a gradient, a trace)."""

    weight: Tensor  # [post, pre]; conv [out, in, kh, kw]; local [*post, in, kh, kw]
    bias: Tensor | None  # [*post]; conv [out]


class Broadcast(NamedTuple):
    """What the output sends to every population at one step: one record, passed on by reference."""

    score: Tensor  # d mean-loss / d output, so each row carries its 1/B; then its expansion, if any, [B, C + D]; [B, 0]
    # where the step has no score
    output: Tensor = NOTHING  # where the score was taken, [B, C]
    target: Tensor = NOTHING  # labels [B] or targets [B, k]
    loss: Any = None  # whose score it is, an entry of LOSSES; None where there is no target
    output_drive_score: Tensor | None = None  # d mean-loss / d drive of the readout: score times its gain, [B, C]
    reward: Tensor | None = None  # one per example, [B], where there is any at this step
    task: Tensor | None = None  # which task or state an example belongs to, [B], integers from 0
    activity: Mapping[str, Activity] = MappingProxyType({})  # of every population at this step, the input's first, the
    # readout's last; only an expansion of the score may look at it
    weight: float = 1.0  # of this step in the loss
    step_share: float = 1.0  # of a batch that this step stands for: 1 / number of steps with a score
    progress: float = 0.0  # how much of the training is done, 0..1; drives schedules
    n_expanded: int = 0  # D, how many of the columns of the score are its expansion

    @property
    def scored(self) -> bool:
        """Whether this step has a score."""
        return self.score.shape[1] > 0

    def score_of(self, output: Tensor) -> Tensor:
        """The score that another output [B, C] would have, each row with its 1/B; 0 where there is no target."""
        if self.loss is None:
            return torch.zeros_like(output)
        return self.loss.score(output, self.target) / len(output)


class Receiver(NamedTuple):
    """The population that a broadcast reaches, as its neuromodulator sees it."""

    value: Tensor  # its activity, filtered where the rule filters it, [B, *size]
    readout_weight: Tensor | None = None  # of a dense connection to the readout, [C, units], if there is one


class Flow(NamedTuple):
    """How a small change h of a neuron's inner state travels: h[t+1] = jacobian h[t] + entry drive[t+1].

    Entries are numbers or [B, *size]. d value / d h = gain * direction.
    """

    jacobian: tuple[tuple[float | Tensor, ...], ...]
    entry: tuple[float | Tensor, ...]
    direction: tuple[float | Tensor, ...]


class Arrival(NamedTuple):
    """What an eligibility is made of, at one connection and step."""

    pre: Tensor  # what arrived at the synapses, after pooling, [B, *arriving]
    neuron: "Neuron"  # of the postsynaptic population
    state: Any  # of that neuron, after this step
    post: Activity  # activity of the postsynaptic population
    synapses: Synapses  # own weight and bias
    outer: Callable[[Tensor, Tensor], Synapses]  # (post factor, pre factor) -> like synapses


class Eligible(Protocol):
    """d value[b, i] / d weight[i, j] at one step, as far as it is known locally; factored or per synapse."""

    @property
    def trace(self) -> Tensor:
        """Presynaptic activity as the postsynaptic membrane filtered it, [B, *arriving]."""
        ...

    def contract(self, third_factor: Tensor) -> Synapses:
        """sum_b third_factor[b, i] e[b, i, j], like the synapses; third factor is [B, *size]."""
        ...

    def onto(self, waiting: Synapses, kept: float) -> Synapses:
        """kept waiting + e per synapse, weight [B, post, pre], bias [B, post]; dense connections only."""
        ...

    def of(self, examples: Tensor, local: "Local") -> Tensor:
        """e of some examples [E] multiplied out, [E, *weight]."""
        ...


class Local(NamedTuple):
    """Everything a synapse may use to learn. What is not in here is not local."""

    pre: Tensor  # what arrived at the synapses, after pooling, [B, *arriving]
    post: Activity  # activity of the postsynaptic population
    third_factor: Tensor | None  # third factor of the postsynaptic population, [B, *size]; None: silence at this step
    synapses: Synapses  # own weight and bias
    eligible: Eligible  # what the synapse did to the postsynaptic value
    outer: Callable[[Tensor, Tensor], Synapses]  # (post factor, pre factor) -> like synapses
    each: Callable[..., Tensor]  # (posts [K, B, *size], pres [K, B, *arriving]) -> sum_k post x pre per example,
    # [B, *weight]; (posts, pres, e, kept) -> kept e + that, in place of e
    surprise: Callable[[], Tensor]  # d log P(spikes) / d drive of the post population, [B, *size]
    kappa: float | None  # decay of the readout per step: how long a spike is felt there; None if there is not one
    compartment: Compartment = "soma"  # of the postsynaptic neuron, where the synapse sits


class Neuron(Protocol):
    """Turns a drive into an activity; knows the gain of that step, d value / d drive."""

    def init(self, drive: Tensor, generator: torch.Generator | None = None) -> Any:
        """State at rest for a drive of this shape [B, *size], dtype and device; noise from `generator`."""
        ...

    def step(self, state: Any, drive: Tensor, dt: float) -> tuple[Activity, Any]:
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

    def filters(self, dt: float) -> tuple[float, ...]:
        """Decays per step of the cascade of filters between drive and potential; () if there is none.

        Raises:
            ValueError: if the way from the drive to the potential is not such a cascade.
        """
        ...

    def flow(self, state: Any, activity: Activity, dt: float) -> Flow:
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
class Adaptive(Neuron, Protocol):
    """A neuron that measures every batch it learns from, and works with what it remembers of them when it does not.

    The network keeps that memory, a NamedTuple of tensors, and the learner brings it up to date.
    """

    def init_moments(self, size: tuple[int, ...]) -> Any:
        """The memory of a population of this size before any learning."""
        ...

    def update_moments(self, moments: Any, activity: Activity, share: float) -> Any:
        """The memory after a step that stands for `share` of a batch."""
        ...

    def with_moments(self, moments: Any) -> Neuron:
        """The neuron that works with the memory."""
        ...


@runtime_checkable
class Compartmental(Protocol):
    """A neuron with compartments: its `step` takes the drive of each by name, {compartment: [B, *size]}."""

    @property
    def compartments(self) -> tuple[Compartment, ...]:
        """Where its synapses can sit."""
        ...


@runtime_checkable
class Stochastic(Protocol):
    """A neuron that draws its spikes, and knows how unlikely they were."""

    def surprise(self, activity: Activity) -> Tensor:
        """d log P(spikes) / d drive of this step, [B, *size]."""
        ...


class Expansion(Protocol):
    """A block of further columns for the score: as the score's own, their conditional mean is 0 at the optimum.

    Its state lives as long as the experiment and is checkpointed with it.
    """

    @property
    def weight(self) -> float:
        """How loud it is beside the score, >= 0."""
        ...

    def width(self, broadcast: Broadcast) -> int:
        """D, its number of columns."""
        ...

    def init(self, broadcast: Broadcast, generator: torch.Generator) -> Any:
        """State before any learning; random parts are drawn from `generator`.

        Raises:
            ValueError: if the mean would not be 0 for this loss, or nothing would be added.
        """
        ...

    def step(self, state: Any, broadcast: Broadcast, dt: float) -> tuple[Tensor, Any]:
        """Columns [B, D] of this step, of any scale; as the score they carry 1/B."""
        ...


class Homeostasis(Protocol):
    """Keeps a hidden population alive by its own activity, without hearing the loss.

    Its state lives as long as the experiment and is checkpointed with it.
    """

    def init(self, value: Tensor, generator: torch.Generator) -> Any:
        """State before any learning, for activities like `value` [B, *size]."""
        ...

    def step(self, state: Any, value: Tensor, share: float) -> tuple[Tensor, Any]:
        """d cost / d value of every unit, to be descended, a mean over the batch: each row carries 1/B, [B, *size].

        `share` is the part of a batch that this step stands for.
        """
        ...


class Upkeep(Protocol):
    """Keeps the synapses of a hidden connection fit by their own weights, without seeing any activity.

    Its state lives as long as the experiment and is checkpointed with it.
    """

    def init(self, synapses: Synapses) -> Any:
        """State before any learning, for synapses like these."""
        ...

    def step(self, state: Any, synapses: Synapses, present: Tensor | None) -> tuple[Synapses | None, Any]:
        """d cost / d synapses of a batch, to be descended; it belongs to the state. None if there is none.

        `present` is 1 where there is a synapse, 0 where not, like the weight; None if all are there.
        """
        ...


class Neuromodulator(Protocol):
    """Turns the broadcast score into one third factor per unit of a population.

    Its state lives as long as the experiment and is checkpointed with it.
    """

    def init(self, receiver: Receiver, broadcast: Broadcast, generator: torch.Generator) -> Any:
        """State before any learning; random parts are drawn from `generator`."""
        ...

    def step(self, state: Any, receiver: Receiver, broadcast: Broadcast, dt: float) -> tuple[Tensor, Any]:
        """Signal [B, *size] for the receiver."""
        ...

    def projection(self, state: Any) -> Tensor | None:
        """What the score or reward is projected by at this moment, [C, units or channels]; None if by nothing of its
        own."""
        ...


@runtime_checkable
class Correlating(Protocol):
    """A neuromodulator that keeps the correlation R of score and activity, and so knows its cost 1/2 ||R||^2."""

    def correlated(self, state: Any, receiver: Receiver) -> Tensor:
        """d cost / d score, times the batch: the activity of every example through R, [B, C + D]."""
        ...


class Plasticity(Protocol):
    """Turns local quantities into a loss-gradient-shaped change. No learning rate in here."""

    def init(self, local: Local) -> Any:
        """Traces at the start of a run."""
        ...

    def step(self, state: Any, local: Local, dt: float) -> tuple[Synapses | None, Any]:
        """Gradient to be descended, summed over the batch, like `local.synapses`; None if there is none."""
        ...

    def eligibility(self, state: Any, local: Local, examples: Tensor) -> Tensor:
        """What a third factor would meet after this step, of some examples [E]: [E, *weight]. For looking at it.

        Raises:
            ValueError: if this plasticity keeps nothing that waits.
        """
        ...


@runtime_checkable
class Tracking(Protocol):
    """A plasticity some of whose weights follow a statistic of the activity, which is no gradient to be descended."""

    def track(self, state: Any, weight: Tensor) -> Tensor:
        """Weight after a trial that ended in `state`; the same tensor where there is nothing to follow."""
        ...


def gain(neuron: Neuron, activity: Activity, dt: float) -> Tensor:
    """d value / d drive of every unit at this step of `dt` s, [B, *size]; of coupled units, of the sum of values."""
    return neuron.gate(activity, torch.ones_like(activity.value), dt)
