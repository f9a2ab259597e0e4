"""Pooling between the synapses and the neuron: gain and membrane are those of the pooled units."""

import functools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import neurosbd
from neurosbd.connections import POOLINGS, Conv2d, Dense, Local2d
from neurosbd.connections.synapses import Synapses
from neurosbd.eligibility import Factorised
from neurosbd.eligibility.local import Arrival
from neurosbd.errors import UsageError
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Frame, Network, Population
from neurosbd.neurons import LIF, Identity, Tanh
from neurosbd.neurons.neuron import Neuron
from neurosbd.rules import RULES
from neurosbd.surrogates import FastSigmoid

KINDS: dict[str, Any] = {"conv2d": Conv2d, "local2d": Local2d}


def pooled(kind: str, pool: str, neuron: Neuron | None = None) -> Network:
    """2x9x9 input, two layers whose drives are pooled, a linear readout; in float64."""
    make, shape = KINDS[kind], POOLINGS[pool]()
    populations = [
        Population("input", (2, 9, 9), None),
        Population("first", (4, 4, 4), neuron or Tanh()),
        Population("second", (5, 2, 2), neuron or Tanh()),
        Population("output", (3,), Identity()),
    ]
    connections = [
        Connection("input", "first", make(2, bias=True, pool_drive=shape)),
        Connection("first", "second", make(3, padding=1, bias=True, pool_drive=shape)),
        Connection("second", "output", Dense(bias=True)),
    ]
    network = Network(populations, connections, torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        for bias in network.biases.values():
            bias.normal_(0, 0.1)
    return network


def learned(network: Network, rule: Any, x: Tensor, target: Tensor, observers: Any = ()) -> dict[str, Tensor]:
    learner = Learner(network, rule, LOSSES["cross_entropy"](), torch.Generator().manual_seed(0))
    network.zero_grad()
    learner.learn(Batch(x, target, (1 / len(x),) * len(x)), observers)
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("pool", list(POOLINGS))
def test_backprop_is_that_of_torch_modules_in_their_order(pool: str) -> None:
    """Oracle: torch's own layers, convolution, pooling, activation. Must fail when tanh comes first (tried)."""
    network = pooled("conv2d", pool)
    x, target = torch.randn(6, 2, 9, 9).double(), torch.randint(0, 3, (6,))
    grads = learned(network, RULES["bp"](), x[None], target)
    leaves = {name: p.detach().clone().requires_grad_() for name, p in network.named_parameters()}

    def layer(value: Tensor, name: str, padding: int) -> Tensor:
        value = functional.conv2d(value, leaves[f"weights.{name}"], leaves[f"biases.{name}"], padding=padding)
        value = functional.max_pool2d(value, 2) if pool == "max" else functional.avg_pool2d(value, 2)
        return torch.tanh(4 * value if pool == "sum" else value)

    hidden = layer(layer(x, "input->first", 0), "first->second", 1).flatten(1)
    output = functional.linear(hidden, leaves["weights.second->output"], leaves["biases.second->output"])
    functional.cross_entropy(output, target).backward()
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        torch.testing.assert_close(grads[name], leaf.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rule", ["dfa", "sbd"])
@pytest.mark.parametrize("pool", list(POOLINGS))
@pytest.mark.parametrize("kind", list(KINDS))
def test_local_rules_teach_gain_times_third_factor_through_the_pooling(kind: str, pool: str, rule: str) -> None:
    """Oracle: autograd of <third factor, value> within one layer, what arrives taken as it is.

    Must fail when the factor of a maximum goes to the last pixel of its patch (tried).
    """
    network = pooled(kind, pool)
    x, target = torch.randn(6, 2, 9, 9).double(), torch.randint(0, 3, (6,))
    third_factors: dict[str, Tensor] = {}

    class Recorder:
        def on_third_factor(self, population: str, third_factor: Tensor | None) -> None:
            assert third_factor is not None
            third_factors[population] = third_factor.clone()

        def looks_at(self, connection: str) -> bool:
            return False

        def on_eligibility(self, connection: str, eligibility: Any) -> None:
            pass

    learner = Learner(network, RULES[rule](), LOSSES["cross_entropy"](), torch.Generator().manual_seed(0))
    assert isinstance(learner, Learner)
    seen: list[Frame] = []

    def keep(t: int, frame: Frame) -> None:
        seen.append(frame._replace(activity=dict(frame.activity), carried=dict(frame.carried)))

    learner.learn(Batch(x[None], target), (keep,), learning_observer=Recorder())
    for name in ("input->first", "first->second"):
        connection = network.connections[name]
        leaves = [s.detach().requires_grad_() for s in network.synapses(connection) if s is not None]
        drive = connection.geometry.drive(Synapses(*leaves), seen[0].carried[name])
        (torch.tanh(drive) * third_factors[connection.post]).sum().backward()
        for leaf, own in zip(leaves, network.synapses(connection), strict=True):
            assert own is not None and own.grad is not None and leaf.grad is not None
            torch.testing.assert_close(own.grad, leaf.grad, rtol=1e-10, atol=1e-14)
            assert own.grad.any() and not own.grad.requires_grad


def _by_eligibility(geometry: Conv2d, synapses: Synapses, x: Tensor, signal: Tensor, neuron: LIF) -> Synapses:
    state, eligibility, total = neuron.init(torch.zeros_like(signal[0])), Factorised(), []
    traces = None
    for now, told in zip(x, signal, strict=True):
        arriving = geometry.carry(now)
        activity, state = neuron.step(state, geometry.drive(synapses, arriving), 1e-3)
        arrival = Arrival(
            arriving, neuron, state, activity, synapses,
            functools.partial(geometry.outer, synapses), functools.partial(geometry.each, synapses),
        )  # fmt: skip
        traces = eligibility.init(arrival, 1e-3) if traces is None else traces
        eligible, traces = eligibility.step(traces, arrival, 1e-3)
        total.append(eligible.contract(told))
    return Synapses(sum(s.weight for s in total), sum(s.bias for s in total if s.bias is not None))  # type: ignore[arg-type]


@pytest.mark.parametrize(("pool", "least"), [("average", 1 - 1e-12), ("sum", 1 - 1e-12), ("max", 0.7)])
def test_spiking_units_learn_through_a_pooled_drive_over_time(pool: str, least: float) -> None:
    """Oracle: autograd through 30 steps. Exact for means and sums; a maximum has other winners at every step.

    Must fail when an average does not divide the factor among its pixels (tried).
    """
    neuron, geometry = LIF(5e-3, surrogate=FastSigmoid(1.0)), Conv2d(3, bias=True, pool_drive=POOLINGS[pool]())
    start = geometry.start(geometry.weight_shape((2, 8, 8), (4, 3, 3)), (4, 3, 3), torch.Generator().manual_seed(0))
    leaves = [s.double().div(2).requires_grad_() for s in start if s is not None]
    x, signal = (torch.rand(30, 5, 2, 8, 8) < 0.3).double(), torch.randn(30, 5, 4, 3, 3).double()
    state, total, spikes = neuron.init(signal[0]), torch.zeros(()).double(), 0.0
    for now, told in zip(x, signal, strict=True):
        activity, state = neuron.step(state, geometry.drive(Synapses(*leaves), geometry.carry(now)), 1e-3)
        total, spikes = total + (activity.value * told).sum(), spikes + activity.value.mean().item() / 30
    exact = torch.autograd.grad(total, leaves)
    assert 0.01 < spikes < 0.6
    with torch.no_grad():
        found = _by_eligibility(geometry, Synapses(*(leaf.detach() for leaf in leaves)), x, signal, neuron)
    for got, want in zip(found, exact, strict=True):
        assert got is not None
        assert functional.cosine_similarity(got.flatten(), want.flatten(), dim=0).item() > least
        if pool != "max":
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)


MODEL = """about = "x"
source = "x"
loss = "cross_entropy"
rule = "sbd"
[data]
name = "digits"
[training]
epochs = 3
optimizer = { kind = "adam", lr = 1e-2 }
[population]
input = { size = [1, 8, 8] }
hidden = { size = [4, 3, 3], neuron = "relu" }
output = { size = [10], neuron = "identity" }
[[connection]]
pre = "input"
post = "hidden"
kind = "conv2d"
kernel = 3
pool_drive = "max"
[[connection]]
pre = "hidden"
post = "output"
kind = "dense"
"""


def test_a_model_file_says_it_and_a_run_learns_and_records(tmp_path: Path) -> None:
    """From TOML, recorded; and the drive in the trace is the pooled one."""
    model = tmp_path / "model.toml"
    model.write_text(MODEL)
    run = neurosbd.fit(model, out=tmp_path / "run", record=["hidden.drive[on=test]", "hidden.rate[on=test]"])
    assert run.metrics[-1]["test_accuracy"] > 0.5
    drive, rate = run.trace["hidden.drive"], run.trace["hidden.rate"]
    assert drive.shape[-1] == 36
    torch.testing.assert_close(torch.tensor(drive[:]).clamp_min(0), torch.tensor(rate[:]), equal_nan=True)
    again = neurosbd.open_run(tmp_path / "run").network()
    assert again.connections["input->hidden"].geometry == Conv2d(3, pool_drive=POOLINGS["max"]())


def test_sizes_that_do_not_fit_are_named_with_the_pooling(tmp_path: Path) -> None:
    model = tmp_path / "model.toml"
    model.write_text(MODEL.replace("[4, 3, 3]", "[4, 6, 6]"))
    with pytest.raises(UsageError, match=re.escape("write size = [4, 3, 3]")) as caught:
        neurosbd.fit(model, out=tmp_path / "run")
    assert "pool_drive" in str(caught.value)
    model.write_text(MODEL.replace('"max"', '"maximum"'))
    with pytest.raises(UsageError, match=r"pool_drive.*'maximum'.*max"):
        neurosbd.fit(model, out=tmp_path / "run")
