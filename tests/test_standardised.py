"""Neurons that measure their batch while the network learns, and work with what they remember when it does not."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.connections import Conv2d, Dense
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neuromodulators import FixedRandom, Frozen, Full
from neurosbd.neurons import LIF, NEURONS, ReLU, Standardised, Tanh
from neurosbd.plasticity import ThreeFactor
from neurosbd.rules import RULES, LocalRule
from tests.compositions import state_of


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def network(rate: float = 0.1) -> Network:
    neuron = Standardised(Tanh(), rate)
    populations = [
        Population("input", (5,), None), Population("hidden", (7,), neuron),
        Population("output", (3,), NEURONS["identity"]()),
    ]  # fmt: skip
    connections = [Connection("input", "hidden", Dense(bias=True)), Connection("hidden", "output", Dense())]
    return Network(populations, connections, seeded()).double()


def batch(count: int = 8) -> tuple[Tensor, Tensor]:
    generator = seeded()
    return 2 + 3 * torch.randn(count, 5, dtype=torch.float64, generator=generator), torch.arange(count) % 3


def test_broadcasting_the_true_derivative_is_backprop() -> None:
    """One hidden layer, transposed readout. Must fail when the gate only divides by the deviation (tried)."""
    net, (x, target) = network(), batch()
    loss = LOSSES["cross_entropy"]()
    learner = Learner(net, LocalRule(ThreeFactor(), FixedRandom(Full())), loss, seeded())
    state_of(learner).modulators = {"hidden": Frozen(net.weights["hidden->output"].detach().clone())}
    learner.learn(Batch(x[None], target))
    local = {key: p.grad.clone() for key, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    Learner(net, RULES["bp"](), loss, seeded()).learn(Batch(x[None], target))
    for key, p in net.named_parameters():
        torch.testing.assert_close(local[key], p.grad, rtol=1e-9, atol=1e-12)
    assert local["weights.input->hidden"].any()


def test_the_third_factor_moves_neither_mean_nor_variance_of_a_drive() -> None:
    """sum_b gate(s) = 0 and sum_b gate(s) u = 0 for every unit; in a map over its positions too."""
    neuron, generator = Standardised(ReLU(), epsilon=1e-14), seeded()
    for size in ((6,), (3, 4, 5)):
        drive, signal = torch.randn(2, 9, *size, dtype=torch.float64, generator=generator)
        activity, _ = neuron.step((), drive, 1e-3)
        gated = neuron.gate(activity, signal, 1e-3)
        over = (0, *range(2, drive.ndim))
        assert gated.abs().max() > 0.01
        torch.testing.assert_close(gated.sum(over), torch.zeros(size[0]).double(), atol=1e-10, rtol=0)
        torch.testing.assert_close((gated * drive).sum(over), torch.zeros(size[0]).double(), atol=1e-9, rtol=0)


def test_what_is_remembered_is_the_running_mean_of_what_was_measured() -> None:
    """Must fail when the memory moves before `settle`, or a probe moves it (tried)."""
    net, (x, target) = network(rate=0.25), batch()
    drive = x @ net.weights["input->hidden"].T
    learner = Learner(net, RULES["sbd"](), LOSSES["cross_entropy"](), seeded())
    learner.learn(Batch(x[None], target))
    assert torch.equal(net.moments("hidden").mean, torch.zeros(7).double())
    learner.after_step()
    torch.testing.assert_close(net.moments("hidden").mean, 0.25 * drive.mean(0))
    torch.testing.assert_close(net.moments("hidden").variance, 0.75 + 0.25 * drive.var(0, correction=0))
    for _ in range(60):
        learner.learn(Batch(x[None], target))
        learner.after_step()
    net.eval()
    torch.testing.assert_close(net(x), net.train()(x), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("rule", ["sbd", "bp"])
def test_steps_of_a_trial_share_the_rate_of_a_batch(rule: str) -> None:
    (x, target), memories = batch(), []
    for steps in (1, 4):
        net = network()
        learner = Learner(net, RULES[rule](), LOSSES["cross_entropy"](), seeded())
        learner.learn(Batch(x.expand(steps, *x.shape), target, (1 / steps,) * steps))
        learner.after_step()
        memories.append(net.moments("hidden"))
    for one, four in zip(*memories, strict=True):
        torch.testing.assert_close(one, four)


def test_a_network_that_does_not_learn_treats_examples_by_themselves() -> None:
    net, (x, _) = network().eval(), batch()
    torch.testing.assert_close(net(x)[:1], net(x[:1]))
    assert not torch.allclose(net.train()(x)[:1], net(x[:1]))


@pytest.mark.parametrize("rule", ["sbd", "bp"])
def test_a_network_at_rest_can_learn_and_remembers_nothing_new(rule: str) -> None:
    """As with torch's own: the moments stay, the weights move. Must fail when it is measured all the same (tried)."""
    net, (x, target) = network().eval(), batch()
    learner = Learner(net, RULES[rule](), LOSSES["cross_entropy"](), seeded())
    learner.learn(Batch(x[None], target))
    learner.after_step()
    gradient = net.weights["input->hidden"].grad
    assert gradient is not None and gradient.any() and not net.moments("hidden").mean.any()


