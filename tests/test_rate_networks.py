"""Recurrent rate networks: leaky units, RFLO and REINFORCE against their recursions and autograd, cursor control."""

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.connections import Dense
from neurosbd.errors import UsageError
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.passes import Continuation
from neurosbd.learning.simulation import unroll
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Frame, Network, Population
from neurosbd.neuromodulators import Aligned, Transposed, overlapping
from neurosbd.neurons import NEURONS, LeakyRate
from neurosbd.rules import RULES, Rule

DT, TAU = 1e-3, 4e-3
KEPT = math.exp(-DT / TAU)
STEPS, EXAMPLES = 7, 3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def recurrent(noise: float = 0.0, autonomous: bool = True, block: int | None = None) -> Network:
    """4 inputs, 5 leaky units that hear each other (or do not), 2 linear outputs, in float64."""
    populations = [
        Population("input", (4,), None),
        Population("hidden", (5,), LeakyRate(TAU, noise)),
        Population("output", (2,), NEURONS["identity"]()),
    ]
    connections = [Connection("input", "hidden", Dense(bias=True)), Connection("hidden", "output", Dense())]
    if autonomous:
        connections.insert(1, Connection("hidden", "hidden", Dense()))
    return Network(populations, connections, seeded(), DT, block=block).double()


def shown(steps: int = STEPS) -> tuple[Tensor, Tensor, list[float]]:
    x = torch.randn(steps, EXAMPLES, 4, generator=seeded(1), dtype=torch.float64)
    target = torch.randn(EXAMPLES, 2, generator=seeded(2), dtype=torch.float64)
    return x, target, [1 / (steps * (steps - t)) for t in range(steps)]


