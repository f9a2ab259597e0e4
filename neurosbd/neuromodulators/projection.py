"""Random projections: what every neuromodulator that has one starts from."""

import torch
from torch import Tensor

from neurosbd.neuromodulators.layouts import Layout
from neurosbd.neuromodulators.neuromodulator import Broadcast


def draw_projection(
    value: Tensor, broadcast: Broadcast, layout: Layout, scale: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A random projection of the score and the basis of its layout, on the device of the activity.

    Args:
        value: something like the activity of the population, [B, *size].
        broadcast: something like what reaches it; its score [B, C + D] says how many rows there are.
        layout: over the population.
        scale: standard deviation of the entries, Gaussian; those of the D rows of an expansion are 0.
        generator: source of both.

    Returns:
        The projection [C + D, M] and the basis.
    """
    basis = layout.init(value, generator)
    units = layout.summary(value[:1], basis).shape[1]
    drawn = torch.randn(broadcast.score.shape[1] - broadcast.n_expanded, units, generator=generator) * scale
    return torch.cat((drawn, drawn.new_zeros(broadcast.n_expanded, units))).to(value), basis
