"""PEPITA against its equations, in float64."""

import signal
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
from neurosbd.rules import RULES
from neurosbd.rules.mirrors import Mirrors
from neurosbd.runs.loggers import NullLogger
from neurosbd.testing.networks import cnn, mlp
from tests.contracts.tables import seeded

LABELS = torch.tensor([0, 2, 1, 1])


def shown(network: Network, count: int = 4) -> Tensor:
    return torch.randn(1, count, *network.populations[INPUT].size, dtype=torch.float64)


def gradients(
    network: Network, x: Tensor, feedback: Tensor | None = None, loss: str = "cross_entropy", **constants: Any
) -> dict[str, Tensor]:
    """What one batch leaves in the weights, with a feedback of one's own in place of the one that is drawn."""
    learner = Learner(network, RULES["pepita"](**constants), LOSSES[loss](), seeded())
    if feedback is not None:
        learner.state.tensors["feedback"].copy_(feedback)
    network.zero_grad()
    learner.learn(Batch(x, LABELS), noise=seeded())
    return {name: weight.grad.clone() for name, weight in network.weights.items() if weight.grad is not None}


def exact(network: Network, x: Tensor) -> dict[str, Tensor]:
    network.zero_grad()
    Learner(network, RULES["bp"](), LOSSES["cross_entropy"](), seeded()).learn(Batch(x, LABELS))
    return {name: weight.grad.clone() for name, weight in network.weights.items() if weight.grad is not None}


@pytest.mark.parametrize("make", [lambda: mlp([5, 7, 6, 3]), cnn])
@pytest.mark.parametrize("error", ["first", "second"])
def test_without_feedback_only_the_readout_learns_by_the_delta_rule(make: Any, error: str) -> None:
    """P1. Must fail when the showings meet different noise, or the readout sees the difference (tried)."""
    network = make()
    x = shown(network)
    found, bp = gradients(network, x, scale=0.0, error=error), exact(network, x)
    last = network.incoming[network.readout][0].name
    assert not any(gradient.any() for name, gradient in found.items() if name != last)
    torch.testing.assert_close(found[last], bp[last], rtol=1e-12, atol=1e-14)


def test_a_small_feedback_broadcasts_the_score_through_the_weights() -> None:
    """P2: G_1 = (D_1 W_1 F e) x^T, G_2 = (D_2 W_2 D_1 W_1 F e) h_1^T.

    Must fail with x + F e (tried), or for a large F.
    """
    network = mlp([5, 7, 6, 3], bias=False)
    x, feedback = shown(network), torch.randn(3, 5, dtype=torch.float64)
    w1, w2, w3 = (weight.detach() for weight in network.weights.values())
    h1 = torch.tanh(x[0] @ w1.t())
    h2 = torch.tanh(h1 @ w2.t())
    score = (torch.softmax(h2 @ w3.t(), 1) - torch.eye(3, dtype=torch.float64)[LABELS]) / 4

    def error(size: float) -> float:
        found = gradients(network, x, feedback * size)
        one = (score @ feedback * size) @ w1.t() * (1 - h1.square())
        two = one @ w2.t() * (1 - h2.square())
        expected = {"input->hidden1": one.t() @ x[0], "hidden1->hidden2": two.t() @ h1}
        return max(((found[n] - e).norm() / e.norm()).item() for n, e in expected.items())

    assert error(1e-6) < 1e-5 < 1e-2 < error(1.0)


def test_one_hidden_layer_with_the_feedback_of_the_weights_is_backprop() -> None:
    """P3: F = c pinv(W_1) W_2^T, c -> 0. Must fail with -c, which is the anti-gradient (tried)."""
    network = mlp([7, 5, 3], bias=False)
    x = shown(network)
    w1, w2 = (weight.detach() for weight in network.weights.values())
    bp = exact(network, x)["input->hidden1"]
    for c in (1e-6, -1e-6):
        found = gradients(network, x, c * (torch.linalg.pinv(w1) @ w2.t()).t())["input->hidden1"]
        torch.testing.assert_close(found / 1e-6, bp if c > 0 else -bp, rtol=1e-4, atol=1e-7)


def test_without_an_error_nothing_changes() -> None:
    """P4, squared error at its target. Must fail when the target itself is sent (tried)."""
    network = mlp([5, 7, 3])
    x = shown(network)
    learner = Learner(network, RULES["pepita"](), LOSSES["squared_error"](), seeded())
    learner.learn(Batch(x, network(x[0]).detach()))
    assert not any(p.grad.any() for p in network.parameters() if p.grad is not None)


