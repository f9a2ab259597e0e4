"""Learners against closed forms, autograd and finite differences: the oracles of A8 and DFA."""

import gc
import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosbd.connections import CONNECTIONS
from neurosbd.expansions import EXPANSIONS
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.rule_state import widths
from neurosbd.learning.simulation import unroll
from neurosbd.losses import LOSSES
from neurosbd.losses.targets import CLASSES
from neurosbd.network.network import Frame, Network
from neurosbd.neuromodulators import LAYOUTS, Decorrelation, Feedback, FixedRandom, Forgetting, Frozen, Full, Shared
from neurosbd.neuromodulators.neuromodulator import Broadcast, Receiver
from neurosbd.plasticity import ThreeFactor
from neurosbd.rules import RULES, LocalRule
from neurosbd.testing.neuromodulators import sent
from tests.compositions import rule_of, state_of
from tests.conditional import accepted
from tests.conftest import cnn, deep, mlp
from tests.targets import example


def grads(network: Network) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


def learned(network: Network, rule: Any, x: Tensor, target: Tensor, loss: str = "cross_entropy", seed: int = 3) -> Any:
    learner = Learner(network, rule, LOSSES[loss](), torch.Generator().manual_seed(seed))
    network.zero_grad()
    learner.learn(Batch(x[None], target))
    return learner


def batch(network: Network, count: int = 8) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    size = network.populations["input"].size
    return torch.randn(count, *size, dtype=torch.float64), torch.randint(0, 3, (count,))


def blocks(loss: Any) -> tuple[Any, ...]:
    """Every expansion that a loss takes; test_expansions pins which."""
    return tuple(make() for make in EXPANSIONS.values() if accepted(make(), loss) is not None)


ALONE = Decorrelation(Full(), scale=0.0, forgetting=Forgetting(0.0), expanded=Forgetting(0.0))  # R is that of a batch


@pytest.mark.parametrize("kind", list(CONNECTIONS))
@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("frozen", [{"forgetting": 1.0}, {"learned": 0.0}])
def test_sbd_with_a_frozen_projection_is_dfa_bitwise(kind: str, layout: str, frozen: dict[str, float]) -> None:
    """A8 (5). Must fail when lam < 1 and the learned part counts (tried: forgetting = 0.9)."""
    network = deep(kind)
    x, target = batch(network)
    learned(network, rule_of("sbd", layout=LAYOUTS[layout](), **frozen), x, target)
    sbd = grads(network)
    learned(network, rule_of("dfa", layout=LAYOUTS[layout]()), x, target)
    assert all(torch.equal(sbd[name], value) for name, value in grads(network).items())


def test_sbd_with_a_learning_projection_is_not_dfa() -> None:
    network = mlp([5, 7, 3])
    x, target = batch(network)
    learned(network, RULES["sbd"](), x, target)
    sbd = grads(network)
    learned(network, RULES["dfa"](), x, target)
    assert not torch.equal(sbd["weights.input->hidden1"], grads(network)["weights.input->hidden1"])


@pytest.mark.parametrize("loss", list(LOSSES))
def test_dfa_with_the_true_product_is_backprop(loss: str) -> None:
    """D1: linear network, projection = product of the weights above. Must fail with any other one."""
    made = LOSSES[loss]()
    network = mlp([5, 7, 6, 3 * made.parameters], neuron="identity")
    x, _ = batch(network)
    _, target = example(made, len(x))
    w2, w3 = network.weights["hidden1->hidden2"].detach(), network.weights["hidden2->output"].detach()
    rule = LocalRule(ThreeFactor(), FixedRandom(Full()))
    learner = Learner(network, rule, made, torch.Generator())
    state_of(learner).modulators = {"hidden1": Frozen(w3 @ w2), "hidden2": Frozen(w3.clone())}
    learner.learn(Batch(x[None], target))
    local = grads(network)
    learned(network, RULES["bp"](), x, target, loss)
    for name, exact in grads(network).items():
        torch.testing.assert_close(local[name], exact, rtol=1e-10, atol=1e-12)
    network.zero_grad()
    state_of(learner).modulators["hidden1"] = Frozen(torch.randn(len(w3), 7, dtype=torch.float64))
    learner.learn(Batch(x[None], target))
    wrong = grads(network)["weights.input->hidden1"]
    assert not torch.allclose(wrong, local["weights.input->hidden1"], rtol=1e-2)


