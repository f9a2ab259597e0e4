"""What keeps a network alive, against autograd, finite differences and direct inverses in float64."""

import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosbd.connections.synapses import Synapses
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.simulation import unroll
from neurosbd.losses import LOSSES, from_function
from neurosbd.losses.curvature import curved
from neurosbd.network.network import Network
from neurosbd.neuromodulators import Decorrelation, FixedRandom, Forgetting, Frozen, Full, Shared
from neurosbd.neuromodulators.layouts import NO_BASIS
from neurosbd.neurons import LIF, Normalised
from neurosbd.regularisers import HOMEOSTASES, UPKEEPS, LayerEntropy, Power, Sparsity, WeightEntropy
from neurosbd.rules import RULES
from neurosbd.rules.broadcast import LocalRule, ThreeFactor
from neurosbd.runs.loggers import Event, NullLogger
from neurosbd.runs.run import open_run
from neurosbd.testing.regularisers import pulled
from neurosbd.training.fit import fit
from tests.compositions import rule_of, state_of
from tests.conftest import cnn, mlp
from tests.spiking import layered
from tests.targets import example

SIZES = pytest.mark.parametrize("size", [(6,), (3, 4, 5)], ids=["units", "map"])


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def derivative(cost: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """By autograd."""
    leaf = at.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(cost(leaf), leaf)
    return slope


def by_differences(cost: Callable[[Tensor], Tensor], at: Tensor, step: float = 1e-6) -> Tensor:
    """Symmetric finite differences, element by element."""
    slope = torch.zeros_like(at)
    for index in torch.cartesian_prod(*map(torch.arange, at.shape)):
        move = torch.zeros_like(at)
        move[tuple(index)] = step
        slope[tuple(index)] = (cost(at + move) - cost(at - move)) / (2 * step)
    return slope


# Costs on the activity ----------------------------------------------------------------------------


def channels(value: Tensor) -> Tensor:
    """Units, or the means of channels over positions."""
    return value.mean((2, 3)) if value.ndim == 4 else value


def entropy(value: Tensor, epsilon: float) -> Tensor:
    h = channels(value)
    return 0.5 * torch.logdet(h.t() @ h / len(h) + epsilon * torch.eye(h.shape[1], dtype=h.dtype))


def power(value: Tensor, target: float) -> Tensor:
    square = value.square().mean((0, 2, 3)) if value.ndim == 4 else value.square().mean(0)
    return (square - target).square().sum()


COSTS: list[tuple[Any, Callable[[Tensor], Tensor]]] = [
    (Power(0.3, 0.7, forgetting=0.0), lambda h: 0.7 * power(h, 0.3)),
    (LayerEntropy(0.7, 0.0, 0.05, refresh=1), lambda h: -0.7 * entropy(h, 0.05)),
    (Sparsity(0.7), lambda h: 0.7 * h.abs().sum() / len(h)),
]


@SIZES
@pytest.mark.parametrize(("homeostasis", "cost"), COSTS, ids=list(HOMEOSTASES))
def test_a_pull_is_the_derivative_of_its_cost(homeostasis: Any, cost: Any, size: tuple[int, ...]) -> None:
    """At lam = 0, by autograd and by finite differences. Must fail when the factor 2 of the square, the epsilon or the
    number of positions is left out (tried)."""
    value = torch.randn(7, *size, dtype=torch.float64)
    pull, _ = pulled(homeostasis, homeostasis.init(value, seeded()), value, 1.0)
    torch.testing.assert_close(pull, derivative(cost, value), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(pull, by_differences(cost, value), rtol=1e-5, atol=1e-8)


def test_every_cost_is_tested() -> None:
    assert [type(homeostasis) for homeostasis, _ in COSTS] == list(HOMEOSTASES.values())


def test_running_moments_are_the_weighted_sums_of_all_batches() -> None:
    batches = torch.randn(30, 5, 4, dtype=torch.float64)
    states: list[Any] = []
    both: tuple[Any, ...] = (Power(0.3, forgetting=0.8), LayerEntropy(forgetting=0.8))
    for homeostasis in both:
        state = homeostasis.init(batches[0], seeded())
        for value in batches:
            _, state = pulled(homeostasis, state, value, 1.0)
        states.append(homeostasis.settled(state) if isinstance(homeostasis, LayerEntropy) else state)
    weights = 0.2 * 0.8 ** torch.arange(29, -1, -1, dtype=torch.float64)
    second = torch.einsum("t,tbi,tbj->ij", weights, batches, batches) / 5
    torch.testing.assert_close(states[0].power, second.diagonal() + 0.8**30 * 0.3)
    torch.testing.assert_close(states[1].correlation, second + 0.8**30 * torch.eye(4).double())


@pytest.mark.parametrize("forgetting", [0.9, 0.999])
def test_the_inverse_does_not_drift(forgetting: float) -> None:
    """10,000 batches in float32 against the direct inverse in float64, some units silent, some near copies, powers from
    .01 to 10. Must fail when the inverse is not renewed (tried); carried on by the Woodbury identity in float32 it is
    lost, see benchmarks/layer_entropy.py."""
    entropy = LayerEntropy(forgetting=forgetting, epsilon=1e-2, examples=16, refresh=50)
    mixing = torch.randn(32, 32) / 6 * torch.logspace(-1, 0.5, 32)
    state = entropy.init(torch.zeros(1, 32), seeded())
    exact = torch.eye(32, dtype=torch.float64)
    for _ in range(10_000):
        h = torch.relu(torch.randn(16, 32) @ mixing)
        h[:, :5], h[:, 5] = 0, h[:, 6]
        _, state = pulled(entropy, state, h, 1.0)
        exact = forgetting * exact + (1 - forgetting) * (h.t() @ h).double() / 16
    assert state.age == 0  # just renewed
    direct = torch.linalg.inv(exact + 1e-2 * torch.eye(32, dtype=torch.float64))
    assert (state.inverse - direct).norm() < 1e-4 * direct.norm()
    assert (state.inverse - state.inverse.t()).abs().max() < 1e-4 * direct.abs().max()


def test_an_inverse_is_renewed_when_it_is_old_enough_and_survives_nonsense() -> None:
    entropy, value = LayerEntropy(refresh=3), torch.randn(16, 5)
    state = entropy.init(value, seeded())
    renewed = []
    for _ in range(7):
        before = state.inverse
        _, state = pulled(entropy, state, value, 1.0)
        renewed.append(not torch.equal(before, state.inverse))
    assert renewed == [False, False, True, False, False, True, False]
    _, sick = pulled(LayerEntropy(refresh=1), state, value * torch.nan, 1.0)
    assert torch.equal(sick.inverse, state.inverse)
    # Of loud activity float32 does not hold epsilon: the correlation is singular, and there is half a factor of it.
    loud = state._replace(correlation=torch.full((5, 5), 1e10))
    _, sick = pulled(LayerEntropy(refresh=1, forgetting=0.0), loud, torch.full_like(value, 1e5), 1.0)
    assert torch.equal(sick.inverse, state.inverse)


def test_the_examples_that_are_heard_stand_for_all() -> None:
    """With the inverse held, the mean over all turns of who is heard is the pull on everyone."""
    value = torch.randn(12, 5, dtype=torch.float64)
    entropy = LayerEntropy(examples=12)
    state = entropy.init(value, seeded())
    whole, _ = pulled(entropy, state, value, 1.0)
    few, total = dataclasses.replace(entropy, examples=3), torch.zeros_like(value)
    for turn in range(4):
        pull, _ = pulled(few, state, value.roll(-3 * turn, 0), 1.0)
        assert not pull[3:].any()
        total += pull.roll(3 * turn, 0)
    torch.testing.assert_close(total / 4, whole)


@pytest.mark.parametrize("homeostasis", [Power(), LayerEntropy(), Sparsity()])
def test_constants_out_of_range_are_refused(homeostasis: Any) -> None:
    bad = {"weight": float("nan"), "forgetting": 1.0, "target": 0.0, "epsilon": 0.0, "examples": 0, "refresh": 0}
    for name in {field.name for field in dataclasses.fields(homeostasis)}:
        with pytest.raises(ValueError, match=rf"{type(homeostasis).__name__}\.{name} must be .*got"):
            dataclasses.replace(homeostasis, **{name: bad[name]})


# Costs on the weights -----------------------------------------------------------------------------


def laid(shape: tuple[int, ...]) -> Tensor:
    weight = torch.randn(shape, dtype=torch.float64)
    return weight.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else weight


def spread(weight: Tensor) -> Tensor:
    """1/2 logdet(W W^T + .05 I), at every position if there are any."""
    rows = weight.permute(1, 2, 0, 3, 4, 5).flatten(3) if weight.ndim == 6 else weight.flatten(1)
    return 0.5 * torch.logdet(rows @ rows.mT + 0.05 * torch.eye(rows.shape[-2], dtype=rows.dtype)).sum()


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (4, 2, 3, 3), (20, 2, 2, 2), (3, 2, 2, 2, 2, 2)])
def test_weight_entropy_is_the_derivative_of_its_cost(shape: tuple[int, ...]) -> None:
    """Wide and tall, kernels, kernels per position. Must fail when a tall weight is not transposed back (tried)."""
    upkeep, synapses = WeightEntropy(0.7, 0.05, on="all"), Synapses(laid(shape), None)
    pull, _ = upkeep.step(upkeep.init(synapses), synapses, None)
    assert pull is not None and pull.weight.stride() == synapses.weight.stride()
    torch.testing.assert_close(pull.weight, derivative(lambda w: -0.7 * spread(w), synapses.weight))
    torch.testing.assert_close(
        pull.weight, by_differences(lambda w: -0.7 * spread(w), synapses.weight), rtol=1e-5, atol=1e-8
    )


