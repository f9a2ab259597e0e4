"""Layouts of a projection: patches between full and shared, and few directions for all units."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.losses import LOSSES
from neurosbd.neuromodulators import Decorrelation, FixedRandom, Full, Layout, LowRank, Patchwise, Shared
from neurosbd.neuromodulators.neuromodulator import Broadcast, Receiver
from neurosbd.plasticity import ThreeFactor
from neurosbd.rules import LocalRule
from neurosbd.testing.neuromodulators import sent
from tests.conftest import cnn

SIZES = [(3, 6, 6), (3, 7, 5), (1, 4, 9), (6,)]


def signals(layout: Layout, size: tuple[int, ...], steps: int = 3, **constants: Any) -> list[Tensor]:
    """Signals of a few steps of decorrelation, float64, from one seed."""
    modulator = Decorrelation(layout, scale=0.5, **constants)
    torch.manual_seed(0)
    heard = [
        (Receiver(torch.randn(4, *size, dtype=torch.float64)), Broadcast(torch.randn(4, 5, dtype=torch.float64)))
        for _ in range(steps)
    ]
    state, told = modulator.init(*heard[0], torch.Generator().manual_seed(1)), []
    for step in heard:
        signal, state = sent(modulator, state, *step)
        told.append(signal)
    return told


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("patch", "same"), [(1, Full()), (9, Shared()), (1000, Shared())])
def test_patches_of_one_pixel_are_full_and_of_the_whole_map_shared(
    size: tuple[int, ...], patch: int, same: Layout
) -> None:
    """Learned and frozen parts, several steps. Must fail when rows are ordered channel by channel (tried)."""
    for mine, other in zip(signals(Patchwise(patch), size), signals(same, size), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("patch", [2, 3, 4])
def test_patches_are_means_of_what_lies_in_them(patch: int) -> None:
    """Counted position by position, with cut patches at the border. Must fail when a patch is summed (tried)."""
    value, layout = torch.randn(2, 3, 7, 5, dtype=torch.float64), Patchwise(patch)
    basis = layout.init(value, torch.Generator())
    summary = layout.summary(value, basis)
    down, across = math.ceil(7 / patch), math.ceil(5 / patch)
    assert summary.shape == (2, down * across * 3)
    told = layout.spread(summary, value, basis)
    for row in range(7):
        for column in range(5):
            i, j = row // patch, column // patch
            there = value[:, :, i * patch : (i + 1) * patch, j * patch : (j + 1) * patch]
            mean = there.mean((2, 3))
            torch.testing.assert_close(told[:, :, row, column], mean, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(summary.view(2, down, across, 3)[:, i, j], mean, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [(3, 4, 5), (20,)])
def test_low_rank_is_full_through_the_basis(size: tuple[int, ...]) -> None:
    """Its frozen part is a full projection R0 P^T, and its learned one full's times P P^T. Must fail when the spread
    forgets the basis's order of units (tried: rows of the map channel by channel)."""
    torch.manual_seed(0)
    receiver = Receiver(torch.randn(4, *size, dtype=torch.float64))
    broadcast = Broadcast(torch.randn(4, 5, dtype=torch.float64))
    low, full = (Decorrelation(layout, scale=0.5) for layout in (LowRank(3), Full()))
    state = low.init(receiver, broadcast, torch.Generator().manual_seed(1))
    assert state.basis.shape == (3, math.prod(size)) and state.frozen.shape == state.learned.shape == (5, 3)
    torch.testing.assert_close(state.basis.norm(dim=0), torch.ones_like(state.basis[0]), rtol=1e-6, atol=0)
    signal, after = sent(low, state, receiver, broadcast)
    _, seen = sent(full, full.init(receiver, broadcast, torch.Generator()), receiver, broadcast)
    assert after.basis is state.basis  # drawn once
    projection = state.frozen @ state.basis + seen.learned @ state.basis.t() @ state.basis
    expected = full.layout.spread(broadcast.score @ projection, receiver.value, seen.basis)
    torch.testing.assert_close(signal, expected, rtol=1e-10, atol=1e-12)


def test_the_error_of_low_rank_falls_with_its_rank() -> None:
    """P P^T - 1 has entries of the size 1 / sqrt(rank)."""
    value = torch.zeros(1, 300, dtype=torch.float64)
    for rank in (4, 64, 1024):
        basis = LowRank(rank).init(value, torch.Generator().manual_seed(0))
        away = basis.t() @ basis - torch.eye(300, dtype=torch.float64)
        assert away.square().sum().div(300 * 299).sqrt().item() == pytest.approx(1 / math.sqrt(rank), rel=0.05)


@pytest.mark.parametrize("make", [Decorrelation, FixedRandom])
def test_a_basis_is_kept_with_the_projection(make: Any) -> None:
    """A learner that goes on from a state dict is told the same. Must fail when the basis is drawn again (tried)."""
    network, told = cnn(), []
    torch.manual_seed(0)
    trial = Batch(torch.randn(1, 4, 2, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 0]))
    rule = LocalRule(ThreeFactor(), make(LowRank(4), scale=0.3))
    first, second = (
        Learner(network, rule, LOSSES["cross_entropy"](), torch.Generator().manual_seed(seed)) for seed in (1, 2)
    )
    second.load_state_dict(first.state_dict())  # type: ignore[attr-defined]
    for learner in (first, second):
        network.zero_grad()
        learner.learn(trial)
        told.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*told, strict=True))


@pytest.mark.parametrize(
    ("make", "message"), [(lambda: Patchwise(0), "at least 1 pixel"), (lambda: LowRank(0), "rank")]
)
def test_constants_out_of_range_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