@pytest.mark.parametrize("neuron", ["relu", "tanh", "sigmoid", "softplus", "hard_sigmoid", "leaky_relu"])
def test_one_hidden_layer_with_transposed_readout_is_backprop_and_finite_differences(neuron: str) -> None:
    """D2. Must fail when the gain is left out (tried)."""
    network = mlp([5, 7, 3], neuron=neuron)
    x, target = batch(network)
    loss = LOSSES["cross_entropy"]()
    learner = Learner(network, LocalRule(ThreeFactor(), FixedRandom(Full())), loss, torch.Generator())
    state_of(learner).modulators = {"hidden1": Frozen(network.weights["hidden1->output"].detach().clone())}
    learner.learn(Batch(x[None], target))
    local = grads(network)
    learned(network, RULES["bp"](), x, target)
    for name, exact in grads(network).items():
        torch.testing.assert_close(local[name], exact, rtol=1e-10, atol=1e-12)
    weight = network.weights["input->hidden1"]
    with torch.no_grad():
        sides = []
        for move in (1e-6, -2e-6):
            weight[2, 3] += move
            sides.append(loss.per_example(network(x), target).mean())
    torch.testing.assert_close(
        local["weights.input->hidden1"][2, 3], (sides[0] - sides[1]) / 2e-6, rtol=1e-6, atol=1e-9
    )