def test_weight_entropy_holds_its_pull_and_takes_it_anew() -> None:
    upkeep, state, pulls = WeightEntropy(refresh=3, on="all"), None, []
    for _ in range(7):
        synapses = Synapses(torch.randn(4, 6), None)
        state = upkeep.init(synapses) if state is None else state
        pull, state = upkeep.step(state, synapses, None)
        assert pull is not None
        pulls.append(pull.weight)
    new = [i for i in range(1, 7) if not torch.equal(pulls[i], pulls[i - 1])]
    assert new == [3, 6]


def test_weight_entropy_can_leave_dense_connections_alone_and_refuses_what_it_does_not_know() -> None:
    upkeep = WeightEntropy()
    dense = Synapses(torch.randn(4, 6), None)
    assert upkeep.step(upkeep.init(dense), dense, None) == (None, ())
    with pytest.raises(ValueError, match=r"rows are known of weights \[post, pre\].*got \[2, 2, 2\]"):
        WeightEntropy(on="all").init(Synapses(torch.randn(2, 2, 2), None))
    bad: dict[str, Any] = {"weight": -1.0, "epsilon": 0.0, "refresh": 0}
    for name in bad:
        with pytest.raises(ValueError, match=rf"WeightEntropy\.{name} must be"):
            WeightEntropy(**{name: bad[name]})


