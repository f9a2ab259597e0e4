"""Random projections: what every neuromodulator that has one starts from."""

import math

import torch
from torch import Tensor

from neurosbd.neuromodulators.layouts import Layout
from neurosbd.process import Heard


def draw_projection(
    heard: Heard, channels: int, layout: Layout, scale: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A random projection and the basis of its layout, on the device of the activity.

    Args:
        heard: something like what it will hear.
        channels: C + D, rows of the projection, those of an expansion included.
        layout: over the population.
        scale: standard deviation of the entries, Gaussian; those of the D rows of an expansion are 0.
        generator: source of both.

    Returns:
        The projection [C + D, M] and the basis.
    """
    basis = layout.init(heard.value, generator)
    units = layout.summary(heard.value[:1], basis).shape[1]
    drawn = torch.randn(channels - heard.n_expanded, units, generator=generator) * scale
    return torch.cat((drawn, drawn.new_zeros(heard.n_expanded, units))).to(heard.value), basis


def check_scale(owner: object, scale: float) -> None:
    """Raise ValueError unless scale is a finite number >= 0."""
    if not (scale >= 0 and math.isfinite(scale)):
        raise ValueError(f"{type(owner).__name__}.scale must be a number >= 0, got {scale}")
