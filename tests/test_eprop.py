"""What goes with e-prop: adaptive feedback, late third factors, the regulariser of rates: the oracles E7 and E8."""

from typing import Any

import pytest
import torch
from torch import Tensor

from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.simulation import unroll
from neurosbd.losses import LOSSES
from neurosbd.neuromodulators import Following
from neurosbd.neurons import ALIF, LIF
from neurosbd.plasticity import EligibilityPropagation, RateRegulated, ThreeFactor
from neurosbd.rules import RULES, LocalRule
from neurosbd.surrogates import Triangle
from tests.compositions import state_of
from tests.spiking import BATCH, layered, learned, lively, maps, trial, trial_recorder
from tests.test_eligibility import Given, Watching, through_time


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("scored", [1, 5])
def test_adaptive_feedback_approaches_the_readout_by_its_forgetting(scored: int) -> None:
    """E7, however often a batch is heard and whatever the readout does. Must fail without `share` (tried)."""
    network = layered(LIF())
    inputs = torch.rand(5, BATCH, 4, dtype=torch.float64)
    task = Batch(inputs, torch.randint(0, 3, (BATCH,)), [0.0] * (5 - scored) + [1 / scored] * scored)
    rule: Any = RULES["eprop"](neuromodulator=Following(forgetting=0.2))
    learner: Any = Learner(network, rule, LOSSES["cross_entropy"](), torch.Generator().manual_seed(3))

    def distance() -> float:
        state = state_of(learner).modulators["hidden"]
        return (state.feedback - state.seen).norm().item()

    before = distance()
    for _ in range(4):
        learner.learn(task)
        torch.testing.assert_close(
            state_of(learner).modulators["hidden"].seen, network.weights["hidden->output"].detach()
        )
        assert distance() == pytest.approx(0.8 * before, rel=1e-10)
        before = distance()
        with torch.no_grad():
            network.weights["hidden->output"].add_(torch.randn(3, 6))


@pytest.mark.parametrize("late", [1, 4])
def test_a_late_third_factor_meets_the_eligibility_of_its_arrival(late: int) -> None:
    """sum_t signal[t - d] e[t], by autograd of z[t]; the last d signals never arrive. Must fail for d + 1 (tried)."""
    network = layered(LIF())
    task = trial(lively(network))
    local = learned(network, LocalRule(ThreeFactor(), Given(), delay=late), task)

    def score(t: int, activity: Any) -> Tensor:
        value = activity["hidden"].value
        return task.weights[t - late] * (Given().at(t - late, value) * value).sum() if t >= late else 0 * value.sum()

    leaves = [network.weights["input->hidden"], network.biases["input->hidden"]]
    exact = torch.autograd.grad(through_time(network, task.inputs, score), leaves)  # type: ignore[arg-type]
    torch.testing.assert_close(local["weights.input->hidden"], exact[0], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(local["biases.input->hidden"], exact[1], rtol=1e-10, atol=1e-12)


# The rate regulariser ------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [layered, maps])
def test_the_rate_regulariser_is_the_gradient_of_its_cost(make: Any) -> None:
    """E8, in steps of 0.5 ms, by autograd of E. Must fail when time is counted in steps, not in ms (tried)."""
    network, target, cost = make(LIF(), dt=0.5e-3), 40.0, 2.0
    name = "hidden" if make is layered else "conv1"
    task = trial(lively(network, name))
    local = learned(network, LocalRule(RateRegulated(ThreeFactor(), target, cost), None), task)
    (connection,) = network.incoming[name]
    values: list[Tensor] = []
    look = lambda t, frame: values.append(frame.activity[name].value)  # noqa: E731
    unroll(network, task.inputs, (look,), differentiable=True)
    rate = torch.stack(values).flatten(3).transpose(0, 2).flatten(1).mean(1) if make is maps else None
    rate = (torch.stack(values).mean((0, 1)) if rate is None else rate) / 0.5  # spikes per ms
    energy = cost / 2 * (rate - target * 1e-3).square().sum()
    energy.backward(inputs=[network.weights[connection.name], network.biases[connection.name]])
    parameter = network.weights[connection.name]
    exact = parameter.grad - local[f"weights.{connection.name}"]  # type: ignore[operator]
    torch.testing.assert_close(local[f"weights.{connection.name}"], exact, rtol=1e-10, atol=1e-14)


def test_the_rate_regulariser_is_its_formula() -> None:
    """cost (f - f*) (1 / T) sum_t mean_b e, spikes per ms, from the eligibilities of the run. Must fail when the pull
    of every step is added to those before it (tried)."""
    network, watching = layered(ALIF()), Watching()
    task = trial(lively(network))
    learned(network, LocalRule(watching, None, eligibility="exact"), task)  # type: ignore[arg-type]
    e = torch.stack([s.weight for s in watching.e]).mean(0) / BATCH
    error = trial_recorder(network, task.inputs).value.mean((0, 1)) - 25e-3  # type: ignore[arg-type]
    rule = LocalRule(RateRegulated(EligibilityPropagation(), 25.0, 3.0), None, eligibility="exact")
    got = learned(network, rule, task)["weights.input->hidden"]
    torch.testing.assert_close(got, 3.0 * error[:, None] * e, rtol=1e-10, atol=1e-14)


def test_the_rate_regulariser_alone_leads_to_the_target() -> None:
    """E8: every unit ends within 5 of 100 Hz, which is five spikes in twenty examples of 50 ms.

    The pseudo-derivative is wide, since the regulariser moves no unit whose psi is 0. Must fail when the pull has the
    other sign, or leads to 80 Hz (tried, both).
    """
    network = layered(LIF(tau_mem=10e-3, surrogate=Triangle(width=5.0)))
    inputs = (torch.rand(50, 20, 4, dtype=torch.float64) < 0.3).double()
    task = Batch(inputs, torch.zeros(20, dtype=torch.int64), [0.0] * 49 + [1.0])
    before = trial_recorder(network, inputs).value.mean((0, 1)) * 1e3
    rule = LocalRule(RateRegulated(ThreeFactor(), 100.0, 1.0), None)
    for _ in range(80):
        gradient = learned(network, rule, task)
        with torch.no_grad():
            for name in ("weights.input->hidden", "biases.input->hidden"):
                network.get_parameter(name).sub_(gradient[name], alpha=0.3)
    after = trial_recorder(network, inputs).value.mean((0, 1)) * 1e3
    assert before.min() < 60 and before.max() > 140, before
    assert ((after - 100).abs() < 5).all(), after
