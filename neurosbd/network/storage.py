"""How the weights of a connection are stored, and whether they fit into the memory."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.allocator import room
from neurosbd.connections import Dense
from neurosbd.connections.sparse import Listed, Sparse, is_few, laid_out
from neurosbd.connections.synapses import Synapses
from neurosbd.constraints import Mask
from neurosbd.errors import warn
from neurosbd.network.delays import lags_of, listed_with_delays, with_delays
from neurosbd.network.populations import Connection, Population, spikes
from neurosbd.schema.constants import Distribution


class Start(NamedTuple):
    """How a connection begins: it may be stored otherwise than it was given."""

    connection: Connection
    synapses: Synapses
    present: Tensor | None  # 1 where there is a synapse, as its geometry draws them; None: wherever there is a weight


def started(connection: Connection, pre: Population, post: Population, generator: torch.Generator, dt: float) -> Start:
    """Weights, synapses and delays of a connection drawn, stored as suits it, for steps of dt, s.

    Raises:
        ValueError: naming the connection, if its units cannot be joined so.
    """
    geometry = connection.geometry
    shape = geometry.weight_shape(pre.size, post.size)
    drawn = isinstance(connection.delay, Distribution) and not lags_of(connection)
    try:
        if isinstance(geometry, Sparse):
            laid = Listed(geometry, geometry.start(shape, post.size, generator))
        elif isinstance(geometry, Dense) and stored_sparsely(connection, pre, shape):
            laid = laid_out(geometry, (shape[0], shape[1]), post.size, generator)
        else:
            synapses, present = geometry.start(shape, post.size, generator), geometry.mask(shape, generator)
            if drawn:
                axis = geometry.axes(shape, pre.size).pre
                geometry = with_delays(geometry, synapses.weight, present, axis, connection, dt, generator)
            _say_if_none(connection, shape, present is None or bool(present.any()))
            return Start(replace(connection, geometry=geometry), synapses, present)
        _say_if_none(connection, (laid.geometry.shape[0], laid.geometry.shape[1]), len(laid.geometry.lists.post) > 0)
        if drawn:
            laid = listed_with_delays(laid, connection, dt, generator)
        return Start(replace(connection, geometry=laid.geometry), laid.synapses, None)
    except ValueError as problem:
        where = f"connection '{connection.name}': "
        raise ValueError(f"{where}{str(problem).removeprefix(where)}") from None


def _say_if_none(connection: Connection, shape: tuple[int, ...], joined: bool) -> None:
    """Warn of a connection that has no synapse at all, as one that is too sparse for its few pairs."""
    if not joined:
        warn(
            f"connection '{connection.name}': none of {math.prod(shape):,} pairs is joined, so that nothing arrives "
            f"through it; a lower sparsity, or another wiring, joins some"
        )


def stored_sparsely(connection: Connection, pre: Population, shape: tuple[int, ...]) -> bool:
    """Whether a dense connection with a weight of `shape` is stored as a list of its synapses.

    Raises:
        ValueError: if that is asked for and something else asks for all pairs.
    """
    dense, masked = connection.geometry, any(isinstance(each, Mask) for each in connection.constraints)
    assert isinstance(dense, Dense)
    if dense.storage == "automatic":
        drawn = isinstance(connection.delay, Distribution)  # a list takes no more time for more different delays
        return type(dense) is Dense and not masked and (drawn or (is_few(dense, shape) and spikes(pre)))
    if dense.storage == "sparse" and masked:
        raise ValueError(
            "storage = 'sparse' keeps no pairs without a synapse, so that there is nothing for a mask or for pruning; "
            "leave out one of them, or set storage = 'dense'"
        )
    if dense.storage == "sparse" and type(dense) is not Dense:
        raise ValueError("storage = 'sparse' multiplies in float32; set training.precision to it, or storage = 'dense'")
    return dense.storage == "sparse"


def check_room(populations: Sequence[Population], connections: Sequence[Connection]) -> None:
    """Raise ValueError of what no machine could hold, before memory is asked for."""
    by_name = {population.name: population for population in populations}
    wanted = {f"population '{p.name}' of {math.prod(p.size):,} units": math.prod(p.size) for p in populations}
    for c in connections:
        pre, post = by_name[c.pre], by_name[c.post]
        try:
            shape = c.geometry.weight_shape(pre.size, post.size)
            count, each = math.prod(shape), 2  # and their gradients
            if isinstance(c.geometry, Dense) and stored_sparsely(c, pre, shape):
                count, each = round(count * c.geometry.density(shape)), 5  # and three lists
            elif isinstance(c.delay, Distribution):
                each = 6  # and delays, what each weight hears, and at least once all in their places
        except ValueError as problem:
            raise ValueError(f"connection '{c.name}': {problem}") from None
        wanted[f"connection '{c.name}' of {count:,} weights"] = each * count
    largest, there = max(wanted, key=lambda name: wanted[name]), room()
    if 4 * sum(wanted.values()) > there:
        raise ValueError(
            f"{largest}: the network needs {4 * sum(wanted.values()) / 1e9:,.1f} GB, and there are {there / 1e9:,.1f}; "
            f"make it smaller"
        )