def learned(network: Network, rule: Rule, batch: Batch, noise: int = 4) -> dict[str, Tensor]:
    Learner(network, rule, LOSSES["squared_error"](), seeded(3)).learn(batch, noise=seeded(noise))
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("block", [1, 3, 7])
def test_rflo_is_its_recursion(block: int) -> None:
    """p <- kept p + (1 - kept) f'(u) h_prev^T, summed with M^T score: of recurrent and of input synapses.

    Must fail when what was in the value before is left out (tried), or the leak is.
    """
    network = recurrent(block=block)
    x, target, weights = shown()
    rule = RULES["rflo"](neuromodulator=Aligned(0.3))
    learner = Learner(network, rule, LOSSES["squared_error"](), seeded(3))
    m = learner.state.modulators["hidden"].frozen  # type: ignore[attr-defined]
    learner.learn(Batch(x, target, weights))
    h, frames = torch.zeros(EXAMPLES, 5, dtype=torch.float64), []
    w = {name: p.detach() for name, p in network.named_parameters()}
    p_in, p_rec = torch.zeros(EXAMPLES, 5, 4).double(), torch.zeros(EXAMPLES, 5, 5).double()
    expected_in, expected_rec = torch.zeros(5, 4).double(), torch.zeros(5, 5).double()
    for t in range(STEPS):
        drive = x[t] @ w["weights.input->hidden"].T + w["biases.input->hidden"] + h @ w["weights.hidden->hidden"].T
        gain = (1 - KEPT) * (1 - torch.tanh(drive) ** 2)
        p_in = KEPT * p_in + gain[:, :, None] * x[t][:, None, :]
        p_rec = KEPT * p_rec + gain[:, :, None] * h[:, None, :]
        h = KEPT * h + (1 - KEPT) * torch.tanh(drive)
        frames.append(h)
        told = ((h @ w["weights.hidden->output"].T - target) @ m)[:, :, None] * (weights[t] / EXAMPLES)
        expected_in, expected_rec = expected_in + (told * p_in).sum(0), expected_rec + (told * p_rec).sum(0)
    torch.testing.assert_close(network.weights["input->hidden"].grad, expected_in, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(network.weights["hidden->hidden"].grad, expected_rec, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(unroll(network, x).activity["hidden"].value, frames[-1], rtol=1e-12, atol=1e-12)


def test_rflo_without_recurrence_is_the_gradient() -> None:
    """Units that hear only the input, feedback the readout's own weights: equal to backprop through time.

    Must fail when a block leaves out what reaches the value behind the gain (tried), and with recurrent synapses, whose
    part of the gradient goes through other units (checked below).
    """
    x, target, _ = shown()
    weights = [1 / STEPS] * STEPS  # blocks have steps of one weight
    for autonomous in (False, True):
        batch, rule = Batch(x, target, weights), RULES["rflo"](neuromodulator=Transposed())
        local = learned(recurrent(autonomous=autonomous, block=4), rule, batch)
        exact = learned(recurrent(autonomous=autonomous), RULES["bptt"](), batch)
        same = [torch.allclose(local[name], exact[name], rtol=1e-10, atol=1e-12) for name in exact]
        assert all(same) != autonomous
        assert local.keys() == exact.keys()


def test_reinforce_is_its_recursion() -> None:
    """p <- kept p + (xi f'(u) / noise) h_prev^T; change = -sum_t (R - Rbar) p, Rbar as it was before the trial.

    Must fail when the expectation moves within a trial (tried: expects = 'step'), or the sign is that of a loss.
    """
    noise = 0.4
    network = recurrent(noise)
    network.weights["input->hidden"].requires_grad_(True)
    x, target, weights = shown()
    task = torch.tensor([0, 1, 1])

    def reward(t: int, frame: Frame) -> Tensor:
        return -(frame.activity["output"].value - target).square().sum(1)

    modulator = neurosbd.neuromodulators["reward"](baseline=0.2, expects="trial", tasks=2)
    plasticity = neurosbd.plasticities["policy_gradient"](tau_e=TAU)
    rule = RULES["reinforce"](neuromodulator=modulator, plasticity=plasticity)
    learner = Learner(network, rule, LOSSES["squared_error"](), seeded(3))
    batch = Batch(x, target, weights, task=task, reward=reward)
    learner.learn(batch, noise=seeded(8))
    network.zero_grad()
    seen: list[Frame] = []
    learner.learn(batch, (lambda t, frame: seen.append(frame),), noise=seeded(4))
    first: list[Frame] = []
    unroll(network, x, (lambda t, frame: first.append(frame),), generator=seeded(8))
    expected = torch.zeros(2, dtype=torch.float64)
    for k in range(2):
        expected[k] = reward(STEPS - 1, first[-1])[task == k].mean()  # as if all before had been equal to the first
    h, p = torch.zeros(EXAMPLES, 5).double(), torch.zeros(EXAMPLES, 5, 5).double()
    change = torch.zeros(5, 5).double()
    for t, frame in enumerate(seen):
        rate = frame.activity["hidden"].potential
        xi = (frame.activity["hidden"].value - KEPT * h - (1 - KEPT) * rate) / ((1 - KEPT) * noise)
        p = KEPT * p + (xi * (1 - rate**2) / noise)[:, :, None] * h[:, None, :]
        h = frame.activity["hidden"].value
        change -= ((reward(t, frame) - expected[task])[:, None, None] * p).mean(0)
    torch.testing.assert_close(network.weights["hidden->hidden"].grad, change, rtol=1e-9, atol=1e-10)


def test_reinforce_is_the_gradient_of_the_reward_on_average() -> None:
    """One linear unit at one step, reward -value^2: d E[R] / d w = -2 (1 - kept)^2 u x, over 200,000 draws within 4 %.

    Must fail when the surprise is not divided by the noise, or has the other sign.
    """
    unit = LeakyRate(TAU, 0.7, NEURONS["identity"]())
    populations = [Population("input", (1,), None), Population("output", (1,), unit)]
    network = Network(populations, [Connection("input", "output", Dense())], seeded(), DT).double()
    weight = network.weights["input->output"]
    with torch.no_grad():
        weight.fill_(0.9)
    modulator = neurosbd.neuromodulators["reward"](baseline=0.0)
    learner = Learner(network, RULES["reinforce"](readout="rule", neuromodulator=modulator), None, seeded())
    x = torch.full((1, 200_000, 1), 0.8, dtype=torch.float64)
    learner.learn(Batch(x, reward=lambda t, frame: -frame.activity["output"].value[:, 0].square()), noise=seeded(1))
    exact = 2 * (1 - KEPT) ** 2 * 0.9 * 0.8 * 0.8
    assert weight.grad is not None and weight.grad.item() == pytest.approx(exact, rel=0.04)


def test_noise_goes_by_key_step_and_place() -> None:
    """The same for a part of the batch, for a run cut in two, and another with another seed. Its power is that said."""
    network = recurrent(0.3)
    x = torch.randn(6, 4, 4, generator=seeded(1), dtype=torch.float64)
    whole = unroll(network, x, generator=seeded(5))
    half = unroll(network, x[:, :2], generator=seeded(5))
    identical = torch.equal(half.activity["hidden"].value, whole.activity["hidden"].value[:2])
    assert identical or torch.allclose(half.activity["hidden"].value, whole.activity["hidden"].value[:2], rtol=1e-12)
    cut = unroll(network, x[3:], start=unroll(network, x[:3], generator=seeded(5)))
    assert torch.equal(cut.activity["hidden"].value, whole.activity["hidden"].value)
    other = unroll(network, x, generator=seeded(6))
    assert not torch.equal(other.activity["hidden"].value, whole.activity["hidden"].value)
    unit = LeakyRate(TAU, 0.3)
    activity, _ = unit.step(unit.init(torch.zeros(100_000, 1), seeded()), torch.zeros(100_000, 1), DT)
    assert activity.value.std().item() == pytest.approx((1 - KEPT) * 0.3, rel=0.02)
    with pytest.raises(ValueError, match=r"a leaky rate neuron is random: give the run a torch\.Generator"):
        unit.init(torch.zeros(1, 1))


def test_an_aligned_projection_has_its_overlap() -> None:
    """Must fail when the random part is not orthogonal to the readout (tried)."""
    w = torch.randn(2, 50, generator=seeded(3), dtype=torch.float64)
    for overlap in (0.0, 0.3, 1.0):
        m = overlapping(w, overlap, seeded(1))
        assert (m * w).sum() / (m.norm() * w.norm()) == pytest.approx(overlap, abs=1e-12)
        assert m.norm() == pytest.approx(w.norm().item())
    assert not overlapping(torch.zeros(2, 3), 0.5, seeded()).any()


def test_what_is_refused_says_what_would_do() -> None:
    """Silent units under a policy gradient; deep populations under an aligned projection."""
    for network in (recurrent(), neurosbd.load_model("digits-mlp").network()):
        with pytest.raises(ValueError, match=r"'leaky_rate' with noise > 0, not .* bmi-cursor"):
            Learner(network, RULES["reinforce"](), LOSSES["squared_error"](), seeded())
    with pytest.raises(ValueError, match="use neuromodulator 'fixed_random' for deeper populations"):
        deep = neurosbd.load_model("cifar10-mlp").network()
        Learner(deep, RULES["rflo"](neuromodulator=Aligned()), LOSSES["cross_entropy"](), seeded())


QUICK = {"protocol.pretraining": 3, "protocol.recorded": 2, "protocol.session": 3, "protocol.batch": 8}


@pytest.mark.parametrize("rule", ["rflo", "reinforce"])
def test_cursor_control_is_recorded_in_three_parts(rule: str, tmp_path: Path) -> None:
    """Nothing is learned in the first and the last third, and recording changes nothing.

    Must fail when the trials before the session are learned from, or the session starts with the first decoder.
    """
    record = ["hidden.rate", "score", "hidden->hidden.weight[every=1 batch]", "hidden->output.weight[every=1 batch]"]
    run = neurosbd.simulate("bmi-cursor", rule=rule, settings=QUICK, record=record, out=tmp_path / "run")
    weight, decoder = run.trace["hidden->hidden.weight"][:], run.trace["hidden->output.weight"][:]
    steps = [not torch.equal(torch.tensor(a), torch.tensor(b)) for a, b in pairwise(weight)]
    learns = [False, False, True, True, False, False]
    assert steps[1:] == learns[1:] and len(run.trace["hidden.rate"]) == 6 * 20
    own = run.definition.network().weights["hidden->output"].detach().numpy().ravel()
    assert (decoder == own).all()
    plain = neurosbd.simulate("bmi-cursor", rule=rule, settings={**QUICK, "record.signals": []}, out=tmp_path / "plain")
    assert plain.result["measures"] == run.result["measures"]
    run.trace.close()


@pytest.mark.parametrize("rule", ["rflo", "reinforce"])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_cursor_is_what_the_decoder_says_and_its_noise(noise: float, rule: str, tmp_path: Path) -> None:
    """Of its standard deviation, independent from step to step and on both axes, in trials with and without learning.

    Must fail when noise is dropped where nothing is learned, is the same at every step, or is a variance (tried).
    """
    record = ["hidden.rate", "output.rate", "hidden->output.weight[every=1 batch]"]
    settings = {**QUICK, "protocol.noise": noise, "record.signals": []}
    run = neurosbd.simulate("bmi-cursor", rule=rule, settings=settings, record=record, out=tmp_path / "run")
    hidden, cursor = run.trace["hidden.rate"][:].reshape(120, 8, 50), run.trace["output.rate"][:].reshape(120, 8, 2)
    added = cursor - hidden @ run.trace["hidden->output.weight"][0].reshape(2, 50).T
    run.trace.close()
    if not noise:
        assert abs(added).max() < 1e-5
        return
    trials = added.reshape(6, 20, 8, 2) / noise
    for trial in trials:  # 320 numbers each: five standard errors of a standard deviation, of a mean, of a correlation
        assert trial.std() == pytest.approx(1, abs=5 / (2 * 320) ** 0.5) and abs(trial.mean()) < 5 / 320**0.5
        assert abs((trial[1:] * trial[:-1]).mean()) < 5 / 304**0.5 and abs(trial.prod(-1).mean()) < 5 / 160**0.5
    assert abs((trials[1:] * trials[:-1]).mean()) < 5 / 1600**0.5
    distance = {**QUICK, "protocol.noise": 3.0}
    far = neurosbd.simulate("bmi-cursor", rule=rule, settings=distance, out=tmp_path / "far").result["measures"]
    assert far["distance_before"] > run.result["measures"]["distance_before"] + 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"protocol.noise": -0.1}, "noise: must be a number >= 0"),
        ({"protocol.session": 1}, "session = 1 trials are fewer than cursor_control.recorded = 60"),
        ({"protocol.cue": "30 ms"}, "cue = 0.03 s is longer than cursor_control.duration = 0.02 s"),
        ({"protocol.cue": "2.5 ms"}, r"cue = 0.0025 s is no whole number of steps"),
        ({"loss": "cross_entropy"}, "judged by loss 'squared_error', got 'cross_entropy'"),
        ({"population.input.size": [5]}, "wants 4 inputs"),
        ({"rule.kind": "reinforce", "population.hidden.neuron.noise": 0.0}, "noise > 0"),
    ],
)
def test_wrong_cursor_control_is_refused(settings: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        neurosbd.simulate("bmi-cursor", settings=settings, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on(tmp_path: Path) -> None:
    """Two halves of a trial, one after another, have the gradient of the whole under RFLO.

    Must fail when the sensitivity starts anew with the second half.
    """
    x, target, _ = shown(6)
    whole = learned(recurrent(), RULES["rflo"](), Batch(x, target, [1 / 6] * 6))
    network, goes_on = recurrent(), Continuation()
    learner = Learner(network, RULES["rflo"](), LOSSES["squared_error"](), seeded(3))
    for half in (x[:3], x[3:]):
        learner.learn(Batch(half, target, [1 / 6] * 3), continuation=goes_on)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, whole[name], rtol=1e-10, atol=1e-12)
