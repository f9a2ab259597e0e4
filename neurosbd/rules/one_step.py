"""What rules refuse that look at one step by itself."""

import torch

from neurosbd.network.network import Network


def check_one_step(network: Network, why: str, instead: str = "'sbd', 'dfa', 'bptt'") -> None:
    """Refuse neurons with a past and connections with a delay.

    Args:
        network: to be learned.
        why: what the rule does, which begins the message.
        instead: rules that follow time.
    Raises:
        ValueError: naming the connection or the population with its connection, and what to take instead.
    """
    for name, delay in network.delays.items():
        if delay:
            raise ValueError(
                f"connection '{name}': {why}, so nothing may arrive later; this one takes {delay} "
                f"step{'s' * (delay > 1)}. Choose a feed-forward model such as digits-mlp, or a rule that follows "
                f"time: {instead}"
            )
    for name, connections in network.incoming.items():
        population = network.populations[name]
        assert population.neuron is not None
        if population.neuron.init(torch.zeros(1, *population.size), torch.Generator()):
            raise ValueError(
                f"connection '{connections[0].name}': {why}, but '{name}' are neurons with a state, "
                f"{type(population.neuron).__name__}. Choose a model of rate neurons such as digits-mlp, or a rule "
                f"that follows time: {instead}"
            )
