"""What is unhealthy is said, with what to try; what is healthy is left in peace."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neurosbd
from neurosbd.connections import Dense
from neurosbd.errors import UsageError, UsageWarning
from neurosbd.learning.simulation import unroll
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neurons import NEURONS
from neurosbd.training.health import Guess, HealthCheck, remedy, unexplained


def build(neuron: str, readout: str, weight: float, **constants: Any) -> Network:
    """2 - 4 - 3 units, every weight the same."""
    populations = [
        Population("input", (2,), None), Population("hidden", (4,), NEURONS[neuron](**constants)),
        Population("output", (3,), NEURONS[readout]()),
    ]  # fmt: skip
    connections = [Connection("input", "hidden", Dense()), Connection("hidden", "output", Dense())]
    network = Network(populations, connections, torch.Generator().manual_seed(0))
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, weight)
    return network


X = torch.rand(20, 5, 2, generator=torch.Generator().manual_seed(0))


def test_the_table_counts_every_population() -> None:
    """Must fail when the readout is left out (tried), as it was."""
    found = neurosbd.health(build("relu", "identity", 0.5), X[0])
    assert [layer.name for layer in found.layers] == ["input", "hidden", "output"] and not found.complaints
    assert found.layers[1].magnitude == pytest.approx(0.5 * X[0].sum(1).mean().item(), rel=1e-6)
    lines = repr(found).splitlines()
    assert lines[0].split() == ["population", "units", "silent", "saturated", "mean", "|activity|"]
    assert lines[2].split()[:4] == ["hidden", "4", "0%", "-"] and lines[-1] == "all populations are well"


@pytest.mark.parametrize(
    ("network", "x", "where", "message"),
    [
        (build("lif", "lif", 0.0), X, "hidden", r"population 'hidden': 100% of its units never spike.*v_threshold"),
        (build("lif", "lif", 0.0), X, "output", r"readout 'output': 100% of its units never spike.*v_threshold"),
        (build("relu", "identity", -1.0), X[:1], "hidden", r"population 'hidden': 100% of its units are 0.*leaky_relu"),
        (build("relu", "identity", -1.0), X[:1], "output", "readout 'output': 100% of its units are 0.*same of all"),
        (
            build("lif", "li", 90.0),
            X,
            "hidden",
            "'hidden': 100% of its units spike at every step of every test example",
        ),
        (build("relu", "identity", 1e3), X[:1], "output", "readout 'output': mean .activity. is .*weight decay"),
        (build("relu", "identity", math.nan), X[:1], "output", "mean .activity. is nan"),
        (build("relu", "identity", 0.5), 0 * X[:1], "input", "'input': all of it is 0.*encoder"),
    ],
)
def test_each_illness_has_a_sentence(network: Network, x: torch.Tensor, where: str, message: str) -> None:
    """Advice for spiking layers is for spiking layers. Must fail when a readout is not looked at (tried)."""
    complaint = neurosbd.health(network, x).complaints[where]
    assert re.search(message, complaint), complaint
    spikes = where != "input" and "spike" in complaint
    assert spikes is not any(word in complaint for word in ("leaky_relu", "same of all", "decay", "encoder (its"))


def test_healthy_spikes_and_a_single_step_are_no_illness() -> None:
    """A spike in the only step is no saturation; a unit that rests once is none either."""
    loud = build("lif", "li", 90.0)
    torch.nn.init.constant_(loud.weights["hidden->output"], 0.1)
    assert "hidden" not in neurosbd.health(loud, X[:1]).complaints
    once = X.clone()
    once[7] = 0.0
    with torch.no_grad():
        loud.weights["input->hidden"].fill_(1.3)
    assert not neurosbd.health(loud, once).complaints


def test_one_live_position_keeps_a_channel_alive_and_one_that_rests_keeps_it_unsaturated() -> None:
    network = neurosbd.load_model("digits-snn").network()
    trial_recorder = HealthCheck(network)
    unroll(network, torch.rand(3, 4, 1, 8, 8), (trial_recorder,))
    assert [layer.name for layer in trial_recorder.read()] == ["input", "hidden1", "hidden2", "output"]
    assert [layer.spiking for layer in trial_recorder.read()] == [False, True, True, False]


def test_health_leaves_the_network_as_it_was_and_checks_its_inputs() -> None:
    network = neurosbd.load_model("digits-mlp", recipe="standard").network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    neurosbd.health(network, torch.rand(4, 1, 8, 8))
    assert network.training and all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with pytest.raises(UsageError, match=r"inputs are \[4, 63\], but must be"):
        neurosbd.health(network, torch.rand(4, 63))
    with pytest.raises(UsageError, match=r"x is \[0, 1, 8, 8\], which has no examples"):
        neurosbd.health(network, torch.rand(0, 1, 8, 8))
    with pytest.raises(UsageError, match="got ndarray"):
        neurosbd.health(network, np.zeros((4, 1, 8, 8)))  # type: ignore[arg-type]


# What has been learned ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accuracy", "last", "message"),
    [
        (0.30, True, "test accuracy 30.00% is below chance"),  # 6 of 20: guesses are as bad in 5.8 % of all cases
        (0.30, False, None),
        (0.00, False, "test accuracy 0.00% is below chance"),
        (0.50, True, r"cannot be told from chance \(50.00% for 2 classes, 20 examples\)"),
        (0.50, False, None),
        (0.75, True, None),
    ],
)
def test_chance_is_what_guesses_reach(accuracy: float, last: bool, message: str | None) -> None:
    guess = Guess.of(LOSSES["cross_entropy"](), 2, 20)
    found = guess.complaint({"test_loss": 0.9, "test_accuracy": accuracy}, last)
    assert found is None if message is None else re.search(message, found or ""), found


@pytest.mark.parametrize("loss", ["cross_entropy", "brier", "squared_error", "bernoulli"])
def test_a_loss_of_exactly_nothing_learned_is_said(loss: str) -> None:
    """ln C under cross-entropy; must fail for a loss next to it (checked)."""
    made = LOSSES[loss]()
    guess = Guess.of(made, 10, 355)
    if loss == "cross_entropy":
        assert guess.loss == pytest.approx(math.log(10), abs=1e-6)
    labels = torch.randint(10, (355,))
    reached = made.per_example(torch.zeros(355, 10), labels).double().mean().item()
    found = guess.complaint({"test_loss": reached, "test_accuracy": 0.2}, False)
    assert found is not None and "exactly that of an output that says the same of all 10 classes" in found
    assert guess.complaint({"test_loss": reached * 1.001, "test_accuracy": 0.2}, False) is None


def test_worse_than_a_constant_is_said() -> None:
    assert unexplained({"test_r_squared": 0.1}) is None and unexplained({"test_coverage": 0.0}) is None
    assert "test R² -0.100 is below 0" in str(unexplained({"test_r_squared": -0.1}))
    assert "explained deviance" in str(unexplained({"test_explained_deviance": -0.1}))
    assert "rule.neuromodulator.forgetting" in remedy("sbd", False) and "rule.neuromodulator.forgetting" not in remedy(
        "dfa", False
    )
    assert "recipe" not in remedy("sbd", True) and "bptt" in remedy("sbd", True)


def halves(path: Path, seed: int = 0) -> Path:
    """100 pictures that are bright on the left or on the right: one direction tells the classes apart."""
    rng, labels = np.random.default_rng(seed), np.arange(100) % 2
    bright = np.where(np.arange(16)[None, :] < 8, labels[:, None] == 0, labels[:, None] == 1)[:, None, :]
    x = 255 * (0.2 + 0.5 * bright + 0.05 * rng.standard_normal((100, 16, 16))).clip(0, 1)
    split = {"train": slice(0, 80), "test": slice(80, 100)}
    arrays: dict[str, Any] = {f"{name}_values": x[part].astype(np.uint8) for name, part in split.items()}
    arrays |= {f"{name}_labels": labels[part] for name, part in split.items()}
    np.savez(path / "halves.npz", **arrays)
    (path / "halves.toml").write_text("""
