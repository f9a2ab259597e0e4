"""Rules: they fill .grad, change nothing else, and learn."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosbd.learning.learner import Batch, learner_of
from neurosbd.losses import LOSSES
from neurosbd.network import Network
from neurosbd.rules import RULES, LocalRule
from tests.conftest import cnn, lc, mlp
from tests.contracts.tables import every, seeded

# Rules that say they need a dense connection; that they say so is tested.
DENSE_ONLY = {"eprop"}
SPIKE_TIMED = {"stdp", "rstdp"}


def _learns_from_the_score(name: str) -> bool:
    rule = RULES[name]()
    return not isinstance(rule, LocalRule) or (rule.neuromodulator is not None and not rule.rewarded)


SCORED = [name for name in RULES if _learns_from_the_score(name)]
SMOOTH = [name for name in RULES if name != "rmax"]  # rules that need no neurons that draw their spikes


def _grown(rule: str, network: Network, target: Tensor, x: Tensor) -> dict[str, Tensor]:
    made_rule = RULES[rule]()
    loss = LOSSES[made_rule.loss or "cross_entropy"]()
    learner_of(made_rule, network, loss, torch.Generator().manual_seed(3)).learn(Batch(x[None], target))
    return {name: weight.grad.clone() for name, weight in network.weights.items() if weight.grad is not None}


def _lies_like(gradient: Tensor, parameter: Tensor) -> bool:
    """Same order in memory: torch's fused optimizers read a gradient without looking at its strides."""
    return all(
        g == p for g, p, size in zip(gradient.stride(), parameter.stride(), gradient.shape, strict=True) if size > 1
    )


@every(SMOOTH)
@pytest.mark.parametrize("make", [lambda: mlp([5, 7, 6, 3]), cnn, lc], ids=["mlp", "cnn", "lc"])
def test_rules_fill_grad_of_every_parameter_and_change_nothing_else(name: str, make: Any) -> None:
    network = make()
    if name in DENSE_ONLY and len(network.populations["input"].size) == 3:
        with pytest.raises(ValueError, match=r"input->.*dense"):
            learner_of(RULES[name](), network, LOSSES["cross_entropy"](), seeded())
        return
    before = copy.deepcopy(network.state_dict())
    size = network.populations["input"].size
    x, target = torch.randn(9, *size, dtype=torch.float64), torch.randint(0, 3, (9,))
    kept = x.clone()
    grads = _grown(name, network, target, x)
    assert set(grads) == set(network.weights)
    biased = network.parameters() if name not in SPIKE_TIMED else network.weights.values()  # stdp leaves biases alone
    assert all(p.grad is not None and p.grad.shape == p.shape for p in biased)
    assert all(p.grad is None or _lies_like(p.grad, p) for p in network.parameters())
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items()) and torch.equal(x, kept)
    again = make()
    repeat = _grown(name, again, target, x)
    assert all(torch.equal(grads[k], repeat[k]) for k in grads)


@every(SMOOTH)
def test_gradients_accumulate_and_absent_synapses_stay_absent(name: str) -> None:
    network = mlp([5, 8, 3], sparsity=0.5)
    x, target = torch.randn(4, 5, dtype=torch.float64), torch.randint(0, 3, (4,))
    once = _grown(name, network, target, x)
    for connection in network.connections.values():
        present = network.present(connection)
        assert present is not None and 0 < present.mean() < 1
        absent = present == 0
        assert not once[connection.name][absent].any() and not network.weights[connection.name][absent].any()
    twice = _grown(name, network, target, x)
    for key in once:
        torch.testing.assert_close(twice[key], 2 * once[key])


@every(SMOOTH)
def test_pre_silence_means_no_change(name: str) -> None:
    """Synapses from silent units keep their weight under every rule."""
    network = mlp([4, 6, 3])
    x = torch.randn(5, 4, dtype=torch.float64)
    x[:, 1] = 0
    grads = _grown(name, network, torch.randint(0, 3, (5,)), x)
    assert not grads["input->hidden1"][:, 1].any()
    assert grads["input->hidden1"][:, 0].any() or name in SPIKE_TIMED  # in one step no two spikes follow each other


@every(SCORED)
def test_every_rule_learns_a_small_task(name: str) -> None:
    """Two noisy clusters per class; training accuracy above 95 %, chance is 33 %.

    The readout learns ten times faster than the hidden layer, as in every model that ships: at equal
    rates a quickly forgetting projection can fail here where DFA does not.
    """
    torch.manual_seed(0)
    centres = 3 * torch.randn(6, 8, dtype=torch.float64)
    label = torch.randint(0, 6, (300,))
    x, target = centres[label] + 0.5 * torch.randn(300, 8, dtype=torch.float64), label % 3
    network = mlp([8, 32, 3])
    rule = RULES[name]()
    learner = learner_of(rule, network, LOSSES[rule.loss or "cross_entropy"](), torch.Generator().manual_seed(0))
    rate = {"input->hidden1": 1.0, "hidden1->output": 10.0}
    groups = [{"params": [p], "lr": 5e-3 * rate[n.split(".")[1]]} for n, p in network.named_parameters()]
    optimizer = torch.optim.Adam(groups)
    for _ in range(150):
        optimizer.zero_grad()
        learner.learn(Batch(x[None], target))
        optimizer.step()
        learner.after_step()
    with torch.no_grad():
        accuracy = (network(x).argmax(1) == target).double().mean().item()
    assert accuracy > 0.95