def test_memories_move_and_load_with_the_network() -> None:
    one, two = network(), network().eval()
    one.set_moments({"hidden": one.moments("hidden")._replace(mean=torch.arange(7).double())})
    two.load_state_dict(one.state_dict())
    x, _ = batch()
    torch.testing.assert_close(two(x), one.eval()(x))
    single = copy.deepcopy(two).float()
    torch.testing.assert_close(single(x.float()), two(x).float())
    assert single.moments("hidden").mean.dtype == torch.float32


def test_maps_are_standardised_by_channel() -> None:
    populations = [
        Population("input", (2, 6, 6), None), Population("conv", (3, 6, 6), Standardised()),
        Population("output", (3,), NEURONS["identity"]()),
    ]  # fmt: skip
    connections = [Connection("input", "conv", Conv2d(3, padding=1)), Connection("conv", "output", Dense())]
    net = Network(populations, connections, seeded())
    assert net.moments("conv").mean.shape == (3,)
    x, target = torch.randn(8, 2, 6, 6), torch.arange(8) % 3
    learner = Learner(net, RULES["sbd"](), LOSSES["cross_entropy"](), seeded())
    learner.learn(Batch(x[None], target))
    gradient = net.weights["input->conv"].grad
    assert gradient is not None and gradient.any()


def test_what_cannot_be_standardised_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Standardised\.neuron must be one of relu.*got LIF"):
        Standardised(LIF())
    with pytest.raises(ValueError, match=r"rate must be in 0..1, got 2"):
        Standardised(rate=2)
    with pytest.raises(ValueError, match=r"epsilon must be a positive number, got 0"):
        Standardised(epsilon=0)
    for rule in (RULES["eprop"](), RULES["sbd"](rate_cost=1.0)):
        with pytest.raises(ValueError, match=r"population 'hidden'.*no.* eligibility of its own.*'sbd'"):
            Learner(network(), rule, LOSSES["cross_entropy"](), seeded())


def test_a_single_example_has_no_moments(tmp_path: Path) -> None:
    """As the last of an epoch it leaves the memory alone, batches of one are refused. Must fail if adapted (tried)."""
    one = network()
    learner = Learner(one, RULES["sbd"](), LOSSES["cross_entropy"](), seeded())
    x, target = batch(1)
    before = one.moments("hidden").variance.clone()
    learner.learn(Batch(x[None], target))
    learner.after_step()
    assert torch.equal(one.moments("hidden").variance, before)
    with pytest.raises(neurosbd.UsageError, match=r"'hidden1' is standardised over the batch.*2 or more"):
        neurosbd.fit("digits-mlp", recipe="standard", settings={"training.batch_size": 1}, out=tmp_path / "run")


def test_a_run_is_tested_with_what_it_remembers(tmp_path: Path) -> None:
    """And looking at the true gradient on the side changes nothing."""
    settings = {
        "training.epochs": 2, "data.subset": 40,
        "population.hidden1.neuron": {"kind": "standardised", "neuron": "relu"},
    }  # fmt: skip
    plain = neurosbd.fit("digits-mlp", settings=settings, out=tmp_path / "plain")
    watched = neurosbd.fit(
        "digits-mlp", settings={**settings, "record.signals": ["*.alignment", "hidden1.rate"]}, out=tmp_path / "watched"
    )
    one, two = plain.network(), watched.network()
    assert not one.training
    for key, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[key]), key
    assert one.moments("hidden1").mean.any()
