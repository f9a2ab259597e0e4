"""Vectorised nonnegative networks and global error vector broadcasting, in float64."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.connections import INITIALISERS, Vector
from neurosbd.constraints import Nonnegative
from neurosbd.distributions import OppositeSigns
from neurosbd.errors import UsageError
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neurons import NEURONS, CtReLU
from neurosbd.rules import RULES
from neurosbd.testing.networks import mlp
from tests.contracts.tables import seeded

VECTORS = ("units", "components")
K = 3
LABELS = torch.tensor([0, 2, 1, 1])


def vnn(sizes: tuple[int, ...] = (6, 8, 6), components: int = K, negative: bool = False, bias: bool = True) -> Network:
    """Numbers -> vectors -> vectors -> one vector, ON/OFF at the start."""
    names = ["input", *(f"hidden{n}" for n in range(1, len(sizes))), "output"]
    gate = CtReLU(OppositeSigns() if components > 1 else 1.0)
    populations = [Population("input", sizes[:1], None)]
    populations += [Population(n, (s, components), gate, VECTORS) for n, s in zip(names[1:-1], sizes[1:], strict=True)]
    populations.append(Population("output", (components,), NEURONS["identity"]()))
    connections = []
    for pre, post in pairwise(names):
        start = INITIALISERS["paired" if pre == "input" else "on_off"]()
        start = INITIALISERS["kaiming_normal"]() if negative else start
        held = () if pre == "input" or negative else (Nonnegative(),)
        connections.append(Connection(pre, post, Vector(bias, weight=start), constraints=held))
    return Network(populations, connections, seeded()).double()


def gradients(network: Network, rule: str, x: Tensor, labels: Tensor = LABELS) -> dict[str, Tensor]:
    network.zero_grad()
    Learner(network, RULES[rule](), LOSSES["cross_entropy"](), seeded()).learn(Batch(x[None], labels))
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def scalars(network: Network, x: Tensor) -> dict[str, Tensor]:
    """g of every unit, [B, units]: g_out = 1, g_j = open_j sum_i w_ij g_i."""
    frame = network.step(network.init(x), x)
    above = network.weights["hidden2->output"].detach().expand(len(x), -1)
    g2 = above * frame.activity["hidden2"].cache[..., 0]
    g1 = (g2 @ network.weights["hidden1->hidden2"].detach()) * frame.activity["hidden1"].cache[..., 0]
    return {"hidden1": g1, "hidden2": g2}


def test_backprop_needs_one_number_per_unit() -> None:
    """G1: dL/dw_ij = g_i (e . v_j), dL/db_i = g_i e. Oracle: autograd.

    Must fail when gates are left out of g (tried).
    """
    network, x = vnn(), torch.randn(4, 6, dtype=torch.float64)
    exact, g = gradients(network, "bp", x), scalars(network, x)
    frame = network.step(network.init(x), x)
    score = LOSSES["cross_entropy"]().score(network(x), LABELS).detach() / 4
    aligned = torch.einsum("bk,bjk->bj", score, frame.activity["hidden1"].value)
    torch.testing.assert_close(exact["weights.hidden1->hidden2"], g["hidden2"].t() @ aligned.detach())
    torch.testing.assert_close(exact["biases.hidden1->hidden2"], torch.einsum("bi,bk->ik", g["hidden2"], score))
    first = torch.einsum("bi,bk,bj->ikj", g["hidden1"], score, x)
    torch.testing.assert_close(exact["weights.input->hidden1"], first)


def test_broadcasting_replaces_it_by_the_gate() -> None:
    """dw_ij = open_i (e . v_j), by hand. Must fail when the score is projected (tried)."""
    network, x = vnn(), torch.randn(4, 6, dtype=torch.float64)
    found, frame = gradients(network, "gevb", x), network.step(network.init(x), x)
    score = LOSSES["cross_entropy"]().score(network(x), LABELS).detach() / 4
    is_open = frame.activity["hidden2"].cache[..., 0]
    aligned = torch.einsum("bk,bjk->bj", score, frame.activity["hidden1"].value).detach()
    torch.testing.assert_close(found["weights.hidden1->hidden2"], is_open.t() @ aligned)
    torch.testing.assert_close(found["biases.hidden1->hidden2"], torch.einsum("bi,bk->ik", is_open, score))


def test_signs_agree_with_backprop_where_no_weight_is_negative() -> None:
    """G2, of single examples, every entry; so <GEVB, BP> >= 0. Must fail when weights have both signs (tried here)."""
    for negative in (False, True):
        network, wrong = vnn(negative=negative), 0
        for row in torch.randn(20, 1, 6, dtype=torch.float64):
            ours, exact = (gradients(network, rule, row, LABELS[:1]) for rule in ("gevb", "bp"))
            for name, gradient in exact.items():
                there = gradient != 0
                wrong += int((ours[name][there].sign() != gradient[there].sign()).sum())
        assert (wrong > 0) == negative


def test_the_readout_and_a_constant_readout_are_backprop() -> None:
    """G5 and G6: the readout's gradient is exact; behind a readout of constants c the last hidden layer's is BP / c.

    Must fail when shut units learn, too, or when the sign of the score is sent to the hidden layers (tried, both), or
    to the readout (tried).
    """
    network, x = vnn(), torch.randn(4, 6, dtype=torch.float64)
    ours, exact = (gradients(network, rule, x) for rule in ("gevb", "bp"))
    for name in ("weights.hidden2->output", "biases.hidden2->output"):
        torch.testing.assert_close(ours[name], exact[name], rtol=1e-12, atol=1e-15)
    with torch.no_grad():
        network.weights["hidden2->output"].fill_(0.3)
    ours, exact = (gradients(network, rule, x) for rule in ("gevb", "bp"))
    torch.testing.assert_close(ours["weights.hidden1->hidden2"], exact["weights.hidden1->hidden2"] / 0.3)
    assert not torch.allclose(ours["weights.input->hidden1"], exact["weights.input->hidden1"] / 0.3)


def test_on_and_off_units_compute_what_half_as_many_of_both_signs_do() -> None:
    """G4: v_odd = -v_even at the start, and the answers of the half-width network with the weights A. Must fail when a
    pair of rows is not crossed (tried)."""
    network, x = vnn(bias=False), torch.randn(4, 6, dtype=torch.float64)
    frame = network.step(network.init(x), x)
    v1, v2 = (frame.activity[name].value for name in ("hidden1", "hidden2"))
    torch.testing.assert_close(v1[:, 1::2].abs().sum() + v1[:, ::2].abs().sum(), v1.abs().sum())
    w = network.weights["hidden1->hidden2"].detach()
    assert (w >= 0).all() and torch.equal(w[::2, ::2], w[1::2, 1::2]) and torch.equal(w[::2, 1::2], w[1::2, ::2])
    a = w[::2, ::2] - w[::2, 1::2]
    drive = torch.einsum("ij,bjk->bik", w, v1)
    signed = torch.einsum("ij,bjk->bik", a, v1[:, ::2])
    opposite = torch.equal(frame.activity["hidden1"].cache[:, ::2], frame.activity["hidden1"].cache[:, 1::2])
    assert opposite
    torch.testing.assert_close(drive[:, ::2], signed)
    torch.testing.assert_close(v2[:, 1::2], -v2[:, ::2])


def test_one_component_is_a_relu_network() -> None:
    """G7: K = 1 and t = 1. Must fail when the gate is shut at a positive drive (tried)."""
    network, x = vnn(components=1), torch.randn(5, 6, dtype=torch.float64)
    h = x
    for name in ("input->hidden1", "hidden1->hidden2"):
        weight = network.weights[name].detach()
        h = torch.relu(h @ (weight[:, 0] if weight.dim() == 3 else weight).t())
    torch.testing.assert_close(network(x).detach(), h @ network.weights["hidden2->output"].detach()[:, None])


def test_permuted_classes_permute_everything() -> None:
    """G8: components of first weights, biases, directions: answers are permuted.

    Must fail when directions stay (tried).
    """
    network, x, order = vnn(), torch.randn(5, 6, dtype=torch.float64), [2, 0, 1]
    before = network(x)
    with torch.no_grad():
        network.weights["input->hidden1"].copy_(network.weights["input->hidden1"][:, order].clone())
        for parameter in network.biases.values():
            parameter.copy_(parameter[..., order].clone())
        for name in ("hidden1", "hidden2"):
            direction: Any = network.populations[name].neuron
            direction.direction.copy_(direction.direction[:, order].clone())
    torch.testing.assert_close(network(x), before[:, order])


def test_only_the_first_layer_becomes_negative() -> None:
    """G9, after 30 steps of Adam; a second clamp moves nothing. Must fail when constraints are left out (tried)."""
    network = vnn()
    x = torch.randn(30, 6, dtype=torch.float64)
    learner = Learner(network, RULES["gevb"](), LOSSES["cross_entropy"](), seeded())
    optimizer = torch.optim.Adam(network.parameters(), 0.05)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        losses.append(learner.learn(Batch(x[None], x[:, :3].argmax(1))).loss.item())
        optimizer.step()
        learner.after_step()
    assert losses[-1] < losses[0] / 2
    assert (network.weights["input->hidden1"] < 0).any()
    before = {name: weight.detach().clone() for name, weight in network.weights.items()}
    network.constrain()
    for name in ("hidden1->hidden2", "hidden2->output"):
        assert (network.weights[name] >= 0).all() and torch.equal(network.weights[name], before[name])


def test_angles_at_the_start_are_those_of_the_source() -> None:
    """G3: between the vector of all g before its gate and ones, of an MNIST network 784-1024-512-1: 9.2, 55.7 degrees.

    With Gaussian inputs, within 1.5; the last one is arccos(1 / sqrt(pi)). Must fail for weights of both signs, near 90
    (tried here).
    """
    for negative in (False, True):
        network = vnn((784, 1024, 512), 10, negative=negative, bias=False).float()
        x = torch.randn(8, 784)
        frame = network.step(network.init(x), x)
        w = {name: weight.detach() for name, weight in network.weights.items()}
        g2 = w["hidden2->output"].expand(len(x), -1)
        g1 = (g2 * frame.activity["hidden2"].cache[..., 0]) @ w["hidden1->hidden2"]
        cosines = [torch.cosine_similarity(g, torch.ones_like(g)) for g in (g1, g2)]
        found = [torch.rad2deg(torch.acos(cosine)) for cosine in cosines]
        if negative:
            assert all(abs(angle.mean().item() - 90) < 15 for angle in found)
        else:
            assert abs(found[0].mean().item() - 9.2) < 1.5 and abs(found[1].mean().item() - 55.7) < 1.5


def test_units_without_components_are_refused_with_a_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'hidden1': the score has 10 values.*model mnist-vnn.*'sbd', 'dfa'"):
        neurosbd.fit("digits-mlp", rule="gevb", out=tmp_path / "run")


def test_it_learns_digits_from_a_model_and_is_recorded(tmp_path: Path) -> None:
    """The network of the model on the embedded digits, in four epochs above 80 %."""
    small = {"hidden1": [64, 10], "hidden2": [32, 10], "input": [1, 8, 8]}
    sizes = {f"population.{name}.size": size for name, size in small.items()}
    settings = {**sizes, "training.epochs": 4, "training.batch_size": 32, "training.optimizer.lr": 3e-3}
    run = neurosbd.fit(
        "mnist-vnn", data="digits", settings=settings, record=["hidden1.rate[neurons=0:5, every=9 batches]"],
        out=tmp_path / "run",
    )  # fmt: skip
    assert run.metrics[-1]["test_accuracy"] > 0.8
    assert (run.network().weights["hidden1->hidden2"] >= 0).all()
    assert mlp([4, 6, 3], "ct_relu").populations["hidden1"].size == (6, 3)
