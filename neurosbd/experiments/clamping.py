"""Voltage clamps of a free run: which of its stimuli they are, and the neurons that they hold."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from neurosbd.config.definition import Experiment
from neurosbd.errors import UsageError, nearest
from neurosbd.filters import whole_steps
from neurosbd.network.network import INPUT, Network
from neurosbd.network.populations import Population
from neurosbd.neurons.clamped import Clamped
from neurosbd.stimuli import STIMULI, Stimulation, VoltageClamp


def clamp(experiment: Experiment, steps: int) -> None:
    """Hold the membranes of a network as the clamps among the stimuli of an experiment say.

    Args:
        experiment: its network has neurons under clamp afterwards.
        steps: of the whole run.
    Raises:
        UsageError: naming the population, if its neurons have no membrane, or are held where they would not stay.
    """
    network = experiment.network
    for given in experiment.stimulations:
        if not isinstance(given.stimulus, VoltageClamp):
            continue
        name = given.population
        try:
            population = _population(network, name)
            _check(population.neuron, given.stimulus, experiment, name)
            neuron = _held(given, given.stimulus, network, population, steps)
        except ValueError as problem:
            raise UsageError(f"{experiment.definition.name}: voltage_clamp of '{name}': {problem}") from None
        network.populations[name] = replace(population, neuron=neuron)


def release(network: Network) -> None:
    """Put the neurons back that were held; constraints are applied after every step again."""
    network.postponed = ()
    for name, population in network.populations.items():
        if isinstance(population.neuron, Clamped):
            network.populations[name] = replace(population, neuron=population.neuron.neuron)


def others(stimulations: Sequence[Stimulation]) -> list[Stimulation]:
    """Stimuli that drive; a population under clamp is driven by nothing if by nothing else."""
    driving = [given for given in stimulations if not isinstance(given.stimulus, VoltageClamp)]
    driven = {given.population for given in driving}
    alone = dict.fromkeys(given.population for given in stimulations if given.population not in driven)
    return [*driving, *(Stimulation(name, STIMULI["current"](amplitude=0.0)) for name in alone)]


def _population(network: Network, name: str) -> Population:
    """One that can be held, and is not."""
    if name not in network.populations or name == INPUT:
        raise ValueError(f"there is no such population{nearest(name, network.incoming)}")
    population = network.populations[name]
    if isinstance(population.neuron, Clamped):
        raise ValueError("there are two; give one, with all its `times` and `units`")
    return population


def _held(given: Stimulation, stimulus: VoltageClamp, network: Network, population: Population, steps: int) -> Clamped:
    """The neuron under clamp, from the first step on in which a unit is held."""
    stimulus.check(population.size, network.dt)
    start, before = whole_steps(given.start, network.dt, "start"), whole_steps(stimulus.times[0], network.dt, "times")
    stop = steps if given.stop is None else whole_steps(given.stop, network.dt, "stop")
    if stop <= start + before:
        raise ValueError(f"nobody is held: the first of `times` comes after its end, {stop * network.dt:g} s")
    command = stimulus.command(before, stop - start - before, network.dt, network.like.device).to(network.like)
    held = stimulus.held(network.like.new_zeros((1, *population.size)))
    assert population.neuron is not None
    return Clamped(population.neuron, command, held, start + before)


def _check(neuron: object, stimulus: VoltageClamp, experiment: Experiment, name: str) -> None:
    """Raise ValueError of neurons without a membrane, or that would spike and be reset at every step."""
    state = neuron.init(torch.zeros(1, 1), torch.Generator())  # type: ignore[attr-defined]
    if not hasattr(state, "v"):
        raise ValueError(f"{type(neuron).__name__} neurons have no membrane; take 'lif' or 'hodgkin_huxley', say")
    threshold = getattr(neuron, "v_threshold", None)
    if threshold is not None and getattr(neuron, "reset", "none") != "none":
        least, most = torch.as_tensor(threshold).min().item(), max(stimulus.values)
        if most > least:
            raise ValueError(
                f"{type(neuron).__name__} neurons would spike and be reset at every step at {most:g}, above their "
                f"threshold of {least:g}; hold them below it, or take reset = 'none'"
            )
    rule = experiment.rule.parts().get("plasticities", ())
    for connection in experiment.network.connections.values():
        learning = (connection.plasticity,) if connection.plasticity is not None else rule
        waiting = any(getattr(plasticity, "eligibilities", ()) for plasticity in learning)
        if connection.post == name and connection.plastic and waiting:
            raise ValueError(
                f"'{connection.name}' learns from what its synapses did to a membrane that is held; set plastic = "
                f"false there, or take a plasticity of spike times, such as 'stdp'"
            )
