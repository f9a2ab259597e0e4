"""STDP, reward-modulated STDP and policy gradient: closed forms, batches, baselines, bounds."""

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from neurosbd.connections import Conv2d, Dense
from neurosbd.connections.synapses import Synapses
from neurosbd.eligibility.local import Local
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Frame, Network, Population
from neurosbd.neuromodulators import Reward
from neurosbd.neuromodulators.neuromodulator import Broadcast, Receiver
from neurosbd.neurons import NEURONS
from neurosbd.neurons.neuron import Activity
from neurosbd.plasticity.pending import PENDING
from neurosbd.plasticity.spike_timing import PolicyGradient, RewardedSpikeTiming, Window
from neurosbd.rules import RULES, LocalRule
from neurosbd.surrogates import Without
from neurosbd.testing.neuromodulators import sent
from tests.compositions import rule_of

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


def learner(rule: LocalRule, network: Network) -> Learner:
    return Learner(network, rule, LOSSES["cross_entropy"](), torch.Generator().manual_seed(1))


def learning_readout(name: str, **constants: object) -> LocalRule:
    return rule_of(name, **{"readout": "rule", **constants})


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

    def trial_recorder(t: int, frame: Frame) -> None:
        fired.append(frame.activity["output"].value.item() > 0)

    trial = Batch(x, torch.tensor([0]), [1 / steps] * steps, reward=reward if rule.rewarded else None)
    learner(rule, network).learn(trial, () if rule.rewarded else (trial_recorder,))
    assert [t for t, spike in enumerate(fired) if spike] == list(post)
    return -float(weight.grad[0, 0]) if weight.grad is not None else 0.0


@pytest.mark.parametrize("lag", [-25, -3, -1, 0, 1, 4, 30])
def test_stdp_window_in_closed_form(lag: int) -> None:
    """What arrives in step 40 comes at its beginning, a spike of the post unit at the end of its step.

    Must fail when the pre trace does not hold what arrives with the spike (tried: lag 0 then gives 0).
    """
    rule = learning_readout("stdp", a_plus=0.7, a_minus=0.4, tau_plus=17e-3, tau_minus=34e-3)
    change = forced([40], [40 + lag - 1], 80, {}, rule)
    expected = 0.7 * math.exp(-lag * DT / 17e-3)
    if lag < 0:
        expected = -0.4 * math.exp(lag * DT / 34e-3)
    assert change == pytest.approx(expected, rel=1e-10, abs=1e-14)


@pytest.mark.parametrize("kind", ["stdp", "rstdp"])
@pytest.mark.parametrize("pairing", ["all_to_all", "nn_symm", "nn_pre_centered", "nn_restr"])
def test_pairing_counts_the_pairs_of_its_scheme(pairing: str, kind: str) -> None:
    """Written out from figure 7 of Morrison, Diesmann, Gerstner 2008; of a reward at the end, with an eligibility that
    hardly fades. Must fail when 'nn_symm' adds up, when 'nn_restr' keeps a trace after its pair, or when
    'nn_pre_centered' forgets what a spike of the other side has not met (tried, each)."""
    pre, post = [10, 14, 20, 21, 33, 40], [17, 23, 31, 36, 37]
    ups = {
        "all_to_all": [(a, b) for a in pre for b in post if a <= b],
        "nn_symm": [(max(a for a in pre if a <= b), b) for b in post],
        "nn_pre_centered": [(a, min(b for b in post if b >= a)) for a in pre if a <= max(post)],
        "nn_restr": [(14, 17), (21, 23), (33, 36)],
    }
    nearest = [(a, max(b for b in post if b < a)) for a in pre if min(post) < a]
    downs = {
        "all_to_all": [(a, b) for a in pre for b in post if b < a],
        "nn_symm": nearest, "nn_pre_centered": nearest,
        "nn_restr": [(20, 17), (33, 31), (40, 37)],
    }  # fmt: skip
    expected = sum(math.exp(-(b - a) * DT / 20e-3) for a, b in ups[pairing])
    expected -= 0.5 * sum(math.exp(-(a - b) * DT / 20e-3) for a, b in downs[pairing])
    slow = {"tau_e": 1e9, "baseline": 0.0} if kind == "rstdp" else {}
    rule = learning_readout(kind, a_minus=0.5, pairing=pairing, **slow)
    found = forced(pre, [b - 1 for b in post], 62, {60: 1.0}, rule)
    assert found == pytest.approx(expected, rel=1e-7)


