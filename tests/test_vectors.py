"""Units whose values are vectors: a weight is shared over the components, under every rule that does not need more."""

import dataclasses
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.connections import Dense, Vector
from neurosbd.errors import UsageError
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neurons import NEURONS
from neurosbd.regularisers import LayerEntropy, Power
from neurosbd.regularisers.regulariser import Part
from neurosbd.rules import RULES

VECTORS = ("units", "components")


def vectors(components: int, neuron: str = "tanh", readout: str = "identity", shown: Any = (6,)) -> Network:
    """6 numbers (or vectors) -> 5 vectors -> 4 vectors -> one vector as units, in float64."""
    populations = [
        Population("input", shown, None, VECTORS if len(shown) == 2 else None),
        Population("first", (5, components), NEURONS[neuron](), VECTORS),
        Population("second", (4, components), NEURONS[neuron](), VECTORS),
        Population("output", (components,), NEURONS[readout]()),
    ]
    names = [population.name for population in populations]
    connections = [Connection(a, b, Vector(bias=True)) for a, b in pairwise(names)]
    return Network(populations, connections, torch.Generator().manual_seed(0)).double()


def gradients(network: Network, rule: Any, x: Tensor, target: Tensor, loss: str = "cross_entropy") -> dict[str, Tensor]:
    learner = Learner(network, rule, LOSSES[loss](), torch.Generator().manual_seed(1))
    network.zero_grad()
    learner.learn(Batch(x, target), noise=torch.Generator().manual_seed(2))
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def test_components_share_weights() -> None:
    """Every component through the same matrix; from numbers each through its own; onto one vector as a sum."""
    x, w = torch.randn(3, 4, 2), torch.randn(5, 4)
    between = Vector().drive(Vector().start((5, 4), (5, 2), torch.Generator())._replace(weight=w), x)
    for k in range(2):
        torch.testing.assert_close(between[:, :, k], x[:, :, k] @ w.t())
    own, numbers = torch.randn(5, 2, 4), torch.randn(3, 4)
    spread = Vector().drive(Vector().start((5, 2, 4), (5, 2), torch.Generator())._replace(weight=own), numbers)
    for k in range(2):
        torch.testing.assert_close(spread[:, :, k], numbers @ own[:, k].t())
    summed = Vector().drive(Vector().start((4,), (2,), torch.Generator())._replace(weight=w[0]), x)
    torch.testing.assert_close(summed, torch.einsum("j,bjk->bk", w[0], x))


