"""Which parameters an optimizer moves, at which rate."""

from neurosbd.checkpoints import StateDict
from neurosbd.config.definition import Experiment
from neurosbd.errors import UsageError
from neurosbd.learning.learner import Learner
from neurosbd.network import Network


def parameter_groups(network: Network, experiment: Experiment, learner: Learner | None = None) -> list[StateDict]:
    """One parameter group per population, with its own learning rate, and one per head of the rule. Projections are in
    none of them."""
    lr, rates = experiment.optimizer.lr, experiment.definition.training.rates
    groups = []
    for name, connections in network.incoming.items():
        synapses = [network.synapses(c) for c in connections if c.plastic]
        parameters = [p for pair in synapses for p in pair if p is not None]
        if parameters:
            groups.append({"params": parameters, "lr": lr * rates.get(name, 1.0)})
    if not groups:
        raise UsageError(f"{experiment.definition.name}: no connection is plastic, so there is nothing to learn")
    heads, relative = ({}, {}) if learner is None else (learner.parameters, learner.relative_rates)
    for name, head in heads.items():
        place = network.connections[name].post if name in network.connections else name
        rate = rates.get(place, 1.0) if name not in relative else relative[name] * rates.get(network.readout, 1.0)
        groups.append({"params": [head], "lr": lr * rate})
    return groups