def test_multiplicative_steps_shrink_towards_the_bounds() -> None:
    window = Window(a_plus=2.0, a_minus=3.0, w_min=-1.0, w_max=0.5, bounds="multiplicative")
    up, down = window.factors(torch.tensor([-1.0, 0.0, 0.5]))
    torch.testing.assert_close(torch.as_tensor(up), torch.tensor([3.0, 1.0, 0.0]))
    torch.testing.assert_close(torch.as_tensor(down), torch.tensor([0.0, 3.0, 4.5]))


def test_additive_weights_stay_within_their_bounds() -> None:
    network = spiking([6, 4])
    student = learner(learning_readout("stdp", w_min=-0.1, w_max=0.2), network)
    student.after_step()
    weight = network.weights["input->output"]
    assert weight.min() >= -0.1 and weight.max() <= 0.2 and weight.max() == 0.2


def test_reward_comes_to_a_faded_eligibility() -> None:
    """T1: change = a_plus f g M exp(-(t1 - t0) / tau_e). Must fail when e fades after it is used (tried)."""
    rule = learning_readout("rstdp", a_plus=0.8, a_minus=0.0, tau_e=0.2, baseline=0.0)
    change = forced([10], [12], 120, {100: 0.5}, rule)
    expected = 0.8 * math.exp(-3 * DT / 20e-3) * 0.5 * math.exp(-(100 - 13) * DT / 0.2)
    assert change == pytest.approx(expected, rel=1e-10)


def test_a_delayed_third_factor_meets_the_eligibility_of_its_arrival() -> None:
    now = forced([10], [13], 120, {90: 1.0}, learning_readout("rstdp", baseline=0.0))
    late = forced([10], [13], 120, {70: 1.0}, learning_readout("rstdp", baseline=0.0, delay=20))
    assert now == pytest.approx(late, rel=1e-12) and now != 0


def _rewarded_batch(rule: LocalRule, network: Network, x: Tensor, reward: Tensor) -> dict[str, Tensor]:
    def give(t: int, frame: Frame) -> Tensor | None:
        return reward if t == len(x) - 1 else None

    trial = Batch(x, torch.zeros(x.shape[1], dtype=torch.long), [1 / len(x)] * len(x), reward=give)
    learner(rule, network).learn(trial, noise=torch.Generator().manual_seed(5))
    return {n: w.grad.clone() for n, w in network.weights.items() if w.grad is not None}


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("bounds", ["additive", "multiplicative"])
def test_rewarded_stdp_of_a_batch_is_the_mean_of_separate_runs(bounds: str, recurrent: bool) -> None:
    """Must fail when a reward [B] meets the axis of the neurons (tried: B = 4 = post units)."""
    rule = learning_readout("rstdp", bounds=bounds, baseline=0.0)
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
    rule = learning_readout("rstdp", baseline=0.0)
    together = _rewarded_batch(rule, _conv(), x, reward)["input->map"]
    apart = [_rewarded_batch(rule, _conv(), x[:, b : b + 1], reward[b : b + 1])["input->map"] for b in range(3)]
    assert together.abs().max() > 0
    torch.testing.assert_close(together, sum(apart) / 3, rtol=1e-12, atol=1e-14)


class _Passed(NamedTuple):
    """What a policy gradient reads of an eligibility."""

    trace: Tensor


REWARDED = {0, 3, 4, PENDING - 1, PENDING, 2 * PENDING + 3, 3 * PENDING + 4}
LASTING = {
    "additive": RewardedSpikeTiming(Window(a_plus=0.7, a_minus=0.4), tau_e=9e-3),
    "multiplicative": RewardedSpikeTiming(Window(bounds="multiplicative"), tau_e=9e-3),
    "policy": PolicyGradient(tau_e=9e-3),
}


