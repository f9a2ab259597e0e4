"""Dropout: while a network learns, units of a population send nothing for the length of a run, drawn at random."""

from collections.abc import Mapping

import torch
from torch import Tensor

from neurosbd.network.populations import Population
from neurosbd.neurons.neuron import Activity
from neurosbd.noise import new_key, uniform


def draw_sent(
    populations: Mapping[str, Population], example: Tensor, generator: torch.Generator | None
) -> dict[str, Tensor]:
    """What every unit sends of its value in a run, 0 or 1 / (1 - dropout), [B, *size], by population with dropout.

    It is drawn once, so that a unit is silent at all steps of the run, and is keyed noise: a run with the same
    generator has the same silent units, and the second showing of a batch those of the first.

    Args:
        populations: of the network, by name.
        example: input of the run, [B, *input size].
        generator: of the run.
    Raises:
        ValueError: naming the population, if there is no generator.
    Source: Srivastava et al. 2014, J. Mach. Learn. Res. 15:1929; scaled while learning, as in torch.nn.Dropout.
    """
    sent = {}
    for name, population in populations.items():
        if not population.dropout:
            continue
        if generator is None:
            raise ValueError(
                f"population '{name}' has dropout, which is drawn while a network learns: give the run a "
                f"torch.Generator, or call network.eval() so that all units send"
            )
        key = new_key(generator, "dropout", example.device)
        like = example.new_zeros((len(example), *population.size))
        drawn = uniform(key, key.new_zeros(()), like) >= population.dropout
        sent[name] = drawn.to(like.dtype) / (1 - population.dropout)
    return sent


def thinned(activity: Activity, sent: Tensor | None) -> Activity:
    """The activity of a population that sends only this share of its values; None: all of it."""
    return activity if sent is None else activity._replace(value=activity.value * sent, sent=sent)
