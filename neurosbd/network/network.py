"""Networks: populations joined by connections; an nn.Module that owns the weights.

The network is a description plus parameters. It holds no activity: `step` maps a frame to the next.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from neurosbd.answers import Answer, Mean
from neurosbd.connections.synapses import Synapses
from neurosbd.constraints import Constraint, Held, Mask, buffer_name, change_mask, hold, obey, with_mask
from neurosbd.errors import UsageError, nearest, warn
from neurosbd.network import checks, storage
from neurosbd.network.delays import arriving, ends_of, shortest_of
from neurosbd.network.dropout import draw_sent, thinned
from neurosbd.network.inputs import check_inputs, first_step_only, moments_of_before
from neurosbd.network.populations import INPUT, Connection, Frame, Population, State, readout_of, with_fused_neuron
from neurosbd.network.summary import Summary, summarise
from neurosbd.network.synapse_lists import SynapseLists
from neurosbd.network.transmitting import check_weights, conductances_of, conducted, init_transmission, passed, place_of
from neurosbd.network.unit_constants import UnitConstants
from neurosbd.neurons.neuron import Activity, Adaptive, Compartmental, NeuronState, Total
from neurosbd.neurons.step_length import check_step_length
from neurosbd.schema.constants import positive
from neurosbd.synapses import TransmissionState

__all__ = ["INPUT", "Connection", "Frame", "Network", "Population", "State"]

_MEAN = Mean()


class Network(nn.Module):
    """Populations in their order of update, and the weights between them.

    A connection from an earlier population is felt in the same step, any other (lateral, recurrent, feedback)
    one step later, so a feed-forward rate network is complete after one step. `Connection.delay` makes it more.

    Args:
        populations: in order of update; 'input', if there is one, is the first; the readout has that role, or is the
            last but for heads.
        connections: any number between them.
        generator: source of the initial weights, masks, and constants that differ between neurons.
        dt: duration of a step, s.
        answer: how an answer is read off the readout over the steps of a trial, see ANSWERS.
        block: steps that are taken at once, >= 1, a choice of speed and memory; None: as many as suit the memory.
        fused: whether steps of neurons with many operations are compiled, see docs/speed.md.
    Raises:
        ValueError: if a name is unknown or repeated, sizes do not fit, a part is of another kind, or dt is no positive
            time. Warns of times that are short beside dt or no whole steps.
    """

    def __init__(
        self,
        populations: Sequence[Population],
        connections: Sequence[Connection],
        generator: torch.Generator,
        dt: float = 1e-3,
        answer: Answer = _MEAN,
        block: int | None = None,
        fused: bool = False,
    ) -> None:
        super().__init__()
        order = checks.checked(populations, connections, generator)
        storage.check_room(populations, connections)
        self.dt = positive(dt, "dt, the duration of a step in s,")
        self._constants = UnitConstants(self)
        self.populations = {p.name: self._constants.drawn(p, generator) for p in populations}
        for name, population in self.populations.items():
            check_step_length(population.neuron, self.dt, f"population '{name}'")
        self.adaptive = {n: p.neuron for n, p in self.populations.items() if isinstance(p.neuron, Adaptive)}
        self._moments = {n: neuron.init_moments(self.populations[n].size) for n, neuron in self.adaptive.items()}
        for name, moments in self._moments.items():
            for key, value in moments._asdict().items():
                self.register_buffer(f"memory:{name}:{key}", value)
        self.like: Tensor  # its type and device are those of all that the network takes and gives
        self.register_buffer("like", torch.zeros(0), persistent=False)
        self.readout = readout_of({p.name: p.role for p in populations})
        self.heads = tuple(p.name for p in populations if p.role == "head")
        for population in (p for p in populations if p.name in (self.readout, *self.heads)):
            self.answer = checks.checked_answer(answer, population)
        self.block, self.fused = checks.checked_block(block), fused
        self.compartmental = {p.name for p in populations if isinstance(p.neuron, Compartmental)}
        self.transmissions = {c.name: c.transmission for c in connections if c.transmission.lasts}
        self.conductances = conductances_of(self.populations, connections)
        self.places = {c.name: place_of(c, c.post in self.compartmental) for c in connections}
        self.delays = {c.name: shortest_of(c, order[c.pre] >= order[c.post], self.dt) for c in connections}
        self._told_of_time = False
        self._total: Total | None = None  # over the processes that share a batch; None: there is one
        self.moments_pending = False  # whether a learner has measured what adaptive neurons do not remember yet
        self.weights, self.biases = nn.ParameterDict(), nn.ParameterDict()
        self._held: dict[str, list[tuple[Constraint, type]]] = {}  # constraints, a mask first, and what kind they keep
        self.postponed: tuple[type, ...] = ()  # constraints that whoever runs the network applies now and then
        self._pruned: set[str] = set()  # connections whose mask has changed, so that old momentum moves what is absent
        self._lists, self.rewired = SynapseLists(self), 0
        self.connections = {c.name: self._grown(c, generator) for c in connections}
        self.incoming: dict[str, list[Connection]] = {name: [] for name in order if name != INPUT}
        self._move_lists()
        self.train()

    def _grown(self, connection: Connection, generator: torch.Generator) -> Connection:
        pre, post, name = self.populations[connection.pre], self.populations[connection.post], connection.name
        connection, (weight, bias), present = storage.started(connection, pre, post, generator, self.dt)
        self._lists.keep(connection)
        check_weights(connection, weight)
        axes = connection.geometry.axes(tuple(weight.shape), pre.size)
        held = hold(with_mask(connection.constraints, present), weight, axes, generator, f"connection '{name}'")
        self._held[name] = [(constraint, type(state)) for constraint, state in held]
        for number, (constraint, state) in enumerate(held):
            for field, value in state._asdict().items():
                self.register_buffer(buffer_name(name, number, constraint, field), value)
        self.weights[name] = nn.Parameter(weight, requires_grad=connection.plastic)
        if bias is not None:
            self.biases[name] = nn.Parameter(bias, requires_grad=connection.plastic)
        return connection

    def held(self, name: str) -> list[Held]:
        """The constraints of a connection, its mask first, with what they keep."""
        found = []
        for number, (constraint, kind) in enumerate(self._held[name]):
            kept = (self._buffers[buffer_name(name, number, constraint, field)] for field in kind._fields)
            found.append(Held(constraint, kind(*kept)))
        return found

    @property
    def constrained(self) -> bool:
        """Whether some weights have constraints besides masks, so that steps of an optimizer can leave them."""
        return any(not isinstance(constraint, Mask) for held in self._held.values() for constraint, _ in held)

    @torch.no_grad()
    def constrain(self, also: Mapping[str, Held] = MappingProxyType({}), names: Iterable[str] | None = None) -> None:
        """Bring weights back to where their constraints allow them. Whatever moves weights calls it, with any rule.

        Args:
            also: connection -> a constraint that is not its own but the rule's, such as the bounds of an STDP window.
            names: of connections; None: all.
        """
        for name in self.weights if names is None else names:
            own = (each for each in self.held(name) if not isinstance(each.constraint, self.postponed))
            obey(self.weights[name], [*own, *filter(None, [also.get(name)])], self.present(self.connections[name]))

    def constrain_step(self, also: Mapping[str, Held] = MappingProxyType({}), without: Iterable[str] = ()) -> None:
        """The same after a step along masked gradients. It moves no absent synapse, so that a mask alone costs nothing,
        unless it has changed and the optimizer has momentum of before. Nor is `without` looked at, which obeys."""
        lax = {name for name, held in self._held.items() if any(not isinstance(c, Mask) for c, _ in held)}
        self.constrain(also, {*lax, *also, *self._pruned}.difference(without))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *more: object, **named: object) -> None:
        for name, connection in self.connections.items():
            present, given = self.present(connection), state_dict.get(f"{prefix}present:{name}")
            if present is not None and given is not None and not torch.equal(present, given.to(present)):
                self._pruned.add(name)
        self.take_lists(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *more, **named)

    def take_lists(self, state_dict: Mapping[str, Tensor], prefix: str = "") -> None:
        """Make room for the synapses of another network of these populations, where they are listed.

        Args:
            state_dict: of that network.
            prefix: of its keys.
        Raises:
            UsageError: if the lists are of other populations; nothing has changed then.
        """
        self._lists.adopt(state_dict, prefix, self.connections.values(), self.weights)
        self._move_lists()

    def _move_lists(self) -> None:
        """Connections have the lists of their synapses where those are now, and nobody has planned with them."""
        self.rewired += 1
        self.connections |= {name: self._lists.moved(each) for name, each in self.connections.items()}
        self.delays, self.longest = ends_of(self.connections.values(), self.delays)
        for name, onto in self.incoming.items():
            onto[:] = [connection for connection in self.connections.values() if connection.post == name]

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Gradients of absent synapses become 0: once they are all in `.grad`, and before a norm is taken of them."""
        for name in self.connections:
            present, gradient = self.present(self.connections[name]), self.weights[name].grad
            if present is not None and gradient is not None:
                gradient.mul_(present)

    @torch.no_grad()
    def prune(self, name: str, present: Tensor) -> None:
        """Change which synapses of a connection with a mask are there; one that comes back starts at 0.

        Args:
            name: of the connection, 'pre->post'.
            present: 1 or True where there is a synapse, 0 where not, like the weight.
        Raises:
            UsageError: if there is no such connection, it has no mask, or `present` does not fit; nothing has changed.
        """
        if name not in self.connections:
            raise UsageError(f"no connection '{name}'{nearest(name, self.connections)}")
        change_mask(self.present(self.connections[name]), present, f"connection '{name}'")
        self._pruned.add(name)
        self.constrain()

    def synapses(self, connection: Connection) -> Synapses:
        """The parameters of a connection."""
        name = connection.name
        return Synapses(self.weights[name], self.biases[name] if connection.geometry.bias else None)

    def present(self, connection: Connection) -> Tensor | None:
        """1 where a connection has a synapse, 0 where not, like its weight; None if it is complete. In the type of the
        weight, since multiplying by it is 30 times faster than filling by a boolean mask."""
        return self._buffers.get(f"present:{connection.name}")

    def moments(self, name: str) -> Any:
        """What the neurons of an adaptive population remember; a NamedTuple of tensors."""
        kind = self._moments[name]
        return type(kind)(*(self._buffers[f"memory:{name}:{key}"] for key in kind._fields))

    def set_moments(self, measured: Mapping[str, tuple[Tensor, ...]]) -> None:
        """Put memories of adaptive populations in the place of those there are."""
        for name, moments in measured.items():
            for present, new in zip(self.moments(name), moments, strict=True):
                present.copy_(new)

    def train(self, mode: bool = True) -> "Network":
        """Whether the network learns: adaptive neurons measure every batch then, else they only remember."""
        super().train(mode)
        if self.moments_pending and self.adaptive and not mode:
            self.moments_pending = False
            warn(moments_of_before(self.adaptive))
        for name, neuron in self.adaptive.items():
            moments = self.moments(name)
            acting = neuron.learning(moments, self._total) if mode else neuron.with_moments(moments)
            self.populations[name] = replace(self.populations[name], neuron=acting)
        if self.fused:
            self.populations = {name: with_fused_neuron(each, self.like) for name, each in self.populations.items()}
        return self

    def share(self, total: Total) -> None:
        """From now on the examples of a batch are spread over processes, whose sums `total` gives."""
        self._total = total
        self.train(self.training)

    def summary(self) -> Summary:
        """Populations, shapes, parameters, and multiplications per example and step; printed, two tables.

        >>> import neurosbd
        >>> neurosbd.load_model("digits-mlp").network().summary().multiplications
        17024
        """
        parameters = {name: [p for p in self.synapses(c) if p is not None] for name, c in self.connections.items()}
        roles = {INPUT: "input", self.readout: "readout", **dict.fromkeys(self.heads, "head")}
        return summarise(self.populations, self.connections, parameters, roles)

    def __repr__(self) -> str:
        return f"Network({self.summary().line})"

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def init(self, example: Tensor, generator: torch.Generator | None = None) -> Frame:
        """Frame before the first step, for inputs like `example` [B, *input size]: all at rest. Neurons with noise
        draw its key from `generator`, and so does dropout while the network learns."""
        neurons, underway = {}, {}
        for name in self.incoming:
            population = self.populations[name]
            assert population.neuron is not None
            neurons[name] = population.neuron.init(population.named_axes.silence(example, len(example)), generator)
        for name, delay in self.longest.items():
            if delay:
                connection = self.connections[name]
                silence = example.new_zeros((len(example), *self.populations[connection.pre].size))
                underway[name] = (connection.geometry.carry(silence),) * delay
        sent = draw_sent(self.populations, example, generator) if self.training else {}
        synapses = {n: init_transmission(self.connections[n], self.populations, example) for n in self.transmissions}
        return Frame(State(neurons, underway, sent, synapses), {}, {})

    def step(self, frame: Frame, x: Tensor, extra: Mapping[str, Tensor] | None = None) -> Frame:
        """Clamp the input to `x` [B, *input size] and update every population once, in order.

        Args:
            frame: the step before.
            x: of the input.
            extra: added to the drive of populations (of the soma, where there are compartments), {name: [B, *size]}:
                teachers, nudges, noise, currents; none: nothing.
        Raises:
            ValueError: if the batch size is not the one of the frame.
        """
        checks.check_examples(frame.state, x)
        if extra is not None and (unknown := extra.keys() - self.incoming.keys()):
            raise ValueError(f"there is no population {unknown} to drive; legal are {', '.join(self.incoming)}")
        activity = {INPUT: Activity(x, x)} if INPUT in self.populations else {}
        carried: dict[str, Tensor] = {}
        neurons: dict[str, NeuronState] = {}
        synapses = {name: [state] for name, state in frame.state.synapses.items()}
        for name, connections in self.incoming.items():
            for connection in connections:
                if way := frame.state.underway.get(connection.name):
                    carried[connection.name] = arriving(connection, way, self.longest[connection.name])
                else:
                    carried[connection.name] = connection.geometry.carry(activity[connection.pre].value)
            drives = self.add_drives({}, connections, carried, synapses)
            self.add_given(drives, name, None if extra is None else extra.get(name), len(x))
            state, sent = frame.state.neurons[name], frame.state.sent.get(name)
            activity[name], neurons[name] = self.step_neurons(name, state, drives, sent)
        underway = {}
        for name, queue in frame.state.underway.items():
            connection = self.connections[name]
            underway[name] = (*queue[1:], connection.geometry.carry(activity[connection.pre].value))
        left = {name: states[-1] for name, states in synapses.items()}
        return Frame(State(neurons, underway, frame.state.sent, left), activity, carried)

    def add_drives(
        self, drives: dict[str, Tensor], connections: Iterable[Connection], carried: Mapping[str, Tensor],
        synapses: Mapping[str, list[TransmissionState]], steps: int = 1,
    ) -> dict[str, Tensor]:  # fmt: skip
        """The drive of each compartment of a population, and what comes through these connections added to it.

        Args:
            drives: so far, [K B, *size] each; changed. A conductance is kept by the name of its connection.
            connections: onto one population.
            carried: what arrived at their synapses, [K B, *arriving], by connection.
            synapses: states of connections with dynamics, the last of them before these steps; those after are added.
            steps: K.
        """
        for connection in connections:
            arriving = carried[connection.name]
            if connection.post in self.heads:  # what a head costs is its own
                arriving = arriving.detach()
            drive, states = partial(connection.geometry.drive, self.synapses(connection)), synapses.get(connection.name)
            part = passed(connection, self.populations[connection.post], arriving, states, steps, self.dt, drive)
            place = self.places[connection.name]
            drives[place] = drives[place] + part if place in drives else part
        return drives

    def add_given(self, drives: dict[str, Tensor], name: str, given: Tensor | None, rows: int) -> None:
        """Add to the drives of a population, of so many rows, what is given from outside the network, or no drive."""
        if given is not None:
            drives["soma"] = drives["soma"] + given if "soma" in drives else given
        elif not drives:
            drives["soma"] = self.like.new_zeros((rows, *self.populations[name].size))

    def step_neurons(
        self, name: str, state: NeuronState, drives: Mapping[str, Tensor], sent: Tensor | None
    ) -> tuple[Activity, NeuronState]:
        """One step of the neurons of a population under the drives of their compartments; `sent` is its dropout."""
        neuron = self.populations[name].neuron
        assert neuron is not None
        if name in self.conductances:
            shown, state = conducted(neuron, state, self.conductances[name], drives, self.dt)
        else:
            drive: Any = drives if name in self.compartmental else drives["soma"]
            shown, state = neuron.step(state, drive, self.dt)
        return thinned(shown, sent), state

    def _apply(self, fn: object, recurse: bool = True) -> "Network":
        """Constants that are tensors move with the weights; in a wider type they are again what they were given as."""
        given = self._constants.unrounded()
        super()._apply(fn, recurse)
        self._constants.restore(given)
        self.populations |= {name: self._constants.moved(each) for name, each in self.populations.items()}
        self._move_lists()
        return self.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        """Readout after one step from rest, [B, C]: what a feed-forward rate network computes.

        Of any other it is the first step only, which is said once per network: `Run.predict` shows examples for all
        steps of a run, `unroll` any inputs over time.

        Args:
            x: [B, *input size], as the network sees it: normalised, in the type of the weights.
        Raises:
            UsageError: if `x` is anything else.
        """
        self.check_shown(x)
        frame = self.step(self.init(x), x)
        lasting = [name for name, state in frame.state.neurons.items() if state]
        if (lasting or frame.state.underway) and not self._told_of_time:
            self._told_of_time = True
            warn(first_step_only(lasting), stacklevel=5)
        return frame.activity[self.readout].value

    @property
    def input_size(self) -> tuple[int, ...]:
        """Size of what is shown; of a network without an input population, which is shown nothing, (0,)."""
        return self.populations[INPUT].size if INPUT in self.populations else (0,)

    def check_shown(self, x: object, steps: bool = False) -> None:
        """Refuse what cannot be shown to this network; the values are not looked at.

        Args:
            x: must be [B, *input size], in the type and on the device of the weights.
            steps: whether it has an axis of steps before: [T, B, *input size].
        Raises:
            UsageError: with what is there, what is wanted, and how to get it.
        """
        check_inputs(x, self.input_size, self.like, steps)