def _life(geometry: Dense | Conv2d, batch: int, per_unit: bool) -> list[Local]:
    """What a connection meets in more than 3 PENDING steps, with rewards at some of them; the weight changes too."""
    generator = torch.Generator().manual_seed(4)
    pre, post, shape = ((2, 5, 5), (3, 5, 5), (3, 2, 3, 3)) if isinstance(geometry, Conv2d) else ((5,), (4,), (4, 5))

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator).double()

    def local(t: int) -> Local:
        weight, spikes, surprise = 0.1 * normal(*shape), (normal(batch, *post) > 0.5).double(), normal(batch, *post)
        told = normal(batch, *post) if per_unit else normal(batch, *(1,) * len(post)).expand(batch, *post)
        arriving, synapses = (normal(batch, *pre) > 0.5).double(), Synapses(weight, None)
        return Local(
            arriving, Activity(spikes, spikes), told if t in REWARDED else None, synapses, _Passed(arriving + 1),  # type: ignore[arg-type]
            lambda a, b: geometry.outer(synapses, a, b), partial(geometry.each, synapses), lambda: surprise, None,
        )  # fmt: skip

    return [local(t) for t in range(3 * PENDING + 5)]


def _direct(plasticity: RewardedSpikeTiming | PolicyGradient, life: list[Local]) -> Iterator[tuple[Tensor, Tensor]]:
    """(e, gradient) of every step by the definition, one example after the other."""
    kept, e = math.exp(-DT / plasticity.tau_e), torch.zeros(len(life[0].pre), *life[0].synapses.weight.shape).double()
    traces = plasticity.window.init(life[0]) if isinstance(plasticity, RewardedSpikeTiming) else None
    for local in life:
        if isinstance(plasticity, RewardedSpikeTiming) and traces is not None:
            now, traces = plasticity.window.after(traces, local, DT)
            plus, minus = plasticity.window.factors(local.synapses.weight)
            pairs = [(plus, now.fired, now.pre), (minus, -now.post, now.arrived)]
        else:
            pairs = [(1.0, local.surprise(), local.eligible.trace)]
        made = [sum(f * local.outer(a[b, None], x[b, None]).weight for f, a, x in pairs) for b in range(len(e))]
        e = kept * e + torch.stack(made)  # type: ignore[arg-type]
        third_factor = torch.zeros_like(local.post.value) if local.third_factor is None else local.third_factor
        third_factor = third_factor.flatten(1)[:, : e.shape[1]]  # all the same over a map
        yield e, (third_factor.view(*third_factor.shape, *(1,) * (e.ndim - 2)) * e).sum(0)


def _stepped(plasticity: Any, life: list[Local]) -> Iterator[tuple[Any, Tensor]]:
    """(state, gradient) of every step; no gradient is one of 0."""
    state = plasticity.init(life[0])
    for local in life:
        gradient, state = plasticity.step(state, local, DT)
        yield state, torch.zeros_like(local.synapses.weight) if gradient is None else gradient.weight


@pytest.mark.parametrize("name", LASTING)
@pytest.mark.parametrize("way", ["dense", "dense, a factor per unit", "conv"])
def test_what_waits_as_factors_is_the_eligibility(name: str, way: str) -> None:
    """Must fail when pending factors do not fade, or the folded ones are not faded for a reward (both tried)."""
    plasticity, geometry = LASTING[name], Conv2d(3, padding=1) if way == "conv" else Dense()
    life = _life(geometry, 3, way == "dense, a factor per unit")
    rewards = 0
    for local, (e, expected), (state, gradient) in zip(
        life, _direct(plasticity, life), _stepped(plasticity, life), strict=True
    ):
        rewards += bool(gradient.any())
        torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-13)
        for some in (slice(None), slice(1, 2), torch.tensor([2, 0])):
            torch.testing.assert_close(plasticity.eligibility(state, local, some), e[some], rtol=1e-12, atol=1e-13)
    assert rewards >= len(REWARDED) - 1  # nothing may wait at the first


