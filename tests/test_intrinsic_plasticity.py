"""Intrinsic plasticity of rate neurons: the update is a gradient, and rates become as good as exponential."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.connections import Conv2d, Dense
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neurons import NEURONS, IntrinsicPlasticity, ReLU
from neurosbd.neurons.intrinsic_plasticity import Excitability
from neurosbd.rules import RULES
from neurosbd.runs.loggers import Event, NullLogger

MEAN = 0.1


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(neuron: IntrinsicPlasticity, size: tuple[int, ...] = (7,)) -> Network:
    populations = [
        Population("input", (2, 6, 6) if len(size) > 1 else (5,), None), Population("hidden", size, neuron),
        Population("output", (3,), NEURONS["identity"]()),
    ]  # fmt: skip
    geometry = Conv2d(3, padding=1) if len(size) > 1 else Dense(bias=True)
    connections = [Connection("input", "hidden", geometry), Connection("hidden", "output", Dense())]
    return Network(populations, connections, seeded()).double()


def learned(net: Network, rule: str, x: Tensor, steps: int = 1) -> Excitability:
    """Slopes and offsets after one batch."""
    target = torch.arange(len(x)) % 3
    learner = Learner(net, RULES[rule](), LOSSES["cross_entropy"](), seeded())
    learner.learn(Batch(x.expand(steps, *x.shape), target, (1 / steps,) * steps))
    learner.after_step()
    return net.moments("hidden")


@pytest.mark.parametrize("size", [(7,), (3, 6, 6)])
@pytest.mark.parametrize("rule", ["sbd", "bp"])
def test_the_update_is_the_gradient_of_the_divergence(rule: str, size: tuple[int, ...]) -> None:
    """From the exponential distribution, by autograd in float64, of units and of channels: the divergence of values
    y = f(u) is E[y / mean - log dy/du] + constant. Must fail for a wrong sign of any term, for 1 / mean in place of
    2 + 1 / mean, without the 1 / slope (tried each), and when a map counts positions as examples of nothing (tried)."""
    rate, start = 0.05, (0.75, -0.5)
    net = network(IntrinsicPlasticity(MEAN, rate, *start), size)
    x = torch.randn(8, *net.populations["input"].size, dtype=torch.float64, generator=seeded(1))
    connection = net.connections["input->hidden"]
    u = connection.geometry.drive(net.synapses(connection), connection.geometry.carry(x)).detach()
    slope, offset = (torch.full((size[0],), each, dtype=torch.float64, requires_grad=True) for each in start)
    a, b = (each.view(-1, *(1,) * (len(size) - 1)) for each in (slope, offset))
    y = torch.sigmoid(a * u + b)
    divergence = y / MEAN - torch.log(a * y * (1 - y))
    down = torch.autograd.grad(divergence.transpose(0, 1).flatten(1).mean(1).sum(), (slope, offset))
    for found, begun, gradient in zip(learned(net, rule, x), start, down, strict=True):
        torch.testing.assert_close(found, begun - rate * gradient, rtol=1e-12, atol=1e-12)


def fixed_point(draw: Callable[[Tensor], Tensor], mean: float) -> tuple[float, float, float]:
    """(mean of the values, their entropy, slope) where the divergence is least, by quadrature over quantiles."""
    scipy: Any = pytest.importorskip("scipy.optimize")
    u = draw((torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000)

    def divergence(at: Any) -> float:
        a, b = float(at[0]), float(at[1])
        y = torch.sigmoid(a * u + b)
        return float((y / mean - torch.log(a * y * (1 - y))).mean())

    a, b = scipy.minimize(divergence, (1.0, -1.0), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}).x
    y = torch.sigmoid(a * u + b)
    return float(y.mean()), entropy(y), a


def entropy(values: Tensor) -> float:
    """In nats, by the spacings of the values in order (Vasicek 1976, m = sqrt n)."""
    ordered, m = values.flatten().sort().values, int(values.numel() ** 0.5)
    n = len(ordered)
    high, low = ordered[torch.arange(n).add(m).clamp(max=n - 1)], ordered[torch.arange(n).sub(m).clamp(min=0)]
    return float(torch.log((high - low) * n / (2 * m)).mean())


QUANTILES: dict[str, Callable[[Tensor], Tensor]] = {
    "gaussian": lambda p: torch.special.ndtri(p),
    "uniform": lambda p: 2 * p - 1,
    "exponential": lambda p: -torch.log1p(-p),
}
LEAST = {"gaussian": (0.03, 0.01), "uniform": (0.02, 0.25), "exponential": (0.18, 0.35)}  # of mean, of entropy (nats)


@pytest.mark.parametrize("drives", QUANTILES)
def test_rates_become_exponential(drives: str) -> None:
    """Batches of 50 from slope 1 and offset 0. Mean, entropy and slope come to where the divergence is least, found by
    quadrature and a search. There, by what a sigmoid can make of the drives, the mean is that of the exponential
    distribution to 3, 2 and 18 %, and the entropy its 1 + log(mean) to 0.01, 0.25 and 0.35 nats. Must fail for a
    flipped sign (tried)."""
    neuron = IntrinsicPlasticity(MEAN, rate=0.02)
    moments, generator = Excitability(*(each.double() for each in neuron.init_moments((20,)))), seeded()
    for _ in range(2500):
        u = QUANTILES[drives](torch.rand(50, 20, dtype=torch.float64, generator=generator))
        activity, _ = neuron.learning(moments, None).step((), u, 1e-3)
        moments = neuron.update(moments, neuron.statistics(activity), 1.0)
    u = QUANTILES[drives](torch.rand(20_000, 20, dtype=torch.float64, generator=generator))
    values = neuron.with_moments(moments).step((), u, 1e-3)[0].value
    mean, best, slope = fixed_point(QUANTILES[drives], MEAN)
    most = 1 + torch.tensor(MEAN).log().item()  # nats, of the exponential distribution
    found = entropy(values[:, 0])
    of_mean, of_entropy = LEAST[drives]
    assert abs(mean / MEAN - 1) < of_mean and 0 < most - best < of_entropy
    assert values.mean().item() == pytest.approx(mean, rel=0.02)
    assert moments.slope.mean().item() == pytest.approx(slope, rel=0.02)
    assert found == pytest.approx(best, abs=0.06)


def test_a_large_mean_makes_rates_uniform() -> None:
    """Drives of the logistic distribution with scale 3 become uniform at slope 1 / 3, offset 0: Bell and Sejnowski's
    infomax, exactly. Must fail when the quadratic term has another sign (tried)."""
    neuron = IntrinsicPlasticity(1e9, rate=0.05)
    moments = Excitability(*(each.double() for each in neuron.init_moments((1,))))
    p = ((torch.arange(2000, dtype=torch.float64) + 0.5) / 2000)[:, None]
    for _ in range(2000):
        activity, _ = neuron.learning(moments, None).step((), 3 * torch.logit(p), 1e-3)
        moments = neuron.update(moments, neuron.statistics(activity), 1.0)
    assert moments.slope.item() == pytest.approx(1 / 3, rel=1e-3) and abs(moments.offset.item()) < 1e-9


def test_no_step_takes_more_than_half_of_a_slope() -> None:
    """Must fail without the limit: the slope would be below 0, whence it never comes back (tried)."""
    neuron = IntrinsicPlasticity(MEAN, rate=1.0)
    moments = neuron.init_moments((1,))
    activity, _ = neuron.learning(moments, None).step((), torch.full((4, 1), 50.0), 1e-3)
    assert neuron.update(moments, neuron.statistics(activity), 1.0).slope.item() == 0.5


@pytest.mark.parametrize("rule", ["sbd", "bp"])
def test_steps_of_a_trial_share_the_rate_of_a_batch(rule: str) -> None:
    """And a network at rest learns nothing. Must fail when every step has the whole rate (tried)."""
    x = torch.randn(8, 5, dtype=torch.float64, generator=seeded(1))
    one, four = (learned(network(IntrinsicPlasticity(MEAN, 0.1)), rule, x, steps) for steps in (1, 4))
    torch.testing.assert_close(one, four)
    begun = network(IntrinsicPlasticity(MEAN, 0.1)).eval()
    assert torch.equal(learned(begun, rule, x).slope, torch.ones(7).double()) and not torch.equal(one.slope, four[1])


def test_it_acts_on_what_it_has_learned_and_examples_stay_apart() -> None:
    """While it learns and at rest alike. Must fail when the next batch still meets the first slope (tried)."""
    net = network(IntrinsicPlasticity(MEAN, 0.5))
    x = torch.randn(8, 5, dtype=torch.float64, generator=seeded(1))
    before = net(x)
    learned(net, "sbd", x)
    after = net(x)
    assert not torch.allclose(after, before)
    torch.testing.assert_close(after[:1], net(x[:1]))
    torch.testing.assert_close(net.eval()(x), after)
    other = network(IntrinsicPlasticity(MEAN, 0.5))
    other.load_state_dict(net.state_dict())
    torch.testing.assert_close(other(x), after)


SETTINGS: dict[str, object] = {
    "training.epochs": 2, "data.subset": 40,
    "population.hidden1.neuron": {"kind": "intrinsic_plasticity", "rate": 0.01},
}  # fmt: skip


class StopAfter(NullLogger):
    """Stops a run after so many batches, as Ctrl-C does."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def on_batch(self, event: Event) -> None:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("rule", ["sbd", "pepita", "bp"])
