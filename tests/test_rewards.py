"""STDP, reward-modulated STDP and policy gradient: closed forms, batches, baselines, bounds."""

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from neurosbd.connections import Conv2d, Dense
from neurosbd.learners import LocalLearner, Trial
from neurosbd.losses import LOSSES
from neurosbd.network import Connection, Frame, Network, Population
from neurosbd.neuromodulators import Reward
from neurosbd.neurons import NEURONS
from neurosbd.process import Heard
from neurosbd.rules import RULES, LocalRule
from neurosbd.rules.spike_timing import Window
from neurosbd.surrogates import Without

DT = 1e-3


def spiking(sizes: Sequence[int], neuron: str = "lif", recurrent: bool = False) -> Network:
    """Dense float64 network of spiking units that need no pseudo-derivative."""
    names = ["input", *(f"hidden{i}" for i in range(1, len(sizes) - 1)), "output"]
    unit = NEURONS[neuron]() if neuron == "escape" else NEURONS[neuron](tau_mem=10e-3, surrogate=Without())
    populations = [Population("input", (sizes[0],), None)]
    populations += [Population(n, (s,), unit) for n, s in zip(names[1:], sizes[1:], strict=True)]
    connections = [Connection(a, b, Dense()) for a, b in itertools.pairwise(names)]
    if recurrent:
        connections.append(Connection("hidden1", "hidden1", Dense(autapses=False)))
    return Network(populations, connections, torch.Generator().manual_seed(0)).double()


def learner(rule: LocalRule, network: Network) -> LocalLearner:
    return LocalLearner(network, LOSSES["cross_entropy"](), rule, torch.Generator().manual_seed(1))


def rule_of(name: str, **constants: object) -> LocalRule:
    rule = RULES[name](**{"readout": "rule", **constants})
    assert isinstance(rule, LocalRule)
    return rule


def forced(pre: Sequence[int], post: Sequence[int], steps: int, rewards: dict[int, float], rule: LocalRule) -> float:
    """Change -gradient of a weight too small to matter, with pre spikes at `pre` and post spikes at `post`."""
    network = spiking([2, 1])
    weight = network.weights["input->output"]
    with torch.no_grad():
        weight.copy_(torch.tensor([[1e-9, 5.0]]))
        network.populations["output"] = Population(
            "output", (1,), NEURONS["lif"](reset="to_value", tau_mem=1e-4, surrogate=Without())
        )
    x = torch.zeros(steps, 1, 2, dtype=torch.float64)
    x[list(pre), 0, 0] = 1
    x[list(post), 0, 1] = 1
    fired = []

    def reward(t: int, frame: Frame) -> Tensor | None:
        fired.append(frame.activity["output"].value.item() > 0)
        return torch.tensor([rewards[t]], dtype=torch.float64) if t in rewards else None

    def watch(t: int, frame: Frame) -> None:
        fired.append(frame.activity["output"].value.item() > 0)

    trial = Trial(x, torch.tensor([0]), [1 / steps] * steps, reward=reward if rule.rewarded else None)
    learner(rule, network).learn(trial, () if rule.rewarded else (watch,))
    assert [t for t, spike in enumerate(fired) if spike] == list(post)
    return -float(weight.grad[0, 0]) if weight.grad is not None else 0.0


@pytest.mark.parametrize("lag", [-25, -3, -1, 0, 1, 4, 30])
def test_stdp_window_in_closed_form(lag: int) -> None:
    """Must fail when a trace already holds the spike of its own step (tried: lag 0 then gives a_plus - a_minus)."""
    rule = rule_of("stdp", a_plus=0.7, a_minus=0.4, tau_plus=17e-3, tau_minus=34e-3)
    change = forced([40], [40 + lag], 80, {}, rule)
    expected = 0.0
    if lag > 0:
        expected = 0.7 * math.exp(-lag * DT / 17e-3)
    elif lag < 0:
        expected = -0.4 * math.exp(lag * DT / 34e-3)
    assert change == pytest.approx(expected, rel=1e-10, abs=1e-14)