@pytest.mark.parametrize("name", LASTING)
def test_a_rewarded_batch_is_the_sum_of_its_examples_at_every_step(name: str) -> None:
    life = _life(Dense(), 3, per_unit=False)

    def alone(local: Local, b: int) -> Local:
        one, third_factor, surprise = slice(b, b + 1), local.third_factor, local.surprise()
        return local._replace(
            pre=local.pre[one], post=Activity(local.post.value[one], local.post.value[one]),
            third_factor=None if third_factor is None else third_factor[one],
            eligible=_Passed(local.eligible.trace[one]), surprise=lambda: surprise[one],
        )  # fmt: skip

    apart = [[g for _, g in _stepped(LASTING[name], [alone(local, b) for local in life])] for b in range(3)]
    for t, (_, together) in enumerate(_stepped(LASTING[name], life)):
        torch.testing.assert_close(together, sum(a[t] for a in apart), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", LASTING)
def test_what_waits_does_not_grow_with_the_steps(name: str) -> None:
    """Must fail when factors are never folded (tried); a look at the eligibility leaves it as it is."""
    life = _life(Dense(), 3, per_unit=False)
    for local, (state, _) in zip(life, _stepped(LASTING[name], life), strict=True):
        pending = state if name == "policy" else state.pending
        assert len(pending.posts) == len(pending.pres) < PENDING
        seen = LASTING[name].eligibility(state, local, slice(0, 2))
        torch.testing.assert_close(LASTING[name].eligibility(state, local, slice(0, 2)), seen, rtol=0, atol=0)


def test_no_reward_changes_nothing_and_scale_is_scale() -> None:
    """T5, T6. Must fail when the sign of a reward is sent (tried)."""
    rule = learning_readout("rstdp", baseline=0.0)
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


@pytest.mark.parametrize("baseline", [0.0, 1.5, -10.0])
def test_a_linear_reward_has_the_gradient_of_its_mean_whatever_the_baseline(baseline: float) -> None:
    """T2: R = c . y with y = k (W x + s xi); the mean of (R - b) xi / s x^T is d E[R] / d W = k c x^T, within 5 of the
    standard errors that 20,000 examples have in closed form, for any b. Sources that multiply by s have s^2 k c x^T.

    Must fail for Hebb's product, with the value in place of xi, and with the sign of a loss (both tried).
    """
    unit, examples = NEURONS["leaky_rate"](noise=0.5, neuron=NEURONS["identity"]()), 20_000
    populations = [Population("input", (3,), None), Population("output", (2,), unit)]
    network = Network(populations, [Connection("input", "output", Dense())], torch.Generator().manual_seed(0)).double()
    weight, c = network.weights["input->output"], torch.tensor([0.8, -0.3], dtype=torch.float64)
    x = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)
    reward = partial(_linear, c, baseline)
    trial = Batch(x.expand(1, examples, 3), torch.zeros(examples, dtype=torch.long), reward=reward)
    rule = learning_readout("reinforce", baseline=0.0)
    learner(rule, network).learn(trial, noise=torch.Generator().manual_seed(5))
    assert weight.grad is not None
    k = 1 - math.exp(-DT / 10e-3)
    mean = k * float(c @ weight.detach() @ x) - baseline
    spread = (mean**2 / 0.25 + k * k * (c @ c + c**2)).sqrt()[:, None] * x.abs()  # of one example
    assert ((-weight.grad - k * torch.outer(c, x)).abs() < 5 * spread / math.sqrt(examples)).all()


def _linear(c: Tensor, baseline: float, t: int, frame: Frame) -> Tensor:
    return frame.activity["output"].value @ c - baseline


def test_policy_gradient_has_no_drift_under_constant_reward() -> None:
    """T4: with R = 1 and no baseline the mean update is 0, within 4 standard errors of 4,000 examples, of units that
    spike in half of them. Must fail when the spike is taken for the surprise (tried)."""
    network = spiking([3, 2], "escape")
    with torch.no_grad():
        network.weights["input->output"].fill_(1 / 3)
    x = torch.ones(1, 4000, 3, dtype=torch.float64)
    rule = learning_readout("rmax", baseline=0.0)
    gradient = _rewarded_batch(rule, network, x, torch.ones(4000, dtype=torch.float64))["input->output"]
    assert gradient.abs().max() < 4 * 5 / math.sqrt(4000) / 2  # |surprise| has standard deviation <= 2.5
    assert gradient.abs().max() > 0


def test_baselines_are_per_task() -> None:
    """Must fail when one mean serves all (tried)."""
    modulator = Reward(baseline=0.5, tasks=2)
    value = torch.zeros(4, 3)
    receiver, task = Receiver(value), torch.tensor([0, 0, 1, 1])
    broadcast = Broadcast(value, reward=torch.tensor([1.0, 3.0, 10.0, 10.0]), task=task)
    third_factor, state = sent(modulator, modulator.init(receiver, broadcast, torch.Generator()), receiver, broadcast)
    torch.testing.assert_close(third_factor[:, 0], torch.tensor([1.0, -1.0, 0.0, 0.0]) / 4)
    again = broadcast._replace(reward=torch.tensor([4.0, 4.0, 10.0, 10.0]))
    third_factor, state = sent(modulator, state, receiver, again)
    torch.testing.assert_close(third_factor[:, 0], torch.tensor([-2.0, -2.0, 0.0, 0.0]) / 4)
    torch.testing.assert_close(state.mean[:, 0], torch.tensor([3.0, 10.0]))