def test_a_stopped_run_goes_on_bit_for_bit(rule: str, tmp_path: Path) -> None:
    """Stopped in its second epoch. Must fail when slopes and offsets start anew (tried)."""
    whole = neurosbd.fit("digits-mlp", rule=rule, settings=SETTINGS, out=tmp_path / "whole").network()
    parts = {"rule": rule, "settings": SETTINGS, "out": tmp_path / "parts"}
    neurosbd.fit("digits-mlp", **parts, loggers=[StopAfter(3)])  # type: ignore[arg-type]
    run = neurosbd.fit("digits-mlp", **parts, resume=True)  # type: ignore[arg-type]
    for name, value in run.network().state_dict().items():
        assert torch.equal(value, whole.state_dict()[name]), name
    assert (whole.moments("hidden1").slope != 1).all()


def test_seeds_learn_as_each_does_alone(tmp_path: Path) -> None:
    """One after another, which is said. Must fail when they share slopes and offsets."""
    runs = neurosbd.fit_seeds("digits-mlp", [0, 1], settings=SETTINGS, out=tmp_path / "runs")
    assert "'hidden1' remembers what it measures of its own batches" in str(runs[0].config["seeds"])
    for seed, run in enumerate(runs):
        alone = neurosbd.fit("digits-mlp", seed=seed, settings=SETTINGS, out=tmp_path / f"alone{seed}").network()
        for name, value in run.network().state_dict().items():
            assert torch.equal(value, alone.state_dict()[name]), name


