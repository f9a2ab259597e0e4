"""What a free run adds to its network and stimuli before it begins: norms that wait, silence where nothing comes."""

from neurosbd.config.definition import Experiment
from neurosbd.constraints import Norm
from neurosbd.errors import UsageError, warn
from neurosbd.network.network import INPUT
from neurosbd.stimuli import STIMULI, Stimulation


def postponed_constraints(experiment: Experiment, plastic: bool) -> tuple[type, ...]:
    """The constraints that are not applied after every update."""
    definition = experiment.definition
    assert definition.simulation is not None
    if definition.simulation.normalise is None:
        return ()
    learning = [connection for connection in experiment.network.connections.values() if connection.plastic]
    if not plastic or not any(isinstance(each, Norm) for connection in learning for each in connection.constraints):
        raise UsageError(
            f"{definition.name}: simulation.normalise says how often norms are restored, but no connection that learns "
            f"has one; give it constraints = [{{ kind = 'norm' }}], or leave simulation.normalise out"
        )
    return (Norm,)


def silence(experiment: Experiment) -> list[Stimulation]:
    """No drive for populations that nothing reaches, which is said."""
    network, stimulated = experiment.network, {given.population for given in experiment.stimulations}
    if stimulated - network.populations.keys():
        return []  # of which something else is said
    deaf = [name for name, onto in network.incoming.items() if not onto and name not in stimulated]
    deaf += [INPUT] if INPUT in network.populations and INPUT not in stimulated else []
    for name in deaf:
        warn(
            f"{experiment.definition.name}: nothing reaches population '{name}': it has neither an incoming connection "
            f"nor a stimulus; add [[stimulus]] population = '{name}', or leave it out"
        )
    return [Stimulation(name, STIMULI["current"](amplitude=0.0)) for name in deaf]
