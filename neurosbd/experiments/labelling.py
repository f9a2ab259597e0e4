"""Labels for units that have learned without any: which class each answers to, and how well they say it of others."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from neurosbd.config.definition import Experiment
from neurosbd.config.simulation import LabellingSpec
from neurosbd.errors import UsageError, nearest, warn
from neurosbd.filters import whole_steps
from neurosbd.learning.simulation import unroll
from neurosbd.network.network import INPUT, Frame, Network
from neurosbd.neurons.neuron import NeuronState, Settling
from neurosbd.seeds import generator
from neurosbd.stimuli import Items, Stimulation, Stimulator, VoltageClamp
from neurosbd.stimuli.dataset import SideBySide
from neurosbd.tasks import Findings, Panel

_TOGETHER = 100  # items that are shown side by side
_AT_ONCE = 50  # steps whose stimuli are there at once


class UnitLabels(NamedTuple):
    """What labelled units say of items.

    labels: class of each unit, -1 of one that never spiked, [units].
    answers: class of each tested item, -1 where no unit spiked, [N].
    targets: the right ones, [N].
    """

    labels: np.ndarray
    answers: np.ndarray
    targets: np.ndarray

    def findings(self) -> Findings:
        """Accuracy, items without an answer, and the labels."""
        right = float((self.answers == self.targets).mean())
        measures = {"test_accuracy": right, "unanswered": float((self.answers < 0).mean())}
        units = np.arange(len(self.labels)), self.labels.astype(float)
        return Findings(measures, (Panel("labels", "unit", "class", {"labels": units}, frozenset(("labels",))),))


def check_labelling(experiment: Experiment) -> None:
    """Refuse labels for units that are not there, by items that are not shown.

    Raises:
        UsageError: naming the key.
    """
    spec, name = experiment.definition.labelling, f"{experiment.definition.name}: labelling"
    if spec is None:
        return
    population = experiment.network.populations.get(spec.population)
    if population is None or population.name == INPUT:
        raise UsageError(
            f"{name}.population: there is no population '{spec.population}' to label"
            f"{nearest(spec.population, experiment.network.incoming)}"
        )
    shown = [each for each in experiment.stimulations if isinstance(each.stimulus, Items)]
    if len(shown) != 1 or shown[0].population == spec.population:
        found = f"{len(shown)} are" if len(shown) != 1 else "it is"
        raise UsageError(
            f"{name} needs one stimulus of kind 'dataset' at another population than '{spec.population}', but {found} "
            f"there{' at that population' if len(shown) == 1 else ''}; give [[stimulus]] kind = 'dataset', or leave "
            f"labelling out"
        )
    if any(isinstance(each.stimulus, VoltageClamp) for each in experiment.stimulations):
        raise UsageError(f"{name} shows items to a network that nothing holds; leave out voltage_clamp or labelling")
    for key, split, wanted in (("labelled", "train", spec.labelled), ("tested", "test", spec.tested)):
        there = len(_split(shown[0], split).loaded().labels)
        if wanted > there:
            raise UsageError(
                f"{name}.{key} = {wanted:,}, but the {split} split of '{_items(shown[0]).data}' has {there:,} items; "
                f"make it {there:,} or less"
            )


def label_and_test(experiment: Experiment, states: Mapping[str, NeuronState]) -> UnitLabels:
    """Label units and let them answer, with weights and thresholds as they are.

        label of a unit:  the class to whose items it spikes most often on average, over some of the training split
        answer:           the class whose units spike most on average, over some of the test split

    Every item is shown for its `duration` to a network at rest, many side by side; nothing is learned meanwhile.

    Args:
        experiment: a free run with `labelling`, that has come to its end.
        states: of its neurons.
    Source: Diehl, Cook 2015, Front. Comput. Neurosci. 9:99, section 2.5.
    """
    spec, network = experiment.definition.labelling, experiment.network
    assert spec is not None
    given = next(each for each in experiment.stimulations if isinstance(each.stimulus, Items))
    adapting, learning = dict(network.populations), network.training
    try:
        for name, population in adapting.items():
            if isinstance(population.neuron, Settling):
                network.populations[name] = replace(population, neuron=population.neuron.settled(states[name]))
        network.eval()
        counts, targets = _spikes(experiment, given, spec, "train", spec.labelled)
        labels = labels_of(counts, targets)
        counts, targets = _spikes(experiment, given, spec, "test", spec.tested)
    finally:
        network.populations.update(adapting)
        network.train(learning)
    if (labels < 0).all():
        warn(
            f"{experiment.definition.name}: no unit of '{spec.population}' spiked for any of {spec.labelled:,} items, "
            f"so that none has a label; let stimuli be stronger, or the run shorter"
        )
    return UnitLabels(labels, answers_of(counts, labels), targets)


def labels_of(counts: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The class to whose items each unit spikes most often on average, -1 of one that never does, [units].

    Args:
        counts: spikes, [N, units].
        targets: classes of the items, [N].
    """
    there = np.unique(targets)
    rates = np.stack([counts[targets == each].mean(0) for each in there])
    return np.where(rates.max(0) > 0, there[rates.argmax(0)], -1)