def test_the_hebbian_form_differs_by_what_the_pre_units_do() -> None:
    """P5: hebbian - difference = h_l (h_{l-1} - h~_{l-1})^T; forms agree to first order in F. Must fail when the second
    product has the activity of the first showing (tried)."""
    network = mlp([5, 7, 6, 3], bias=False)
    x, feedback = shown(network), torch.randn(3, 5, dtype=torch.float64) / 5
    plain, hebbian = (gradients(network, x, feedback, form=form) for form in ("difference", "hebbian"))
    w1, w2, _ = (weight.detach() for weight in network.weights.values())
    score = LOSSES["cross_entropy"]().score(network(x[0]), LABELS).detach()
    before, after = x[0], x[0] - score @ feedback
    for name, weight in (("input->hidden1", w1), ("hidden1->hidden2", w2)):
        h = torch.tanh(before @ weight.t())
        torch.testing.assert_close(hebbian[name] - plain[name], h.t() @ (before - after) / 4, rtol=1e-9, atol=1e-12)
        before, after = h, torch.tanh(after @ weight.t())


def test_the_time_local_form_moves_the_weights_between_the_showings() -> None:
    """Without a move it is the Hebbian form; weights are as they were, bit for bit. Must fail when the second showing
    meets the weights of the first (tried)."""
    network = mlp([5, 7, 3])
    x, before = shown(network), {name: w.detach().clone() for name, w in network.weights.items()}
    still, hebbian = gradients(network, x, form="time_local", ahead=0.0), gradients(network, x, form="hebbian")
    moved = gradients(network, x, form="time_local", ahead=0.1)
    assert all(torch.equal(still[n], hebbian[n]) and not torch.allclose(moved[n], hebbian[n]) for n in still)
    assert all(torch.equal(weight, before[name]) for name, weight in network.weights.items())
    learner = Learner(network, RULES["pepita"](form="hebbian"), LOSSES["cross_entropy"](), seeded())
    halves = _first_half(network, x)
    with torch.no_grad():
        for name, weight in network.weights.items():
            weight.sub_(0.1 * halves[name])
            network.biases[name].sub_(0.1 * halves[f"bias {name}"])
    feedback = learner.state.tensors["feedback"]
    score = LOSSES["cross_entropy"]().score(_output(network, x, before), LABELS)
    h0 = x[0] - score @ feedback
    h1 = torch.tanh(h0 @ network.weights["input->hidden1"].t() + network.biases["input->hidden1"]).detach()
    expected = halves["input->hidden1"] - h1.t() @ h0 / 4
    torch.testing.assert_close(moved["input->hidden1"], expected, rtol=1e-10, atol=1e-12)


