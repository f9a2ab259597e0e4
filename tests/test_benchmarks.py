"""The scripts of benchmarks/ that no figure here is taken from yet run, and their arithmetic is right."""

import argparse
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import neurosbd
from tests.synthetic import loaded

CPU = torch.device("cpu")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A script by its name, which may import its neighbours."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))

    def find(name: str) -> ModuleType:
        return loaded(f"benchmarks/{name}.py")

    return find


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_slopes_are_those_of_a_power_law(script: Any, power: float) -> None:
    """Must fail when sizes or values are not taken as logarithms (tried)."""
    sizes = [16, 64, 256, 1024]
    assert script("scaling").slope(sizes, [3 * n**power for n in sizes]) == pytest.approx(power)
    assert script("scaling").slope(sizes[:1], [1.0]) is None


@pytest.mark.parametrize("neuron", ["lif", "alif"])
@pytest.mark.parametrize(("rule", "eligibility"), [("sbd", "factorised"), ("sbd", "exact"), ("bptt", "factorised")])
def test_a_point_of_every_kind_is_measured(script: Any, rule: str, eligibility: str, neuron: str) -> None:
    found = script("scaling").work(script("scaling").Net((8, 6, 6), 2, 20, rule, eligibility, neuron), 2, 1)
    assert len(found["seconds"]) == len(found["busy"]) == 2 and found["net_mb"] >= 0


def test_what_does_not_fit_is_left_out_and_named(script: Any) -> None:
    """Must fail when the weights alone are counted (tried): exact is a value per example and synapse."""
    scaling = script("scaling")
    assert scaling.Net((2048, 2048), 8, 4, eligibility="exact").bytes() > 8 * 2048**2 * 4
    (sweep,) = (s for s in scaling.SWEEPS if s.variant == "sbd, exact" and s.name == "synapses")
    rows, large = scaling.measured([sweep], argparse.Namespace(rounds=1), room=1)
    assert not rows and large[-1] == "synapses 2,048 (sbd, exact)"


def test_many_networks_and_several_processes_are_measured(script: Any) -> None:
    """One network, two side by side, and one rank of larger layers; gains are by the first of a model and row."""
    at_once = script("at_once")
    found = [at_once.work(at_once.Point("digits-mlp", seeds), 2) for seeds in (0, 2)]
    assert [each["examples"] for each in found] == [32, 64] and all(len(each["seconds"]) == 2 for each in found)
    wide = at_once.Point("digits-mlp", 0, 2, 1, {"training.batch_size": 64}, "ranks")
    assert (wide.row, wide.name, at_once.work(wide, 1)["examples"]) == ("ranks", "2 ranks x 1 thread", 64)
    pictures = at_once.work(at_once.Point("cifar10-small", settings={"training.batch_size": 8}), 1)
    assert pictures["examples"] == 8 and len(pictures["busy"]) == 1
    at_once.POINTS = (at_once.Point("digits-mlp"), at_once.Point("digits-mlp", 2))
    at_once.run = lambda point, repeats: {
        "seconds": [0.5], "busy": [0.4], "sums": [0.1], "bytes": 0, "examples": 32 * max(point.seeds, 1)
    }  # fmt: skip
    lines = at_once.measured(["seeds"], argparse.Namespace(rounds=2, repeats=1))
    assert [line["gain"] for line in lines] == [1.0, 2.0] and lines[0]["samples_per_second"] == 64


def test_on_a_gpu_everything_would_run(script: Any) -> None:
    """Its parts on the CPU, small; compiled steps of others are left to the script itself."""
    gpu = script("gpu")
    sizes = gpu.Sizes(64, 32, (("digits-mlp", 8), ("digits-snn", 8)), 12, 5, 2)
    rows = gpu.batches(sizes, CPU, 1)
    assert [(row["model"], row["rule"]) for row in rows] == [(m, r) for m, _ in sizes.batches for r in ("sbd", "bp")]
    assert all(row["operators"] > 50 and row["host_waits"] is None and row["ms"] > 0 for row in rows)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")  # by Norse
