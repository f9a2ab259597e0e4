"""Time in blocks: K steps of a network at once, as far as nobody has to wait for anybody.

Weights do not change within a batch, so a population that hears only from earlier ones takes K steps at once: one drive
of K B examples, one scan of its neurons. Populations that hear each other go step by step inside the block. What comes
out is what K calls of `Network.step` give, up to the order of summation; K is a choice of speed and memory alone.
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.network.delays import arriving
from neurosbd.network.network import Frame, Network, State
from neurosbd.network.populations import INPUT, Connection
from neurosbd.neurons.neuron import Activity, NeuronState
from neurosbd.neurons.scan import Scan, apart, knows_scan, scan_of, together
from neurosbd.synapses import TransmissionState

MOST = 64  # steps of a block: beyond, nothing is gained by more
MEMORY = 32e6  # bytes of activity that a block may take
LARGE = 2e6  # bytes of a step that fill the caches of a processor by themselves, so that a block would leave them


class Block(NamedTuple):
    """K steps of a network. The first axis of whatever holds all of them counts steps times examples, step by step.

    `state` carries the dynamics on. The rest is for those who watch; they may take entries out to free their memory.
    """

    steps: int  # K
    state: State  # after the last of them
    scans: dict[str, Scan[NeuronState]]  # population -> what it showed
    carried: dict[str, Tensor]  # connection -> what arrived at its synapses, [K B, *arriving]
    underway: Mapping[str, Sequence[Tensor]]  # connection with a delay -> what was on its way, then what set out
    synapses: Mapping[str, Sequence[TransmissionState]]  # connection with dynamics -> states around every step

    def frames(self) -> list[Frame]:
        """The frame of every step, in views."""
        carried = {name: apart(value, self.steps) for name, value in self.carried.items()}
        return [
            Frame(
                State(
                    {name: each.states[k] for name, each in self.scans.items() if name != INPUT},
                    {name: tuple(way[k + 1 : k + 1 + len(way) - self.steps]) for name, way in self.underway.items()},
                    self.state.sent,
                    {name: states[k + 1] for name, states in self.synapses.items()},
                ),
                {name: each.steps[k] for name, each in self.scans.items()},
                {name: value[k] for name, value in carried.items()},
            )
            for k in range(self.steps)
        ]


def block_of(before: State, frame: Frame) -> Block:
    """One step of a network as a block; `before` is the state that it began with."""
    scans = {
        name: Scan(*activity[:2], (activity,), (frame.state.neurons.get(name, ()),), activity.sent)
        for name, activity in frame.activity.items()
    }
    underway = {name: (*before.underway[name], way[-1]) for name, way in frame.state.underway.items()}
    synapses = {name: (before.synapses[name], state) for name, state in frame.state.synapses.items()}
    return Block(1, frame.state, scans, frame.carried, underway, synapses)


def advance(
    network: Network, state: State, x: Tensor | Sequence[Tensor], given: Mapping[str, Tensor] = MappingProxyType({})
) -> Block:
    """Clamp the input to x[0], x[1], .. and update every population as often, in order.

    Args:
        network: that runs.
        state: before the first step.
        x: of the input, K of [B, *input size].
        given: added to the drive of populations, {name: [K, B, *size]}.
    """
    going = _Going(network, state, x, given)
    for names in stages(network, len(x)):
        going.through(names)
    after = State(
        {name: going.scans[name].states[-1] for name in network.incoming},
        {name: tuple(way[len(x) :]) for name, way in going.underway.items()},
        state.sent,
        {name: states[-1] for name, states in going.synapses.items()},
    )
    return Block(len(x), after, going.scans, going.carried, going.underway, going.synapses)


def stages(network: Network, steps: int) -> list[list[str]]:
    """Populations in their order, in groups of those that wait for each other within so many steps."""
    if steps == 1:
        return [[name] for name in network.incoming]
    place = {name: number for number, name in enumerate(network.incoming)}
    found: list[list[str]] = []
    for name in place:
        found.append([name])
        late = [c for c in network.connections.values() if c.pre == name and c.post in place]
        heard = [place[c.post] for c in late if place[c.post] <= place[name] and network.delays[c.name] < steps]
        while heard and place[found[-1][0]] > min(heard):
            last = found.pop()
            found[-1] += last
    return found


class _Going:
    """A block on its way through the populations."""

    def __init__(
        self, network: Network, state: State, x: Tensor | Sequence[Tensor], given: Mapping[str, Tensor]
    ) -> None:
        self.network = network
        self.given = given
        self.rows = len(x) * len(x[0])
        self.before = state
        self.steps = len(x)
        self.underway = {name: list(way) for name, way in state.underway.items()}
        self.synapses = {name: [before] for name, before in state.synapses.items()}
        self.carried: dict[str, Tensor] = {}
        self.scans: dict[str, Scan[NeuronState]] = {}
        if INPUT in network.populations:
            shown = x.flatten(0, 1) if isinstance(x, Tensor) else together(x)
            self._show(INPUT, Scan(shown, shown, [Activity(each, each) for each in x], ()))

    def through(self, names: Sequence[str]) -> None:
        """Update populations that wait for nobody but each other."""
        waiting = {name: [c for c in self.network.incoming[name] if self._waits(c, names)] for name in names}
        drives = {name: self._drives(name, waiting[name]) for name in names}
        if any(waiting.values()):
            self._step_by_step(waiting, {name: self._each(parts) for name, parts in drives.items()})
        else:
            (name,) = names
            self._show(name, self._scan(name, drives[name]))

    def _waits(self, connection: Connection, names: Sequence[str]) -> bool:
        """Whether what arrives becomes known only on the way through these populations."""
        return connection.pre in names and self.network.delays[connection.name] < self.steps

    def _drives(self, name: str, waiting: Sequence[Connection]) -> dict[str, Tensor]:
        """What drives a population through all other connections, [K B, *size] for each compartment."""
        known = [c for c in self.network.incoming[name] if c not in waiting]
        for c in known:
            if self.network.delays[c.name]:
                way, longest = self.underway[c.name], self.network.longest[c.name]
                self.carried[c.name] = together([arriving(c, way, longest, k) for k in range(self.steps)])
            else:
                self.carried[c.name] = c.geometry.carry(self.scans[c.pre].value)
        drives = self.network.add_drives({}, known, self.carried, self.synapses, self.steps)
        given = self.given.get(name)
        if given is not None or not waiting:
            flat = None if given is None else given.flatten(0, 1)
            self.network.add_given(drives, name, flat if known or flat is None else flat.clone(), self.rows)
        return drives

    def _each(self, drives: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Drives of every step, [B, *size] for each compartment."""
        parts: dict[str, Sequence[Tensor]] = {p: apart(drive, self.steps) for p, drive in drives.items()}
        return [{place: part[k] for place, part in parts.items()} for k in range(self.steps)]

    def _scan(self, name: str, drives: Mapping[str, Tensor]) -> Scan[NeuronState]:
        """Neurons of a population whose drives are all known."""
        network, state = self.network, self.before.neurons[name]
        neuron, sent = network.populations[name].neuron, self.before.sent.get(name)
        plain = sent is None and name not in network.conductances
        if knows_scan(neuron) and plain and not torch.is_grad_enabled():
            soma, arrived = drives["soma"], [self.carried[c.name] for c in network.incoming[name]]
            if any(soma.data_ptr() == each.data_ptr() for each in arrived):  # a geometry that lets it through as it is
                soma = soma.clone()
            found = neuron.scan(state, soma, self.steps, network.dt)
            if found is not None:
                return found
        shown: list[Activity] = []
        states: list[NeuronState] = []
        for drive in self._each(drives):
            activity, state = network.step_neurons(name, state, drive, sent)
            shown.append(activity)
            states.append(state)
        return scan_of(shown, states)

    def _step_by_step(
        self, waiting: Mapping[str, Sequence[Connection]], drives: Mapping[str, Sequence[dict[str, Tensor]]]
    ) -> None:
        """Populations that hear each other; `drives` is what they hear from others at every step."""
        shown: dict[str, list[Activity]] = {name: [] for name in waiting}
        states: dict[str, list[NeuronState]] = {name: [self.before.neurons[name]] for name in waiting}
        arrived: dict[str, list[Tensor]] = {c.name: [] for connections in waiting.values() for c in connections}
        for k in range(self.steps):
            for name, connections in waiting.items():
                now = {}
                for c in connections:
                    way = self.underway.get(c.name)
                    if way is None:
                        now[c.name] = c.geometry.carry(shown[c.pre][k].value)
                    else:
                        now[c.name] = arriving(c, way, self.network.longest[c.name], k)
                    arrived[c.name].append(now[c.name])
                parts = self.network.add_drives(drives[name][k], connections, now, self.synapses)
                sent = self.before.sent.get(name)
                activity, state = self.network.step_neurons(name, states[name][-1], parts, sent)
                shown[name].append(activity)
                states[name].append(state)
            for name in waiting:
                self._depart(name, shown[name][k].value, 1)
        self.carried |= {name: together(parts) for name, parts in arrived.items()}
        self.scans |= {name: scan_of(shown[name], states[name][1:]) for name in waiting}

    def _show(self, name: str, scan: Scan[NeuronState]) -> None:
        """What a population showed at all steps is known."""
        self.scans[name] = scan
        self._depart(name, scan.value, self.steps)

    def _depart(self, name: str, value: Tensor, steps: int) -> None:
        """What a population showed sets out on its way through connections with a delay."""
        for connection_name, way in self.underway.items():
            connection = self.network.connections[connection_name]
            if connection.pre == name:
                way.extend(apart(connection.geometry.carry(value), steps))


def automatic(network: Network, x: Tensor, steps: int) -> int:
    """How many steps a block has unless a model says so, about the same for all blocks of a run.

    Args:
        network: that runs.
        x: an input, [B, *input size].
        steps: of the run, >= 1.
    """
    units = sum(math.prod(population.size) for population in network.populations.values())
    step = x.element_size() * len(x) * units
    if step > LARGE:
        return 1
    blocks = math.ceil(steps / min(int(MEMORY / max(step, 1)), MOST))
    return math.ceil(steps / blocks)
