"""Mono-Forward against its equations, in float64."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.connections import Conv2d, Dense
from neurosbd.errors import UsageError
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.upward import upward
from neurosbd.losses import LOSSES
from neurosbd.network.network import INPUT, Connection, Network, Population
from neurosbd.neuromodulators import LAYOUTS
from neurosbd.neurons import Identity, ReLU, Standardised, Tanh
from neurosbd.rules import RULES
from neurosbd.testing.networks import cnn, lc, mlp
from tests.contracts.tables import seeded

LABELS = torch.tensor([0, 2, 1, 1])


def learned(network: Network, x: Tensor, progress: float = 0.0, **constants: Any) -> Learner:
    """A learner after one batch."""
    learner = Learner(network, RULES["mono_forward"](**constants), LOSSES["cross_entropy"](), seeded())
    learner.progress = progress
    network.zero_grad()
    learner.learn(Batch(x, LABELS), noise=seeded())
    return learner


def shown(network: Network) -> Tensor:
    return torch.randn(1, 4, *network.populations[INPUT].size, dtype=torch.float64)


def side_by_side() -> Network:
    """Maps, and standardised units beside them, from which the readout is reached along one connection each."""
    populations = [
        Population(INPUT, (2, 4, 4), None), Population("maps", (3, 4, 4), ReLU()),
        Population("units", (5,), Standardised(Tanh())), Population("output", (3,), Identity()),
    ]  # fmt: skip
    connections = [
        Connection(INPUT, "maps", Conv2d(3, padding=1, bias=True)), Connection(INPUT, "units", Dense(bias=True)),
        Connection("maps", "output", Dense(bias=True)), Connection("units", "output", Dense()),
    ]  # fmt: skip
    return Network(populations, connections, seeded()).double()


def clones(network: Network) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("make", [lambda: mlp([5, 7, 6, 3]), cnn, lc])
@pytest.mark.parametrize("layout", ["full", "shared", "grid", "low_rank"])
def test_every_population_descends_the_loss_of_its_head(make: Any, layout: str) -> None:
    """M1 and M3: weights and heads = autograd through one layer, whose input is cut off. Oracle: autograd, 1e-10.

    Must fail when the whole signal reaches every position (tried), or the input is not cut off: backprop with deep
    supervision.
    """
    network = make()
    x = shown(network)
    learner = learned(network, x, layout=LAYOUTS[layout]())
    found, read, state = clones(network), LAYOUTS[layout](), learner.state
    assert state.parameters
    frame = network.step(network.init(x[0]), x[0])
    for name, head in state.parameters.items():
        connection = network.incoming[name][0]
        drive = connection.geometry.drive(network.synapses(connection), frame.carried[connection.name].detach())
        value = network.populations[name].neuron.step((), drive, 1e-3)[0].value
        output = read.summary(value, state.tensors[name]) @ head.t()
        network.zero_grad()
        loss = torch.nn.functional.cross_entropy(output, LABELS)
        exact = torch.autograd.grad(loss, [network.weights[connection.name], head])
        torch.testing.assert_close(found[f"weights.{connection.name}"], exact[0], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(head.grad, exact[1], rtol=1e-9, atol=1e-12)


def test_a_head_is_the_slope_of_its_loss() -> None:
    """M1 by finite differences. Must fail when the softmax is left out of q (tried)."""
    network = mlp([5, 7, 6, 3])
    x = shown(network)
    learner = learned(network, x)
    head, weight = learner.state.parameters["hidden1"], network.weights["input->hidden1"]
    for parameter in (head, weight):
        gradient, place, step = parameter.grad, (1, 2), 1e-6
        assert gradient is not None
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter[place] += sign * step
                h = torch.tanh(x[0] @ weight.t())
                sides.append(torch.nn.functional.cross_entropy(h @ head.t(), LABELS).item())
                parameter[place] -= sign * step
        assert gradient[place].item() == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("make", [lambda: mlp([5, 7, 3]), side_by_side])
def test_the_readout_is_the_head_of_who_sends_to_it_alone(make: Any) -> None:
    """M2: one hidden layer, or two side by side: there is no other head, and this is backprop. Oracle: autograd, 1e-12.

    Must fail when the last hidden population has a head of its own beside the readout (tried).
    """
    network = make()
    x = shown(network)
    learner = learned(network, x)
    ours = clones(network)
    assert not learner.parameters
    network.zero_grad()
    Learner(network, RULES["bp"](), LOSSES["cross_entropy"](), seeded()).learn(Batch(x, LABELS))
    torch.testing.assert_close(ours, clones(network), rtol=1e-12, atol=1e-15)


def test_the_last_hidden_population_descends_the_loss_of_the_readout() -> None:
    """Above others, whose activity is cut off: weights of the last two connections = autograd. Oracle: autograd, 1e-12.

    Must fail when the signal does not pass the weights of the readout (tried).
    """
    network = mlp([5, 7, 6, 3])
    x = shown(network)
    learned(network, x)
    ours, names = clones(network), ["hidden1->hidden2", "hidden2->output"]
    network.zero_grad()
    first = network.step(network.init(x[0]), x[0]).activity["hidden1"].value.detach()
    w, b = network.weights, network.biases
    output = torch.tanh(first @ w[names[0]].t() + b[names[0]]) @ w[names[1]].t() + b[names[1]]
    exact = torch.autograd.grad(torch.nn.functional.cross_entropy(output, LABELS), [w[name] for name in names])
    for name, gradient in zip(names, exact, strict=True):
        torch.testing.assert_close(ours[f"weights.{name}"], gradient, rtol=1e-12, atol=1e-15)


def test_nothing_comes_back_from_above() -> None:
    """M3: other weights and another head above: the same gradients below, bitwise.

    Must fail when a signal from above is added below (tried).
    """
    network = mlp([5, 7, 6, 4, 3])
    x = shown(network)
    learner = Learner(network, RULES["mono_forward"](), LOSSES["cross_entropy"](), seeded())
    learner.learn(Batch(x, LABELS))
    before = clones(network)
    for parameter in (*network.parameters(), *learner.parameters.values()):
        parameter.grad = None
    with torch.no_grad():
        for parameter in (network.weights["hidden1->hidden2"], learner.state.parameters["hidden2"]):
            parameter.add_(1.0)
    learner.learn(Batch(x, LABELS))
    after = clones(network)
    assert torch.equal(after["weights.input->hidden1"], before["weights.input->hidden1"])
    assert not torch.allclose(after["weights.hidden1->hidden2"], before["weights.hidden1->hidden2"])


def test_a_head_alone_comes_to_the_optimum_of_a_convex_readout() -> None:
    """M4: on frozen activity heads learn softmax regression: from two starts to one loss.

    Must fail when a head ascends (tried).
    """
    network = mlp([4, 6, 5, 3])
    x = torch.randn(1, 60, 4, dtype=torch.float64)
    target, losses = torch.randint(0, 3, (60,)), []
    for scale in (0.0, 3.0):
        learner = Learner(network, RULES["mono_forward"](scale=scale), LOSSES["cross_entropy"](), seeded())
        head = learner.state.parameters["hidden1"]
        optimizer = torch.optim.LBFGS([head], max_iter=300, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

        def loss(head: Tensor = head, learner: Learner = learner, optimizer: Any = optimizer) -> Tensor:
            optimizer.zero_grad()
            learner.learn(Batch(x, target))
            with torch.no_grad():
                h = torch.tanh(x[0] @ network.weights["input->hidden1"].t())
                return torch.nn.functional.cross_entropy(h @ head.t(), target)

        optimizer.step(loss)
        losses.append(loss().item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-8)


def test_heads_of_zero_learn_first() -> None:
    """M5. Must fail when the head has moved before its signal is sent (tried)."""
    network = mlp([5, 7, 6, 3])
    learner = learned(network, shown(network), scale=0.0)
    assert not network.weights["input->hidden1"].grad.any()
    assert learner.state.parameters["hidden1"].grad.any()


def test_one_after_another_learns_in_turn() -> None:
    """Thirds of the training of a network with three hidden populations, the last with the readout for its head. Must
    fail when all learn (tried)."""
    network = mlp([5, 7, 6, 4, 3])
    x = shown(network)
    names = list(network.weights)
    turns = ((0.0, names[:1], ["hidden1"]), (0.34, names[1:2], ["hidden2"]), (0.99, names[2:], []))
    for progress, moving, headed in turns:
        learner = learned(network, x, progress, order="sequential")
        assert [name for name in names if network.weights[name].grad is not None] == moving
        assert [name for name, head in learner.state.parameters.items() if head.grad is not None] == headed


def test_those_that_the_readout_judges_take_their_turn_together() -> None:
    """Side by side, from the start on, for there is no turn before. Must fail when each has a turn (tried)."""
    network = side_by_side()
    learned(network, shown(network), order="sequential")
    assert all(weight.grad is not None and weight.grad.any() for weight in network.weights.values())


def test_a_layer_at_a_time_is_held() -> None:
    """What no population needs is let go, those above are not run, and the values are those of a step.

    Must fail when nothing is let go (tried).
    """
    network = mlp([5, 7, 6, 4, 3])
    x = shown(network)[0]
    whole = network.step(network.init(x), x)
    held = []
    for name, frame in upward(network, network.init(x), x, "hidden3"):
        assert torch.equal(frame.activity[name].value, whole.activity[name].value)
        held.append((list(frame.activity), list(frame.carried)))
    assert held == [
        (["input", "hidden1"], ["input->hidden1"]), (["hidden1", "hidden2"], ["hidden1->hidden2"]),
        (["hidden2", "hidden3"], ["hidden2->hidden3"]),
    ]  # fmt: skip


@pytest.mark.parametrize("order", ["simultaneous", "sequential"])
@pytest.mark.parametrize("neuron", ["relu", "standardised"])
def test_recording_changes_nothing(order: str, neuron: str, tmp_path: Path) -> None:
    """Though steps that are watched are taken whole: the same weights and metrics, bitwise; who rests has no third
    factor. Must fail when a row is opened after it was told (tried)."""
    settings = {
        "training.epochs": 2, "data.subset": 10, "rule.order": order, "population.hidden1.neuron": neuron,
        "rule.answers": "heads",
    }  # fmt: skip
    specs = ["*.third_factor", "*.rate[on=test]", "*.projection", "hidden2.rate"]
    one, two = (
        neurosbd.fit("digits-mlp", rule="mono_forward", settings=settings, record=record, out=tmp_path / name)
        for name, record in (("recorded", specs), ("plain", []))
    )
    states = [run.network().state_dict() for run in (one, two)]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    keys = ("train_loss", "train_accuracy", "test_accuracy")
    assert [one.metrics[-1][key] for key in keys] == [two.metrics[-1][key] for key in keys]
    first = one.trace["hidden2.third_factor"][0]
    assert bool(torch.from_numpy(first).isnan().all()) == (order == "sequential")


@pytest.mark.parametrize("sizes", [[5, 7, 6, 3], [5, 7, 3]])
def test_the_heads_answer_together(sizes: list[int]) -> None:
    """The sum of all heads and the readout. Must fail when the readout is left out (tried)."""
    network = mlp(sizes)
    x = shown(network)
    learner = learned(network, x, answers="heads")
    frame = network.step(network.init(x[0]), x[0])
    expected = frame.activity["output"].value
    for name, head in learner.state.parameters.items():
        expected = expected + frame.activity[name].value @ head.t()
    result = learner.answer(Batch(x, LABELS))
    torch.testing.assert_close(result.output, expected.detach())
    torch.testing.assert_close(result.loss, torch.nn.functional.cross_entropy(expected, LABELS).detach())


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("digits-snn", {}, r"'input->hidden1'.*'sbp' with rule\.neuromodulator\.own = 1.*neurons with a state, LIF"),
        ("digits-mlp", {"rule.heads": ["hiden2"]}, r"heads: there is no population 'hiden2'; did you mean 'hidden2'\?"),
        ("digits-mlp", {"rule.heads": ["output"]}, r"heads: 'output' is its own head, so it can have none"),
        ("digits-mlp", {"rule.heads": ["input"]}, r"heads: 'input' shows the data"),
    ],
)
def test_what_it_cannot_train_is_refused(model: str, settings: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        neurosbd.fit(model, rule="mono_forward", settings=settings, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_who_has_no_head_keeps_its_weights(tmp_path: Path) -> None:
    """Only the named ones and the readout learn, interrupted or not. Must fail when all have a head."""
    settings = {"training.epochs": 1, "data.subset": 10, "rule.heads": ["hidden1"]}
    run = neurosbd.fit("digits-mlp", rule="mono_forward", settings=settings, out=tmp_path / "run")
    start, now = run.definition.network().weights, run.network().weights
    assert torch.equal(start["hidden1->hidden2"], now["hidden1->hidden2"])
    assert not torch.equal(start["input->hidden1"], now["input->hidden1"])
    assert list(run.checkpoint()["learner"]["parameters"]) == ["hidden1"]
