"""Forward-Forward against its equations, in float64."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.errors import UsageError
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.losses import LOSSES
from neurosbd.network.network import INPUT, Network
from neurosbd.neurons import NEURONS, Tanh
from neurosbd.rules import RULES
from neurosbd.testing.networks import cnn, mlp
from tests.contracts.tables import seeded

LABELS = torch.tensor([0, 2, 1, 1])


def made(network: Network, **constants: Any) -> Learner:
    return Learner(network, RULES["forward_forward"](**constants), LOSSES["cross_entropy"](), seeded())


def drawn_wrong(learner: Learner) -> Tensor:
    """The wrong labels of the next batch."""
    rule: Any = learner.rule
    return rule._wrong(copy.deepcopy(learner.state), Batch(torch.zeros(1, len(LABELS), 1), LABELS), torch.zeros(4, 3))


def written(x: Tensor, label: Tensor) -> Tensor:
    return torch.cat((torch.nn.functional.one_hot(label, 3).to(x), x.flatten(1)[:, 3:]), 1).view(x.shape)


def powers(neuron: str = "unit_power") -> Network:
    return mlp([6, 8, 7, 3], neuron)


@pytest.mark.parametrize("make", [powers, lambda: powers("tanh"), cnn])
def test_every_population_descends_the_loss_of_its_goodness(make: Any) -> None:
    """F1: both labels, threshold 0.7. Oracle: autograd through one layer whose input is cut off, 1e-10.

    Must fail when the strength is that of what is sent (tried), or both labels have one sign (tried).
    """
    network = make()
    x = torch.randn(1, 4, *network.populations[INPUT].size, dtype=torch.float64)
    learner = made(network, threshold=0.7)
    wrong = drawn_wrong(learner)
    learner.learn(Batch(x, LABELS))
    for name in list(network.incoming)[:-1]:
        connection, neuron = network.incoming[name][0], network.populations[name].neuron
        weight, total = network.weights[connection.name], torch.zeros(()).double()
        assert neuron is not None
        for sign, label in ((1, LABELS), (-1, wrong)):
            frame = network.step(network.init(x[0]), written(x[0], label))
            arriving = frame.carried[connection.name].detach()
            drive = connection.geometry.drive(network.synapses(connection), arriving)
            y = torch.tanh(drive) if isinstance(neuron, Tanh) else torch.relu(drive)
            good = y.square().flatten(1).mean(1)
            total = total + torch.nn.functional.softplus(-sign * (good - 0.7)).mean()
        (exact,) = torch.autograd.grad(total, weight)
        assert weight.grad is not None
        torch.testing.assert_close(weight.grad, exact, rtol=1e-9, atol=1e-12)


def test_a_right_label_is_hebbian_and_a_wrong_one_the_opposite() -> None:
    """F2: the change is +c y h^T with 0 < c < 2 / units; alike and at the threshold they cancel.

    Must fail when the sign is left out (tried).
    """
    rule: Any = RULES["forward_forward"](threshold=0.3)
    network = mlp([6, 8, 3], "relu", bias=False)
    x = torch.randn(1, 1, 6, dtype=torch.float64)
    for sign in (1.0, -1.0):
        network.zero_grad()
        learner = made(network)
        with torch.no_grad():
            for p in _run(learner, x)(Batch(x, LABELS[:1])):
                rule._tell_apart(p, sign)
        y = torch.relu(x[0] @ network.weights["input->hidden1"].t()).detach()
        gradient = network.weights["input->hidden1"].grad
        assert gradient is not None
        share = -sign * gradient * 8 / (y.t() @ x[0])
        share = share[y[0] > 0]
        assert (share > 0).all() and (share < 2).all() and share.max() - share.min() < 1e-9
    level = y.square().mean().item()
    network.zero_grad()
    with torch.no_grad():
        for sign in (1.0, -1.0):
            for p in _run(made(network), x)(Batch(x, LABELS[:1])):
                RULES["forward_forward"](threshold=level)._tell_apart(p, sign)  # type: ignore[attr-defined]
    assert network.weights["input->hidden1"].grad.abs().max() < 1e-12


def _run(learner: Learner, x: Tensor) -> Any:
    from neurosbd.learning.observers import Watchers
    from neurosbd.learning.passes import Run

    return Run(learner.network, learner.loss, Batch(x, LABELS[: x.shape[1]]), Watchers(), None)


def test_the_next_population_does_not_hear_how_good_the_last_one_was() -> None:
    """F3: weights ten times as strong: the same to the next, bitwise but for rounding; of plain units another.

    Must fail when nothing is divided (tried).
    """
    for neuron, told in (("unit_power", False), ("relu", True)):
        network = mlp([6, 8, 7, 3], neuron, bias=False)
        x = torch.randn(4, 6, dtype=torch.float64)
        before = network(x)
        with torch.no_grad():
            network.weights["input->hidden1"].mul_(10)
        assert torch.allclose(network(x), before, rtol=1e-6) != told
    within = NEURONS["unit_power"](Tanh())
    value = within.step((), torch.randn(5, 9).double(), 1e-3)[0].value
    torch.testing.assert_close(value.square().mean(1), torch.ones(5).double())


def test_a_scan_tries_every_label() -> None:
    """F4: C showings, the goodness of all hidden populations but the first, by hand.

    Must fail when the first counts, too (tried).
    """
    network = powers()
    x = torch.randn(1, 4, 6, dtype=torch.float64)
    result = made(network, answers="scan").answer(Batch(x, LABELS))
    expected = []
    for label in range(3):
        frame = network.step(network.init(x[0]), written(x[0], torch.full((4,), label)))
        w, b = network.weights["hidden1->hidden2"], network.biases["hidden1->hidden2"]
        expected.append(torch.relu(frame.carried["hidden1->hidden2"] @ w.t() + b).square().mean(1))
    torch.testing.assert_close(result.output, torch.stack(expected, 1).detach())
    assert result.output.shape == (4, 3) and torch.isfinite(result.loss)


def test_the_readout_answers_to_a_neutral_label() -> None:
    """Whatever stands where labels are written. Must fail when the input is shown as it is (tried)."""
    learner = made(powers())
    x = torch.randn(1, 4, 6, dtype=torch.float64)
    other = x.clone()
    other[..., :3] = 7.0
    one, two = (learner.answer(Batch(inputs, LABELS)).output for inputs in (x, other))
    assert torch.equal(one, two)


def test_wrong_labels_are_wrong_and_all_are_drawn() -> None:
    """And others at the next batch. Must fail when the right one is among them (tried)."""
    learner = made(powers())
    rule: Any = learner.rule
    batch, output = Batch(torch.zeros(1, len(LABELS), 1), LABELS), torch.zeros(4, 3)
    drawn = [rule._wrong(learner.state, batch, output) for _ in range(20)]
    assert all((wrong != LABELS).all() for wrong in drawn)
    assert len({pair for wrong in drawn for pair in zip(LABELS.tolist(), wrong.tolist(), strict=True)}) == 6


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("digits-snn", {}, r"'input->hidden1'.*neurons with a state, LIF"),
        ("diabetes-mlp", {}, r"'forward_forward' learns from labels of classes, but 'diabetes' has values to predict"),
    ],
)
def test_what_it_cannot_train_is_refused(model: str, settings: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        neurosbd.fit(model, rule="forward_forward", settings=settings, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_input_that_is_too_small_for_the_label_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'input->hidden1'.*first 3 values of the input, which has \[2\]"):
        made(mlp([2, 5, 3]))


def test_a_target_that_is_no_label_is_refused() -> None:
    learner = made(powers())
    with pytest.raises(UsageError, match=r"learns from labels of classes, integers \[B\], got a target \[4, 3\]"):
        learner.learn(Batch(torch.randn(1, 4, 6, dtype=torch.float64), torch.rand(4, 3, dtype=torch.float64)))


def test_hard_negatives_are_drawn_by_what_the_readout_believes() -> None:
    """40,000 draws: P(c) = exp(output[c]) / sum over the wrong ones, within 1 %, never the right one; and what is asked
    is the neutral showing of the batch.

    Must fail when the right class is left in (tried), or all are alike (tried).
    """
    rule: Any = RULES["forward_forward"](negatives="hard")
    state, many = rule.begin(mlp([6, 8, 3]), None, seeded()), 40_000
    output = torch.tensor([1.0, 3.0, 0.5, 2.0]).log().expand(many, 4)
    wrong = rule._wrong(state, Batch(torch.zeros(1, many, 1), torch.ones(many, dtype=torch.long)), output)
    share = torch.bincount(wrong, minlength=4) / many
    torch.testing.assert_close(share, torch.tensor([2, 0, 1, 4]) / 7, rtol=0, atol=0.01)

    network, x = powers(), torch.randn(1, 4, 6, dtype=torch.float64)
    learner = made(network, negatives="hard")
    learned: Any = learner.rule
    neutral = torch.cat((torch.full((4, 3), 1 / 3).double(), x[0][:, 3:]), 1)
    expected = learned._wrong(copy.deepcopy(learner.state), Batch(x, LABELS), network(neutral).detach())
    learner.learn(Batch(x, LABELS))
    hard = {name: weight.grad.clone() for name, weight in network.weights.items() if weight.grad is not None}
    network.zero_grad()
    given = made(network)
    object.__setattr__(given.rule, "_wrong", lambda state, batch, output: expected)
    given.learn(Batch(x, LABELS))
    assert all(torch.equal(weight.grad, hard[name]) for name, weight in network.weights.items())  # type: ignore[arg-type]
