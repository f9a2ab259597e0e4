"""Random projections: what every neuromodulator that has one starts from."""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from neurosbd.neuromodulators.layouts import Layout

Entries = Literal["normal", "uniform"]
_BLOCK = 16  # numbers that torch draws at once; of whole blocks, fewer are the first of more


def columns(generator: torch.Generator, entries: Entries, rows: int, count: int) -> Tensor:
    """Entries of mean 0 and variance 1, [rows, count]."""
    if entries == "normal":
        return torch.randn(rows, count, generator=generator)
    return (2 * torch.rand(rows, count, generator=generator) - 1) * math.sqrt(3)


def first_columns(seed: int, entries: Entries, rows: int, count: int) -> Tensor:
    """The first columns of one matrix that a seed stands for, however many are asked for, [rows, count]."""
    generator, wanted = torch.Generator().manual_seed(seed), rows * count
    line = columns(generator, entries, 1, -(-wanted // _BLOCK) * _BLOCK)[0, :wanted]
    return line.view(count, rows).t().contiguous()


def draw_projection(
    value: Tensor,
    outputs: int,
    layout: Layout,
    scale: float,
    generator: torch.Generator,
    n_expanded: int = 0,
    draw: Callable[[int, int], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """A random projection of what is broadcast and the basis of its layout, on the device of the activity.

    Args:
        value: something like the activity of the population, [B, *size].
        outputs: C, values that are broadcast: of a score, a target or a reward.
        layout: over the population.
        scale: standard deviation of the entries.
        generator: source of both.
        n_expanded: D, rows of an expansion of the score; they start at 0.
        draw: (rows, columns) -> entries of variance 1; none: Gaussian ones from the generator.

    Returns:
        The projection [C + D, M] and the basis.
    """
    basis = layout.init(value, generator)
    units = layout.summary(value[:1], basis).shape[1]
    draw = draw or partial(columns, generator, "normal")
    drawn = draw(outputs, units) * scale
    return torch.cat((drawn, drawn.new_zeros(n_expanded, units))).to(value), basis