@pytest.mark.parametrize("rule", ["sbd", "sbp", "dfa", "bp"])
def test_vectors_of_one_component_are_a_dense_network(rule: str) -> None:
    """The same weights, answers and gradients. Oracle: the dense network, float64."""
    one = vectors(1)
    populations = [dataclasses.replace(p, size=p.size[:1], axes=None) for p in one.populations.values()]
    connections = [dataclasses.replace(c, geometry=Dense(bias=True)) for c in one.connections.values()]
    dense = Network(populations, connections, torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        for mine, theirs in zip(one.parameters(), dense.parameters(), strict=True):
            theirs.copy_(mine.reshape(theirs.shape))
    x, target = torch.randn(1, 8, 6, dtype=torch.float64), torch.rand(8, 1, dtype=torch.float64)
    torch.testing.assert_close(one(x[0]), dense(x[0]), rtol=1e-12, atol=1e-12)
    mine, theirs = (gradients(network, RULES[rule](), x, target, "squared_error") for network in (one, dense))
    assert mine.keys() == theirs.keys() and len(mine) == 6
    for name in mine:
        torch.testing.assert_close(mine[name].reshape(theirs[name].shape), theirs[name], rtol=1e-10, atol=1e-12)


def test_permuted_components_give_permuted_answers() -> None:
    """Behind the first layer no weight knows a component. Must fail when one has weights of its own there."""
    network, x, order = vectors(3), torch.randn(7, 6, dtype=torch.float64), [2, 0, 1]
    before = network(x)
    with torch.no_grad():
        network.weights["input->first"].copy_(network.weights["input->first"][:, order].clone())
        for bias in network.biases.values():
            bias.copy_(bias[..., order].clone())
    torch.testing.assert_close(network(x), before[:, order], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rule", ["sbd", "ebd", "sbp", "dfa"])
@pytest.mark.parametrize("neuron", ["tanh", "lif", "normalised", "standardised"])
def test_local_rules_teach_vectors(rule: str, neuron: str) -> None:
    """Every parameter has a gradient, that of the readout is the one of backprop."""
    steps, readout, loss = (6, "li", "squared_error") if neuron == "lif" else (1, "identity", "squared_error")
    x = 3 * (torch.rand(steps, 8, 6, generator=torch.Generator().manual_seed(3)) < 0.5).double()
    target = torch.rand(8, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    found = gradients(vectors(3, neuron, readout), RULES[rule](), x, target, loss)
    exact = gradients(vectors(3, neuron, readout), RULES["bptt" if steps > 1 else "bp"](), x, target, loss)
    assert found.keys() == exact.keys() and all(gradient.any() for gradient in found.values())
    for name in ("weights.second->output", "biases.second->output"):
        torch.testing.assert_close(found[name], exact[name], rtol=1e-9, atol=1e-12)


def test_pairs_of_spikes_add_up_over_components() -> None:
    """The eligibility of a shared weight is the sum of those of its components. Oracle: each component alone.

    Must fail when `each` leaves a component out (tried).
    """
    network = vectors(3, "lif", "lif")
    x = 3 * (torch.rand(9, 4, 6, generator=torch.Generator().manual_seed(3)) < 0.6).double()
    found = gradients(network, RULES["stdp"](), x, torch.zeros(4).long())
    assert found["weights.first->second"].shape == (4, 5) and found["weights.first->second"].any()
    posts, pres = torch.randn(2, 6, 4, 3), torch.randn(2, 6, 5, 3)
    synapses = Vector().start((4, 5), (4, 3), torch.Generator())
    each = Vector().each(synapses, posts, pres)
    torch.testing.assert_close(each, torch.einsum("tbik,tbjk->bij", posts, pres), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "neuron", "message"),
    [
        (lambda: RULES["eprop"](), "lif", r"connection 'input->first': eprop keeps an eligibility per synapse.*'sbd'"),
        (lambda: RULES["sbd"](eligibility="exact"), "alif", r"connection 'input->first': an exact eligibility.*dense"),
    ],
)
def test_rules_that_keep_a_number_per_pair_of_values_refuse_vectors(make: Any, neuron: str, message: str) -> None:
    """Must fail when the number of axes of a weight alone decides (tried: [post, pre] between vectors)."""
    with pytest.raises(ValueError, match=message):
        Learner(vectors(3, neuron, "li", (6, 3)), make(), LOSSES["cross_entropy"](), torch.Generator())


def pulled(homeostasis: Any, h: torch.Tensor) -> torch.Tensor:
    """What a homeostasis asks of an activity, of a whole batch at once."""
    state, part = homeostasis.init(h, torch.Generator()), Part(len(h))
    state = homeostasis.update(state, homeostasis.statistics(state, h, part), 1.0)
    return homeostasis.apply(state, h, part)


def test_homeostases_of_vectors_descend_their_costs() -> None:
    """Power of a unit is that of all its components, entropy that of every component. Oracle: autograd, lam = 0."""
    h = torch.randn(7, 4, 3, dtype=torch.float64, requires_grad=True)
    power = Power(target=0.3, weight=0.7, forgetting=0.0)
    cost = 0.7 * (h.square().mean((0, 2)) - 0.3).square().sum()
    (exact,) = torch.autograd.grad(cost, h)
    with torch.no_grad():
        pull = pulled(power, h)
    torch.testing.assert_close(pull, exact, rtol=1e-10, atol=1e-12)
    entropy = LayerEntropy(weight=0.7, forgetting=0.0, examples=7, refresh=1)
    units = h.flatten(1)
    gram = units.t() @ units / 7 + 1e-2 * torch.eye(12, dtype=torch.float64)
    (exact,) = torch.autograd.grad(-0.35 * torch.logdet(gram), h)
    with torch.no_grad():
        pull = pulled(entropy, h)
    torch.testing.assert_close(pull, exact, rtol=1e-8, atol=1e-10)


def test_a_unit_is_silent_when_all_its_components_are() -> None:
    """Must fail when a component counts as a unit (tried)."""
    network = vectors(3, "relu")
    with torch.no_grad():
        network.weights["input->first"][0], network.biases["input->first"][0] = 0, 0
        network.weights["input->first"][1, :2], network.biases["input->first"][1, :2] = 0, 0
    layer = neurosbd.health(network, torch.randn(50, 6, dtype=torch.float64)).layers[1]
    assert (layer.name, layer.units) == ("first", 5) and layer.silent == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("pre", "post"), [((5, 3), (4, 2)), ((5, 3), (4,)), ((6,), (4,)), ((5, 3), (2, 4, 4)), ((1, 4, 4), (2, 4, 4))]
)
def test_sizes_that_vectors_do_not_join_are_refused(pre: tuple[int, ...], post: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"a vector connection joins vectors \[units, components\].*got \["):
        Vector().weight_shape(pre, post)


MODEL = """
about = "vectors"
rule = "sbd"
data.subset = 30
training.epochs = 4
training.optimizer = { kind = "adam", lr = 5e-3 }
[population]
input = { size = [1, 8, 8] }
first = { size = [12, 10], axes = ["units", "components"], neuron = "relu" }
second = { size = [8, 10], axes = ["units", "components"], neuron = "relu" }
output = { size = [10], neuron = "identity" }
[[connection]]
pre = "input"
post = "first"
kind = "vector"
bias = true
constraints = [{ kind = "norm", size = "l2" }]
[[connection]]
pre = "first"
post = "second"
kind = "vector"
constraints = ["nonnegative"]
[[connection]]
pre = "second"
post = "output"
kind = "vector"
constraints = ["nonnegative"]
"""


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vectors") / "vectors.toml"
    path.write_text(MODEL)
    return path


def test_a_vector_network_of_a_model_file_learns(model: Path, tmp_path: Path) -> None:
    run = neurosbd.fit(model, out=tmp_path / "run")
    assert run.metrics[-1]["train_loss"] < run.metrics[0]["train_loss"] < 4
    weights = run.network().weights
    assert weights["input->first"].shape == (12, 10, 64) and weights["first->second"].shape == (8, 12)
    assert (weights["first->second"] >= 0).all() and (weights["input->first"] < 0).any()
    assert weights["second->output"].shape == (8,) and run.predict(
        torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    ).shape == (3, 10)


def test_analyses_of_a_vector_network(model: Path, tmp_path: Path) -> None:
    """Fields of components that have weights of their own; a unit is silent when all its components are."""
    record = ["first.rate[on=test, examples=0:8]", "input->first.weight"]
    run = neurosbd.fit(model, record=record, settings={"training.epochs": 1}, out=tmp_path / "run")
    report = neurosbd.analyse(run.path)
    assert not report.failed
    assert {"receptive_fields", "layer_health", "weights"} <= {outcome.name for outcome in report.shown}
    fields: Any = report["receptive_fields"].result
    final = run.network().weights["input->first"].detach().numpy().reshape(120, 8, 8)
    assert fields.units == 120 and np.allclose(fields.field[0, 0], final[fields.unit[0]])


# Recordings ---------------------------------------------------------------------------------------


def test_recorded_vectors_are_those_of_the_network(model: Path, tmp_path: Path) -> None:
    """[row, example, units x components], and the axes by their names. Must fail when components lie before units."""
    some = "[on=test, examples=0:8]"
    record = [f"first.rate{some}", f"input.rate{some}", "first.third_factor[neurons=[14, 3], every=5 batches]"]
    run = neurosbd.fit(model, record=record, settings={"training.epochs": 1}, out=tmp_path / "run")
    signal = run.trace["first.rate@test"]
    assert signal.size == (12, 10) and signal.counted == ("units", "components")
    last = signal.rows(epoch=1, batch=0)
    assert signal.shape[1:] == (8, 120) and len(last) == 1
    network, x = run.network().eval(), torch.from_numpy(run.trace["input.rate@test"][last[0]]).view(8, 1, 8, 8)
    exact = network.step(network.init(x), x).activity["first"].value.detach().numpy()
    np.testing.assert_allclose(signal[last[0]].reshape(8, 12, 10), exact, rtol=1e-5, atol=1e-6)
    chosen = run.trace["first.third_factor"]
    assert chosen.shape[2:] == (2,)
    assert {name: n.tolist() for name, n in chosen.numbers.items()} == {"units": [1, 0], "components": [4, 3]}


def test_components_are_elements_of_a_node_in_sonata(model: Path, tmp_path: Path) -> None:
    """A unit is a node, in the order of the units. Must fail when every component is a node (tried)."""
    record = ["first.rate[neurons=[25, 3, 11, 4], examples=0:2, every=10 batches]"]
    run = neurosbd.fit(model, record=record, settings={"training.epochs": 1}, out=tmp_path / "run")
    path = neurosbd.export(run, "sonata", tmp_path / "a.h5")
    signal = run.trace["first.rate"]
    with h5py.File(path) as file:
        report: Any = file["report/first"]
        assert report["mapping/node_ids"][:].tolist() == [0, 1, 2] and report["mapping/node_ids"].attrs["sorted"] == 1
        assert report["mapping/element_ids"][:].tolist() == [3, 4, 1, 5]
        assert report["mapping/index_pointers"][:].tolist() == [0, 2, 3, 4]
        rows = signal[:].reshape(-1, 4)
        np.testing.assert_array_equal(report["data"][:], rows[:, [1, 3, 2, 0]])


def test_nwb_says_what_is_counted_through(model: Path, tmp_path: Path) -> None:
    run = neurosbd.fit(model, record=["first.rate[examples=0]"], settings={"training.epochs": 1}, out=tmp_path / "run")
    signal, path = run.trace["first.rate"], neurosbd.export(run, "nwb", tmp_path / "a.nwb")
    copy = neurosbd.open_run(path).trace["first.rate"]
    assert copy.counted == ("units", "components") and np.array_equal(copy[:], signal[:])
    with h5py.File(path) as file:
        comments = str(file["acquisition/first.rate"].attrs["comments"])
        assert comments.endswith("neurons are counted through 12 units x 10 components, the last fastest")


def test_spikes_of_components_are_refused_in_sonata(model: Path, tmp_path: Path) -> None:
    settings = {
        "training.epochs": 1, "time.steps": 4, "data.subset": 5, "data.encoder": "poisson",
        "population.first.neuron": "lif", "population.second.neuron": "lif", "population.output.neuron": "li",
    }  # fmt: skip
    record = ["first.spikes[examples=0:2]"]
    run = neurosbd.fit(model, settings=settings, record=record, out=tmp_path / "run")
    with pytest.raises(UsageError, match=r"'first.spikes' has a spike per component.*export to 'nwb'"):
        neurosbd.export(run, "sonata", tmp_path / "a.h5")
    assert not (tmp_path / "a.h5").exists()
    assert not neurosbd.analyse(run.path).failed
