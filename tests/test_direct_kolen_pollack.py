"""Direct Kolen-Pollack: the gradient of its projection, where it leads, and at what rate it learns."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.losses import LOSSES
from neurosbd.network.network import INPUT, Network
from neurosbd.neuromodulators import LAYOUTS, DirectKolenPollack, Full
from neurosbd.rules import RULES
from neurosbd.testing.networks import cnn, lc, mlp
from tests.compositions import state_of
from tests.contracts.tables import seeded


def shown(network: Network, count: int = 6) -> Batch:
    torch.manual_seed(0)
    x = torch.randn(1, count, *network.populations[INPUT].size, dtype=torch.float64)
    return Batch(x, torch.randint(0, 3, (count,)))


def learner_of(network: Network, loss: str = "cross_entropy", **constants: Any) -> Learner:
    rule = RULES["dkp"](neuromodulator=DirectKolenPollack(**constants))
    return Learner(network, rule, LOSSES[loss](), seeded())


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("make", [lambda: mlp([5, 7, 6, 3]), cnn, lc])
def test_the_projection_descends_what_is_left_of_the_score(make: Any, layout: str) -> None:
    """B.grad = sum_b score^T summary(h), third factors by B as it was. Oracle: the equations. Must fail with the other
    sign, or the score of its own prediction (both tried)."""
    network = make()
    batch, learner = shown(network), learner_of(network, layout=LAYOUTS[layout](), scale=0.5)
    before = {name: b.detach().clone() for name, b in learner.parameters.items()}
    told: dict[str, Tensor] = {}

    class Watching:
        def on_third_factor(self, population: str, third_factor: Tensor | None) -> None:
            assert third_factor is not None
            told[population] = third_factor

        def looks_at(self, connection: str) -> bool:
            return False

        def on_eligibility(self, connection: str, eligibility: Any) -> None:
            raise AssertionError

    x = batch.inputs[0]  # type: ignore[index]
    with torch.no_grad():
        values = {name: each.value for name, each in network.step(network.init(x), x).activity.items()}
        score = LOSSES["cross_entropy"]().score(values[network.readout], batch.target) / len(x)
    learner.learn(batch, learning_observer=Watching())
    for name, state in state_of(learner).modulators.items():
        summary = LAYOUTS[layout]().summary(values[name], state.basis)
        torch.testing.assert_close(state.feedback.grad, score.t() @ summary, rtol=1e-10, atol=1e-14)
        expected = LAYOUTS[layout]().spread(score @ before[f"{name}.feedback"], values[name], state.basis)
        torch.testing.assert_close(told[name], expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error", "brier"])
def test_next_to_the_readout_it_is_kolen_and_pollacks_and_becomes_backprop(loss: str) -> None:
    """One hidden layer: (W - B)[t] = (1 - lr decay)^t (W - B)[0] under AdamW, and the hidden gradient is backprop's by
    then. Must fail with the other sign (tried), or a rate of its own."""
    network = mlp([5, 7, 3])
    batch, learner = shown(network), learner_of(network, loss, layout=Full(), scale=1.0)
    (b,), weight = learner.parameters.values(), network.weights["hidden1->output"]
    apart = (weight - b).detach().clone()
    optimizer = torch.optim.AdamW([*network.parameters(), b], 0.1, weight_decay=1.0, fused=True)
    for _ in range(200):
        optimizer.zero_grad()
        learner.learn(batch)
        optimizer.step()
        learner.after_step()
    torch.testing.assert_close((weight - b).detach(), 0.9**200 * apart, rtol=1e-5, atol=1e-12)
    found = []
    for rule in (learner.rule, RULES["bp"]()):
        other = Learner(network, rule, LOSSES[loss](), seeded())
        if rule is learner.rule:
            other.load_state_dict(learner.state_dict())
        network.zero_grad()
        other.learn(batch)
        found.append({name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None})
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-9)


def test_it_learns_at_the_rate_of_the_readout(tmp_path: Path) -> None:
    """Under Adam the first step of every number is its rate: ten times that of the hidden layers in digits-mlp. Must
    fail when B has the rate of its population (tried)."""
    rates = {"training.epochs": 1, "data.subset": 20, "training.batch_size": 200, "training.schedule": "constant"}
    run = neurosbd.fit("digits-mlp", rule="dkp", settings=rates, out=tmp_path / "run")
    again = neurosbd.load_model("digits-mlp", "dkp", rates)
    start = neurosbd.learner(again.network(), again.rule.build(), seed=again.seed).state_dict()["modulators"]
    saved = run.checkpoint()["learner"]["modulators"]
    for name in ("hidden1", "hidden2"):
        step = (saved[name]["feedback"] - start[name]["feedback"]).abs()
        assert step.median().item() == pytest.approx(1e-2, rel=1e-2)
    faster = {**rates, "rule.neuromodulator.relative_rate": 3.0}
    run = neurosbd.fit("digits-mlp", rule="dkp", settings=faster, out=tmp_path / "faster")
    step = (run.checkpoint()["learner"]["modulators"]["hidden1"]["feedback"] - start["hidden1"]["feedback"]).abs()
    assert step.median().item() == pytest.approx(3e-2, rel=1e-2)


def test_bad_constants_are_refused() -> None:
    with pytest.raises(ValueError, match=r"DirectKolenPollack.relative_rate must be a positive number, got 0.0"):
        DirectKolenPollack(relative_rate=0)
