"""One step of a network population by population, holding no more activity than is still needed."""

from collections.abc import Iterator

from torch import Tensor

from neurosbd.network.dropout import thinned
from neurosbd.network.network import INPUT, Frame, Network
from neurosbd.neurons.neuron import Activity


def upward(network: Network, before: Frame, x: Tensor, until: str) -> Iterator[tuple[str, Frame]]:
    """Every population as soon as it is updated, with the frame as far as it goes; activity leaves it when no other
    population needs it.

    The values are those of `network.step`; of a network without delays, compartments and states.

    Args:
        network: that takes the step.
        before: the frame before it.
        x: of the input, [B, *input size].
        until: last population to be updated.
    """
    frame = Frame(before.state, {INPUT: Activity(x, x)}, {})
    order = list(network.incoming)
    last = {c.pre: order.index(c.post) for name in order for c in network.incoming[name]}
    for place, name in enumerate(order):
        neuron = network.populations[name].neuron
        assert neuron is not None
        shown, _ = neuron.step(before.state.neurons[name], _drive(network, frame, name), network.dt)
        frame.activity[name] = thinned(shown, before.state.sent.get(name))
        del shown
        yield name, frame
        if name == until:
            return
        for connection in network.incoming[name]:
            del frame.carried[connection.name]
        for pre in [pre for pre, post in last.items() if post == place]:
            del frame.activity[pre]


def _drive(network: Network, frame: Frame, name: str) -> Tensor:
    """Of a population, [B, *size]; what has arrived at its synapses enters the frame."""
    total: Tensor | None = None
    for connection in network.incoming[name]:
        frame.carried[connection.name] = connection.geometry.carry(frame.activity[connection.pre].value)
        part = connection.geometry.drive(network.synapses(connection), frame.carried[connection.name])
        total = part if total is None else total + part
    assert total is not None
    return total