@pytest.mark.parametrize("pairing", ["all", "nearest"])
def test_pairing_counts_all_or_the_nearest_spike(pairing: str) -> None:
    """Must fail when 'nearest' adds up (tried)."""
    pre, post = [10, 14, 20], [17, 23, 31]
    rule = rule_of("stdp", a_minus=0.5, pairing=pairing)
    pairs = [(a, b) for a in pre for b in post]
    if pairing == "nearest":
        ups = [(max(a for a in pre if a < b), b) for b in post]
        downs = [(a, max(b for b in post if b < a)) for a in pre if min(post) < a]
    else:
        ups, downs = [(a, b) for a, b in pairs if a < b], [(a, b) for a, b in pairs if b < a]
    expected = sum(math.exp(-(b - a) * DT / 20e-3) for a, b in ups)
    expected -= 0.5 * sum(math.exp(-(a - b) * DT / 20e-3) for a, b in downs)
    assert forced(pre, post, 50, {}, rule) == pytest.approx(expected, rel=1e-10)


def test_multiplicative_steps_shrink_towards_the_bounds() -> None:
    window = Window(a_plus=2.0, a_minus=3.0, w_min=-1.0, w_max=0.5, bounds="multiplicative")
    up, down = window.factors(torch.tensor([-1.0, 0.0, 0.5]))
    torch.testing.assert_close(torch.as_tensor(up), torch.tensor([3.0, 1.0, 0.0]))
    torch.testing.assert_close(torch.as_tensor(down), torch.tensor([0.0, 3.0, 4.5]))


def test_additive_weights_stay_within_their_bounds() -> None:
    network = spiking([6, 4])
    student = learner(rule_of("stdp", w_min=-0.1, w_max=0.2), network)
    student.settle()
    weight = network.weights["input->output"]
    assert weight.min() >= -0.1 and weight.max() <= 0.2 and weight.max() == 0.2


def test_reward_comes_to_a_faded_eligibility() -> None:
    """T1: change = a_plus f g M exp(-(t1 - t0) / tau_e). Must fail when e fades after it is used (tried)."""
    rule = rule_of("rstdp", a_plus=0.8, a_minus=0.0, tau_e=0.2, baseline=0.0)
    change = forced([10], [13], 120, {100: 0.5}, rule)
    expected = 0.8 * math.exp(-3 * DT / 20e-3) * 0.5 * math.exp(-(100 - 13) * DT / 0.2)
    assert change == pytest.approx(expected, rel=1e-10)


def test_a_delayed_third_factor_meets_the_eligibility_of_its_arrival() -> None:
    now = forced([10], [13], 120, {90: 1.0}, rule_of("rstdp", baseline=0.0))
    late = forced([10], [13], 120, {70: 1.0}, rule_of("rstdp", baseline=0.0, delay=20))
    assert now == pytest.approx(late, rel=1e-12) and now != 0


def _rewarded_batch(rule: LocalRule, network: Network, x: Tensor, reward: Tensor) -> dict[str, Tensor]:
    def give(t: int, frame: Frame) -> Tensor | None:
        return reward if t == len(x) - 1 else None

    trial = Trial(x, torch.zeros(x.shape[1], dtype=torch.long), [1 / len(x)] * len(x), reward=give)
    learner(rule, network).learn(trial, noise=torch.Generator().manual_seed(5))
    return {n: w.grad.clone() for n, w in network.weights.items() if w.grad is not None}


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("bounds", ["additive", "multiplicative"])
def test_rewarded_stdp_of_a_batch_is_the_mean_of_separate_runs(bounds: str, recurrent: bool) -> None:
    """Must fail when a reward [B] meets the axis of the neurons (tried: B = 4 = post units)."""
    rule = rule_of("rstdp", bounds=bounds, baseline=0.0)
    x = (torch.rand(60, 4, 5, generator=torch.Generator().manual_seed(2)) < 0.2).double() * 2
    reward = torch.tensor([1.0, 0.0, -0.5, 2.0], dtype=torch.float64)
    together = _rewarded_batch(rule, spiking([5, 6, 4], recurrent=recurrent), x, reward)
    apart = [
        _rewarded_batch(rule, spiking([5, 6, 4], recurrent=recurrent), x[:, b : b + 1], reward[b : b + 1])
        for b in range(4)
    ]
    for name, gradient in together.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(gradient, sum(a[name] for a in apart) / 4, rtol=1e-12, atol=1e-14)


