"""Score broadcast and prediction: what the prediction weights learn, and what is told through them."""

import math
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from neurosbd.expansions import EXPANSIONS
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.simulation import unroll
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
def test_a_head_reads_by_its_own_loss(name: str, size: tuple[int, ...]) -> None:
    """Against autograd, to 1e-12: the gradient of V, and told with own = 1 the slope of that loss by the activity in
    the coordinates of the layout, spread. Must fail when the score of the reading has no 1/B (tried)."""
    torch.manual_seed(0)
    layout, loss = LAYOUTS[name](), LOSSES["cross_entropy"]()
    modulator = Prediction(layout, scale=0.5, own=1.0)
    target = torch.tensor([0, 3, 1, 2, 1])
    receiver, broadcast = reached(size, target)
    state = modulator.init(receiver, broadcast, torch.Generator())
    activity = layout.summary(receiver.value, state.basis).requires_grad_()
    loss.per_example(activity @ state.prediction.t(), target).mean().backward()
    reading = modulator.read(state, receiver, broadcast)
    assert state.prediction.grad is not None and activity.grad is not None
    slope = reading.score.t() @ reading.activity
    torch.testing.assert_close(slope, state.prediction.grad, rtol=1e-10, atol=1e-12)
    told, _ = sent(modulator, state, receiver, broadcast)
    expected = layout.spread(activity.grad, receiver.value, state.basis)
    torch.testing.assert_close(told, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_optimizer_of_the_run_moves_the_heads_of_a_network_that_takes_its_time(optimizer: str) -> None:
    """Ten batches of three steps of different weights: V is what torch's optimizer makes of the loss of the head,
    weighted over the steps, by autograd. Must fail when a step is not weighted (tried), or V is read after it moved."""
    torch.manual_seed(0)
    network, loss = mlp([5, 7, 3]), LOSSES["cross_entropy"]()
    learner = Learner(network, LocalRule(ThreeFactor(), Prediction(Full())), loss, torch.Generator())
    (head,) = learner.parameters.values()
    assert list(learner.parameters) == ["hidden1.prediction"]
    weight = head.detach().clone().requires_grad_()
    make = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[optimizer]
    ours, theirs = make([*network.parameters(), *learner.parameters.values()], 0.03), make([weight], 0.03)
    weights = [0.2, 0.0, 0.7]
    for _ in range(10):
        x, target = torch.randn(3, 6, 5, dtype=torch.float64), torch.randint(3, (6,))
        hidden = [unroll(network, step[None]).activity["hidden1"].value.detach() for step in x]
        theirs.zero_grad()
        for share, value in zip(weights, hidden, strict=True):
            (share * loss.per_example(value @ weight.t(), target).mean()).backward()
        theirs.step()
        ours.zero_grad()
        learner.learn(Batch(x, target, weights))
        ours.step()
        learner.after_step()
        torch.testing.assert_close(head.detach(), weight.detach(), rtol=1e-9, atol=1e-12)


def test_a_loop_that_forgets_the_heads_is_told() -> None:
    """Their gradients wait while those of the weights are gone; once, and not where the optimizer has them."""
    torch.manual_seed(0)
    for forgets in (True, False):
        network = mlp([5, 7, 3])
        learner = Learner(network, RULES["sbp"](), LOSSES["cross_entropy"](), torch.Generator())
        heads = [] if forgets else list(learner.parameters.values())
        optimizer = torch.optim.SGD([*network.parameters(), *heads], 0.1)
        batch = Batch(torch.randn(1, 6, 5, dtype=torch.float64), torch.randint(3, (6,)))
        told = []
        for _ in range(3):
            optimizer.zero_grad()
            with warnings.catch_warnings(record=True) as told_now:
                warnings.simplefilter("always")
                learner.learn(batch)
            told += told_now
            optimizer.step()
            learner.after_step()
        assert [str(w.message).count("hidden1.prediction") for w in told] == ([1] if forgets else [])


def test_a_checkpoint_goes_into_the_heads_that_the_optimizer_has() -> None:
    """Must fail when a head is replaced (tried)."""
    network = mlp([5, 7, 3])
    one, two = (
        Learner(network, RULES["sbp"](), LOSSES["cross_entropy"](), torch.Generator().manual_seed(seed))
        for seed in (1, 2)
    )
    head = two.parameters["hidden1.prediction"]
    assert not torch.equal(head, one.parameters["hidden1.prediction"])
    two.load_state_dict(one.state_dict())
    assert two.parameters["hidden1.prediction"] is head
    assert torch.equal(head, one.parameters["hidden1.prediction"])


def test_between_the_broadcast_and_the_own_score() -> None:
    """The signal is linear in `own`, and at 0 the broadcast score alone through V."""
    torch.manual_seed(0)
    target = torch.tensor([0, 3, 1])
    receiver, broadcast = reached((6,), target)
    state = Prediction().init(receiver, broadcast, torch.Generator())
    state = state._replace(prediction=torch.nn.Parameter(torch.randn(4, 6, dtype=torch.float64)))
    zero, half, one = (sent(Prediction(own=own), state, receiver, broadcast)[0] for own in (0.0, 0.5, 1.0))
    torch.testing.assert_close(zero, broadcast.score @ state.prediction.detach())
    torch.testing.assert_close(half, (zero + one) / 2)
    assert not torch.allclose(zero, one)


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
    state_of(learner).modulators["hidden1"] = blank._replace(prediction=torch.nn.Parameter(readout))
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
    heads, found = torch.optim.SGD(learner.parameters.values(), 1.0), []
    heads.step()
    for _ in range(2):
        heads.zero_grad()
        learner.learn(trial)
        found.append(gradients(network))
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
        (lambda: Prediction(relative_rate=0.0), "relative_rate must be a positive number, got 0.0"),
        (lambda: Prediction(relative_rate=math.inf), "relative_rate"),
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
