"""CorInfoMax-EP: two phases of a network that settles, against what theory says of them; the oracles C1 to C5."""

from typing import Any

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.connections import Dense
from neurosbd.connections.initialisers import Diagonal, XavierUniform
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.simulation import unroll
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neurons import CorInfoMax
from neurosbd.rules import RULES

CELL = CorInfoMax(epsilon=0.15, gamma=0.1, leak=0.5)


def settling(**dense: Any) -> Network:
    """6 inputs -> 7 hidden <-> 3 outputs, with lateral connections; float64."""
    populations = [Population("input", (6,), None), Population("hidden", (7,), CELL)]
    populations.append(Population("output", (3,), CELL, role="readout"))
    wide, start = Dense(weight=XavierUniform(0.7), **dense), Dense(weight=Diagonal())
    connections = [
        Connection("input", "hidden", wide, compartment="basal"),
        Connection("output", "hidden", wide, compartment="apical"),
        Connection("hidden", "hidden", start, compartment="lateral"),
        Connection("hidden", "output", wide, compartment="basal"),
        Connection("output", "output", start, compartment="lateral"),
    ]
    return Network(populations, connections, torch.Generator().manual_seed(0)).double()


def batch(steps: int, target: Tensor | None = None) -> Batch:
    x = torch.rand(4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.tensor([0, 2, 1, 1])
    return Batch(x.expand(steps, 4, 6), labels if target is None else target, (0.0,) * (steps - 1) + (1.0,))


def learned(network: Network, shown: Batch, **constants: Any) -> dict[str, Tensor]:
    network.zero_grad()
    rule = RULES["corinfomax_ep"](**{"sign": "positive", "memory": 1.0, **constants})
    Learner(network, rule, LOSSES["squared_error"](), torch.Generator().manual_seed(3)).learn(shown)
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def test_what_is_right_already_teaches_nothing() -> None:
    """C1: the target is where the network rests. Must fail when it has not come to rest: after 3 steps (tried)."""
    for steps, rests in ((800, True), (3, False)):
        network = settling()
        with torch.no_grad():
            frame = unroll(network, batch(steps).inputs)
        gradients = learned(network, batch(steps, frame.activity["output"].value))
        assert gradients.keys() == {"weights.input->hidden", "weights.output->hidden", "weights.hidden->output"}
        assert (max(g.abs().max().item() for g in gradients.values()) < 1e-9) == rests


def test_lateral_weights_follow_the_nudged_rates() -> None:
    """C2, C3: B^-1 <- memory B^-1 + (1 - memory) mean r r^T, exactly; symmetric and positive definite over 30 batches.

    Must fail for the rates of the free phase (tried), or without the Woodbury term r B r of the published code.
    """
    network, lam = settling(), 0.9
    rule = RULES["corinfomax_ep"](memory=lam)
    learner = Learner(network, rule, LOSSES["squared_error"](), torch.Generator().manual_seed(3))
    rates: dict[str, Tensor] = {}
    for _ in range(30):
        before = {name: torch.linalg.inv(network.weights[f"{name}->{name}"].detach()) for name in ("hidden", "output")}
        with torch.no_grad():
            free = unroll(network, batch(20).inputs)
        learner.learn(batch(20))
        rates = {name: learner.state.tensors[f"rates {name}->{name}"] for name in before}  # type: ignore[attr-defined]
        assert not torch.allclose(rates["output"], free.activity["output"].value, atol=1e-3)
        learner.after_step()
        for name, inverse in before.items():
            b, r = network.weights[f"{name}->{name}"].detach(), rates[name]
            expected = torch.linalg.inv(lam * inverse + (1 - lam) * r.t() @ r / len(r))
            torch.testing.assert_close(b, expected, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(b, b.t(), rtol=1e-10, atol=1e-10)
            assert torch.linalg.eigvalsh(b).min() > 0 and network.weights[f"{name}->{name}"].grad is None
    assert not [key for key in learner.state.tensors if key.startswith("rates")]  # type: ignore[attr-defined]


def test_both_phases_come_to_rest() -> None:
    """C4: four times the steps change nothing any more, of the free phase and of the nudged one.

    Must fail when either phase is stopped after 20 steps (tried here), or the nudge grows with the steps (tried).
    """
    exact = learned(settling(), batch(1600), nudged=1600)
    assert min(gradient.abs().max() for gradient in exact.values()) > 1e-4
    for free, nudged, rests in ((400, 400, True), (20, 400, False), (400, 20, False)):
        found = learned(settling(), batch(free), nudged=nudged)
        close = [torch.allclose(found[name], gradient, rtol=1e-7, atol=1e-9) for name, gradient in exact.items()]
        assert all(close) if rests else not any(close)


def test_signs_that_alternate_cancel_the_square_of_the_nudge() -> None:
    """C5: the mean of both signs is off by O(beta^2), one sign alone by O(beta).

    Must fail when the gradient is divided by |beta|, which makes the mean of both signs vanish (tried).
    """
    x = batch(400)

    def both(beta: float) -> tuple[Tensor, Tensor]:
        plus, minus = settling(), settling()
        one = learned(plus, x, beta=beta, nudged=400)["weights.hidden->output"]
        rule = RULES["corinfomax_ep"](beta=beta, nudged=400, memory=1.0)
        for seed in range(20):  # until one draws the other sign
            minus.zero_grad()
            Learner(minus, rule, LOSSES["squared_error"](), torch.Generator().manual_seed(seed)).learn(x)
            other = minus.weights["hidden->output"].grad
            assert other is not None
            if not torch.equal(other, one):
                return one, other
        raise AssertionError("twenty seeds draw the same sign")

    (fine, fine_other), (coarse, coarse_other) = both(1e-3), both(0.02)
    exact = (fine + fine_other) / 2
    alone, mean = (coarse - exact).norm(), ((coarse + coarse_other) / 2 - exact).norm()
    assert mean < 0.1 * alone and alone > 1e-6 and exact.norm() > 1e-3


def test_descent_brings_the_output_to_its_target() -> None:
    """40 steps of plain SGD on four examples. Must fail when the two phases are exchanged (tried)."""
    network = settling()
    rule = RULES["corinfomax_ep"]()
    learner = Learner(network, rule, LOSSES["squared_error"](), torch.Generator().manual_seed(3))
    optimizer = torch.optim.SGD(network.parameters(), 5.0)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        losses.append(learner.learn(batch(20)).loss.item())
        optimizer.step()
        learner.after_step()
    assert losses[-1] < 0.75 * losses[0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"population.hidden.neuron": "relu"}, "needs neurons 'corinfomax'.*digits-corinfomax-ep"),
        ({"loss": "cross_entropy"}, "rule 'corinfomax_ep' is that of loss 'squared_error'"),
        ({"rule.beta": 0}, "beta"),
        ({"rule.nudged": 0}, "nudged"),
        ({"rule.memory": 1.5}, "memory"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        definition = neurosbd.load_model("digits-corinfomax-ep", "corinfomax_ep", changed)
        built = definition.build()
        Learner(built.network, built.rule, built.loss, torch.Generator())


def test_an_error_needs_a_way_down() -> None:
    populations = [Population("input", (6,), None), Population("hidden", (7,), CELL)]
    populations.append(Population("output", (3,), CELL, role="readout"))
    connections = [Connection("input", "hidden", Dense()), Connection("hidden", "output", Dense())]
    network = Network(populations, connections, torch.Generator())
    with pytest.raises(ValueError, match="no connection ends on its apical compartment"):
        Learner(network, RULES["corinfomax_ep"](), LOSSES["squared_error"](), torch.Generator())