def _conv(neuron: str = "lif") -> Network:
    unit = NEURONS[neuron](tau_mem=10e-3, surrogate=Without())
    populations = [Population("input", (2, 5, 5), None), Population("map", (3, 5, 5), unit)]
    populations.append(Population("output", (2,), unit))
    connections = [Connection("input", "map", Conv2d(3, padding=1)), Connection("map", "output", Dense())]
    return Network(populations, connections, torch.Generator().manual_seed(0)).double()


def test_rewarded_stdp_reaches_convolutions() -> None:
    x = (torch.rand(40, 3, 2, 5, 5, generator=torch.Generator().manual_seed(2)) < 0.2).double()
    reward = torch.tensor([1.0, -1.0, 0.3], dtype=torch.float64)
    rule = rule_of("rstdp", baseline=0.0)
    together = _rewarded_batch(rule, _conv(), x, reward)["input->map"]
    apart = [_rewarded_batch(rule, _conv(), x[:, b : b + 1], reward[b : b + 1])["input->map"] for b in range(3)]
    assert together.abs().max() > 0
    torch.testing.assert_close(together, sum(apart) / 3, rtol=1e-12, atol=1e-14)


def test_no_reward_changes_nothing_and_scale_is_scale() -> None:
    """T5, T6."""
    rule = rule_of("rstdp", baseline=0.0)
    x = (torch.rand(50, 3, 5, generator=torch.Generator().manual_seed(2)) < 0.3).double() * 2
    ones = torch.ones(3, dtype=torch.float64)
    none = _rewarded_batch(rule, spiking([5, 6, 4]), x, 0 * ones)
    one, three = (_rewarded_batch(rule, spiking([5, 6, 4]), x, c * ones) for c in (1, 3))
    for name in one:
        assert not none[name].any() and one[name].any()
        torch.testing.assert_close(three[name], 3 * one[name])


def test_policy_gradient_is_the_gradient_of_the_expected_reward() -> None:
    """T3: one step, n = 4 Bernoulli units: sum over all 16 patterns of P R e equals d E[R] / d w by autograd.

    Must fail when p (1 - p) is used in place of z - p (tried).
    """
    network = spiking([3, 4], "escape")
    neuron, weight = network.populations["output"].neuron, network.weights["input->output"]
    assert neuron is not None
    x = torch.tensor([[0.9, -0.4, 1.3]], dtype=torch.float64)
    values = torch.randn(16, generator=torch.Generator().manual_seed(3)).double()
    patterns = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)), dtype=torch.float64)
    potential = x @ weight.T
    p = neuron.probability(potential)  # type: ignore[attr-defined]
    chance = (patterns * p + (1 - patterns) * (1 - p)).prod(1)
    (exact,) = torch.autograd.grad((chance * values).sum(), weight)
    with torch.no_grad():
        total = torch.zeros_like(weight)
        for pattern, probability, value in zip(patterns, chance, values, strict=True):
            network.step(network.init(x, torch.Generator()), x)
            activity = network.step(network.init(x, torch.Generator()), x).activity["output"]
            surprise = neuron.surprise(activity._replace(value=pattern[None]))  # type: ignore[attr-defined]
            total += probability * value * surprise.T @ x
    torch.testing.assert_close(total, exact, rtol=1e-10, atol=1e-12)


