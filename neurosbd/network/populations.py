"""What a network is made of: populations and the connections between them; what carries it from step to step."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from neurosbd.axes import Axes, AxisName, named
from neurosbd.connections import Geometry
from neurosbd.constraints import Constraint
from neurosbd.neurons.fused import fused as fused_neuron
from neurosbd.neurons.neuron import Activity, Compartment, Compartmental, Neuron, NeuronState
from neurosbd.schema.constants import Distribution
from neurosbd.synapses import Delta, ShortTerm, Synapse, Transmission, TransmissionState

INPUT = "input"  # the population that is clamped to the data
Role = Literal["readout", "head"]


@dataclass(frozen=True)
class Population:
    """Units of one kind. `neuron` is None for the population named 'input', which shows the data.

    One population is the readout: what it sends is the output of the network, and the loss judges it. Without a role
    it is the last one that is no head; a loss judges that only where it is the one population that feeds no other.
    Heads are judged by the same loss and targets, by themselves; they feed nothing.
    """

    name: str
    size: tuple[int, ...]
    neuron: Neuron | None
    axes: tuple[AxisName, ...] | None = None  # what `size` counts; None: units, or channels, height and width
    role: Role | None = None  # what it is for, if not for other populations
    dropout: float = 0.0  # share of its units that send nothing in a run while the network learns, 0 <= dropout < 1

    @property
    def named_axes(self) -> Axes:
        """Its axes, each with its name; ValueError if its size has others."""
        return named(self.size, self.axes)


@dataclass(frozen=True)
class Connection:
    """Synapses from one population onto another; `plastic` says whether they learn."""

    pre: str
    post: str
    geometry: Geometry
    plastic: bool = True
    delay: int | float | str | Distribution | None = None  # on the way: steps; a time in s, '1.5 ms'; what a time is
    # drawn from for every synapse; None: as short as the order of the populations allows
    compartment: Compartment = "soma"  # where the synapses sit; a neuron without compartments adds all up
    constraints: tuple[Constraint, ...] = ()  # what the weights obey, whatever learns them, in this order
    plasticity: object | None = None  # an entry of PLASTICITIES that its synapses follow; None: that of the rule
    label: str | None = None  # tells it from others between the same two populations
    synapse: Synapse = field(default_factory=Delta)  # how long what arrives is felt, and as what
    short_term: ShortTerm | None = None  # what the spikes before leave of a spike; None: all of it

    @property
    def transmission(self) -> Transmission:
        """Its dynamics."""
        return Transmission(self.synapse, self.short_term)

    @cached_property
    def name(self) -> str:
        """'pre->post', with its label 'pre->post (label)'."""
        return connection_name(self.pre, self.post, self.label)


def connection_name(pre: str, post: str, label: str | None) -> str:
    """'pre->post', with a label 'pre->post (label)'."""
    return f"{pre}->{post}" if label is None else f"{pre}->{post} ({label})"


class State(NamedTuple):
    """All that the next step needs to know."""

    neurons: dict[str, NeuronState]  # state of each population
    underway: dict[str, tuple[Tensor, ...]]  # what is on its way through connections with a delay, next one first
    sent: Mapping[str, Tensor] = MappingProxyType({})  # of populations with dropout, see `draw_sent`
    synapses: Mapping[str, TransmissionState] = MappingProxyType({})  # of connections with dynamics of their own


class Frame(NamedTuple):
    """One step of a network.

    `state` carries the dynamics. `activity` and `carried` are for the observers of this step; the
    dynamics never reads them again, so an observer may take entries out to free their memory.
    """

    state: State
    activity: dict[str, Activity]  # population -> what it shows
    carried: dict[str, Tensor]  # connection -> what arrived at its synapses


def with_fused_neuron(population: Population, like: Tensor) -> Population:
    """The population whose neurons take each step in one kernel, where that gains; `like` has their type and place."""
    if population.neuron is None:
        return population
    silent = population.named_axes.silence(like, 1)
    return replace(population, neuron=fused_neuron(population.neuron, population.name, silent))


def readout_of(roles: Mapping[str, Role | None]) -> str:
    """The population whose role is 'readout'; without one the last that is no head.

    Args:
        roles: of all populations, by name, in their order.
    Raises:
        ValueError: if there are several, or none is left.
    """
    declared = [name for name, role in roles.items() if role == "readout"]
    if len(declared) > 1:
        raise ValueError(
            f"populations '{declared[0]}' and '{declared[1]}' both have role = 'readout', but a network has one; "
            f"a population that is judged by itself has role = 'head'"
        )
    left = declared or [name for name, role in roles.items() if role is None and name != INPUT]
    if not left:
        raise ValueError("no population is the readout: beside 'input' there are only heads; give one role = 'readout'")
    return left[-1]


def spikes(population: Population) -> bool:
    """Whether what a population sends are spikes."""
    neuron = population.neuron
    if neuron is None or isinstance(neuron, Compartmental):
        return False
    return hasattr(neuron.init(torch.zeros(1, *population.size), torch.Generator()), "spike")
