"""Does the network have what its plasticities look for, and does anything learn from its loss?"""

from neurosbd.config.definition import Definition, Experiment
from neurosbd.errors import warn
from neurosbd.network.populations import spikes
from neurosbd.plasticity import (
    Correlative,
    RewardedSpikeTiming,
    SpikeTiming,
    SymmetricInhibitory,
    Triplet,
    VoltageBased,
)

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
    rule, readout = definition.rule.build(), definition.readout
    judged = [name for name, spec in definition.population.items() if spec.role == "head"]
    judged += [readout] if rule.hears_loss else []
    taught = [c.post for c in definition.connection if c.plastic and c.plasticity is None]
    if any(rule.scored or post in judged for post in taught):
        return
    why = f"rule '{definition.rule.kind}' hears no loss"
    if rule.hears_loss:
        why = f"under rule '{definition.rule.kind}' only '{readout}' could, which is not plastic"
    warn(
        f"{definition.name}: loss '{definition.loss_name}' judges answers, but nothing learns from it: {why}; if that "
        f"is not meant: a rule that is sent the score, 'sbd', say"
    )


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
