"""Does the network have what its plasticities look for, and does anything learn from its loss?"""

from collections.abc import Collection, Iterable
from typing import cast

from neurosbd.config.definition import Definition, Experiment
from neurosbd.connections.initialisers import WeightsFromFile
from neurosbd.errors import warn
from neurosbd.learning.rule import Rule
from neurosbd.network.network import Connection
from neurosbd.network.populations import spikes
from neurosbd.plasticity import (
    Correlative,
    RewardedSpikeTiming,
    SpikeTiming,
    SymmetricInhibitory,
    Triplet,
    VoltageBased,
)
from neurosbd.plasticity.plasticity import Plasticity

_FAR = 0.3  # V, between two thresholds of one membrane
_PAIRING = (SpikeTiming, RewardedSpikeTiming, Triplet, SymmetricInhibitory)


def check_heard(experiment: Experiment) -> None:
    """Warn where a plasticity looks for something that no population of the network has: it changes less, or nothing.

    Compartments, without which CorInfoMax-EBD is EBD; spikes, without which their timing is that of any value.
    """
    definition, rule = experiment.definition, experiment.rule
    plasticities = rule.parts().get("plasticities", ())
    where = f"{definition.name}: rule '{definition.rule.kind}'"
    correlative = any(isinstance(plasticity, Correlative) for plasticity in plasticities)
    if correlative and all(c.compartment == "soma" for c in experiment.connections):
        warn(
            f"{where} learns at basal, apical and lateral synapses, but no connection names such a compartment, so it "
            f"learns as 'ebd'; if that is not meant: model digits-corinfomax, or neuron = 'corinfomax' and a "
            f"compartment for each connection (docs/corinfomax.md)"
        )
    _check_volts(experiment)
    if any(isinstance(plasticity, _PAIRING) for plasticity in plasticities):
        rates = [p.name for p in experiment.populations if p.neuron is not None and not spikes(p)]
        learning = [name for name in rates if name in rule.populations(experiment.network)]
        if learning:
            warn(
                f"{where} pairs spikes, but {', '.join(map(repr, learning))} send rates, every value of which counts "
                f"as a spike; if that is not meant: population.{learning[0]}.neuron = 'lif', or a rule for rates: "
                f"'sbd', say"
            )


def check_loss_heard(definition: Definition) -> None:
    """Warn where somebody asks for a loss from which no synapse would learn: it judges answers and no more.

    Args:
        definition: whose loss was chosen for it.
    """
    rule = definition.rule.build()
    connections = [entry.connection(definition.training.precision) for entry in definition.connection]
    if any(_hears_loss(connection, rule, definition) for connection in connections):
        return
    warn(
        f"{definition.name}: loss '{definition.loss_name}' judges answers, but nothing learns from it: "
        f"{_why_unheard(connections, rule, definition)}; if that is not meant: a rule that is sent the score, 'sbd', "
        f"say"
    )


def unjudged(experiment: Experiment, taught: Collection[str] = ()) -> dict[str, str]:
    """Outputs that cannot come to mean anything, so that a loss and an accuracy would say nothing of them: each with
    the reason.

    The readout is judged if something plastic hears its loss, its target or a reward, wherever that is; a head if its
    own synapses learn, since nobody else hears its loss. Both are, whatever learns, if they have been taught before.
    Trials of a task always are: the task says itself what a success is.

    Args:
        experiment: whose network learns.
        taught: outputs whose weights another run has learned; those from a file may have been, too.
    """
    definition, rule, connections = experiment.definition, experiment.rule, experiment.connections
    if experiment.task is not None:
        return {}
    from_file = {c.post for c in connections if isinstance(getattr(c.geometry, "weight", None), WeightsFromFile)}
    heads = _heads(definition)
    heard = [c for c in connections if _hears_loss(c, rule, definition) or _is_rewarded(c, rule, definition)]
    found = {}
    if all(connection.post in heads for connection in heard):
        why = _why_unheard(connections, rule, definition)
        found[definition.readout] = f"nothing that learns hears the loss ({why})"
    found |= {head: "its own synapses do not learn" for head in heads if all(c.post != head for c in heard)}
    return {name: why for name, why in found.items() if name not in from_file and name not in taught}


def _heads(definition: Definition) -> list[str]:
    return [name for name, spec in definition.population.items() if spec.role == "head"]


def _hears_loss(connection: Connection, rule: Rule, definition: Definition) -> bool:
    """Whether the synapses of a connection move by what the loss, or the target, tells them."""
    if not connection.plastic:
        return False
    if connection.post in _heads(definition):
        told = True  # they descend their own
    elif connection.post == definition.readout:
        told = rule.hears_loss
    else:
        told = rule.scored or rule.hears_target or rule.labelled
    return told and _listens(connection)


def _is_rewarded(connection: Connection, rule: Rule, definition: Definition) -> bool:
    """Whether the synapses of a connection move by the reward."""
    return connection.plastic and rule.rewarded and connection.post not in _heads(definition) and _listens(connection)


def _listens(connection: Connection) -> bool:
    """Whether a third factor says by how much its synapses change: those that have a plasticity of their own may follow
    activity alone."""
    return connection.plasticity is None or cast(Plasticity, connection.plasticity).modulated


def _why_unheard(connections: Iterable[Connection], rule: Rule, definition: Definition) -> str:
    """Why no synapse hears the loss of the readout."""
    kind, readout = definition.rule.kind, definition.readout
    if not rule.hears_loss:
        return f"rule '{kind}' hears no loss"
    alone = [c for c in connections if c.plastic and not _listens(c)]
    if rule.scored:
        followed = f": {', '.join(repr(c.name) for c in alone)} by a plasticity of its own" if alone else ""
        return f"no synapse learns by rule '{kind}'{followed}"
    because = "follows a plasticity of its own" if any(c.post == readout for c in alone) else "is not plastic"
    return f"under rule '{kind}' only '{readout}' could, which {because}"


def _check_volts(experiment: Experiment) -> None:
    """Warn where a plasticity compares membranes with volts that are counted in thresholds."""
    of_rule, neurons = (
        experiment.rule.parts().get("plasticities", ()),
        {p.name: p.neuron for p in experiment.populations},
    )
    for connection in (c for c in experiment.connections if c.plastic):
        for plasticity in (connection.plasticity,) if connection.plasticity is not None else of_rule:
            threshold = getattr(neurons[connection.post], "v_threshold", None)
            if not isinstance(plasticity, VoltageBased) or not isinstance(threshold, float):
                continue
            if abs(threshold - plasticity.theta_plus) > _FAR:
                warn(
                    f"{experiment.definition.name}: connection '{connection.name}' compares the membrane with "
                    f"theta_plus = {1e3 * plasticity.theta_plus:g} mV, but the threshold of '{connection.post}' is "
                    f"{threshold:g} V; give population.{connection.post}.neuron v_threshold = '-50 mV', say, v_leak "
                    f"and v_reset in volts, and reset = 'to_value'"
                )
