"""Rules whose score goes back through the network: exact chains, signs, weights that follow, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.connections import POOLINGS, Conv2d, Dense, Local2d
from neurosbd.connections.geometry import Geometry
from neurosbd.connections.synapses import Synapses
from neurosbd.errors import UsageError
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.rule import TensorState
from neurosbd.losses import LOSSES
from neurosbd.network.network import INPUT, Connection, Network, Population
from neurosbd.neuromodulators import FixedRandom, Frozen, Full
from neurosbd.neurons import NEURONS
from neurosbd.plasticity import ThreeFactor
from neurosbd.rules import RULES, LocalRule, Rule
from neurosbd.testing.networks import cnn, deep, lc, mlp
from tests.compositions import state_of
from tests.contracts.tables import seeded
from tests.targets import example

CHAINS = ("fa", "sign_symmetry", "kolen_pollack")
NETWORKS = [lambda: mlp([5, 7, 6, 3]), cnn, lc, lambda: deep("vector", 3), lambda: mlp([5, 9, 8, 3], sparsity=0.3)]


def shown(network: Network, count: int = 4) -> Batch:
    torch.manual_seed(0)
    x = torch.randn(1, count, *network.populations[INPUT].size, dtype=torch.float64)
    return Batch(x, torch.randint(0, 3, (count,)))


def learner_of(network: Network, rule: Rule, loss: str = "cross_entropy") -> Learner:
    return Learner(network, rule, LOSSES[loss](), seeded())


def gradients(learner: Learner, batch: Batch) -> dict[str, Tensor]:
    learner.network.zero_grad()
    for head in learner.parameters.values():
        head.grad = None
    learner.learn(batch)
    named = learner.network.named_parameters()
    return {name: parameter.grad.clone() for name, parameter in named if parameter.grad is not None}


def behind_a_pooling(pool: str) -> dict[str, Geometry]:
    """Connections from a map of 3 x 9 x 9."""
    shape = POOLINGS[pool]()
    return {"conv2d": Conv2d(3, pool=shape), "local2d": Local2d(3, pool=shape), "dense": Dense(pool=shape)}


def put(learner: Learner, weights: dict[str, Tensor]) -> None:
    """Weights in the place of those that a rule has drawn for the way back."""
    state = learner.state
    assert isinstance(state, TensorState)
    with torch.no_grad():
        for name, kept in (*state.tensors.items(), *state.parameters.items()):
            kept.copy_(weights[name])


def follows_backprop(learner: Learner, batch: Batch) -> None:
    ours, exact = (gradients(each, batch) for each in (learner, learner_of(learner.network, RULES["bp"]())))
    torch.testing.assert_close(ours, exact, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize("rule", ["fa", "kolen_pollack"])
def test_a_chain_through_the_true_weights_is_backprop(rule: str, make: Any) -> None:
    """Must fail with the weights that were drawn (checked here), or without the gain of a population (tried)."""
    network = make()
    learner, batch = learner_of(network, RULES[rule]()), shown(network)
    drawn = gradients(learner, batch)
    put(learner, {name: weight.detach().clone() for name, weight in network.weights.items()})
    follows_backprop(learner, batch)
    exact = gradients(learner, batch)
    first = next(iter(network.weights))
    assert not torch.allclose(drawn[f"weights.{first}"], exact[f"weights.{first}"], rtol=1e-3)


@pytest.mark.parametrize("loss", [name for name, make in LOSSES.items() if make().parameters == 1])
def test_one_hidden_layer_under_feedback_alignment_is_direct_feedback_alignment(loss: str) -> None:
    """D5, with equal B. Must fail if B is transposed or drawn apart (tried)."""
    network = mlp([5, 7, 3])
    batch = Batch(shown(network).inputs, example(LOSSES[loss](), 4)[1])
    one = learner_of(network, RULES["fa"](), loss)
    other = learner_of(network, LocalRule(ThreeFactor(), FixedRandom(Full())), loss)
    assert isinstance(one.state, TensorState)
    state_of(other).modulators["hidden1"] = Frozen(one.state.tensors["hidden1->output"])
    torch.testing.assert_close(gradients(one, batch), gradients(other, batch), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("make", [NETWORKS[0], cnn, lc])
@pytest.mark.parametrize("magnitude", ["fixed", "equal"])
def test_signs_and_true_magnitudes_are_backprop(make: Any, magnitude: str) -> None:
    """Weights that are all of one size; then half of the signs turn. Must fail when signs stay as they were (tried)."""
    network = make()
    with torch.no_grad():
        for weight in network.weights.values():
            weight.copy_(0.2 * weight.sign())
    learner, batch = learner_of(network, RULES["sign_symmetry"](magnitude=magnitude)), shown(network)
    put(learner, {name: torch.full_like(weight, 0.2)[(0,) * weight.dim() if magnitude == "equal" else ...]
                  for name, weight in network.weights.items()})  # fmt: skip
    follows_backprop(learner, batch)
    with torch.no_grad():
        for weight in network.weights.values():
            weight.mul_(torch.randn_like(weight).sign())
    follows_backprop(learner, batch)


def test_magnitudes_of_signs() -> None:
    """Those that are drawn anew differ from batch to batch, and are the same again from the same seed."""
    network = mlp([5, 7, 6, 3])
    batch = shown(network)
    learner = learner_of(network, RULES["sign_symmetry"](magnitude="drawn"))
    found = [gradients(learner, batch)["weights.input->hidden1"] for _ in range(2)]
    again = gradients(learner_of(network, RULES["sign_symmetry"](magnitude="drawn")), batch)["weights.input->hidden1"]
    assert not torch.equal(*found) and torch.equal(found[0], again)
    fixed = learner_of(network, RULES["sign_symmetry"]())
    assert torch.equal(*(gradients(fixed, batch)["weights.input->hidden1"] for _ in range(2)))


def test_zero_at_the_readout_is_no_sign() -> None:
    """sign(0) = 0, as everywhere here: nothing goes back through weights that start at 0."""
    network = mlp([5, 7, 3])
    with torch.no_grad():
        network.weights["hidden1->output"].zero_()
    found = gradients(learner_of(network, RULES["sign_symmetry"]()), shown(network))
    assert not found["weights.input->hidden1"].any() and found["weights.hidden1->output"].any()


@pytest.mark.parametrize("make", [NETWORKS[0], cnn, lc, NETWORKS[-1]])
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda groups: torch.optim.SGD(groups, 0.1, weight_decay=0.5),
        lambda groups: torch.optim.AdamW(groups, 0.1, weight_decay=0.5, fused=True),
    ],
)
def test_weights_forward_and_back_meet_as_kolen_and_pollack_say(make: Any, optimizer: Any) -> None:
    """(weight - B)[t] = (1 - lr decay)^t (weight - B)[0], where there is a synapse. Must fail when B takes the gradient
    that its own signal would give, or none (tried)."""
    network = make()
    learner, batch = learner_of(network, RULES["kolen_pollack"]()), shown(network)
    heads = learner.parameters
    apart = {name: (network.weights[name] - b).detach().clone() for name, b in heads.items()}
    steps = optimizer([*network.parameters(), *heads.values()])
    for _ in range(20):
        steps.zero_grad()
        learner.learn(batch)
        steps.step()
        learner.after_step()
    for name, b in heads.items():
        present = network.present(network.connections[name])
        there = slice(None) if present is None else present.bool()
        left = (network.weights[name] - b).detach()
        torch.testing.assert_close(left[there], 0.95**20 * apart[name][there], rtol=1e-9, atol=1e-12)


def test_gradients_of_both_ways_pile_up_alike() -> None:
    """Two batches without a step between them. Must fail when B shares the memory of the gradient (tried)."""
    network = mlp([5, 7, 6, 3])
    learner, batch = learner_of(network, RULES["kolen_pollack"]()), shown(network)
    for _ in range(2):
        learner.learn(batch)
    for name, b in learner.parameters.items():
        gradient = network.weights[name].grad
        assert b.grad is not None and gradient is not None and b.grad.data_ptr() != gradient.data_ptr()
        torch.testing.assert_close(b.grad, gradient)


def test_weights_back_have_the_rate_of_those_forward(tmp_path: Path) -> None:
    """A model whose readout learns ten times faster: both still meet. Must fail when heads have the rate 1 (tried)."""
    settings = {
        "training.epochs": 3, "data.subset": 20, "training.schedule": "constant",
        "training.optimizer": {"kind": "adamw", "lr": 1e-2, "weight_decay": 1.0},
    }  # fmt: skip
    run = neurosbd.fit("digits-mlp", rule="kolen_pollack", settings=settings, out=tmp_path / "run")
    saved = torch.load(run.path / "checkpoint.pt", weights_only=True)["learner"]["parameters"]
    weight = run.network().weights["hidden2->output"]
    assert torch.cosine_similarity(saved["hidden2->output"].flatten(), weight.flatten(), 0) > 0.9


@pytest.mark.parametrize("rule", CHAINS)
def test_signals_are_recorded(rule: str, tmp_path: Path) -> None:
    """Those of the hidden populations, by which the gradient was made. Must fail when they are not told."""
    settings = {"training.epochs": 1, "data.subset": 20, "training.batch_size": 20}
    run = neurosbd.fit("digits-mlp", rule=rule, settings=settings, record=["*.third_factor"], out=tmp_path / "run")
    for name in ("hidden1", "hidden2"):
        signal = run.trace[f"{name}.third_factor"][:]
        assert np.isfinite(signal).all() and signal.any(), name
    assert "output.third_factor" not in run.trace.names


def joined(*connections: Connection) -> Network:
    tanh = NEURONS["tanh"]()
    hidden = [Population(name, (6,), tanh) for name in ("one", "two")]
    populations = [Population("input", (4,), None), *hidden, Population("output", (3,), tanh, role="readout")]
    feedforward = [Connection(*pair, Dense()) for pair in (("input", "one"), ("input", "two"), ("one", "output"))]
    return Network(populations, [*feedforward, *connections], seeded()).double()


@pytest.mark.parametrize("rule", CHAINS)
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: joined(Connection("two", "output", Dense()), Connection("one", "one", Dense())),
            r"connection 'one->one': the signal goes back within one step, so nothing may arrive later.*'dfa'",
        ),
        (
            lambda: joined(Connection("two", "output", Dense(), delay=2)),
            "connection 'two->output': the signal goes back .* this one takes 2 steps",
        ),
        (joined, "population 'two' does not reach the readout, so no signal comes back to it"),
        (
            lambda: mlp([4, 5, 3], "lif"),
            "connection 'input->hidden1': the signal goes back .*, but .hidden1. are neurons",
        ),
    ],
)
def test_networks_through_which_nothing_comes_back_within_a_step_are_refused(rule: str, make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        learner_of(make(), RULES[rule]())


def test_two_ways_to_a_population_add_up_and_unscored_steps_have_no_signal() -> None:
    """A connection that skips a layer, shown for three steps of which one counts: backprop's gradient."""
    network = joined(Connection("one", "two", Dense()), Connection("two", "output", Dense()))
    learner, told = learner_of(network, RULES["fa"]()), []
    put(learner, {name: weight.detach().clone() for name, weight in network.weights.items()})
    x = torch.randn(3, 5, 4, dtype=torch.float64)
    follows_backprop(learner, Batch(x, torch.arange(5) % 3, (0.0, 0.7, 0.0)))

    class Watching:
        def on_third_factor(self, population: str, third_factor: Tensor | None) -> None:
            told.append((population, third_factor is not None))

        def looks_at(self, connection: str) -> bool:
            return False

        def on_eligibility(self, connection: str, eligibility: Any) -> None:
            raise AssertionError

    learner.learn(Batch(x, torch.arange(5) % 3, (0.0, 0.7, 0.0)), learning_observer=Watching())
    assert sorted(told) == sorted(
        (name, scored) for name in ("one", "two", "output") for scored in (False, True, False)
    )


