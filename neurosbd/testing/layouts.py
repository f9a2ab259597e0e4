"""What every layout of a projection keeps: all units are reached, with the right strength."""

import torch

from neurosbd.testing.judging import Check, Make, close, demand, drawn, identical, seeded

SIZES = ((6,), (3, 4, 5))


def layout_depends_on_neither_memory_order_nor_batch(make: Make) -> None:
    """One basis whatever the batch, one summary whatever the order in memory, a spread of the population's shape."""
    for size in SIZES:
        layout, value = make(), drawn(2, *size, dtype=torch.float32)
        basis = layout.init(value, seeded())
        identical(basis, layout.init(value[:1], seeded()), "The basis depends on the size of the batch")
        demand(basis.dtype == value.dtype, "The basis must have the dtype of the activity")
        summary = layout.summary(value, basis)
        sentence = "The summary of an example depends on the batch or on the order in memory"
        close(layout.summary(value[1:], basis), summary[1:], sentence, 1.3e-6, 1e-5)
        if value.ndim == 4:
            other = value.contiguous(memory_format=torch.channels_last)
            close(layout.summary(other, basis), summary, sentence, 1.3e-6, 1e-5)
        demand(layout.spread(summary, value, basis).shape == value.shape, "`spread` must give one value for every unit")


def layout_reaches_every_unit_alike(make: Make) -> None:
    """A third factor of the same variance, over 40,000 projections, within 5 %, seven times its own spread.

    Must fail when the directions of low_rank are not of length 1 (tried: sqrt(2)).
    """
    for size in SIZES:
        layout, like = make(), torch.zeros(40_000, *size)
        basis = layout.init(like, seeded())
        coordinates = torch.randn(40_000, layout.summary(like[:1], basis).shape[1], generator=seeded())
        variance = layout.spread(coordinates, like, basis).var(0)
        close(variance, torch.ones(size), "Coordinates of variance 1 do not reach every unit with variance 1", 5e-2, 0)


def adjoint_is_the_transpose_of_summary(make: Make) -> None:
    """<summary(h), s> = <h, adjoint(s)>, float64. Must fail when every position of a patch gets the whole (tried)."""
    for size in SIZES:
        layout, value = make(), drawn(4, *size)
        basis = layout.init(value, seeded())
        summary = layout.summary(value, basis)
        slope = drawn(*summary.shape, seed=1)
        there, back = (summary * slope).sum(), (value * layout.adjoint(slope, value, basis)).sum()
        close(back, there, "`adjoint` is not the transpose of `summary`", 1e-9, 1e-9)


LAYOUT_CHECKS: tuple[Check, ...] = (
    layout_depends_on_neither_memory_order_nor_batch, layout_reaches_every_unit_alike,
    adjoint_is_the_transpose_of_summary,
)  # fmt: skip


def check_layout(make: Make) -> None:
    """Everything that the contract of a layout promises; see `check_neuron`."""
    for check in LAYOUT_CHECKS:
        check(make)
