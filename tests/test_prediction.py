"""Score broadcast and prediction: what the prediction weights learn, and what is told through them."""

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from neurosbd.expansions import EXPANSIONS
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.losses import LOSSES
from neurosbd.neuromodulators import LAYOUTS, Full, Grid, Layout, Predicting, Prediction, Shared
from neurosbd.neuromodulators.neuromodulator import Broadcast, Receiver
from neurosbd.plasticity import ThreeFactor
from neurosbd.rules import RULES, LocalRule
from neurosbd.testing.neuromodulators import sent
from tests.compositions import state_of
from tests.conftest import cnn, mlp
from tests.targets import example


def reached(size: tuple[int, ...], target: Tensor) -> tuple[Receiver, Broadcast]:
    """A random activity that a random score reaches, and its target; float64."""
    value, score = (torch.randn(len(target), *s, dtype=torch.float64) for s in (size, (4,)))
    return Receiver(value), Broadcast(score / len(target), target=target, loss=LOSSES["cross_entropy"]())


def gradients(network: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of every gradient, which are then gone."""
    found = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    return found


@pytest.mark.parametrize("name", list(LAYOUTS))
@pytest.mark.parametrize("size", [(6,), (3, 4, 6)], ids=["units", "map"])
def test_prediction_weights_descend_their_own_loss_by_adam(name: str, size: tuple[int, ...]) -> None:
    """Ten batches against autograd and torch's optimizer, to 1e-12; told with own = 1 is the slope of that loss by the
    activity in the coordinates of the layout, spread. Must fail when V learns before the signal is told (tried), or
    power is not corrected for its start (tried)."""
    torch.manual_seed(0)
    layout, loss = LAYOUTS[name](), LOSSES["cross_entropy"]()
    modulator = Prediction(layout, rate=0.03, scale=0.0, own=1.0)
    target = torch.tensor([0, 3, 1, 2, 1])
    state = modulator.init(*reached(size, target), torch.Generator())
    weight = torch.zeros_like(state.weight, requires_grad=True)
    optimizer = torch.optim.Adam([weight], 0.03)
    for _ in range(10):
        receiver, broadcast = reached(size, target)
        activity = layout.summary(receiver.value, state.basis).requires_grad_()
        optimizer.zero_grad()
        loss.per_example(activity @ weight.t(), target).mean().backward()
        told, state = sent(modulator, state, receiver, broadcast)
        assert activity.grad is not None
        expected = layout.spread(activity.grad, receiver.value, state.basis)
        torch.testing.assert_close(told, expected, rtol=1e-10, atol=1e-12)
        optimizer.step()
        torch.testing.assert_close(state.weight, weight.detach(), rtol=1e-10, atol=1e-12)


def test_between_the_broadcast_and_the_own_score() -> None:
    """The signal is linear in `own`, and at 0 the broadcast score alone through V."""
    torch.manual_seed(0)
    target = torch.tensor([0, 3, 1])
    receiver, broadcast = reached((6,), target)
    state = Prediction().init(receiver, broadcast, torch.Generator())
    state = state._replace(weight=torch.randn(4, 6, dtype=torch.float64))
    zero, half, one = (sent(Prediction(own=own), state, receiver, broadcast)[0] for own in (0.0, 0.5, 1.0))
    torch.testing.assert_close(zero, broadcast.score @ state.weight)
    torch.testing.assert_close(half, (zero + one) / 2)
    assert not torch.allclose(zero, one)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_rests_where_the_own_score_is_uncorrelated_with_the_activity(loss: str) -> None:
    """On activity that stays: the optimum of a convex readout, found by Newton's way (L-BFGS). Must fail when V
    ascends (tried)."""
    torch.manual_seed(0)
    value, made = torch.randn(60, 5, dtype=torch.float64), LOSSES[loss]()
    target = (torch.rand(60, generator=torch.Generator().manual_seed(1)) * 3).long()
    receiver, broadcast = Receiver(value), Broadcast(value.new_zeros(60, 3), target=target, loss=made)
    state = Prediction().init(receiver, broadcast, torch.Generator().manual_seed(2))
    for rate in (3e-2, 3e-3, 3e-4, 3e-5):
        for _ in range(500):
            _, state = sent(Prediction(rate=rate), state, receiver, broadcast)
    best = torch.zeros(3, 5, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([best], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-14)

    def cost() -> Tensor:
        search.zero_grad()
        found = made.per_example(value @ best.t(), target).mean()
        found.backward()
        return found

    search.step(cost)  # type: ignore[arg-type]
    assert (broadcast.score_of(value @ state.weight.t()).t() @ value).abs().max() < 1e-5
    common = 1.0 if loss == "cross_entropy" else 0.0  # what all classes share means nothing there
    one, other = (v - common * v.mean(0) for v in (state.weight, best.detach()))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


class Sloping(NamedTuple):
    """A loss with one slope everywhere, [B, C]."""

    slope: Tensor

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        return self.slope


def test_steps_take_their_shares_of_a_batch() -> None:
    """Half a batch twice is one batch, for a slope that stays: moments and age to 1e-12, and V. Must fail when the rate
    is not shared (tried)."""
    target = torch.tensor([0, 3, 1])
    receiver, broadcast = reached((6,), target)
    broadcast = broadcast._replace(loss=Sloping(torch.randn(3, 4, dtype=torch.float64)))
    whole = Prediction().init(receiver, broadcast, torch.Generator())
    halves = whole
    for _ in range(3):
        _, whole = sent(Prediction(), whole, receiver, broadcast)
        for _ in range(2):
            _, halves = sent(Prediction(), halves, receiver, broadcast._replace(step_share=0.5))
    for one, other in zip(*(state._replace(sent=state.weight) for state in (whole, halves)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("own", [0.0, 1.0])
@pytest.mark.parametrize("loss", LOSSES)
def test_one_hidden_layer_that_predicts_by_the_readout_is_backprop(loss: str, own: float) -> None:
    """V = weights of the readout, which has no bias: own and broadcast score are the same, and so is backprop's. Must
    fail when V is any other (tried)."""
    made = LOSSES[loss]()
    network = mlp([5, 7, 4 * made.parameters], bias=False)
    torch.manual_seed(0)
    x, (_, target) = torch.randn(6, 5, dtype=torch.float64), example(made, 6, 4)
    learner = Learner(network, LocalRule(ThreeFactor(), Prediction(Full(), own=own)), made, torch.Generator())
    readout = network.weights["hidden1->output"].detach().clone()
    blank: Predicting = state_of(learner).modulators["hidden1"]
    state_of(learner).modulators["hidden1"] = blank._replace(weight=readout)
    learner.learn(Batch(x[None], target))
    local = gradients(network)
    Learner(network, RULES["bp"](), made, torch.Generator()).learn(Batch(x[None], target))
    for name, exact in gradients(network).items():
        torch.testing.assert_close(local[name], exact, rtol=1e-10, atol=1e-12)


def told_to_hidden(own: float, change: Callable[[Learner], None]) -> list[dict[str, Tensor]]:
    """Gradients of a convolutional network after some learning, before and after a change."""
    torch.manual_seed(0)
    network, trial = cnn(), Batch(torch.randn(1, 6, 2, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 1]))
    rule = LocalRule(ThreeFactor(), Prediction(Grid(2), scale=0.0, own=own))
    learner = Learner(network, rule, LOSSES["cross_entropy"](), torch.Generator())
    learner.learn(trial)
    assert not any(g.any() for name, g in gradients(network).items() if "output" not in name)  # nobody predicts yet
    found = []
    for _ in range(2):
        before = dict(state_of(learner).modulators)
        learner.learn(trial)
        found.append(gradients(network))
        state_of(learner).modulators = before
        change(learner)
    return found


@pytest.mark.parametrize("own", [0.0, 0.5, 1.0])
def test_what_lies_above_matters_by_its_score_alone(own: float) -> None:
    """Other weights of the readout change the hidden layers' updates unless they hear their own score only. Must fail
    when the own score is left out (tried)."""

    def change(learner: Learner) -> None:
        with torch.no_grad():
            learner.network.weights["fc->output"].mul_(-3)

    one, other = told_to_hidden(own, change)
    hidden = [name for name in one if "output" not in name]
    same = [torch.equal(one[name], other[name]) for name in hidden]
    assert hidden and (all(same) if own == 1 else not any(same))


@pytest.mark.parametrize("size", [(3, 8, 6), (2, 3, 3), (6,)])
def test_a_grid_has_as_many_patches_on_every_map(size: tuple[int, ...]) -> None:
    """One division is shared, more than there are positions full, and in between patches of a fraction of the map. Must
    fail when the sides of a patch are rounded down (tried)."""
    torch.manual_seed(0)
    value = torch.randn(2, *size, dtype=torch.float64)
    alike: list[tuple[Layout, Layout]] = [(Grid(1), Shared()), (Grid(100), Full())]
    basis = torch.empty(0)
    for grid, other in alike:
        summary = grid.summary(value, basis)
        torch.testing.assert_close(summary, other.summary(value, basis))
        torch.testing.assert_close(grid.spread(summary, value, basis), other.spread(summary, value, basis))
    assert Grid(2).summary(value, basis).shape[1] == size[0] * (4 if len(size) == 3 else 1)
    if size == (3, 8, 6):
        halves = value.view(2, 3, 2, 4, 2, 3).mean((3, 5))
        torch.testing.assert_close(Grid(2).summary(value, basis), halves.permute(0, 2, 3, 1).flatten(1))


def test_constants_out_of_range_are_refused() -> None:
    for make, message in [
        (lambda: Prediction(rate=0.0), "rate must be a positive number, got 0.0"),
        (lambda: Prediction(rate=math.inf), "rate"),
        (lambda: Prediction(scale=-1.0), "scale must be a number >= 0, got -1.0"),
        (lambda: Prediction(own=1.5), "own must be in 0..1, got 1.5"),
        (lambda: Grid(0), "at least 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()


def test_an_expansion_of_the_score_is_refused() -> None:
    """V would have rows for its columns, and the loss would take them for outputs."""
    rule = LocalRule(ThreeFactor(), Prediction(), expansion=(EXPANSIONS["gated"](),))
    with pytest.raises(ValueError, match=r"population 'hidden1'.*judged by the loss.*remove the expansion"):
        Learner(mlp([4, 5, 3]), rule, LOSSES["cross_entropy"](), torch.Generator())