@pytest.mark.parametrize("rule", CHAINS)
def test_a_head_learns_by_itself_and_changes_nothing_else(rule: str) -> None:
    """Bitwise the gradients without it; its own is backprop's. Must fail when its signal goes back, too."""
    tanh, identity = NEURONS["tanh"](), NEURONS["identity"]()
    hidden, output = Population("hidden", (6,), tanh), Population("output", (3,), identity)
    probe = Population("probe", (3,), identity, role="head")
    ways = [Connection("input", "hidden", Dense()), Connection("hidden", "output", Dense())]
    plain, probed = (
        Network([Population("input", (4,), None), hidden, *more, output], [*ways, *extra], seeded()).double()
        for more, extra in (((), ()), ((probe,), (Connection("hidden", "probe", Dense(bias=True)),)))
    )
    batch = shown(plain)
    without = gradients(learner_of(plain, RULES[rule]()), batch)
    found, exact = (gradients(learner_of(probed, RULES[name]()), batch) for name in (rule, "bp"))
    assert all(torch.equal(found[name], gradient) for name, gradient in without.items())
    for name in ("weights.hidden->probe", "biases.hidden->probe"):
        torch.testing.assert_close(found[name], exact[name], rtol=1e-12, atol=1e-15)


def test_refused_on_the_command_line_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"digits-snn: rule 'fa': connection 'input->hidden1': the signal goes back"):
        neurosbd.fit("digits-snn", rule="fa", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["conv2d", "local2d", "dense"])
@pytest.mark.parametrize("pool", list(POOLINGS))
def test_a_signal_comes_back_in_the_memory_order_of_the_map(pool: str, kind: str) -> None:
    """Where two orders meet a gate takes seven times as long. Must fail when what a pooling shares out goes by a number
    expanded to the size of the map (tried)."""
    geometry, post = behind_a_pooling(pool)[kind], (5,) if kind == "dense" else (5, 2, 2)
    weight = torch.randn(geometry.weight_shape((3, 9, 9), post))
    value = torch.randn(4, 3, 9, 9).contiguous(memory_format=torch.channels_last)
    back = geometry.back(Synapses(weight, None), torch.randn(4, *post), value)
    assert back.stride() == value.stride()