# In a rule ----------------------------------------------------------------------------------------


def grads(network: Network, rule: Any, batches: int = 1, loss: Any = None) -> dict[str, Tensor]:
    """Gradients of the last of some batches."""
    target = torch.arange(8) % 3
    learner = Learner(network, rule, loss or LOSSES[rule.loss or "cross_entropy"](), seeded(3))
    for number in range(batches):
        network.zero_grad()
        x = torch.randn(8, *network.populations["input"].size, dtype=torch.float64, generator=seeded(number))
        learner.learn(Batch(x[None], target))
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


EVERYTHING: dict[str, Any] = {
    **{name: {"homeostasis": (make(weight=10.0),)} for name, make in HOMEOSTASES.items()},
    **{name: {"upkeep": (make(weight=10.0, on="all"),)} for name, make in UPKEEPS.items()},
}


@pytest.mark.parametrize("readout", ["gradient", "rule"])
@pytest.mark.parametrize("name", list(EVERYTHING))
@pytest.mark.parametrize("make", [lambda: mlp([5, 7, 6, 3]), cnn], ids=["mlp", "cnn"])
def test_every_hidden_layer_is_reached_and_no_readout(make: Any, name: str, readout: Any) -> None:
    """Must fail when populations are told by the rule they follow (tried: a readout by rule was reached)."""
    plain = LocalRule(ThreeFactor(), FixedRandom(Full()), readout=readout)
    without = grads(make(), plain)
    reached = grads(make(), dataclasses.replace(plain, **EVERYTHING[name]))
    for key, gradient in reached.items():
        touched = "->output" not in key and (name not in UPKEEPS or "weights" in key)
        assert torch.equal(gradient, without[key]) != touched, key