def test_several_rewards_reach_every_unit_through_a_projection() -> None:
    """signal = -(R P) / B; with B = units = channels no axis can take the place of another.

    Must fail when the projection is transposed (tried).
    """
    modulator, value = Reward(baseline=0.0, channels=3), torch.zeros(3, 3)
    reward = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    receiver, broadcast = Receiver(value), Broadcast(value, reward=reward)
    state = modulator.init(receiver, broadcast, torch.Generator().manual_seed(0))
    signal, _ = sent(modulator, state, receiver, broadcast)
    torch.testing.assert_close(signal[0], -state.projection[0] / 3)
    torch.testing.assert_close(signal[1], -2 * state.projection[1] / 3)
    assert not signal[2].any()
    with pytest.raises(ValueError, match=r"\[batch, channels\] = \[3, 3\], got \[3\]"):
        sent(modulator, state, receiver, broadcast._replace(reward=torch.zeros(3)))


def test_rewarded_stdp_with_several_rewards_is_the_mean_of_separate_runs() -> None:
    x = (torch.rand(60, 4, 5, generator=torch.Generator().manual_seed(2)) < 0.2).double() * 2
    reward = torch.randn(4, 2, generator=torch.Generator().manual_seed(3)).double()
    rule = learning_readout("rstdp", baseline=0.0, channels=2)
    together = _rewarded_batch(rule, spiking([5, 6, 4]), x, reward)
    apart = [_rewarded_batch(rule, spiking([5, 6, 4]), x[:, b : b + 1], reward[b : b + 1]) for b in range(4)]
    for name, gradient in together.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(gradient, sum(a[name] for a in apart) / 4, rtol=1e-12, atol=1e-14)


def test_a_reward_of_the_wrong_shape_names_both() -> None:
    modulator, value = Reward(), torch.zeros(4, 3)
    receiver, broadcast = Receiver(value), Broadcast(value, reward=torch.zeros(3))
    state = modulator.init(receiver, broadcast, torch.Generator())
    with pytest.raises(ValueError, match=r"\[batch\] = \[4\], got \[3\].*\[batch, \*size\] = \[4, 3\]"):
        sent(modulator, state, receiver, broadcast)


def test_rules_that_need_what_is_not_there_say_so() -> None:
    with pytest.raises(ValueError, match=r"input->output.*draw their spikes.*escape"):
        learner(learning_readout("rmax"), spiking([3, 2]))
    rule = RULES["sbd"]()
    assert isinstance(rule, LocalRule)
    with pytest.raises(ValueError, match=r"input->hidden1.*without a pseudo-derivative.*triangle"):
        learner(rule, spiking([3, 4, 2]))


def test_bounds_leave_absent_synapses_absent() -> None:
    """Also where they do not contain 0. Must fail if the weights are only clamped (tried)."""
    network = spiking([6, 5, 2])
    sparse = Connection("input", "hidden1", Dense(sparsity=0.5))
    populations = list(network.populations.values())
    network = Network(populations, [sparse, network.connections["hidden1->output"]], torch.Generator().manual_seed(0))
    learner(learning_readout("stdp", w_min=0.1, w_max=1.0), network).after_step()
    weight, present = network.weights["input->hidden1"], network.present(sparse)
    assert present is not None and 0 < present.sum() < present.numel()
    assert (weight[present == 0] == 0).all() and (weight[present == 1] >= 0.1).all()


def test_a_task_without_a_baseline_is_named() -> None:
    modulator, value = Reward(tasks=2), torch.zeros(4, 3)
    receiver, broadcast = Receiver(value), Broadcast(value, reward=torch.zeros(4), task=torch.tensor([0, 1, 2, 0]))
    with pytest.raises(ValueError, match=r"tasks go from 0 to 2.* 2 baselines.*0..1"):
        sent(modulator, modulator.init(receiver, broadcast, torch.Generator()), receiver, broadcast)


def test_a_trial_that_is_never_scored_is_refused() -> None:
    network = spiking([3, 2])
    trial = Batch(torch.zeros(2, 4, 3, dtype=torch.float64), torch.zeros(4, dtype=torch.int64), (0.0, 0.0))
    with pytest.raises(ValueError, match="no step of the trial was scored"):
        learner(learning_readout("rstdp"), network).learn(trial)
