"""Whether a rule can be carried out on a network: what it declares, against what there is."""

import torch

from neurosbd.connections.delayed import Delayed, needs_dense
from neurosbd.connections.sparse import Sparse
from neurosbd.learning.rule import Rule
from neurosbd.losses import Loss
from neurosbd.network.checks import check_declared
from neurosbd.network.network import Network
from neurosbd.network.populations import Role
from neurosbd.neurons.neuron import Compartment, Particular


def check_suited(network: Network, rule: Rule, loss: Loss | None) -> None:
    """Refuse a network that a rule declares to be none for it, or refuses by its own `check`.

    Args:
        network: to be learned.
        rule: that learns it.
        loss: whose score is sent; None where only rewards are.
    Raises:
        ValueError: naming the population or connection, and what to take instead.
    """
    _check_readout(network, loss)
    _check_neurons(network)
    _check_heads(network, rule, loss)
    _check_plasticities(network, rule)
    _check_storage(network, rule)
    _check_dynamics(network, rule)
    if rule.one_step:
        _check_one_step(network, rule.one_step)
    rule.check(network, loss)


def _check_readout(network: Network, loss: Loss | None) -> None:
    """Raise ValueError of a loss that would have to guess which population it judges."""
    if loss is not None:
        roles: dict[str, Role | None] = {name: population.role for name, population in network.populations.items()}
        check_declared(roles, ((c.pre, c.post) for c in network.connections.values()))


def _check_neurons(network: Network) -> None:
    """Raise ValueError, naming the population, of neurons that steps of this network do not suit."""
    for name, connections in network.incoming.items():
        population = network.populations[name]
        if isinstance(population.neuron, Particular):
            silence = network.like.new_zeros((1, *population.size))
            try:
                places: tuple[Compartment, ...] = tuple(
                    c.compartment if name in network.compartmental else "soma" for c in connections
                )
                population.neuron.check(silence, places, network.dt)
            except ValueError as problem:
                raise ValueError(f"population '{name}': {problem}") from None


def _check_heads(network: Network, rule: Rule, loss: Loss | None) -> None:
    """Raise ValueError of heads that nobody would teach."""
    if network.heads and not rule.teaches_heads:
        raise ValueError(
            f"population '{network.heads[0]}' is a head, which this rule does not teach; leave its role and the "
            f"population out, or take a composition such as 'sbd', or 'bp'"
        )
    if network.heads and loss is None:
        raise ValueError(f"population '{network.heads[0]}' is a head, but there is no loss to judge it; leave it out")


def _check_plasticities(network: Network, rule: Rule) -> None:
    """Raise ValueError of connections with a plasticity of their own that nobody would carry out."""
    own = next((name for name, connection in network.connections.items() if connection.plasticity is not None), None)
    if own is not None and not rule.per_connection:
        raise ValueError(
            f"connection '{own}' has a plasticity of its own, which this rule does not carry out; leave it out, or "
            f"take a composition such as 'stdp' or 'sbd'"
        )


def _check_storage(network: Network, rule: Rule) -> None:
    """Raise ValueError of plastic connections that are stored in a form which the rule does not learn."""
    for name, connection in network.connections.items():
        geometry = connection.geometry
        if isinstance(geometry, Sparse | Delayed) and connection.plastic and not rule.takes_lists:
            raise ValueError(needs_dense(name, geometry, "this rule needs the weights of all pairs as a matrix"))


def _check_dynamics(network: Network, rule: Rule) -> None:
    """Raise ValueError of synapses whose dynamics a rule knows nothing of."""
    lasting = next(iter(network.transmissions), None)
    if lasting is not None and not rule.transmits:
        raise ValueError(
            f"connection '{lasting}' has dynamics, so that what arrives is felt later, too, which this rule does not "
            f"follow; leave out its synapse and short_term, or take a composition such as 'sbd' or 'stdp', or 'bptt'"
        )


def _check_one_step(network: Network, why: str) -> None:
    """Raise ValueError of neurons with a past and of connections with a delay."""
    instead = "or a rule that follows time: 'sbd', 'dfa', 'eprop', 'rflo', 'bptt'"
    for name, delay in network.delays.items():
        if delay:
            raise ValueError(
                f"connection '{name}': {why}, so nothing may arrive later; this one takes {delay} "
                f"step{'s' * (delay > 1)}. Choose a feed-forward model such as digits-mlp, {instead}"
            )
    for name, connections in network.incoming.items():
        population = network.populations[name]
        assert population.neuron is not None
        if population.neuron.init(torch.zeros(1, *population.size), torch.Generator()):
            raise ValueError(
                f"connection '{connections[0].name}': {why}, but '{name}' are neurons with a state, "
                f"{type(population.neuron).__name__}. Choose a model of rate neurons such as digits-mlp, {instead}"
            )
