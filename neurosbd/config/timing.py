"""Do the steps of a trial suit what is shown in them?"""

import math

import torch

from neurosbd.config.definition import Experiment
from neurosbd.datasets.load import Dataset
from neurosbd.datasets.samples import EventSamples
from neurosbd.encoders import Latency
from neurosbd.errors import UsageError, warn
from neurosbd.network.populations import INPUT


def check_timing(experiment: Experiment, data: Dataset) -> None:
    """Refuse steps that tell a rule nothing; warn of those that show nothing new, and of what comes after the last.

    Raises:
        UsageError: with what is there, what is wanted, and the setting that makes it fit.
    """
    _check_times(experiment, data)
    _check_idle_steps(experiment, data)
    _check_latency(experiment)
    _check_recordings(experiment, data)


def _check_times(experiment: Experiment, data: Dataset) -> None:
    """A rule that goes by the times of spikes needs several steps, and inputs that do not all come in the first, unless
    units in between make times of them."""
    definition, network = experiment.definition, experiment.network
    if not experiment.rule.timed:
        return
    taught = [network.incoming[name] for name in experiment.rule.populations(network)]
    directly = any(connection.pre == INPUT for incoming in taught for connection in incoming)
    where = f"{definition.name}: rule '{definition.rule.kind}' goes by the steps in which units spike first, but"
    if definition.time.steps == 1:
        raise UsageError(
            f"{where} time.steps is 1; take a model such as mnist-s2stdp, or, without labels, mnist-stdp-features, "
            f"or set time.steps = 64, say"
        )
    if directly and definition.data.encoder.kind == "constant" and not data.duration:
        raise UsageError(
            f"{where} data.encoder is 'constant', with which every input comes in the first step; set data.encoder = "
            f"{{ kind = 'latency', duration = {definition.time.steps * definition.time.dt:g} }}"
        )


def _check_idle_steps(experiment: Experiment, data: Dataset) -> None:
    """Warn of steps that show a network without a memory what it has seen in the first."""
    definition, network = experiment.definition, experiment.network
    still = definition.data.encoder.kind == "constant" and not data.duration
    lasting = any(network.delays.values()) or network.transmissions or experiment.rule.delay
    if definition.time.steps == 1 or not still or lasting:
        return
    start = network.init(network.like.new_zeros((1, *network.input_size)), torch.Generator())
    if not any(start.state.neurons.values()):
        warn(
            f"{definition.name}: time.steps is {definition.time.steps}, but the examples stand still and no population "
            f"remembers the step before, so that all steps are alike and take as many times as long; set time.steps = 1"
        )


def _check_latency(experiment: Experiment) -> None:
    """Warn of times of spikes that come after the end of a trial."""
    definition, encoder = experiment.definition, experiment.encoder
    trial = definition.time.steps * definition.time.dt
    if isinstance(encoder, Latency) and round(encoder.duration / definition.time.dt, 6) > definition.time.steps:
        warn(
            f"{definition.name}: data.encoder has a duration of {encoder.duration:g} s and the trial one of "
            f"{trial:g} s, so that inputs below {1 - trial / encoder.duration:.2g} of the largest make no spike; set "
            f"data.encoder.duration = {trial:g}, or time.steps = {math.ceil(encoder.duration / definition.time.dt)}"
        )


def _check_recordings(experiment: Experiment, data: Dataset) -> None:
    """Warn of recordings that go on after the end of a trial."""
    definition, time = experiment.definition, experiment.definition.time
    recordings = [split for split in data.splits.values() if isinstance(split, EventSamples)]
    late = [split.after(time.steps, time.dt) for split in recordings]
    if sum(events for _, events in late):
        share = sum(events for _, events in late) / sum(len(split.time) for split in recordings)
        warn(
            f"{definition.name}: {sum(count for count, _ in late)} of {sum(map(len, recordings))} recordings of "
            f"'{data.name}' go on after the end of the trial, {time.steps * time.dt:g} s after its start, "
            f"so that {share:.1%} of all events are never shown; set time.steps = "
            f"{math.ceil(round(data.duration / time.dt, 6))} to show all"
        )