about = "32 hidden units"
source = "none"
[training]
epochs = 20
batch_size = 32
rates = { output = 10.0 }
[population]
input = { size = [1, 16, 16] }
hidden = { size = [32], neuron = "relu" }
output = { size = [2], neuron = "identity" }
[[connection]]
pre = "input"
post = "hidden"
kind = "dense"
bias = true
[[connection]]
pre = "hidden"
post = "output"
kind = "dense"
bias = true
weight = { kind = "kaiming_normal", gain = 0.1 }
""")
    return path / "halves.toml"


@pytest.mark.parametrize(
    ("rule", "settings", "learns"),
    [("bp", {}, True), ("dfa", {}, True), ("sbd", {}, False), ("sbd", {"rule.neuromodulator.forgetting": 0.99}, True)],
)
def test_the_reverse_of_a_problem_of_one_dimension_is_said(
    rule: str, settings: dict[str, Any], learns: bool, tmp_path: Path
) -> None:
    """There the correlation that sbd follows turns faster than its mean, and the hidden layer with it: 0 to 50 % where
    backprop has 100. What the warning says to try, helps."""
    model = halves(tmp_path)
    options: Any = {"data": str(tmp_path / "halves.npz"), "rule": rule, "settings": settings, "out": tmp_path / "run"}
    if learns:
        run = neurosbd.fit(model, **options)
        assert run.result["final"]["test_accuracy"] == 1 and not run.result["warnings"]
        return
    with pytest.warns(
        UsageWarning, match=r"below chance \(50.00% for 2 classes\).*try rule.neuromodulator.forgetting = 0.99"
    ):
        run = neurosbd.fit(model, **options)
    assert run.result["final"]["test_accuracy"] < 0.6 and "below chance" in run.result["warnings"][0]


def test_a_readout_that_never_speaks_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Loss ln 10, accuracy 10 %: in the run's result, in the metrics, and on the console. It had no warning."""
    settings = {
        "training.epochs": 1,
        "data.subset": 10,
        "population.output.neuron": {"kind": "lif", "v_threshold": 1e6},
    }
    with pytest.warns(UsageWarning, match="readout 'output': 100% of its units never spike"):
        run = neurosbd.fit("digits-snn", settings=settings, out=tmp_path / "run")
    assert run.result["final"]["test_loss"] == pytest.approx(math.log(10), abs=1e-6)
    assert list(run.metrics[0]["warnings"]) == ["output"]


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("digits-mlp", {}), ("digits-mlp", {"recipe": "standard"}), ("digits-snn", {}),
        ("diabetes-mlp", {"settings": {"training.epochs": 15}}),
    ],
)  # fmt: skip
def test_models_that_learn_are_left_in_peace(model: str, options: dict[str, Any], tmp_path: Path) -> None:
    settings = {"training.epochs": 3, **options.get("settings", {})}
    run = neurosbd.fit(model, **{**options, "settings": settings}, out=tmp_path / "run")
    assert run.result["warnings"] == []


def test_what_does_not_learn_is_not_told_to_learn_more_slowly(tmp_path: Path) -> None:
    """A population whose synapses are not plastic is told of its weights. Must fail when it is not asked whether they
    are (tried)."""
    settings: dict[str, Any] = {"training.epochs": 1, "data.subset": 8, "data.test_subset": 4}
    settings["population.hidden1.neuron"] = {"kind": "lif", "v_threshold": 1e6}
    for plastic in (True, False):
        with pytest.warns(UsageWarning, match="population 'hidden1': 100% of its units never spike"):
            run = neurosbd.fit(
                "digits-snn", settings={**settings, "connection.0.plastic": plastic}, out=tmp_path / str(plastic)
            )
        complaint = run.metrics[0]["warnings"]["hidden1"]
        assert ("learning rate" in complaint) == plastic and "larger initial weights onto it" in complaint
