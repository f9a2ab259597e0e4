"""What both importers share: populations and connections with weights that are given, not drawn."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from neurosbd.connections import Conv2d, Dense, Pooling
from neurosbd.connections.sparse import Sparse
from neurosbd.learning.simulation import check_given
from neurosbd.network.network import Connection, Network, Population
from neurosbd.network.synapse_lists import list_key

MOST_UNITS = 2**28  # of one population
_MOST_RELAYED = 4096  # units or channels that a relay may join; its weight is square


@dataclass(frozen=True)
class Wire:
    """A connection and the values of its synapses; `present` is 1 where a sparse one has a synapse."""

    connection: Connection
    weight: Tensor
    bias: Tensor | None = None
    present: Tensor | None = None


def relay(pre: str, post: str, size: tuple[int, ...], pool: Pooling | None, flat: bool, delay: int | None) -> Wire:
    """A fixed connection that hands on what arrives, one to one, pooled or flattened on the way.

    Args:
        pre: population that sends.
        post: population of `size` that receives it.
        size: after pooling and flattening.
        pool: on the way.
        flat: whether maps become a vector.
        delay: in steps.
    Raises:
        ValueError: if it would need a square weight of too many units.
    """
    across = size[0]
    if across > _MOST_RELAYED:
        raise ValueError(
            f"{across} {'channels' if len(size) == 3 and not flat else 'units'} are joined one to one without weights "
            f"of their own, which takes a matrix of {across} x {across} here (at most {_MOST_RELAYED}); put weights "
            f"between them, or the neuron before the Flatten"
        )
    if len(size) == 3 and not flat:
        weight = torch.eye(size[0])[:, :, None, None]
        return Wire(Connection(pre, post, Conv2d(1, pool=pool), plastic=False, delay=delay), weight)
    return Wire(Connection(pre, post, Dense(pool=pool), plastic=False, delay=delay), torch.eye(size[0]))


def assembled(populations: Sequence[Population], wires: Sequence[Wire], dt: float) -> Network:
    """A network with these weights.

    Raises:
        ValueError: if sizes, names or shapes do not fit.
    """
    sizes = {population.name: population.size for population in populations}
    for wire in wires:  # before any weight is drawn: a damaged file may say any size
        _check_shape(wire, sizes)
    network = Network(populations, [wire.connection for wire in wires], torch.Generator(), dt)
    check_given(network, {})
    with torch.no_grad():
        for wire in map(partial(_as_stored, network), wires):
            own = network.synapses(wire.connection)
            present = network.present(wire.connection)
            for parameter, value in ((own.weight, wire.weight), (own.bias, wire.bias), (present, wire.present)):
                if parameter is not None and value is not None:
                    if parameter.shape != value.shape:
                        raise ValueError(
                            f"connection '{wire.connection.name}': a bias or mask of it has shape {list(value.shape)}; "
                            f"needed is {list(parameter.shape)}"
                        )
                    parameter.copy_(value)
    network.constrain()
    return network


def _as_stored(network: Network, wire: Wire) -> Wire:
    """The synapses that are there one by one, where the network lists them; it lists these from now on."""
    name = wire.connection.name
    if not isinstance(network.connections[name].geometry, Sparse):
        return wire
    there = torch.ones_like(wire.weight) if wire.present is None else wire.present
    if there.shape != wire.weight.shape:
        raise ValueError(
            f"connection '{name}': a mask of it has shape {list(there.shape)}; needed is {list(wire.weight.shape)}"
        )
    post, pre = there.nonzero().int().unbind(1)
    network.take_lists({list_key(name, "post"): post, list_key(name, "pre"): pre})
    return replace(wire, weight=wire.weight[there != 0], present=None)


def _check_shape(wire: Wire, sizes: dict[str, tuple[int, ...]]) -> None:
    connection = wire.connection
    try:
        needed = connection.geometry.weight_shape(sizes[connection.pre], sizes[connection.post])
    except ValueError as problem:
        raise ValueError(f"connection '{connection.name}': {problem}") from None
    if wire.weight.shape != needed:
        raise ValueError(
            f"connection '{connection.name}': its weights have shape {list(wire.weight.shape)}, between these "
            f"populations they need {list(needed)}"
        )


def renamed(
    populations: Sequence[Population], wires: Sequence[Wire], names: dict[str, str]
) -> tuple[list[Population], list[Wire]]:
    """The same with other names for some populations."""
    people = [replace(p, name=names.get(p.name, p.name)) for p in populations]
    joined = [
        replace(
            w,
            connection=replace(
                w.connection,
                pre=names.get(w.connection.pre, w.connection.pre),
                post=names.get(w.connection.post, w.connection.post),
            ),
        )
        for w in wires
    ]
    return people, joined