def free(plastic: bool, steps: int) -> tuple[Network, list[neurosbd.Stimulation]]:
    neuron = IntrinsicPlasticity(MEAN, rate=0.05)
    populations = [Population("input", (4,), None), Population("hidden", (3,), neuron)]
    net = Network(populations, [Connection("input", "hidden", Dense(), plastic=plastic)], seeded())
    return net, [neurosbd.Stimulation("input", neurosbd.stimuli["current"](amplitude=2.0))]


@pytest.mark.parametrize("plastic", [False, True])
def test_units_of_a_free_run_learn_whether_or_not_weights_do(plastic: bool, tmp_path: Path) -> None:
    """Against the same steps by hand, for a steady drive. Must fail when nothing adapts without a rule (tried)."""
    net, stimuli = free(plastic, 40)
    weight = net.weights["input->hidden"].detach().clone()
    settings = {"training.optimizer.lr": 0.0} if plastic else {}
    rule: Any = {"kind": "stdp", "plasticity": {"kind": "oja"}} if plastic else None
    run = neurosbd.run(net, "40 ms", stimuli, rule, settings=settings, out=tmp_path / "run")
    neuron = IntrinsicPlasticity(MEAN, rate=0.05)
    moments, drive = neuron.init_moments((3,)), (weight @ torch.full((4,), 2.0))[None]
    for _ in range(40):
        activity, _ = neuron.learning(moments, None).step((), drive, 1e-3)
        moments = neuron.update(moments, neuron.statistics(activity), 1.0)
    for found, wanted in zip(run.network().moments("hidden"), moments, strict=True):
        torch.testing.assert_close(found, wanted)


def test_what_is_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"IntrinsicPlasticity\.mean must be a positive number, got 0"):
        IntrinsicPlasticity(0)
    with pytest.raises(ValueError, match=r"rate must be a number >= 0, got -1"):
        IntrinsicPlasticity(rate=-1)
    with pytest.raises(ValueError, match=r"slope must be a positive number, got -2"):
        IntrinsicPlasticity(slope=-2)
    assert not isinstance(IntrinsicPlasticity(), ReLU)