def test_a_cost_on_the_activity_reaches_the_weights_as_backprop_would_send_it() -> None:
    """The broadcast off: d cost / d weight of one layer by autograd, biases included, absent synapses left alone."""
    network = mlp([5, 7, 3], sparsity=0.3)
    rule = RULES["dfa"](
        neuromodulator=FixedRandom(scale=0.0), homeostasis=tuple(homeostasis for homeostasis, _ in COSTS)
    )
    x = torch.randn(8, 5, dtype=torch.float64, generator=seeded(0))
    found = grads(network, rule)
    hidden = unroll(network, x[None], differentiable=True).activity["hidden1"].value
    weight, bias = network.weights["input->hidden1"], network.biases["input->hidden1"]
    exact = torch.autograd.grad(sum(cost(hidden) for _, cost in COSTS), (weight, bias))  # type: ignore[arg-type]
    present = network.present(network.connections["input->hidden1"])
    assert present is not None and present.min() == 0
    torch.testing.assert_close(found["weights.input->hidden1"], exact[0] * present)
    torch.testing.assert_close(found["biases.input->hidden1"], exact[1])


@pytest.mark.parametrize("name", list(EVERYTHING))
@pytest.mark.parametrize("make", [lambda: mlp([5, 7, 6, 3], sparsity=0.3), cnn], ids=["mlp", "cnn"])
def test_memories_survive_a_round_trip(make: Any, name: str) -> None:
    network: Network = make()
    rule = rule_of("sbd", **EVERYTHING[name])
    one, two = (Learner(network, rule, LOSSES["cross_entropy"](), seeded(seed)) for seed in (1, 2))
    x, target = torch.randn(4, 8, *network.populations["input"].size, dtype=torch.float64), torch.arange(8) % 3
    for batch in x[:3]:
        one.learn(Batch(batch[None], target))
    two.load_state_dict(one.state_dict())
    found = []
    for learner in (one, two):
        network.zero_grad()
        learner.learn(Batch(x[3][None], target))
        found.append({name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None})
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


def test_learning_does_not_write_over_what_an_upkeep_holds() -> None:
    """A rule of nothing else: the first pull becomes the gradient, further ones are added to it. Must fail when it
    becomes the gradient without a copy (tried)."""
    network = mlp([5, 7, 3])
    rule = LocalRule(ThreeFactor(), None, upkeep=(WeightEntropy(on="all"),))
    learner = Learner(network, rule, LOSSES["cross_entropy"](), seeded())
    for _ in range(3):
        learner.learn(Batch(torch.randn(1, 8, 5, dtype=torch.float64), torch.arange(8) % 3))
    held = state_of(learner).upkeep["input->hidden1"][0].pull
    torch.testing.assert_close(network.weights["input->hidden1"].grad, 3 * held)


def test_layer_entropy_on_spikes_counts_a_run_as_one_batch() -> None:
    """Gradients flow, and after 20 steps the inverse is one batch old."""
    network, steps = layered(LIF()), 20
    x = (torch.rand(steps, 8, 4) < 0.5).double() * 3
    trial = Batch(x, torch.arange(8) % 3, [1 / steps] * steps)
    found = []
    for homeostasis in ((), (LayerEntropy(1.0),)):
        network.zero_grad()
        rule: Any = RULES["sbd"](homeostasis=homeostasis)
        learner = Learner(network, rule, LOSSES["cross_entropy"](), seeded())
        learner.learn(trial)
        found.append(network.weights["input->hidden"].grad.clone())  # type: ignore[union-attr]
    assert found[1].isfinite().all() and not torch.equal(*found)
    (state,) = state_of(learner).homeostasis["hidden"]
    assert state.age == pytest.approx(1.0) and not torch.equal(state.correlation, torch.eye(6).double())
    assert len(state.pending) < 64  # of 160 activities heard