def test_policy_gradient_has_no_drift_under_constant_reward() -> None:
    """T4: with R = 1 and no baseline the mean update is 0, within 4 standard errors of 4,000 examples."""
    network = spiking([3, 2], "escape")
    x = torch.ones(1, 4000, 3, dtype=torch.float64)
    rule = rule_of("rmax", baseline=0.0)
    gradient = _rewarded_batch(rule, network, x, torch.ones(4000, dtype=torch.float64))["input->output"]
    assert gradient.abs().max() < 4 * 5 / math.sqrt(4000) / 2  # |surprise| has standard deviation <= 2.5
    assert gradient.abs().max() > 0


def test_baselines_are_per_task() -> None:
    """Must fail when one mean serves all (tried)."""
    modulator = Reward(rate=0.5, tasks=2)
    value = torch.zeros(4, 3)
    heard = Heard(value, value, reward=torch.tensor([1.0, 3.0, 10.0, 10.0]), task=torch.tensor([0, 0, 1, 1]))
    signal, state = modulator.step(modulator.init(heard, torch.Generator()), heard, DT)
    torch.testing.assert_close(signal[:, 0], torch.tensor([1.0, -1.0, 0.0, 0.0]) / 4)
    again = heard._replace(reward=torch.tensor([4.0, 4.0, 10.0, 10.0]))
    signal, state = modulator.step(state, again, DT)
    torch.testing.assert_close(signal[:, 0], torch.tensor([-2.0, -2.0, 0.0, 0.0]) / 4)
    torch.testing.assert_close(state.mean[:, 0], torch.tensor([3.0, 10.0]))


def test_several_rewards_reach_every_unit_through_a_projection() -> None:
    """signal = -(R P) / B; with B = units = channels no axis can take the place of another.

    Must fail when the projection is transposed (tried).
    """
    modulator, value = Reward(rate=0.0, channels=3), torch.zeros(3, 3)
    reward = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    heard = Heard(value, value, reward=reward)
    state = modulator.init(heard, torch.Generator().manual_seed(0))
    signal, _ = modulator.step(state, heard, DT)
    torch.testing.assert_close(signal[0], -state.projection[0] / 3)
    torch.testing.assert_close(signal[1], -2 * state.projection[1] / 3)
    assert not signal[2].any()
    with pytest.raises(ValueError, match=r"\[batch, channels\] = \[3, 3\], got \[3\]"):
        modulator.step(state, heard._replace(reward=torch.zeros(3)), DT)


def test_rewarded_stdp_with_several_rewards_is_the_mean_of_separate_runs() -> None:
    x = (torch.rand(60, 4, 5, generator=torch.Generator().manual_seed(2)) < 0.2).double() * 2
    reward = torch.randn(4, 2, generator=torch.Generator().manual_seed(3)).double()
    rule = rule_of("rstdp", baseline=0.0, channels=2)
    together = _rewarded_batch(rule, spiking([5, 6, 4]), x, reward)
    apart = [_rewarded_batch(rule, spiking([5, 6, 4]), x[:, b : b + 1], reward[b : b + 1]) for b in range(4)]
    for name, gradient in together.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(gradient, sum(a[name] for a in apart) / 4, rtol=1e-12, atol=1e-14)


def test_a_reward_of_the_wrong_shape_names_both() -> None:
    modulator, value = Reward(), torch.zeros(4, 3)
    heard = Heard(value, value, reward=torch.zeros(3))
    state = modulator.init(heard, torch.Generator())
    with pytest.raises(ValueError, match=r"\[batch\] = \[4\], got \[3\].*\[batch, \*size\] = \[4, 3\]"):
        modulator.step(state, heard, DT)


def test_rules_that_need_what_is_not_there_say_so() -> None:
    with pytest.raises(ValueError, match=r"input->output.*draw their spikes.*escape"):
        learner(rule_of("rmax"), spiking([3, 2]))
    rule = RULES["sbd"]()
    assert isinstance(rule, LocalRule)
    with pytest.raises(ValueError, match=r"input->hidden1.*without a pseudo-derivative.*triangle"):
        learner(rule, spiking([3, 4, 2]))
