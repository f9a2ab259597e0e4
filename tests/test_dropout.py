"""Dropout: drawn once per run as keyed noise, felt by every rule, off where nothing is learned."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.connections import Dense
from neurosbd.errors import UsageError, UsageWarning
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.simulation import unroll
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neuromodulators import NEUROMODULATORS
from neurosbd.neurons import NEURONS
from neurosbd.rules import RULES
from neurosbd.runs.loggers import NullLogger
from tests.contracts.tables import seeded

LABELS = torch.tensor([0, 2, 1, 1])


def thinned(neuron: str = "tanh", share: float = 0.4, hidden: int = 12, readout: str = "identity") -> Network:
    """5 - 12 - 3 units, in float64."""
    populations = [
        Population("input", (5,), None), Population("hidden", (hidden,), NEURONS[neuron](), dropout=share),
        Population("output", (3,), NEURONS[readout]()),
    ]  # fmt: skip
    connections = [Connection("input", "hidden", Dense(bias=True)), Connection("hidden", "output", Dense(bias=True))]
    return Network(populations, connections, seeded()).double()


def gradients(network: Network, rule: Any, x: Tensor, seed: int = 3) -> dict[str, Tensor]:
    network.zero_grad()
    noise = torch.Generator().manual_seed(seed)
    Learner(network, rule, LOSSES["cross_entropy"](), seeded()).learn(Batch(x, LABELS), noise=noise)
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def test_a_share_of_units_is_silent_and_the_others_are_louder() -> None:
    """40 % of 4,000 draws are 0, the others 1 / 0.6, at every step of a run alike. Must fail when it is drawn anew at
    every step (tried)."""
    network, x = thinned(hidden=1000), torch.randn(3, 4, 5, dtype=torch.float64)
    plain = thinned(hidden=1000, share=0.0)
    seen: list[Tensor] = []
    whole = [plain.step(plain.init(row), row).activity["hidden"].value for row in x]
    unroll(network, x, [lambda t, frame: seen.append(frame.activity["hidden"].value)], generator=seeded())
    for shown, full in zip(seen, whole, strict=True):
        share = shown / full
        assert ((share.abs() < 1e-12) | ((share - 1 / 0.6).abs() < 1e-9)).all()
        assert torch.equal(share == 0, seen[0] == 0)
    assert abs((seen[0] == 0).double().mean().item() - 0.4) < 0.03


def test_the_same_generator_silences_the_same_units_and_populations_differ() -> None:
    """Keyed noise. Must fail when the key does not come from the generator of the run (tried)."""
    network, x = thinned(), torch.randn(1, 4, 5, dtype=torch.float64)
    one, two, other = (
        unroll(network, x, generator=torch.Generator().manual_seed(seed)).state.sent["hidden"] for seed in (1, 1, 2)
    )
    assert torch.equal(one, two) and not torch.equal(one, other)
    populations = [*network.populations.values()]
    populations.insert(2, Population("more", (12,), NEURONS["tanh"](), dropout=0.4))
    ways = [("input", "hidden"), ("hidden", "more"), ("more", "output")]
    twice = Network(populations, [Connection(*way, Dense()) for way in ways], seeded()).double()
    sent = unroll(twice, x, generator=seeded()).state.sent
    assert not torch.equal(sent["hidden"], sent["more"])


def test_all_units_send_where_nothing_is_learned() -> None:
    """Bitwise the network without dropout, and no generator is asked for. Must fail when `eval` keeps it (tried)."""
    network, plain = thinned(), thinned(share=0.0)
    x = torch.randn(4, 5, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"'hidden' has dropout.*torch\.Generator, or call network\.eval\(\)"):
        network(x)
    assert torch.equal(network.eval()(x), plain(x))


def test_backprop_and_the_broadcast_of_the_true_derivative_agree() -> None:
    """Oracle: autograd through the masked network, by hand, and DFA with the readout's weights. 1e-12.

    Must fail when the gate leaves the silent units out of account (tried).
    """
    network, x = thinned(), torch.randn(1, 4, 5, dtype=torch.float64)
    sent = unroll(network, x, generator=torch.Generator().manual_seed(3)).state.sent["hidden"]
    found = gradients(network, RULES["bp"](), x)
    w1, w2, b1, b2 = network.parameters()
    output = (torch.tanh(x[0] @ w1.t() + b1) * sent) @ w2.t() + b2
    exact = torch.autograd.grad(torch.nn.functional.cross_entropy(output, LABELS), [w1, w2, b1, b2])
    torch.testing.assert_close(list(found.values()), list(exact), rtol=1e-12, atol=1e-14)
    broadcast = RULES["dfa"](neuromodulator=NEUROMODULATORS["transposed"]())
    torch.testing.assert_close(gradients(network, broadcast, x), found, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("neuron", ["lif", "alif"])
def test_spiking_units_are_silent_for_a_whole_run(neuron: str) -> None:
    """e-prop with the readout's weights = backprop through time, with the same units silent. Must fail when traces or
    gates of silent units count (tried)."""
    network = thinned(neuron, readout="li")
    x = 3 * (torch.rand(20, 4, 5) < 0.5).double()
    exact = gradients(network, RULES["bptt"](), x)
    symmetric = RULES["eprop"](neuromodulator=NEUROMODULATORS["transposed"]())
    torch.testing.assert_close(gradients(network, symmetric, x), exact, rtol=1e-9, atol=1e-12)
    assert exact["weights.input->hidden"].any()


@pytest.mark.parametrize("rule", ["sbd", "dfa", "sbp", "fa", "mono_forward"])
def test_units_that_are_silent_for_all_examples_learn_nothing(rule: str) -> None:
    """Of a batch of one example. Must fail when the gate is that of the neuron alone (tried)."""
    network, x = thinned(), torch.randn(1, 1, 5, dtype=torch.float64)
    learner = Learner(network, RULES[rule](), LOSSES["cross_entropy"](), seeded())
    learner.learn(Batch(x, torch.tensor([1])), noise=seeded())
    silent = unroll(network, x, generator=seeded()).state.sent["hidden"][0] == 0
    gradient = network.weights["input->hidden"].grad
    assert gradient is not None and silent.any()
    assert not gradient[silent].any() and gradient[~silent].any(1).all()


def test_both_showings_of_a_batch_meet_the_same_silent_units() -> None:
    """P6: without feedback PEPITA's hidden layers learn nothing.

    Must fail when the noise goes on between the showings (tried).
    """
    network, x = thinned(), torch.randn(1, 4, 5, dtype=torch.float64)
    still = gradients(network, RULES["pepita"](scale=0.0), x)
    assert not still["weights.input->hidden"].any()


def test_a_model_file_says_it_and_a_run_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    """`dropout = 0.3` on a population: recorded as it is sent, and the test is without. Must fail when the noise of an
    epoch begins anew after a stop."""

    class Stops(NullLogger):
        def on_batch(self, event: Any) -> None:
            if event["epoch"] == 1 and event["batch"] == 1:
                signal.raise_signal(signal.SIGINT)

    hidden = {"population.hidden1.dropout": 0.3, "population.hidden1.neuron": "softplus"}
    settings = {**hidden, "training.epochs": 2, "data.subset": 10}
    how: dict[str, Any] = {"rule": "sbd", "settings": settings, "record": ["hidden1.rate", "hidden1.rate[on=test]"]}
    run = neurosbd.fit("digits-mlp", **how, out=tmp_path / "run")
    shown = (torch.from_numpy(run.trace[name][:]) for name in ("hidden1.rate", "hidden1.rate@test"))
    rates, test = (rate[~rate.isnan()] for rate in shown)  # the last batch has fewer examples
    assert abs((rates == 0).double().mean().item() - 0.3) < 0.02 and (test > 0).all()
    part = neurosbd.fit("digits-mlp", **how, out=tmp_path / "part", loggers=[Stops()])
    assert part.result["status"] == "interrupted"
    rest = neurosbd.fit("digits-mlp", **how, out=tmp_path / "part", resume=True)
    for one, two in zip(run.network().parameters(), rest.network().parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"population.hidden1.dropout": 1.0}, r"population\.hidden1\.dropout: must be at least 0 and below 1"),
        ({"population.output.dropout": 0.1}, r"'output': dropout.*an output of the network"),
        ({"population.input.dropout": 0.1}, r"'input': dropout.*the data"),
        ({"population.hidden1": {"size": [9], "neuron": "escape", "dropout": 0.1}}, r"Escape neurons.*noise enough"),
    ],
)
def test_what_cannot_be_silenced_is_refused(settings: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        neurosbd.fit("digits-mlp", settings=settings, out=tmp_path / "run")


def test_nir_says_that_it_holds_none() -> None:
    """Must fail when a graph is written without a word."""
    network = thinned("lif", readout="li")
    with pytest.warns(UsageWarning, match=r"NIR holds no dropout.*\(hidden send all\)"):
        neurosbd.to_nir(network, resets="loop")