# Forward broadcast --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(LOSSES))
def test_curvature_is_how_the_score_moves(name: str) -> None:
    """Finite differences of the score. Must fail when the direction is left out (tried)."""
    loss = LOSSES[name]()
    output, target = example(loss, 6)
    direction = torch.randn_like(output)
    ahead, behind = (loss.score(output + step * direction, target) for step in (1e-6, -1e-6))
    torch.testing.assert_close(
        curved(loss.per_example, output, target, direction), (ahead - behind) / 2e-6, rtol=1e-6, atol=1e-8
    )


def test_curvature_of_a_loss_of_ones_own() -> None:
    loss = from_function(lambda z, y: ((z - y) ** 4).sum(1) / 4)
    output, target, direction = torch.randn(3, 4, 2, dtype=torch.float64)
    torch.testing.assert_close(
        curved(loss.per_example, output, target, direction), 3 * (output - target) ** 2 * direction
    )


@pytest.mark.parametrize("layout", [Full(), Shared()])
@pytest.mark.parametrize("name", list(LOSSES))
def test_forward_broadcast_descends_the_squared_correlations_through_the_score(name: str, layout: Any) -> None:
    """What it adds to the readout's gradient is d 1/2 sum ||mean s h^T||^2 / d weight at fixed h, by finite differences
    at lam = 0, on maps and units; the other weights learn as without it. Must fail when the layers below the last are
    left out (tried)."""
    loss = LOSSES[name]()
    network = cnn("tanh")
    last = network.connections["fc->output"]
    with torch.no_grad():
        network.weights[last.name] = torch.nn.Parameter(torch.randn(3 * loss.parameters, 5, dtype=torch.float64) / 3)
        network.biases[last.name] = torch.nn.Parameter(torch.zeros(3 * loss.parameters, dtype=torch.float64))
    network.populations["output"] = dataclasses.replace(network.populations["output"], size=(3 * loss.parameters,))
    x = torch.randn(8, 2, 8, 8, dtype=torch.float64)
    _, target = example(loss, 8)
    found = []
    for weight in (0.0, 0.7):
        network.zero_grad()
        modulator = Decorrelation(layout, forgetting=Forgetting(0.0))
        learner = Learner(network, LocalRule(ThreeFactor(), modulator, forward_broadcast=weight), loss, seeded(3))
        learner.learn(Batch(x[None], target))
        found.append({key: p.grad.clone() for key, p in network.named_parameters() if p.grad is not None})
    added = {key: found[1][key] - found[0][key] for key in found[0]}
    assert all(not gradient.any() for key, gradient in added.items() if "output" not in key)
    with torch.no_grad():
        activity = unroll(network, x[None]).activity
    hidden = [layout.summary(activity[name].value, NO_BASIS) for name in ("conv1", "conv2", "fc")]
    fc, bias = activity["fc"].value, network.biases[last.name].detach()

    def cost(weight: Tensor) -> Tensor:
        score = loss.score(fc @ weight.t() + bias, target) / 8
        return 0.7 * sum((0.5 * (score.t() @ h).square().sum() for h in hidden), torch.zeros(()).double())

    numeric = by_differences(cost, network.weights[last.name].detach(), 1e-5)
    torch.testing.assert_close(added[f"weights.{last.name}"], numeric, rtol=1e-6, atol=1e-8)


def test_forward_broadcast_needs_a_correlation_and_a_number() -> None:
    with pytest.raises(ValueError, match=r"keeps the correlation.*'decorrelation'"):
        LocalRule(ThreeFactor(), FixedRandom(), forward_broadcast=0.1)
    with pytest.raises(ValueError, match=r"forward_broadcast must be a number >= 0, got -0.1"):
        RULES["sbd"](forward_broadcast=-0.1)