def answers_of(counts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The class whose units spike most on average for each item, -1 where none spikes, [N].

    Args:
        counts: spikes, [N, units].
        labels: of the units, -1: none, [units].
    """
    there = np.unique(labels[labels >= 0])
    if not len(there):
        return np.full(len(counts), -1)
    rates = np.stack([counts[:, labels == each].mean(1) for each in there])
    return np.where(rates.max(0) > 0, there[rates.argmax(0)], -1)


def _items(given: Stimulation) -> Items:
    assert isinstance(given.stimulus, Items)
    return given.stimulus


def _split(given: Stimulation, split: str) -> Items:
    """The items of a split, shown as the others are."""
    own = _items(given)
    return own if own.split == split else replace(own, split=split)


def _spikes(
    experiment: Experiment, given: Stimulation, spec: LabellingSpec, split: str, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """(spikes of every unit for some items of a split, [count, units]; their classes)."""
    items, seed = _split(given, split), experiment.definition.seed
    labels = items.loaded().labels
    chosen = torch.randperm(len(labels), generator=generator(seed, "labelling", split))[:count].sort().values.numpy()
    found = []
    for first in range(0, count, _TOGETHER):
        shown = replace(given, stimulus=SideBySide(items, chosen[first : first + _TOGETHER]), start=0.0, stop=None)
        others = (each for each in experiment.stimulations if each is not given)
        source = generator(seed, "labelling", split, first)
        found.append(_counted(experiment.network, [shown, *others], spec.population, items.duration, source))
    return torch.cat(found).flatten(1).numpy(), labels[chosen]


def _counted(
    network: Network, stimulations: Sequence[Stimulation], population: str, duration: float, source: torch.Generator
) -> Tensor:
    """Spikes of a population under stimuli, from rest, [B, *size]."""
    first = stimulations[0].stimulus
    assert isinstance(first, SideBySide)
    examples, steps = len(first.numbers), whole_steps(duration, network.dt, "duration")
    sizes = {name: each.size for name, each in network.populations.items()}
    seed = int(torch.randint(2**62, (), generator=source))
    stimulator = Stimulator(stimulations, sizes, network.like, examples, network.dt, seed)
    counts = network.like.new_zeros((examples, *sizes[population]))

    def count(t: int, frame: Frame) -> None:
        counts.add_(frame.activity[population].value)

    frame: Frame | None = None
    for begin in range(0, steps, _AT_ONCE):
        drives = stimulator.drives(begin, min(_AT_ONCE, steps - begin))
        silence = network.like.new_zeros((min(_AT_ONCE, steps - begin), examples, *network.input_size))
        shown = drives.pop(INPUT, silence)
        frame = unroll(network, shown, (count,), frame, source, drives=drives)
    return counts.cpu()
