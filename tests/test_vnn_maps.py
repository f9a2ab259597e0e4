"""Vectorised nonnegative networks on maps, and global error vector broadcasting in them, in float64."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.axes import VECTOR_MAP
from neurosbd.connections import INITIALISERS, Conv2d, Vector, VectorConv2d
from neurosbd.connections.pooling import AveragePool
from neurosbd.connections.synapses import Synapses
from neurosbd.constraints import Nonnegative
from neurosbd.distributions import OppositeSigns
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neurons import NEURONS, CtReLU
from neurosbd.rules import RULES
from tests.contracts.tables import seeded

K = 3
LABELS = torch.tensor([0, 2, 1, 1])
WIDTHS = (4, 6, 8)
CONVS = {"input->conv1": {"padding": 1}, "conv1->conv2": {"padding": 1, "pool": AveragePool()}}


def vnn(
    components: int = K, negative: bool = False, bias: bool = True, widths: tuple[int, ...] = WIDTHS, side: int = 6
) -> Network:
    """A map of numbers -> two maps of vectors, pooled between -> vectors -> one vector; ON/OFF at the start."""
    gate = CtReLU(OppositeSigns() if components > 1 else 1.0)
    ends = ["input", "conv1", "conv2", "fc", "output"]
    sizes = [(widths[0], components, side, side), (widths[1], components, side // 2, side // 2)]
    sizes += [(widths[2], components, 1, 1)]
    populations = [Population("input", (1, side, side), None)]
    populations += [Population(name, size, gate, VECTOR_MAP) for name, size in zip(ends[1:4], sizes, strict=True)]
    populations += [Population("output", (components,), NEURONS["identity"]())]
    start = [
        INITIALISERS["kaiming_normal" if negative else kind]() for kind in ("paired", "on_off", "on_off", "on_off")
    ]
    geometries: list[Any] = [
        VectorConv2d(3, padding=1, bias=bias, weight=start[0]),
        VectorConv2d(3, padding=1, bias=bias, weight=start[1], pool=AveragePool()),
        VectorConv2d(side // 2, bias=bias, weight=start[2]),
        Vector(bias, weight=start[3]),
    ]
    held = ((), *(((),) if negative else ((Nonnegative(),),)) * 3)
    connections = [
        Connection(pre, post, geometry, constraints=constraints)
        for pre, post, geometry, constraints in zip(ends, ends[1:], geometries, held, strict=False)
    ]
    return Network(populations, connections, seeded()).double()


def images(examples: int = 4, side: int = 6) -> Tensor:
    return torch.randn(examples, 1, side, side, dtype=torch.float64, generator=seeded())


def gradients(network: Network, rule: str, x: Tensor, labels: Tensor = LABELS) -> dict[str, Tensor]:
    network.zero_grad()
    Learner(network, RULES[rule](), LOSSES["cross_entropy"](), seeded()).learn(Batch(x[None], labels))
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def scalars(network: Network, x: Tensor) -> dict[str, Tensor]:
    """The number of every unit at every position that backprop needs, before its own gate, by plain convolutions."""
    frame = network.step(network.init(x), x)
    w = {name: weight.detach() for name, weight in network.weights.items()}
    fc = w["fc->output"].expand(len(x), -1)[:, :, None, None]
    whole = Conv2d(w["conv2->fc"].shape[-1])
    below = [frame.activity[name].value[:, :, 0] for name in ("conv1", "conv2")]
    conv2 = whole.back(Synapses(w["conv2->fc"], None), fc * opened(frame, "fc"), below[1])
    pooled = Conv2d(3, padding=1, pool=AveragePool())
    conv1 = pooled.back(Synapses(w["conv1->conv2"], None), conv2 * opened(frame, "conv2"), below[0])
    return {"conv1": conv1, "conv2": conv2, "fc": fc}


def opened(frame: Any, name: str) -> Tensor:
    """The gate of every unit and position, [B, units, height, width]."""
    return frame.activity[name].cache[:, :, 0].detach()


def aligned(network: Network, x: Tensor) -> tuple[Any, Tensor, dict[str, Tensor]]:
    """Frame, score [B, K], and e . v of every unit and position."""
    frame = network.step(network.init(x), x)
    score = LOSSES["cross_entropy"]().score(network(x), LABELS).detach() / len(x)
    found = {n: torch.einsum("bk,bckhw->bchw", score, frame.activity[n].value.detach()) for n in ("conv1", "conv2")}
    return frame, score, found


def kernel(factor: Tensor, pre: Tensor, shape: tuple[int, ...], **constants: Any) -> Tensor:
    """Correlation of two maps, as a plain convolution learns."""
    plain = Conv2d(shape[-1], **constants)
    return plain.outer(Synapses(torch.zeros(shape).double(), None), factor, plain.carry(pre)).weight


def test_backprop_needs_one_number_per_unit_and_position() -> None:
    """G1: dL/dw = correlation of g with e . v, dL/db = e times the sum of g. Oracle: autograd.

    Must fail when gates are left out of g (tried).
    """
    network, x = vnn(), images()
    exact, g = gradients(network, "bp", x), scalars(network, x)
    frame, score, e_v = aligned(network, x)
    for name, pre, constants in (("conv2", "conv1", CONVS["conv1->conv2"]), ("fc", "conv2", {})):
        factor, shape = g[name] * opened(frame, name), tuple(network.weights[f"{pre}->{name}"].shape)
        found = kernel(factor, e_v[pre], shape, **constants)
        torch.testing.assert_close(exact[f"weights.{pre}->{name}"], found)
        bias = torch.einsum("bohw,bk->ok", factor, score)
        torch.testing.assert_close(exact[f"biases.{pre}->{name}"], bias)
    first = g["conv1"] * opened(frame, "conv1")
    for k in range(K):
        found = kernel(first * score[:, k, None, None, None], x, (WIDTHS[0], 1, 3, 3), padding=1)
        torch.testing.assert_close(exact["weights.input->conv1"][:, k], found)


def test_broadcasting_replaces_it_by_the_gate_before_pooling() -> None:
    """dw = correlation of the gate with e . v, db = e times the number of open positions; nothing of the pooling of the
    next layer. Must fail when the third factor goes through it (tried)."""
    network, x = vnn(), images()
    found = gradients(network, "gevb", x)
    frame, score, e_v = aligned(network, x)
    for name, pre, constants in (("conv2", "conv1", CONVS["conv1->conv2"]), ("fc", "conv2", {})):
        shape = tuple(network.weights[f"{pre}->{name}"].shape)
        expected = kernel(opened(frame, name), e_v[pre], shape, **constants)
        torch.testing.assert_close(found[f"weights.{pre}->{name}"], expected)
        counted = torch.einsum("bohw,bk->ok", opened(frame, name), score)
        torch.testing.assert_close(found[f"biases.{pre}->{name}"], counted)
    for k in range(K):
        expected = kernel(opened(frame, "conv1") * score[:, k, None, None, None], x, (WIDTHS[0], 1, 3, 3), padding=1)
        torch.testing.assert_close(found["weights.input->conv1"][:, k], expected)


def test_no_number_is_negative_where_no_weight_is() -> None:
    """G2: g >= 0 at every position; of units without positions every entry has the sign that backprop gives it.

    Must fail when weights have both signs (tried here).
    """
    for negative in (False, True):
        network, x = vnn(negative=negative), images(20)
        wrong, below = 0, any((g < 0).any() for g in scalars(network, x).values())
        for row in x[:, None]:
            ours, exact = (gradients(network, rule, row, LABELS[:1]) for rule in ("gevb", "bp"))
            for name in ("weights.conv2->fc", "biases.conv2->fc"):
                there = exact[name] != 0
                wrong += int((ours[name][there].sign() != exact[name][there].sign()).sum())
        assert below == negative and (wrong > 0) == negative


def test_the_readout_and_a_constant_readout_are_backprop() -> None:
    """G5 and G6, behind convolutions. Must fail when shut units learn, or the sign of the score is sent (tried)."""
    network, x = vnn(), images()
    ours, exact = (gradients(network, rule, x) for rule in ("gevb", "bp"))
    for name in ("weights.fc->output", "biases.fc->output"):
        torch.testing.assert_close(ours[name], exact[name], rtol=1e-12, atol=1e-15)
    with torch.no_grad():
        network.weights["fc->output"].fill_(0.3)
    ours, exact = (gradients(network, rule, x) for rule in ("gevb", "bp"))
    torch.testing.assert_close(ours["weights.conv2->fc"], exact["weights.conv2->fc"] / 0.3)
    assert not torch.allclose(ours["weights.conv1->conv2"], exact["weights.conv1->conv2"] / 0.3)


def test_on_and_off_channels_are_opposite_at_every_position() -> None:
    """G4: v_odd = -v_even of every pair of channels, where one of them is open.

    Must fail when kernels are not crossed in pairs of channels (tried).
    """
    network, x = vnn(bias=False), images()
    frame = network.step(network.init(x), x)
    for name in ("conv1", "conv2", "fc"):
        value, is_open = frame.activity[name].value, opened(frame, name)
        assert torch.equal(is_open[:, 1::2], is_open[:, ::2]) and 0 < is_open.mean() < 1
        torch.testing.assert_close(value[:, 1::2], -value[:, ::2])


def test_one_component_is_a_convolutional_relu_network() -> None:
    """G7: K = 1 and t = 1. Must fail when a channel has another direction at another position, too (tried)."""
    network, x = vnn(components=1, bias=False), images()
    w = {name: weight.detach() for name, weight in network.weights.items()}
    h = torch.relu(torch.nn.functional.conv2d(x, w["input->conv1"][:, 0], padding=1))
    h = torch.nn.functional.avg_pool2d(h, 2)
    h = torch.relu(torch.nn.functional.conv2d(h, w["conv1->conv2"], padding=1))
    h = torch.relu(torch.nn.functional.conv2d(h, w["conv2->fc"]))
    torch.testing.assert_close(network(x).detach(), h.flatten(1) @ w["fc->output"][:, None])


def test_permuted_classes_permute_everything() -> None:
    """G8. Must fail when directions stay (tried)."""
    network, x, order = vnn(), images(), [2, 0, 1]
    before = network(x)
    with torch.no_grad():
        network.weights["input->conv1"].copy_(network.weights["input->conv1"][:, order].clone())
        for parameter in network.biases.values():
            parameter.copy_(parameter[..., order].clone())
        for name in ("conv1", "conv2", "fc"):
            neuron: Any = network.populations[name].neuron
            assert (neuron.direction == neuron.direction[:, :, :1, :1]).all()  # one per channel
            neuron.direction.copy_(neuron.direction[:, order].clone())
    torch.testing.assert_close(network(x), before[:, order])


def test_angles_at_the_start_are_those_of_the_source() -> None:
    """G3: between all g of a layer and ones, 64c3-pool-32c3-pool-FC1024 on 28 x 28: 11.9, 6.6, 55.6 degrees.

    With Gaussian inputs; the last one is arccos(1 / sqrt(pi)), within 1.5, those of convolutions within 3. Must
    fail for weights of both signs, near 90 (tried here).
    """
    for negative in (False, True):
        network = vnn(10, negative, bias=False, widths=(64, 32, 1024), side=28).float()
        x = images(1, 28).float()
        found = {}
        for name, g in scalars(network, x).items():
            cosine = torch.cosine_similarity(g.flatten(1), torch.ones_like(g).flatten(1))
            found[name] = torch.rad2deg(torch.acos(cosine)).item()
        expected = {"conv1": (90, 20), "conv2": (90, 20), "fc": (90, 20)} if negative else {
            "conv1": (11.9, 3), "conv2": (6.6, 3), "fc": (55.7, 1.5)}  # fmt: skip
        assert all(abs(found[name] - angle) < most for name, (angle, most) in expected.items()), found


SMALL = {
    "population.input.size": [1, 8, 8], "population.conv1.size": [8, 10, 8, 8], "population.conv2.size": [8, 10, 4, 4],
    "population.hidden.size": [32, 10, 1, 1], "connection.2.kernel": 2, "training.epochs": 5,
    "training.batch_size": 16, "training.optimizer.lr": 1e-2, "data.subset": 60,
}  # fmt: skip


@pytest.mark.parametrize("rule", ["gevb", "bp"])
def test_it_learns_digits_from_a_model_and_is_recorded(tmp_path: Path, rule: str) -> None:
    """G9: no weight behind the first layer is negative after training, weights of the first are; a unit is picked in a
    recording by its number as units are, and the axes are named. Must fail without the constraint (tried)."""
    run = neurosbd.fit(
        "mnist-vnn-cnn", rule=rule, data="digits", settings=SMALL,
        record=["conv2.rate[neurons=0:5, every=9 batches, examples=0]"], out=tmp_path / "run",
    )  # fmt: skip
    assert run.metrics[-1]["test_accuracy"] > 0.6
    weights = run.network().weights
    assert (weights["input->conv1"] < 0).any()
    assert all((weight >= 0).all() for name, weight in weights.items() if name != "input->conv1")
    assert run.trace["conv2.rate"].shape[-1] == 5
    assert "channels, components, height, width" in repr(run.network().summary())


@pytest.mark.parametrize("rule", ["sbd", "dfa", "fa", "pepita", "mono_forward"])
def test_other_rules_learn_in_it(rule: str) -> None:
    """As in any network."""
    network = vnn()
    assert all(gradient.any() for gradient in gradients(network, rule, images()).values())


@pytest.mark.parametrize(
    ("pre", "post"),
    [((4, 3), (4, 3, 2, 2)), ((4, 2, 6, 6), (4, 3, 6, 6)), ((1, 6, 6), (4, 6, 6)), ((4,), (4, 3, 2, 2))],
)
def test_sizes_that_do_not_fit_are_refused(pre: tuple[int, ...], post: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a vector_conv2d connection joins a map"):
        VectorConv2d(3, padding=1).weight_shape(pre, post)
    with pytest.raises(ValueError, match=r"a map of vectors ends in a vector_conv2d"):
        Vector().weight_shape((4, 3, 2, 2), (5, 3))