def test_the_wide_layer_runs_everywhere(script: Any) -> None:
    """The loss is half the mean number of spikes of a step, for both rules here the same."""
    gpu, x = script("gpu"), torch.ones(6, 2, 5)
    losses = {name: float(make(x)()) for name, make in gpu.LAYERS.items() if "compiled" not in name}
    assert losses["neurosbd sbd"] == losses["neurosbd bptt"] and len(losses) == 4
    assert all(0 <= loss <= 5 / 2 for loss in losses.values())


def test_without_a_gpu_it_says_what_it_would_measure(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = script("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit) as stop:
        gpu.main()
    told = capsys.readouterr().err
    assert stop.value.code == 2 and all(f"{part}: " in told for part in gpu.PARTS)


def test_the_peak_of_a_step_is_the_highest_sum_of_what_is_held(script: Any) -> None:
    """And a layer at a time takes less than half of backprop, however deep. Must fail when what is given back is left
    out (tried), or a layer holds on to the one before."""
    memory = script("layer_memory")
    assert memory.highest([5, 3, -5, 4, -7]) == 8
    deep, deeper = (memory.peak("mlp", "mono_forward", layers, 64, 2000) for layers in (8, 16))
    assert deeper == pytest.approx(deep, rel=0.02) and deeper < memory.peak("mlp", "bp", 16, 64, 2000) / 2


def test_rules_are_measured_beside_backprop(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A step of each on a small model; rules that a network is none for are left out and named."""
    rules = script("rules")
    options = argparse.Namespace(repeats=2, batch_size=4, seeds=1, set=["training.batch_size=4"])
    rows = rules.costs("digits-mlp", ["kolen_pollack", "sbp", "bp"], options)
    assert [row.rule for row in rows] == ["kolen_pollack", "sbp", "bp"] and rows[-1].ratio == 1
    assert rows[0].resident_mb > rows[-1].resident_mb > 0  # the weights of the way back, and what Adam keeps of them
    assert [row.rule for row in rules.costs("digits-snn", ["fa", "bp"], options)] == ["bp"]
    assert "digits-snn, fa: left out, connection 'input->hidden1'" in capsys.readouterr().err
    assert not set(rules.ALL) & {"rstdp", "stdp", "bptt", "local"} and {"dkp", "fa", "bp"} <= set(rules.ALL)


def test_equal_time_is_as_many_epochs_as_the_ratio_of_steps_allows(script: Any) -> None:
    """Half the step, twice the epochs; at least one. Must fail when the ratio multiplies."""
    rules = script("rules")
    assert [rules.as_long(ratio, 10) for ratio in (0.5, 30.0, 1.0)] == [20, 1, 10]


def test_measurements_of_rules_go_on_in_their_file(script: Any, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """What is there is not run again, whatever is asked for; seeds come one after another, and a file of other
    settings is refused, and nothing is kept of a training that is stopped. Must fail when a run is looked up by its
    rule alone, or when a stopped one is kept (tried, both)."""
    rules, ran, status = script("rules"), [], "finished"

    def fit(model: Any, rule: str, seed: int, settings: Any, **other: Any) -> Any:
        ran.append((Path(model).stem, rule, settings["training.epochs"], seed))
        if rule == "dfa" and seed == 1:
            raise neurosbd.RunError("it went to infinity")
        return argparse.Namespace(metrics=[{"test_accuracy": 0.5 + 0.1 * seed}], result={"status": status})

    monkeypatch.setattr(rules.neurosbd, "fit", fit)
    kept = rules.Measured(tmp_path / "kept.json", [])
    kept.costs = [
        rules.Cost(rules.TRAINED, rule, 1.0, ratio, (1, 1), 1, 1) for rule, ratio in (("bp", 1.0), ("dfa", 0.5))
    ]
    options = argparse.Namespace(only=["epochs", "time", "depth"], rules=["dfa"], seeds=[0], depths=[2])
    rules.measure(kept, options, 4)
    assert ran == [
        ("cifar10-small", "bp", 4, 0),
        ("cifar10-small", "dfa", 4, 0),
        ("cifar10-small", "dfa", 8, 0),
        ("layers-2", "bp", 4, 0),
        ("layers-2", "dfa", 4, 0),
    ]
    again = rules.Measured(tmp_path / "kept.json", [])
    again.read()
    ran.clear()
    options.only, options.seeds = ["epochs"], [0, 1]
    rules.measure(again, options, 4)
    assert ran == [("cifar10-small", "bp", 4, 1), ("cifar10-small", "dfa", 4, 1)]
    rules.show(again, 4)
    shown = capsys.readouterr().out
    assert "55.0 +- 7.1" in shown and "1 of 2 failed" in shown
    status, options.seeds = "interrupted", [2]
    with pytest.raises(SystemExit, match="nothing of it is kept"):
        rules.measure(again, options, 4)
    assert {each.seed for each in again.accuracies} == {0, 1}
    with pytest.raises(SystemExit, match="name another file"):
        rules.Measured(tmp_path / "kept.json", ["training.epochs=2"]).read()


def test_networks_of_every_depth_resolve(script: Any, tmp_path: Path) -> None:
    for layers in (2, 8):
        path = tmp_path / "deep.toml"
        path.write_text(script("rules").perceptron(layers))
        definition = neurosbd.load_model(path, "dkp", recipe="standard")
        assert len(definition.population) == layers + 2 and definition.network().readout == "output"


def test_a_plastic_network_is_measured_and_peers_that_are_not_there_are_left_out(script: Any) -> None:
    """Must fail when rates of one simulator alone are looked at (tried)."""
    networks = script("networks")
    net = networks.net_of(60, 0.2, 0.05)
    ran = networks.neurosbd_(net)
    assert ran.seconds > 0 and ran.rates.keys() == net.sizes.keys() and ran.weight == pytest.approx(1, abs=0.1)
    assert net.sizes == {"exc": 48, "inh": 12} and networks.net_of(20000).density == 0.02
    missing = networks.measured("brian2 numpy", net, [], 1.0)
    gone = networks.measured("nest", net, ["/nowhere/python"], 1.0)
    assert "--peers" in missing["problem"] and "No such file" in gone["problem"]
    assert "to 4,000" in networks.measured("bindsnet", networks.net_of(20000), [], 1.0)["problem"]
    one = {"seconds": 1.0, "cpu": None, "memory": 1.0, "weight": 1.0, "rates": {"exc": 10.0, "inh": 10.0}}
    two = one | {"rates": {"exc": 10.5, "inh": 14.0}}
    assert networks.differing({"a": one, "b": one, "c": missing}) == []
    assert networks.differing({"a": one, "b": two}) == ["inh"]
    assert "rates of 'inh' are not alike" in networks.table(net, {"a": one, "b": two, "c": missing})


def test_a_bottleneck_of_plasticity_holds_synapses_and_sees_alignment(script: Any) -> None:
    """A share of the synapses onto the second layer moves; a last hidden layer that is sent the score through
    the readout's weights is told its gradient, cosine 1. Must fail when the drive is taken for the activity (tried)."""
    bottleneck = script("bottleneck")
    sizes = {f"population.hidden{number}.size": [size] for number, size in ((1, 20), (2, 30), (3, 8))}
    settings = bottleneck.SETTINGS | sizes
    network = neurosbd.load_model("cifar10-mlp", rule="dfa", settings=settings).network().double()
    learner = neurosbd.learner(network, rule="dfa", loss="cross_entropy", seed=0)
    optimizer = torch.optim.SGD(network.parameters(), 1.0)
    bottleneck.hold(argparse.Namespace(network=network, optimizer=optimizer), 200, torch.Generator().manual_seed(0))
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    x, target = torch.randn(9, 3, 32, 32, dtype=torch.float64), torch.arange(9)
    learner.learn(neurosbd.Batch(x[None], target))
    optimizer.step()
    moved = {name: (weight != before[name]).double().mean().item() for name, weight in network.named_parameters()}
    assert 0.15 < moved["weights.hidden1->hidden2"] < 0.35 and moved["weights.hidden2->hidden3"] == 1
    assert 0 < moved["biases.hidden1->hidden2"] < 0.6 and moved["weights.input->hidden1"] == 1
    sent = learner.rule.projections(learner.state)["hidden3"]
    sent.copy_(network.weights["hidden3->output"].detach())
    cosines = bottleneck.alignment(learner, x, target)
    assert cosines[2] == pytest.approx(1, abs=1e-12) and abs(cosines[0]) < 0.9