# Normalised drives --------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["deviation", "power"])
def test_broadcasting_the_true_derivative_through_normalised_units_is_backprop(by: Any) -> None:
    """One hidden layer, transposed readout. Must fail when the gate only divides (tried)."""
    network = mlp([5, 7, 3])
    network.populations["hidden1"] = dataclasses.replace(network.populations["hidden1"], neuron=Normalised(by=by))
    x, target = torch.randn(8, 5, dtype=torch.float64), torch.arange(8) % 3
    learner = Learner(network, LocalRule(ThreeFactor(), FixedRandom(Full())), LOSSES["cross_entropy"](), seeded())
    state_of(learner).modulators = {"hidden1": Frozen(network.weights["hidden1->output"].detach().clone())}
    learner.learn(Batch(x[None], target))
    local = {key: p.grad.clone() for key, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    Learner(network, RULES["bp"](), LOSSES["cross_entropy"](), seeded()).learn(Batch(x[None], target))
    for key, p in network.named_parameters():
        torch.testing.assert_close(local[key], p.grad, rtol=1e-10, atol=1e-12)


def test_a_normalised_drive_has_the_power_of_its_pool() -> None:
    drive = 3 + 5 * torch.randn(4, 6, 5, 5, dtype=torch.float64)
    for over, axes in (("population", (1, 2, 3)), ("channels", (1,))):
        for by in ("deviation", "power"):
            neuron = Normalised(neuron=mlp([1, 1]).populations["output"].neuron, by=by, over=over, epsilon=1e-12)  # type: ignore[arg-type]
            value = neuron.step((), drive, 1e-3)[0].value
            torch.testing.assert_close(value.square().mean(axes), torch.ones_like(value.mean(axes)))
            assert (by == "deviation") == bool(value.mean(axes).abs().max() < 1e-9)
            louder = neuron.step((), 7 * drive, 1e-3)[0].value
            torch.testing.assert_close(louder, value)


def test_normalised_units_refuse_what_they_cannot_do() -> None:
    with pytest.raises(ValueError, match=r"Normalised\.neuron must be one of relu.*got LIF"):
        Normalised(neuron=LIF())
    with pytest.raises(ValueError, match=r"epsilon must be a positive number, got 0"):
        Normalised(epsilon=0.0)
    network = mlp([5, 7, 3])
    network.populations["hidden1"] = dataclasses.replace(network.populations["hidden1"], neuron=Normalised())
    for rule in (RULES["eprop"](), RULES["sbd"](rate_cost=1.0)):
        with pytest.raises(ValueError, match=r"population 'hidden1'.*no.* eligibility of its own.*'sbd'"):
            Learner(network, rule, LOSSES["cross_entropy"](), seeded())


# On real data -------------------------------------------------------------------------------------

ALIVE = {
    "training.epochs": 3,
    "data.subset": 40,
    "rule.homeostasis": [{"kind": "power", "weight": 0.1}, {"kind": "layer_entropy", "refresh": 4}, "sparsity"],
    "rule.upkeep": [{"kind": "weight_entropy", "on": "all", "refresh": 4}],
    "rule.forward_broadcast": 0.1,
    "population.hidden1.neuron": {"kind": "standardised", "neuron": "relu"},
    "population.hidden2.neuron": {"kind": "normalised", "neuron": "tanh", "by": "power"},
}


class Interrupted(NullLogger):
    """A logger that stops the run after so many batches, as Ctrl-C does."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def on_batch(self, event: Event) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("stop", [3, 13, 18])
def test_a_run_with_everything_resumes_bit_for_bit(tmp_path: Path, stop: int) -> None:
    """Through `neurosbd fit --resume`, in the middle of a refresh and at the end of an epoch. Must fail when the age of
    an inverse is not kept."""
    from neurosbd.cli.main import main

    whole = fit("digits-mlp", settings=ALIVE, out=tmp_path / "whole")
    fit("digits-mlp", settings=ALIVE, out=tmp_path / "parts", loggers=[Interrupted(stop)])
    assert open_run(tmp_path / "parts").result["status"] == "interrupted"
    settings = [f"{key}={_toml(value)}" for key, value in ALIVE.items()]
    line = [part for setting in settings for part in ("--set", setting)]
    assert main(["fit", "digits-mlp", *line, "--out", str(tmp_path / "parts"), "--resume"]) == 0
    assert _same(whole.checkpoint(), open_run(tmp_path / "parts").checkpoint())


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)