def _output(network: Network, x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    return torch.tanh(x[0] @ weights["input->hidden1"].t()) @ weights["hidden1->output"].t()


def _first_half(network: Network, x: Tensor) -> dict[str, Tensor]:
    """h_l h_{l-1}^T of a network of one hidden layer whose biases are 0."""
    w1, w2 = (weight.detach() for weight in network.weights.values())
    h = torch.tanh(x[0] @ w1.t())
    p = torch.softmax(h @ w2.t(), 1)
    return {
        "input->hidden1": h.t() @ x[0] / 4, "bias input->hidden1": h.mean(0),
        "hidden1->output": p.t() @ h / 4, "bias hidden1->output": p.mean(0),
    }  # fmt: skip


def test_kernels_as_they_are_published_ascend_by_a_mean() -> None:
    """Of maps: -1 / (positions x batch) of the sum. Must fail when dense weights are turned as well (tried)."""
    network = cnn()
    x = shown(network)
    ours, theirs = (gradients(network, x, kernels=kernels) for kernels in ("descended", "published"))
    torch.testing.assert_close(theirs["input->conv1"], -ours["input->conv1"] / (64 * 4))
    torch.testing.assert_close(theirs["conv1->conv2"], -ours["conv1->conv2"] / (4 * 4))
    assert torch.equal(theirs["conv2->fc"], ours["conv2->fc"])


def test_mirrors_learn_the_weights_backwards_from_noise() -> None:
    """Stein: E[xi relu(W xi)^T] = sigma^2 / 2 W^T; of a linear readout sigma^2 W^T.

    Must fail when the noise is not the one that was shown (tried).
    """
    network = mlp([6, 8, 3], "relu", bias=False)
    mirrors = Mirrors.draw(network, 1.0, seeded())
    for mirror in mirrors.weights.values():
        mirror.zero_()
    mirrors.learn(network, 200_000, 1.0, 0.0, sigma=0.5)
    for name, share in (("input->hidden1", 0.5), ("hidden1->output", 1.0)):
        expected = 0.25 * share * network.weights[name].detach().t()
        assert (mirrors.weights[name] - expected).norm() / expected.norm() < 0.05, name


def test_mirrors_lead_from_the_output_to_the_input() -> None:
    """F = B_1 B_2 with the spread that is asked for; feedback through mirrors that are the weights descends. Must fail
    when the size of F is not kept (tried)."""
    network = mlp([6, 8, 3], bias=False)
    mirrors = Mirrors.draw(network, 0.3, seeded())
    mirrors.learn(network, 50, 0.1, 0.5)
    mirrors.keep_size()
    one, two = mirrors.weights.values()
    torch.testing.assert_close(mirrors.feedback((6,)), (one @ two).t())
    assert mirrors.feedback((6,)).std(correction=0).item() == pytest.approx(0.3)
    x = shown(network)
    w1, w2 = (weight.detach() for weight in network.weights.values())
    found, bp = gradients(network, x, 1e-5 * w2 @ w1)["input->hidden1"], exact(network, x)["input->hidden1"]
    assert torch.cosine_similarity(found.flatten(), bp.flatten(), 0) > 0.5


def test_only_mirrors_learn_at_first(tmp_path: Path) -> None:
    """And a run goes on bit for bit. Must fail when the epoch is not in the checkpoint."""
    settings = {"training.epochs": 1, "data.subset": 20, "rule.mirror": 0.1, "rule.mirror_before": 1}
    model = {"population.hidden1.size": [20]}
    first = neurosbd.fit("digits-mlp", rule="pepita", settings=settings | model, out=tmp_path / "a")
    start = first.definition.network()
    assert all(torch.equal(w, start.weights[n]) for n, w in first.network().weights.items())
    more = settings | {"training.epochs": 2, "rule.mirror_every": 2}
    two = neurosbd.fit("digits-mlp", rule="pepita", settings=more | model, out=tmp_path / "b")
    assert not torch.equal(two.network().weights["input->hidden1"], start.weights["input->hidden1"])
    tensors = two.checkpoint()["learner"]["tensors"]
    assert int(tensors["epoch"]) == 2 and not torch.equal(
        tensors["key"], first.checkpoint()["learner"]["tensors"]["key"]
    )


def test_a_run_is_resumed_before_anything_but_mirrors_has_learned(tmp_path: Path) -> None:
    """Adam has no state then. Must fail when a checkpoint without one is taken for a damaged one (tried)."""

    class Stops(NullLogger):
        def on_batch(self, event: Any) -> None:
            if event["epoch"] == 1 and event["batch"] == 1:
                signal.raise_signal(signal.SIGINT)

    how = {"settings": {"training.epochs": 2, "data.subset": 10, "rule.mirror": 0.1}, "rule": "pepita"}
    part = neurosbd.fit("digits-mlp", **how, out=tmp_path / "run", loggers=[Stops()])
    assert part.result["status"] == "interrupted"
    assert neurosbd.fit("digits-mlp", **how, out=tmp_path / "run", resume=True).result["status"] == "finished"


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("digits-snn", {}, r"'input->hidden1'.*neurons with a state, LIF.*digits-mlp.*'bptt'"),
        ("digits-mlp", {"rule.form": "hebbian", "loss": "bernoulli"}, r"form 'hebbian' needs.*'cross_entropy'"),
    ],
)
def test_what_it_cannot_train_is_refused(model: str, settings: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        neurosbd.fit(model, rule="pepita", settings=settings, out=tmp_path / "run")


def test_mirrors_want_a_dense_chain() -> None:
    """Must fail when kernels are taken for weights [post, pre]."""
    with pytest.raises(ValueError, match=r"'input->conv1': mirrors follow a chain of dense.*rule\.mirror = 0"):
        Learner(cnn(), RULES["pepita"](mirror=0.1), LOSSES["cross_entropy"](), seeded())
