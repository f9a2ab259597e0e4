"""Which parameters an optimizer moves, at which rate."""

from neurosbd.config.definition import Experiment
from neurosbd.errors import UsageError
from neurosbd.files.checkpoints import StateDict
from neurosbd.learning.learner import Learner
from neurosbd.network.network import Network


def parameter_groups(network: Network, experiment: Experiment, learner: Learner | None = None) -> list[StateDict]:
    """One parameter group per population and per connection with a learning rate of its own, and one per head of the
    rule. Projections are in none of them."""
    lr, rates = experiment.optimizer.lr, experiment.definition.training.rates
    groups = []
    for name, connections in network.incoming.items():
        plastic = [c for c in connections if c.plastic]
        own = [[c] for c in plastic if c.name in rates]
        for together in ([c for c in plastic if c.name not in rates], *own):
            parameters = [p for c in together for p in network.synapses(c) if p is not None]
            if parameters:
                rate = rates.get(together[0].name, rates.get(name, 1.0))
                groups.append({"params": parameters, "lr": lr * rate})
    if not groups:
        raise UsageError(f"{experiment.definition.name}: no connection is plastic, so there is nothing to learn")
    heads, relative = ({}, {}) if learner is None else (learner.parameters, learner.relative_rates)
    for name, head in heads.items():
        place = network.connections[name].post if name in network.connections else name
        rate = rates.get(place, 1.0) if name not in relative else relative[name] * rates.get(network.readout, 1.0)
        groups.append({"params": [head], "lr": lr * rate})
    return groups
