"""Neuromodulators and layouts, beyond their contract: columns, strength, and what decorrelation descends."""

from typing import Any

import pytest
import torch

from neurosbd.neuromodulators import ACTIVATIONS, LAYOUTS, NEUROMODULATORS, Decorrelation, Forgetting
from neurosbd.neuromodulators.neuromodulator import Broadcast, Receiver
from neurosbd.testing.neuromodulators import sent
from tests.contracts.tables import every, seeded


@pytest.mark.parametrize("name", ["decorrelation", "prediction", "fixed_random"])
@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("size", [(6,), (3, 4, 5)])
def test_a_projection_has_a_column_for_every_coordinate_of_its_layout(
    layout: str, name: str, size: tuple[int, ...]
) -> None:
    modulator, receiver = NEUROMODULATORS[name](layout=LAYOUTS[layout]()), Receiver(torch.randn(7, *size))
    projection = modulator.projection(modulator.init(receiver, Broadcast(torch.randn(7, 4)), seeded()))
    coordinates = LAYOUTS[layout]()
    summary = coordinates.summary(receiver.value, coordinates.init(receiver.value, seeded()))
    assert projection is not None and projection.shape == (4, summary.shape[1])


@pytest.mark.parametrize("name", ["transposed", "following"])
def test_the_weights_of_a_readout_are_needed_where_they_are_used(name: str) -> None:
    with pytest.raises(ValueError, match="dense connection"):
        NEUROMODULATORS[name]().init(Receiver(torch.randn(7, 3, 4, 5)), Broadcast(torch.randn(7, 4)), seeded())


@pytest.mark.parametrize("size", [(6,), (3, 4, 5)])
def test_the_full_layout_spreads_what_it_was_given(size: tuple[int, ...]) -> None:
    layout, value = LAYOUTS["full"](), torch.randn(2, *size)
    basis = layout.init(value, seeded())
    assert torch.equal(layout.spread(layout.summary(value, basis), value, basis), value)


@every(LAYOUTS)
@pytest.mark.parametrize("size", [(6,), (3, 4, 5)])
def test_what_a_layout_has_learned_is_told_with_the_right_strength(name: str, size: tuple[int, ...]) -> None:
    """One score, activity the same for all positions: spread(summary(h)) = h, in the mean over bases. Must fail when a
    patch is summed and not averaged (tried)."""
    layout = LAYOUTS[name]()
    value = torch.randn(1, size[0], *(1,) * (len(size) - 1), dtype=torch.float64).expand(1, *size)
    bases, told = 400 if name == "low_rank" else 1, torch.zeros_like(value)
    for seed in range(bases):
        basis = layout.init(value, torch.Generator().manual_seed(seed))
        told = told + layout.spread(layout.summary(value, basis), value, basis) / bases
    torch.testing.assert_close(told, value, rtol=1e-12, atol=0.7 if name == "low_rank" else 1e-12)


@every(ACTIVATIONS)
@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("size", [(6,), (3, 4, 5)])
@pytest.mark.parametrize("others", [(), ("identity",)])
def test_signal_is_the_derivative_of_the_squared_correlation(
    name: str, layout: str, size: tuple[int, ...], others: tuple[Any, ...]
) -> None:
    """lam = 0, no frozen part: signal = g'(h) d 1/2 sum_g ||mean s m_g^T||^2 / d m_g at fixed score, by finite
    differences, where m_g is g(h) in the coordinates of the layout.

    Must fail when g' is taken of another g, or R holds the batch before (tried).
    """
    names: tuple[Any, ...] = tuple(dict.fromkeys((*others, name)))
    made_layout = LAYOUTS[layout]()
    decorrelation = Decorrelation(made_layout, 0.0, forgetting=Forgetting(0.0), activations=names)
    value, score = torch.randn(4, *size, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64) / 4
    reached, small = (Receiver(value), Broadcast(score)), 1e-5
    state = decorrelation.init(*reached, seeded())
    signal, _ = sent(decorrelation, state, *reached)
    expected = torch.zeros_like(value)
    for each in names:
        g = ACTIVATIONS[each].value
        summary = made_layout.summary(g(value), state.basis)
        moves = small * torch.eye(summary.numel(), dtype=torch.float64).view(-1, *summary.shape)
        costs = [(score.t() @ (summary + sign * moves)).square().sum((1, 2)) / 2 for sign in (1, -1)]
        slope = ((costs[0] - costs[1]) / (2 * small)).view(summary.shape)
        own = (g(value + small) - g(value - small)) / (2 * small)
        expected += own * made_layout.spread(slope, value, state.basis)
    torch.testing.assert_close(signal, expected, rtol=1e-6, atol=1e-8)
