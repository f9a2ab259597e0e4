"""When the units of a population spike first, who wins among those of a class, and when each should have spiked.

Times are counted in trials: a spike in step k of T is at k / T, and a unit that stays silent at 1.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.learning.batch import Batch
from neurosbd.learning.passes import Run
from neurosbd.learning.simulation import checked_frames
from neurosbd.network.network import INPUT
from neurosbd.network.populations import Population
from neurosbd.neurons import IF
from neurosbd.neurons.membrane import number


class Spikes(NamedTuple):
    """The first spike of every unit."""

    time: Tensor  # 0..1; 1: there is none, [B, *size]
    potential: Tensor  # at that spike; of a silent unit at the end of the trial, [B, *size]


class Showing(NamedTuple):
    """A batch as a population saw it."""

    potentials: Tensor  # at every step, as if no unit had spiked, [T, B, *size]
    arrived: dict[str, Tensor]  # connection -> time of the first spike at each synapse, [B, *arriving]


def first_spikes(potentials: Tensor, threshold: Tensor) -> Spikes:
    """The first step in which the potential exceeds the threshold.

    Args:
        potentials: at every step, [T, B, *size].
        threshold: [], or like the units, or like the units of every example.
    """
    steps = len(potentials)
    above = potentials > threshold
    step = torch.where(above.any(0), above.int().argmax(0), steps)
    potential = potentials.gather(0, step.clamp(max=steps - 1)[None])[0]
    return Spikes(step.to(potentials.dtype) / steps, potential)


def winners(spikes: Spikes, units: int) -> Tensor:
    """True for the unit of every class that spikes first, of several in a step that of the highest potential, [B, n].

    Args:
        spikes: of all units; those of a class lie side by side.
        units: of each class.
    """
    time, potential = (each.unflatten(1, (-1, units)) for each in spikes)
    late = time > time.amin(2, keepdim=True)
    best = potential.masked_fill(late, -math.inf).argmax(2, keepdim=True)
    return torch.zeros_like(time, dtype=torch.bool).scatter_(2, best, True).flatten(1)


def desired_times(time: Tensor, learning: Tensor, target: Tensor, gap: float, targets: int = 1) -> Tensor:
    """When each unit should spike, [B, n].

        share = targets / (units that learn)
        base  = min(mean time of those of them that spiked, 1 - gap share);   1 - gap share where none did
        t*    = base - gap (1 - share) of a target,   base + gap share of any other

    Target and others are `gap` apart, and all these offsets together are 0.

    Args:
        time: of the first spikes, [B, n].
        learning: True for the units that take part, [B, n].
        target: True for units that should be early, [B, n].
        gap: between target and others, in trials.
        targets: how many of those that learn are to be early.
    """
    share = targets / learning.sum(1, keepdim=True).to(time)
    spiked = learning & (time < 1)
    count = spiked.sum(1, keepdim=True)
    latest = 1 - gap * share
    base = torch.where(count > 0, (time * spiked).sum(1, keepdim=True) / count.clamp(min=1), latest)
    return torch.minimum(base, latest) + torch.where(target, -gap * (1 - share), gap * share)


def check_adding(population: Population) -> None:
    """Raise ValueError unless units add up what arrives and never forget, so that their first spikes say it all."""
    neuron = population.neuron
    if not isinstance(neuron, IF) or neuron.reset != "none" or neuron.refractory:
        raise ValueError(
            f"population '{population.name}': this rule goes by the first spikes of units that add up what arrives; "
            f"so its neuron must be {{ kind = 'if', reset = 'none' }} without refractoriness, got {neuron!r:.80}; "
            f"models mnist-s2stdp and mnist-stdp-features have it"
        )


def threshold_of(population: Population) -> Tensor:
    """As the model has it, [] or [*size]."""
    neuron = population.neuron
    assert isinstance(neuron, IF)
    return torch.as_tensor(number(neuron.v_threshold))


def answer_of(spikes: Spikes, units: int, steps: int) -> Tensor:
    """minus the time of the first spike of every class, [B, C]: the largest is the first to spike.

    Where several units spike in one step, or none at all, the higher potential counts for more, by less than a step.
    """
    rank = spikes.potential.argsort(1).argsort(1).to(spikes.time)
    value = rank / (rank.shape[1] * steps) - spikes.time
    return value.unflatten(1, (-1, units)).amax(2)


def show(run: Run, batch: Batch, examples: int, population: str) -> Showing:
    """Show a batch, and follow what a population integrates.

    A single example whose spikes come straight from the input is shown by events: every spike adds its weights once,
    and no unit is stepped. Wherever somebody watches, and for more examples, the network runs, in blocks of time.

    Args:
        run: of the batch.
        batch: to be shown.
        examples: in it; 0: unknown.
        population: that is followed, whose units add up what arrives.
    """
    network = run.network
    alone = population == network.readout and all(c.pre == INPUT for c in network.incoming[population])
    if examples == 1 and alone and run.unwatched and next(network.parameters()).device.type == "cpu":
        return _by_events(run, batch)
    return _by_blocks(run, batch, population)


def _by_events(run: Run, batch: Batch) -> Showing:
    """One example: its spikes in the order of time, each with the weights of its synapses."""
    network = run.network
    frames = torch.cat(list(checked_frames(network, batch.frames())))
    neuron = network.populations[network.readout].neuron
    drives, arrived = frames.new_zeros(network.populations[network.readout].size[0], len(frames)), {}
    for connection in network.incoming[network.readout]:
        arriving = connection.geometry.carry(frames)
        step, unit = arriving.nonzero().unbind(1)
        weight = network.synapses(connection).weight
        drives.index_add_(1, step, weight[:, unit] * arriving[step, unit])
        arrived[connection.name] = _first(arriving[:, None] != 0)
    potentials = drives.t().cumsum(0)[:, None] * number(getattr(neuron, "r", 1.0))
    return Showing(potentials, {name: step.to(frames.dtype) / len(frames) for name, step in arrived.items()})


def _by_blocks(run: Run, batch: Batch, population: str) -> Showing:
    """All examples, by the network itself."""
    network, steps = run.network, len(batch.weights)
    potentials: list[Tensor] = []
    arrived: dict[str, Tensor] = {}
    for t, block in run.blocks(batch):
        potentials.append(block.scans[population].potential.unflatten(0, (block.steps, -1)))
        for connection in network.incoming[population]:
            step = _first(block.carried[connection.name].unflatten(0, (block.steps, -1)) != 0)
            here = torch.where(step < block.steps, step + t, steps)
            before = arrived.get(connection.name)
            arrived[connection.name] = here if before is None else torch.minimum(before, here)
    whole = torch.cat(potentials)
    return Showing(whole, {name: step.to(whole.dtype) / steps for name, step in arrived.items()})


def _first(there: Tensor) -> Tensor:
    """The first step at which something is there, [B, ..] of [K, B, ..]; K where nothing is."""
    return torch.where(there.any(0), there.int().argmax(0), len(there))
