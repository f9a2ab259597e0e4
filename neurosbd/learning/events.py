"""Updates at the spikes: only synapses whose units spike are looked at, and they move at once.

For runs of one example whose weights move at every step. A plasticity takes part by one method, `movers`
(`EventDriven`, beside `Plasticity`), and by being `per_synapse`; what it makes of the synapses is its `step` as ever,
called with those alone. So the weights are those of the updates by `.grad`, and this is a choice of speed.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from neurosbd.connections.sides import Sides
from neurosbd.connections.sparse import Sparse
from neurosbd.connections.synapses import Synapses
from neurosbd.connections.wirings import Pairs
from neurosbd.constraints import Bounds, Held, Nonnegative
from neurosbd.eligibility.local import Local
from neurosbd.learning.optimizers import plain_rates
from neurosbd.network.network import Connection, Network
from neurosbd.plasticity.plasticity import EventDriven, Plasticity, takes_events, takes_lists

S = TypeVar("S")  # the state of a plasticity


class DirectUpdate(NamedTuple):
    """How the synapses of a connection move without a gradient for all of them."""

    rate: float  # of learning
    held: tuple[Held, ...]  # what they obey, each by itself


def direct_updates(
    network: Network,
    plasticities: Iterable[tuple[Connection, Plasticity]],
    limits: Mapping[str, Held],
    optimizer: torch.optim.Optimizer,
) -> dict[str, DirectUpdate]:
    """The connections whose synapses may move at the spikes; {}: none.

    They are stored sparsely, on the CPU, follow a plasticity that is event-driven, are bound number by number if at
    all, and their optimizer is SGD without a memory, so that a synapse whose gradient is 0 stays as it is.

    Args:
        network: whose weights move.
        plasticities: that the plastic connections follow.
        limits: of the rule, see `Rule.limits`.
        optimizer: of the weights.
    """
    rates, found = plain_rates(optimizer), {}
    for connection, plasticity in plasticities:
        name, weight = connection.name, network.weights[connection.name]
        own = (each for each in network.held(name) if not isinstance(each.constraint, network.postponed))
        held = [*own, *([limits[name]] if name in limits else [])]
        bound = all(isinstance(each.constraint, Bounds | Nonnegative) for each in held)
        listed = isinstance(connection.geometry, Sparse) and takes_lists(plasticity) and weight.device.type == "cpu"
        alone = not plasticity.eligibilities and takes_events(plasticity)
        if listed and bound and alone and id(weight) in rates:
            found[name] = DirectUpdate(float(rates[id(weight)]), tuple(held))
    return found


def move(plasticity: Plasticity[S], state: S, local: Local, geometry: Sparse, dt: float, update: DirectUpdate) -> S:
    """Move the synapses of one connection that a step changes; the state of its plasticity after the step.

    Args:
        plasticity: event-driven.
        state: of it.
        local: of the connection, of one example and step.
        geometry: of the connection.
        dt: step, s.
        update: how they move.
    """
    arrived, fired = cast(EventDriven[S], plasticity).movers(state, local)
    which = touched(geometry, arrived[0], fired[0])
    post, pre = (units.index_select(0, which) for units in geometry.lists[:2])
    weight = local.synapses.weight
    there = weight.index_select(0, which)

    def outer(post_factor: Tensor, pre_factor: Tensor) -> Synapses:
        return Synapses(post_factor[0].index_select(0, post).mul_(pre_factor[0].index_select(0, pre)), None)

    some = local._replace(synapses=Synapses(there, None), outer=outer, sides=Sides(Pairs(post, pre), geometry.shape))
    change, state = plasticity.step(state, some, dt)
    if change is not None and len(which):
        there = there.sub(change.weight, alpha=update.rate)
        for held in update.held:
            held.apply(there)
        weight.scatter_(0, which.long(), there)
    return state


def touched(geometry: Sparse, arrived: Tensor, fired: Tensor) -> Tensor:
    """Numbers of the synapses that something arrives at, [pre], or whose post unit has fired, [post]. One with both
    comes twice, and is moved to the same place by either."""
    sending, receiving = arrived.nonzero().squeeze(1), fired.nonzero().squeeze(1)
    if not len(receiving):
        return geometry.sent_by(sending)
    if not len(sending):
        return geometry.onto(receiving)
    return torch.cat((geometry.sent_by(sending), geometry.onto(receiving)))
