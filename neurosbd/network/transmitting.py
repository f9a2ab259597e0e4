"""Connections with dynamics: what they keep, and where what they make of their arrivals enters a population."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from neurosbd.network.delays import lags_of
from neurosbd.network.populations import Connection, Population
from neurosbd.neurons.neuron import Activity, Conductances, Conducting, Neuron, NeuronState
from neurosbd.synapses import Blocked, Conductive, TransmissionState


def init_transmission(
    connection: Connection, populations: Mapping[str, Population], example: Tensor
) -> TransmissionState:
    """The state of a connection with dynamics before anything has arrived, for inputs like `example`."""
    pre, post = (example.new_zeros((len(example), *populations[end].size)) for end in (connection.pre, connection.post))
    sent, count = connection.geometry.carry(pre), max(len(lags_of(connection)), 1)
    return connection.transmission.init(torch.cat([sent] * count, 1) if count > 1 else sent, post)


def leak_time(population: Population) -> float | Tensor | None:
    """Time constant, s, of the membranes of a population, if each is one leak of its drive."""
    return getattr(population.neuron, "leak_time", None)  # asked at every step: to ask for `Leaking` takes longer


def place_of(connection: Connection, compartmental: bool) -> str:
    """Where what a connection makes of its arrivals enters a population: a compartment, or, of a conductance, which the
    membrane weighs by its potential, by itself."""
    if connection.transmission.conducts:
        return connection.name
    return connection.compartment if compartmental else "soma"


def passed(
    connection: Connection, post: Population, arriving: Tensor, states: list[TransmissionState] | None, steps: int,
    dt: float, drive: Callable[[Tensor], Tensor],
) -> Tensor:  # fmt: skip
    """What a connection makes of its arrivals in K steps: a current or a conductance, [K B, *size].

    Args:
        connection: that transmits.
        post: its post population.
        arriving: at its synapses, [K B, *arriving].
        states: of its dynamics, the last of them before these steps; those after are added. None: it has none.
        steps: K.
        dt: s.
        drive: what its weights make of arrivals.
    """
    if states is None:
        return drive(arriving)
    connection.transmission.pass_on(states, arriving, steps, dt, drive)
    return connection.transmission.value(states[-steps:], dt, leak_time(post))


class Pull(NamedTuple):
    """How a conductance acts on its post neurons."""

    reversal: float  # V, towards which it pulls
    block: Blocked | None  # what the potential leaves open of it; None: all


def conductances_of(
    populations: Mapping[str, Population], connections: Sequence[Connection]
) -> dict[str, dict[str, Pull]]:
    """The conductances onto every population that has some, by connection.

    Raises:
        ValueError: naming the connection, if its post neurons cannot have any.
    """
    found: dict[str, dict[str, Pull]] = {}
    for connection in connections:
        neuron, synapse = populations[connection.post].neuron, connection.synapse
        if not isinstance(synapse, Conductive):
            continue
        where = f"connection '{connection.name}'"
        if not isinstance(neuron, Conducting):
            raise ValueError(
                f"{where}: conductances need the potential of a membrane, which {type(neuron).__name__} neurons do not "
                f"offer; take 'lif', 'alif', 'adex' or 'hodgkin_huxley', or a current, such as synapse = 'exponential'"
            )
        try:
            neuron.check_volts()
        except ValueError as problem:
            raise ValueError(f"{where}: {problem}") from None
        block = synapse if isinstance(synapse, Blocked) else None
        found.setdefault(connection.post, {})[connection.name] = Pull(synapse.reversal, block)
    return found


def check_weights(connection: Connection, weight: Tensor) -> None:
    """Raise ValueError of a conductance that starts with weights below 0."""
    if connection.transmission.conducts and (weight < 0).any():
        raise ValueError(
            f"connection '{connection.name}': a conductance cannot be negative, but of its weights the smallest is "
            f"{weight.min().item():.3g}; take weight = {{ kind = 'uniform', low = 0.0, high = 0.1 }}, say, and "
            f"inhibit by a reversal potential below the resting one"
        )


def conducted(
    neuron: Neuron, state: NeuronState, pulls: Mapping[str, Pull], drives: Mapping[str, Tensor], dt: float
) -> tuple[Activity, NeuronState]:
    """One step of neurons with conductances.

    Args:
        neuron: of the population.
        state: of it.
        pulls: of its conductances, by connection.
        drives: the current, 'soma', if there is any, and g of every connection.
        dt: s.
    """
    neuron = cast(Conducting, neuron)  # asked when the network was built; to ask at every step takes 20 us
    opened = {name: drives[name] for name in pulls}
    if any(pull.block is not None for pull in pulls.values()):
        v = neuron.membrane(state)
        opened = {n: g if (block := pulls[n].block) is None else g * block.unblocked(v) for n, g in opened.items()}
    (first, total), *others = opened.items()
    pull = total * pulls[first].reversal
    for name, g in others:
        total, pull = total + g, torch.add(pull, g, alpha=pulls[name].reversal)
    soma = drives.get("soma")
    return neuron.conduct(state, torch.zeros_like(total) if soma is None else soma, Conductances(total, pull), dt)