def test_readout_gradient_is_exact_under_every_rule() -> None:
    """The readout learns from the score itself: equal to backprop's, bit for bit or nearly. In one showing."""
    others = ("rmax", "reinforce", "gevb")
    for name in [n for n, make in RULES.items() if n not in others and make().showings == 1 and not make().timed]:
        network = mlp([6, 7, 5, 3]) if name == "eprop" else cnn()
        x, target = batch(network)
        rule = RULES[name]()
        loss = rule.loss or "cross_entropy"
        learned(network, rule, x, target, loss)
        local = grads(network)
        learned(network, RULES["bp"](), x, target, loss)
        last = network.incoming["output"][0].name
        for key in (f"weights.{last}", f"biases.{last}"):
            torch.testing.assert_close(local[key], grads(network)[key], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", list(CONNECTIONS))
@pytest.mark.parametrize("loss", list(LOSSES))
def test_update_is_the_partial_derivative_of_the_squared_correlation(kind: str, loss: str) -> None:
    """A8 (6): lam = 0, no frozen part: slope of 1/2 ||mean s h^T||^2 at fixed score, expanded as the loss allows,
    by finite differences along two directions in the weights of either layer.

    Must fail when R is taken before this batch, does not hear the expansion, or the gain is left out (all tried).
    """
    made = LOSSES[loss]()
    network, scores = deep(kind, 4 * made.parameters), []

    class Watched(Decorrelation):
        def third_factor(self, state: Feedback, receiver: Receiver, broadcast: Broadcast) -> Tensor:
            scores.append(broadcast.score)
            return super().third_factor(state, receiver, broadcast)

    x, (_, target) = batch(network)[0], example(made, 8, 4)
    rule = LocalRule(ThreeFactor(), Watched(**vars(ALONE)), expansion=blocks(made))
    learner = Learner(network, rule, made, torch.Generator().manual_seed(3))
    for _ in range(2):  # in the first batch an expansion is silent
        network.zero_grad()
        learner.learn(Batch(x[None], target))
    for pre, post in (("input", "first"), ("first", "second")):
        weight = network.weights[f"{pre}->{post}"].detach()
        for direction in torch.randn(2, *weight.shape, dtype=torch.float64):
            costs = []
            for move in (1e-5, -2e-5, 1e-5):
                weight += move * direction
                activity = unroll(network, x[None]).activity[post].value.detach()
                costs.append(0.5 * (scores[-1].t() @ activity.flatten(1)).square().sum())
            slope = (grads(network)[f"weights.{pre}->{post}"] * direction).sum()
            torch.testing.assert_close(slope, (costs[0] - costs[1]) / 2e-5, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("kind", list(CONNECTIONS))
@pytest.mark.parametrize("loss", list(LOSSES))
def test_a_constant_added_to_every_class_of_the_projection_changes_nothing_for_softmax(kind: str, loss: str) -> None:
    """A8 (8), since the score sums to 0 (A8 (2)), and so does every expansion that has its columns class by class. Must
    fail for every other loss (checked here)."""
    made = LOSSES[loss]()
    classes = 4 * made.parameters
    network, rule = deep(kind, classes), LocalRule(ThreeFactor(), FixedRandom(Full()))
    alone = {block: widths(network, replace(rule, expansion=(block,)), made)[0] for block in blocks(made)}
    rule = replace(rule, expansion=tuple(block for block, width in alone.items() if width % classes == 0))
    x, (_, target) = batch(network)[0], example(made, 8, 4)
    results = []
    for size in (0.0, 1.0):
        learner = Learner(network, rule, made, torch.Generator().manual_seed(3))
        for name, (frozen, _) in state_of(learner).modulators.items():
            torch.manual_seed(1)
            common = torch.randn_like(frozen[::classes]).repeat_interleave(classes, 0)
            state_of(learner).modulators[name] = Frozen(torch.randn_like(frozen) + size * common)
        for _ in range(2):  # in the first batch an expansion is silent
            network.zero_grad()
            learner.learn(Batch(x[None], target))
        results.append([grads(network)[f"weights.{name}"] for name in ("input->first", "first->second")])
    same = [torch.allclose(*pair, rtol=1e-10, atol=1e-13) for pair in zip(*results, strict=True)]
    assert all(same) if made.targets is CLASSES else not any(same)


@pytest.mark.parametrize("kind", list(CONNECTIONS))
@pytest.mark.parametrize("loss", [name for name, make in LOSSES.items() if make().targets is CLASSES])
def test_labels_drawn_from_the_model_are_uncorrelated_with_its_activity(kind: str, loss: str) -> None:
    """A8 (3): mean s h^T falls as 1/sqrt(N) in either layer for any weights, and so do its expanded rows. Must fail
    for the labels of other examples (checked here), or the square of the score as an expansion (tried)."""
    made, network = LOSSES[loss](), deep(kind)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        network.weights["second->output"].mul_(2)  # so that examples differ

    def correlations(count: int, away: int = 0) -> Tensor:
        """|R| of the score and of its expansion, layer by layer."""
        rule = LocalRule(ThreeFactor(), ALONE, expansion=blocks(made))
        learner = Learner(network, rule, made, torch.Generator().manual_seed(3))
        for examples in (50, count):  # in the first batch an expansion is silent
            x = torch.randn(examples, 2, 4, 4, dtype=torch.float64, generator=generator)
            target = made.sample(network(x).detach(), generator).roll(away)
            learner.learn(Batch(x[None], target))
        found = [state.learned for state in state_of(learner).modulators.values()]
        return torch.stack([rows.norm() for learned in found for rows in (learned[:4], learned[4:])])

    few, many = correlations(50), correlations(5_000)
    assert (many < 0.25 * few).all()  # 1/10 expected
    assert (correlations(5_000, away=1) > 1.5 * many).all()


def test_at_the_optimum_of_a_convex_readout_score_and_activity_are_orthogonal() -> None:
    """A8 (4): sum_n s_n h_n^T = 0 exactly at the minimum of softmax regression."""
    network = mlp([4, 3])
    torch.manual_seed(0)
    x, target = torch.randn(60, 4, dtype=torch.float64), torch.randint(0, 3, (60,))
    loss = LOSSES["cross_entropy"]()
    learner = Learner(network, RULES["sbd"](), loss, torch.Generator())
    optimizer = torch.optim.LBFGS(
        network.parameters(), max_iter=500, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        return learner.learn(Batch(x[None], target)).loss

    optimizer.step(closure)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        score = loss.score(network(x), target)
    assert (score.t() @ x).abs().max() < 1e-8 and score.sum(0).abs().max() < 1e-8


def test_zero_weights_wake_up_layer_by_layer_under_dfa_and_never_under_backprop() -> None:
    """D7: no biases, tanh, all weights 0: layer l first moves at step l; none under backprop. Must fail when a layer
    hears of the score through the weights above it (tried: 'bp' for 'dfa')."""
    network = mlp([5, 7, 6, 3], bias=False)
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
    x, target = batch(network)
    Learner(network, RULES["bp"](), LOSSES["cross_entropy"](), torch.Generator()).learn(Batch(x[None], target))
    assert not any(weight.grad.any() for weight in network.parameters())  # pyright: ignore[reportOptionalMemberAccess]
    learner = Learner(network, rule_of("dfa", scale=1.0), LOSSES["cross_entropy"](), torch.Generator())
    names = ["input->hidden1", "hidden1->hidden2", "hidden2->output"]
    for step in range(3):
        network.zero_grad()
        learner.learn(Batch(x[None], target))
        moved = [bool(network.weights[n].grad.any()) for n in names]  # pyright: ignore[reportOptionalMemberAccess]
        assert moved == [True] * (step + 1) + [False] * (2 - step)
        with torch.no_grad():
            for weight in network.parameters():
                weight.sub_(weight.grad, alpha=0.1)  # pyright: ignore[reportArgumentType]


def test_projection_zero_leaves_hidden_layers_alone_and_the_readout_a_convex_problem() -> None:
    """D3: the hidden layer stays bitwise, and the loss of the readout on it falls with every step.

    Must fail for any other projection (tried).
    """
    network = mlp([5, 7, 3])
    (x, target), start, losses = batch(network), network.weights["input->hidden1"].detach().clone(), []
    rule = RULES["dfa"](neuromodulator=FixedRandom(scale=0.0))
    learner = Learner(network, rule, LOSSES["cross_entropy"](), torch.Generator().manual_seed(0))
    for _ in range(30):
        network.zero_grad()
        losses.append(learner.learn(Batch(x[None], target)).loss.item())
        with torch.no_grad():
            for weight in network.parameters():
                weight.sub_(weight.grad, alpha=0.1)  # pyright: ignore[reportArgumentType]
    assert torch.equal(network.weights["input->hidden1"], start)
    assert all(later < before for before, later in itertools.pairwise(losses))


def test_a_hand_computed_two_layer_case() -> None:
    """EBD's update, every number worked out on paper: 1 input, 2 relu units, 1 output, two batches of 2.

    R starts at R0 = (1, 1), as in the paper. Must fail if R0 stays (tried: fading 1).
    """
    network = mlp([1, 2, 1], neuron="relu", bias=False)
    with torch.no_grad():
        network.weights["input->hidden1"].copy_(torch.tensor([[1.0], [2.0]]))
        network.weights["hidden1->output"].copy_(torch.tensor([[1.0, -1.0]]))
    rule = RULES["ebd"](neuromodulator=Decorrelation(Full(), forgetting=Forgetting(0.5), fading=Forgetting(0.5)))
    assert isinstance(rule, LocalRule) and isinstance(rule.neuromodulator, Decorrelation)
    learner = Learner(network, rule, LOSSES["squared_error"](), torch.Generator())
    state_of(learner).modulators["hidden1"] = Feedback(torch.ones(1, 2).double(), torch.zeros(1, 2).double())
    trial = Batch(torch.tensor([[[1.0], [3.0]]]).double(), torch.tensor([[0.0], [-1.0]]).double())
    # h = (1, 2), (3, 6);  z = -1, -3;  s = -1, -2;  mean s h = (-7/2, -7)
    # R = 1/2 (1, 1) + 1/2 (-7/2, -7) = (-1.25, -3);  q = -1 R, -2 R;  all gains 1
    # dW1 = mean(q x) = R mean(s x) = R (-1 - 6) / 2 = -3.5 R = (4.375, 10.5);  dW2 = (-7/2, -7)
    # and once more with the same weights: R = 1/2 (-1.25, -3) + 1/2 (-7/2, -7) = (-2.375, -5);  dW1 = (8.3125, 17.5)
    for correlation, expected in (([-1.25, -3.0], [4.375, 10.5]), ([-2.375, -5.0], [8.3125, 17.5])):
        network.zero_grad()
        learner.learn(trial)
        found = rule.neuromodulator.projection(state_of(learner).modulators["hidden1"])
        torch.testing.assert_close(found, torch.tensor([correlation]).double())
        gradient = network.weights["input->hidden1"].grad
        torch.testing.assert_close(gradient, torch.tensor([expected]).double().t())
        torch.testing.assert_close(network.weights["hidden1->output"].grad, torch.tensor([[-3.5, -7.0]]).double())


def test_shared_projection_is_the_full_one_with_equal_rows() -> None:
    """The signal of a shared projection equals the full one whose positions all hold its rows."""
    value, score = torch.randn(4, 3, 5, 5).double(), torch.randn(4, 2).double()
    reached = Receiver(value), Broadcast(score)
    rows = torch.randn(2, 3).double()
    shared, _ = sent(FixedRandom(Shared()), Frozen(rows), *reached)
    full, _ = sent(FixedRandom(Full()), Frozen(rows.repeat(1, 25)), *reached)
    torch.testing.assert_close(shared, full)


def test_shared_correlation_is_the_mean_of_the_full_one_over_positions() -> None:
    """So frozen and learned parts keep their scale. Must fail for the sum (tried)."""
    reached = Receiver(torch.randn(4, 3, 5, 5).double()), Broadcast(torch.randn(4, 2).double())
    learned = {}
    for layout in (Full(), Shared()):
        modulator = Decorrelation(layout, forgetting=Forgetting(0.5))
        _, learned[layout] = sent(modulator, modulator.init(*reached, torch.Generator()), *reached)
    full = learned[Full()].learned.reshape(2, 25, 3).mean(1)
    torch.testing.assert_close(learned[Shared()].learned, full)


@pytest.mark.parametrize("shape", [None, "linear", "geometric"])
def test_forgetting_runs_from_start_to_end(shape: Any) -> None:
    curve = Forgetting(0.9, 0.99, shape) if shape else Forgetting(0.9)
    assert curve.factor(0.0) == pytest.approx(0.9)
    assert curve.factor(1.0) == pytest.approx(0.9 if shape is None else 0.99)
    assert 0.9 <= curve.factor(0.5) <= 0.99
    if shape == "geometric":
        assert 1 - curve.factor(0.5) == pytest.approx((0.1 * 0.01) ** 0.5)


def test_a_forgetting_that_cannot_be_is_refused() -> None:
    for constants, words in (
        ({"shape": "cubic"}, "shape must be .*got 'cubic'; legal: linear, geometric"),
        ({"end": 1.0}, "from 0.9 to 1.0.*0.9999"),
        ({"start": 1.5}, "start must be in 0..1, got 1.5"),
    ):
        with pytest.raises(ValueError, match=words):
            Forgetting(**constants)  # pyright: ignore[reportArgumentType]


def test_a_memory_of_another_network_is_refused() -> None:
    """Not only one with other populations. Must fail without the look at the shapes (tried)."""
    memories = [
        Learner(mlp([5, 7, outputs]), RULES["sbd"](), LOSSES["cross_entropy"](), torch.Generator())  # type: ignore[arg-type]
        for outputs in (3, 4)
    ]
    with pytest.raises(ValueError, match=r"'hidden1': 'frozen' .* \[3, 7\] there, \[4, 7\] here"):
        memories[1].load_state_dict(memories[0].state_dict())


@pytest.mark.parametrize("name", ["sbd", "ebd", "dfa"])
def test_no_autograd_graph_exists_under_a_local_rule(name: str) -> None:
    """Neither while it learns nor afterwards. Must fail for backprop (checked here)."""
    for rule_name, expected in ((name, False), ("bp", True)):
        network = cnn()
        x, target = batch(network)
        graphs: list[bool] = []

        def look(t: int, frame: Frame, graphs: list[bool] = graphs) -> None:
            graphs.append(any(a.value.grad_fn is not None for a in frame.activity.values()))

        rule = RULES[rule_name]()
        learner = Learner(network, rule, LOSSES[rule.loss or "cross_entropy"](), torch.Generator())
        gc.collect()
        nodes = _graph_tensors()
        result = learner.learn(Batch(x[None], target), (look,))
        assert graphs == [expected]
        gc.collect()
        assert _graph_tensors() == nodes and result.output.grad_fn is None
        assert all(p.grad is not None and p.grad.grad_fn is None for p in network.parameters())


def _graph_tensors() -> int:
    return sum(1 for o in gc.get_objects() if type(o) is Tensor and o.grad_fn is not None)


def test_activity_is_freed_as_soon_as_its_update_is_taken() -> None:
    """When a population is updated, the maps of those updated before it are gone."""
    import weakref

    network = cnn()
    x, target = batch(network)
    maps: dict[str, Any] = {}
    alive: list[tuple[str, list[str]]] = []

    class Watched(FixedRandom):
        def third_factor(self, state: Frozen, receiver: Receiver, broadcast: Broadcast) -> Tensor:
            now = next(n for n, r in maps.items() if r() is receiver.value)
            alive.append((now, sorted(n for n, r in maps.items() if r() is not None)))
            return super().third_factor(state, receiver, broadcast)

    def set_moments(t: int, frame: Frame) -> None:
        maps.update({n: weakref.ref(frame.activity[n].value) for n in ("conv1", "conv2", "fc")})

    rule = LocalRule(ThreeFactor(), Watched())
    Learner(network, rule, LOSSES["cross_entropy"](), torch.Generator()).learn(Batch(x[None], target), (set_moments,))
    assert alive == [("conv1", ["conv1", "conv2", "fc"]), ("conv2", ["conv2", "fc"]), ("fc", ["fc"])]


def test_learning_and_watching_change_no_activity() -> None:
    """Observers, learner included, leave the dynamics alone bit for bit."""
    network = cnn()
    x, target = batch(network)
    seen: list[Tensor] = []
    plain = unroll(network, x[None]).activity["output"].value
    learner = Learner(network, RULES["sbd"](), LOSSES["cross_entropy"](), torch.Generator())
    result = learner.learn(Batch(x[None], target), (lambda t, frame: seen.append(frame.activity["conv1"].value),))
    assert torch.equal(plain, result.output) and len(seen) == 1


def test_feedback_survives_a_round_trip() -> None:
    network = mlp([5, 7, 3])
    x, target = batch(network)
    one = learned(network, RULES["sbd"](), x, target)
    two = Learner(network, RULES["sbd"](), LOSSES["cross_entropy"](), torch.Generator().manual_seed(99))  # pyright: ignore[reportArgumentType]
    two.load_state_dict(one.state_dict())
    for a, b in zip(state_of(one).modulators["hidden1"], state_of(two).modulators["hidden1"], strict=True):
        assert torch.equal(a, b)
