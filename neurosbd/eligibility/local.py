"""Everything that a synapse may use to learn: what arrives, what is eligible, what is local."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from neurosbd.connections.sides import Sides
from neurosbd.connections.synapses import Synapses, is_matrix
from neurosbd.neurons.neuron import Activity, Compartment, Neuron, NeuronState, gated

MATRIX = Sides()


class Site(NamedTuple):
    """Where the synapses of a connection sit, as it is known before anything runs."""

    synapses: Synapses  # own weight and bias
    size: tuple[int, ...]  # of the postsynaptic population
    neuron: Neuron  # of that population
    compartment: Compartment  # of that neuron
    kappa: float | None  # decay of the readout per step; None if there is not one for all its units
    dt: float  # duration of a step, s
    sides: Sides = MATRIX  # of the synapses, where each joins two units

    @property
    def joins_pairs(self) -> bool:
        """Whether every weight joins two single values, so that an eligibility can be one number per weight and
        example."""
        return (self.sides.listed or is_matrix(self.synapses.weight)) and not self.size[1:]


@runtime_checkable
class Selective(Protocol):
    """A plasticity or an eligibility that does not work at every site. One without `check` works wherever it runs."""

    def check(self, site: Site) -> None:
        """Raise ValueError, with what would do, unless it works there; nothing is run."""
        ...


class Arrival(NamedTuple):
    """What an eligibility is made of, at one connection and step; or at a block of K steps, where the first axis of
    `pre` and `post` counts steps times examples, step by step."""

    pre: Tensor  # what arrived at the synapses, after pooling, [B, *arriving]
    neuron: "Neuron"  # of the postsynaptic population
    state: NeuronState  # of that neuron, after this step
    post: Activity  # activity of the postsynaptic population
    synapses: Synapses  # own weight and bias
    outer: Callable[[Tensor, Tensor], Synapses]  # (post factor, pre factor) -> like synapses
    each: Callable[..., Tensor]  # (posts [K, B, *size], pres [K, B, *arriving]) -> sum_k post x pre per example,
    # [B, *weight]; (posts, pres, e, kept) -> kept e + that, in place of e
    states: Sequence[NeuronState] = ()  # of that neuron, after every step of a block
    sides: Sides = MATRIX  # how values of units stand beside the weights, where each joins two units

    @property
    def steps(self) -> int:
        """K."""
        return len(self.states) or 1

    def gate(self, dt: float) -> Callable[[Tensor], Tensor]:
        """third factor -> third factor x gain of the post units, [K B, *size]."""
        return partial(gated, self.neuron, self.post, dt=dt)


class Eligible(Protocol):
    """d value[b, i] / d weight[i, j] at one step, as far as it is known locally; factored or per synapse."""

    @property
    def trace(self) -> Tensor:
        """Presynaptic activity as the postsynaptic membrane filtered it, [B, *arriving]."""
        ...

    def contract(self, third_factor: Tensor) -> Synapses:
        """sum_b third_factor[b, i] e[b, i, j], like the synapses; third factor is [B, *size]."""
        ...

    def onto(self, pending: Synapses, kept: float) -> Synapses:
        """kept pending + e per synapse, weight [B, *weight], bias [B, post], of one step; where all join two."""
        ...

    def each(self, weights: Sequence[float]) -> Synapses:
        """sum_k weights[k] e[k] over the steps of a block, per example and synapse, weight [B, *weight], bias
        [B, post]; where synapses join two units."""
        ...

    def of(self, examples: Tensor, local: "Local") -> Tensor:
        """e of some examples [E] multiplied out, [E, *weight]."""
        ...


def membrane_of(state: object) -> Tensor | None:
    """The potential `v` in the state of a neuron, [B, *size]; None if it has none."""
    return getattr(state, "v", None)


class Local(NamedTuple):
    """Everything a synapse may use to learn. What is not in here is not local."""

    pre: Tensor  # what arrived at the synapses, after pooling, [B, *arriving]
    post: Activity  # activity of the postsynaptic population
    third_factor: Tensor | None  # third factor of the postsynaptic population, [B, *size]; None: silence at this step
    synapses: Synapses  # own weight and bias
    eligible: Eligible  # what the synapse did to the postsynaptic value
    outer: Callable[[Tensor, Tensor], Synapses]  # (post factor, pre factor) -> like synapses
    each: Callable[..., Tensor]  # as in `Arrival`
    surprise: Callable[[], Tensor]  # d log P(spikes) / d drive of the post population, [B, *size]
    kappa: float | None  # decay of the readout per step: how long a spike is felt there; None if there is not one
    compartment: Compartment = "soma"  # of the postsynaptic neuron, where the synapse sits
    steps: int = 1  # K, of a block, where the first axis of all that is [B, ..] counts steps times examples
    membrane: Tensor | None = None  # of the postsynaptic neurons after this step, before the reset of its spikes,
    # [B, *size]; of the last step of a block; None if they have none
    sides: Sides = MATRIX  # as in `Arrival`
    rate: float | Tensor | None = 1.0  # of learning: what a gradient of 1 takes off the weight; None: nobody can say
