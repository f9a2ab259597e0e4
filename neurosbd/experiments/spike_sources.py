"""Relays of a free run: what stimuli make them send."""

import itertools
import math
from collections.abc import Collection

from neurosbd.config.definition import Experiment
from neurosbd.errors import warn
from neurosbd.neurons import Relay
from neurosbd.stimuli import Items, Poisson, Stimulation, fires


def graded(experiment: Experiment) -> set[str]:
    """Relays that something else than spikes reaches, which they send on as it is."""
    currents = {each.population for each in experiment.stimulations if not fires(each.stimulus)}
    return {name for name in _relays(experiment) if experiment.network.incoming[name] or name in currents}


def warn_of_coinciding_spikes(experiment: Experiment, recorded: Collection[str]) -> None:
    """Say of which relays several spikes may come in one step, of which their recorded `spikes` have one.

    Args:
        experiment: what runs.
        recorded: names of the recorded signals.
    """
    sources = _relays(experiment) - graded(experiment)
    for name in sorted(each for each in sources if f"{each}.spikes" in recorded):
        given = [each for each in experiment.stimulations if each.population == name]
        many = any(isinstance(each.stimulus, Poisson) and each.stimulus.sources > 1 for each in given)
        if many or any(_may_coincide(*pair) for pair in itertools.combinations(given, 2)):
            dt = experiment.network.dt
            warn(
                f"{experiment.definition.name}: '{name}' may send several spikes in one step of dt = {dt:g} s: all "
                f"arrive and count in {name}.rate, but the recorded {name}.spikes have one of them; where that matters "
                f"take a smaller time.dt, a unit for every source, or stimuli that follow one another"
            )


def _relays(experiment: Experiment) -> set[str]:
    return {name for name, each in experiment.network.populations.items() if isinstance(each.neuron, Relay)}


def _may_coincide(one: Stimulation, other: Stimulation) -> bool:
    """Whether one of both draws its spikes at times at which the other is given; trains that are listed are known."""
    ends = [math.inf if each.stop is None else each.stop for each in (one, other)]
    drawn = any(isinstance(each.stimulus, Poisson | Items) for each in (one, other))
    return drawn and max(one.start, other.start) < min(ends)
