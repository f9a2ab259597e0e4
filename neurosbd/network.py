"""Networks: populations joined by connections; an nn.Module that owns the weights. Layer 2.

The network is a description plus parameters. It holds no activity: `step` maps a frame to the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from neurosbd.connections import Geometry
from neurosbd.process import Activity, Neuron, Synapses

INPUT = "input"  # the population that is clamped to the data


@dataclass(frozen=True)
class Population:
    """Units of one kind. `neuron` is None for the population named 'input', which shows the data."""

    name: str
    size: tuple[int, ...]
    neuron: Neuron | None


@dataclass(frozen=True)
class Connection:
    """Synapses from one population onto another; `plastic` says whether they learn."""

    pre: str
    post: str
    geometry: Geometry
    plastic: bool = True

    @property
    def name(self) -> str:
        """'pre->post'."""
        return f"{self.pre}->{self.post}"


class State(NamedTuple):
    """All that the next step needs to know."""

    neurons: dict[str, Any]  # state of each population
    arriving: dict[str, Tensor]  # what late connections deliver at the next step


class Frame(NamedTuple):
    """One step of a network.

    `state` carries the dynamics. `activity` and `carried` are for the observers of this step; the
    dynamics never reads them again, so an observer may take entries out to free their memory.
    """

    state: State
    activity: dict[str, Activity]  # population -> what it shows
    carried: dict[str, Tensor]  # connection -> what arrived at its synapses


class Network(nn.Module):
    """Populations in their order of update, and the weights between them.

    A connection from an earlier population is felt in the same step, any other one step later, so a
    feed-forward rate network is complete after one step.

    Args:
        populations: in order of update; the first is 'input', the last is the readout.
        connections: any number between them.
        generator: source of the initial weights and masks.
        dt: duration of a step, s.
    Raises:
        ValueError: if a name is unknown or repeated, a population is never driven, or sizes do not fit.
    """

    def __init__(
        self,
        populations: Sequence[Population],
        connections: Sequence[Connection],
        generator: torch.Generator,
        dt: float = 1e-3,
    ) -> None:
        super().__init__()
        order = {p.name: i for i, p in enumerate(populations)}
        _check(populations, connections, order)
        self.populations = {p.name: p for p in populations}
        self.connections = {c.name: c for c in connections}
        self.dt = dt
        self.readout = populations[-1].name
        self.incoming = {p: [c for c in connections if c.post == p] for p in order if p != INPUT}
        self.late = [c for c in connections if order[c.pre] >= order[c.post]]
        self._late_names = frozenset(c.name for c in self.late)
        self.weights = nn.ParameterDict()
        self.biases = nn.ParameterDict()
        for connection in connections:
            self._grow(connection, generator)

    def _grow(self, connection: Connection, generator: torch.Generator) -> None:
        geometry, name = connection.geometry, connection.name
        try:
            shape = geometry.weight_shape(self.populations[connection.pre].size, self.populations[connection.post].size)
        except ValueError as problem:
            raise ValueError(f"connection '{name}': {problem}") from None
        weight = geometry.weight.draw(shape, generator)
        if weight.ndim == 4:
            weight = weight.contiguous(memory_format=torch.channels_last)
        if geometry.sparsity:
            present = (torch.rand(shape, generator=generator) >= geometry.sparsity).to(weight)
            self.register_buffer(f"present:{name}", present)
            weight = weight * present
        self.weights[name] = nn.Parameter(weight, requires_grad=connection.plastic)
        if geometry.bias:
            self.biases[name] = nn.Parameter(torch.zeros(shape[0]), requires_grad=connection.plastic)

    def synapses(self, connection: Connection) -> Synapses:
        """The parameters of a connection."""
        name = connection.name
        return Synapses(self.weights[name], self.biases[name] if connection.geometry.bias else None)

    def present(self, connection: Connection) -> Tensor | None:
        """1 where a connection has a synapse, 0 where not, like its weight; None if it is complete.

        In the type of the weight, since multiplying by it is 30 times faster than filling by a boolean mask.
        """
        return self.get_buffer(f"present:{connection.name}") if connection.geometry.sparsity else None

    def init(self, example: Tensor) -> Frame:
        """Frame before the first step, for inputs like `example` [B, *input size]: all at rest."""
        neurons, arriving = {}, {}
        for name in self.incoming:
            population = self.populations[name]
            assert population.neuron is not None
            neurons[name] = population.neuron.init(example.new_zeros((len(example), *population.size)))
        for connection in self.late:
            silence = example.new_zeros((len(example), *self.populations[connection.pre].size))
            arriving[connection.name] = connection.geometry.carry(silence)
        return Frame(State(neurons, arriving), {}, {})

    def step(self, frame: Frame, x: Tensor) -> Frame:
        """Clamp the input to `x` [B, *input size] and update every population once, in order."""
        activity = {INPUT: Activity(x, x)}
        carried: dict[str, Tensor] = {}
        neurons: dict[str, Any] = {}
        for name, connections in self.incoming.items():
            drive = None
            for connection in connections:
                late = connection.name in self._late_names
                arriving = (
                    frame.state.arriving[connection.name]
                    if late
                    else connection.geometry.carry(activity[connection.pre].value)
                )
                carried[connection.name] = arriving
                part = connection.geometry.drive(self.synapses(connection), arriving)
                drive = part if drive is None else drive + part
            neuron = self.populations[name].neuron
            assert neuron is not None and drive is not None
            activity[name], neurons[name] = neuron.step(frame.state.neurons[name], drive, self.dt)
        felt_next = {c.name: c.geometry.carry(activity[c.pre].value) for c in self.late}
        return Frame(State(neurons, felt_next), activity, carried)

    def forward(self, x: Tensor) -> Tensor:
        """Readout after one step from rest, [B, C]: what a feed-forward rate network computes."""
        return self.step(self.init(x), x).activity[self.readout].value


def _check(populations: Sequence[Population], connections: Sequence[Connection], order: dict[str, int]) -> None:
    if len(order) < len(populations):
        raise ValueError(f"two populations share a name: {[p.name for p in populations]}")
    if not populations:
        raise ValueError("a network needs at least an 'input' and a readout, got no population")
    if populations[0].name != INPUT or populations[0].neuron is not None:
        raise ValueError(f"the first population must be '{INPUT}' without a neuron, got '{populations[0].name}'")
    for population in populations[1:]:
        if population.neuron is None:
            raise ValueError(f"population '{population.name}' needs a neuron")
    names = [c.name for c in connections]
    for connection in connections:
        for end in (connection.pre, connection.post):
            if end not in order:
                raise ValueError(f"connection '{connection.name}': no population '{end}'; there are {list(order)}")
        if connection.post == INPUT:
            raise ValueError(f"connection '{connection.name}': the input is clamped to the data and cannot be driven")
        if names.count(connection.name) > 1:
            raise ValueError(f"connection '{connection.name}' is declared twice")
    for name in list(order)[1:]:
        if not any(c.post == name for c in connections):
            raise ValueError(f"population '{name}' has no incoming connection")
