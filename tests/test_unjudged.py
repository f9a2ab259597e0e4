"""A run is judged if something that learns hears its loss, its target or a reward; one that is not has no accuracy."""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neurosbd
from neurosbd.config.definition import Experiment
from neurosbd.config.hearing import unjudged
from neurosbd.files import checkpoints
from neurosbd.files.library import find
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.rule import Rule
from neurosbd.losses import LOSSES
from neurosbd.network.network import Frame, Network
from neurosbd.plasticity import PLASTICITIES
from neurosbd.report.comparing import compare
from neurosbd.report.run_summary import how_it_went
from neurosbd.rules import RULES
from neurosbd.runs.batches import DatasetBatches, data_of
from neurosbd.runs.loggers import Console
from neurosbd.runs.many_seeds import summary
from neurosbd.runs.run import CHECKPOINT, CONFIG, METRICS
from neurosbd.seeds import generator
from neurosbd.testing.networks import mlp
from tests.contracts.tables import every, made, seeded
from tests.test_fit import StopAfter

FROZEN: dict[str, Any] = {"connection.2.plastic": False}  # the readout, which alone would hear the loss under STDP
FEW: dict[str, Any] = {"training.epochs": 2, "data.subset": 8, "data.test_subset": 4, "training.batch_size": 16}
WHY = (
    "'output' has no loss and no accuracy: nothing that learns hears the loss (under rule 'stdp' only 'output' could, "
    "which is not plastic)"
)
pytestmark = pytest.mark.filterwarnings("ignore:.*states by how much a weight changes")


# The decision ---------------------------------------------------------------------------------------


def networks(rule: Rule, own: object = None) -> Iterator[Network]:
    """Those that a rule takes, of all kinds of neurons and with all, the hidden or the last synapses plastic; the
    hidden ones may have a plasticity of their own."""
    neurons = ("tanh", "lif", "escape", "first_spike", "corinfomax", *(() if own else ("ct_relu",)))
    for neuron in neurons:
        if rule.estimates and neuron in ("lif", "escape", "first_spike"):
            continue  # noise as small as theirs changes no spike
        whole = mlp([5, 7, 3], neuron)
        for posts in (("hidden1", "output"), ("hidden1",), ("output",)):
            connections = [
                replace(c, plastic=c.post in posts, plasticity=own if "hidden1" == c.post in posts else None)
                for c in whole.connections.values()
            ]
            if not any(c.plastic for c in connections):
                continue
            network = Network(list(whole.populations.values()), connections, seeded()).double()
            try:
                Learner(network, rule, LOSSES[rule.loss or "cross_entropy"](), seeded())
            except ValueError:
                continue
            yield network


def hears(rule: Rule, network: Network) -> bool:
    """Whether any synapse moves otherwise when the labels are others."""
    found = []
    for shift in (0, 1):
        own = Network(list(network.populations.values()), list(network.connections.values()), seeded()).double()
        learner = Learner(own, rule, LOSSES[rule.loss or "cross_entropy"](), seeded())
        for number in range(3):
            draw = torch.Generator().manual_seed(number)
            x = (torch.rand(12, 16, 5, generator=draw) < 0.4).double()
            labels = (torch.randint(0, 3, (16,), generator=draw) + shift) % 3
            learner.learn(Batch(x, labels), noise=draw)
            learner.after_step()
        found.append([(weight.grad, weight.detach()) for weight in own.weights.values() if weight.requires_grad])
    pairs = [(a, b) for one, other in zip(*found, strict=True) for a, b in zip(one, other, strict=True)]
    return any(a is not None and not torch.equal(a, b) for a, b in pairs)


def experiment_of(rule: Rule, network: Network) -> Experiment:
    built = neurosbd.load_model("digits-mlp").build()
    parts = {"populations": tuple(network.populations.values()), "connections": tuple(network.connections.values())}
    return replace(built, rule=rule, **parts)


@every(RULES)
def test_a_run_is_judged_if_something_plastic_hears(name: str) -> None:
    """Of every rule, whatever of the network learns: the decision is what labels change. Must fail when the readout is
    judged wherever it is plastic, when rewards do not count, or when the rule alone is asked (tried, all)."""
    rules, seen = [made(RULES, name)], 0
    if "readout" in vars(rules[0]):
        rules.append(RULES[name](readout="rule"))
    for rule in rules:
        for network in networks(rule):
            plastic = [c.name for c in network.connections.values() if c.plastic]
            assert bool(unjudged(experiment_of(rule, network))) != hears(rule, network), (rule, plastic)
            seen += 1
    assert seen


@every(PLASTICITIES)
@pytest.mark.parametrize("of_all", ["sbd", "stdp", "rstdp"])
def test_a_plasticity_of_a_connection_may_hear_nothing(name: str, of_all: str) -> None:
    """Whatever the rule of the others is. Must fail when those of connections are taken for the rule's (tried)."""
    own = made(PLASTICITIES, name)
    for network in networks(RULES[of_all](), own):
        plastic = [c.name for c in network.connections.values() if c.plastic]
        judged = not unjudged(experiment_of(RULES[of_all](), network))
        assert judged == hears(RULES[of_all](), network), plastic


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"rule.readout": "rule"}, "nothing that learns hears the loss (rule 'stdp' hears no loss)"),
        ({"connection.2.plastic": False}, "(under rule 'stdp' only 'output' could, which is not plastic)"),
        ({"connection.2.plasticity": "oja"}, "(under rule 'stdp' only 'output' could, which follows a plasticity of"),
    ],
)
def test_the_reason_is_said(settings: dict[str, Any], why: str) -> None:
    found = unjudged(neurosbd.load_model("digits-snn", "stdp", settings).build())
    assert list(found) == ["output"] and why in found["output"]


def test_weights_from_a_file_and_tasks_are_judged(tmp_path: Path) -> None:
    """Somebody may have taught them; a task says itself what a success is. Must fail without either (tried)."""
    np.save(tmp_path / "w.npy", np.ones((10, 64), np.float32))
    settings = {"rule.readout": "rule", "connection.2.weight": {"kind": "file", "file": str(tmp_path / "w.npy")}}
    assert not unjudged(neurosbd.load_model("digits-snn", "stdp", settings).build())
    assert not unjudged(neurosbd.load_model("xor-delayed-reward", "stdp").build())


# What such a run leaves -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> neurosbd.Run:
    return fitted(tmp_path_factory.mktemp("alone") / "run")


def fitted(out: Path, settings: dict[str, Any] | None = None, **options: Any) -> neurosbd.Run:
    options = {"rule": "stdp", **options}
    return neurosbd.fit("digits-snn", settings=FROZEN | FEW | (settings or {}), out=out, **options)


def measured(lines: Sequence[Any]) -> set[str]:
    """Keys that say how good an output is."""
    return {key for line in lines for key in line if "loss" in key or "accuracy" in key}


def test_no_accuracy_is_kept_but_what_has_changed(alone: neurosbd.Run) -> None:
    """The change is that of the weights, counted anew in each epoch. Must fail when it is counted from the start
    (tried)."""
    assert alone.result["status"] == "finished" and alone.result["best"] is None and not alone.result["warnings"]
    assert not measured(alone.metrics) and not measured([alone.result["final"]])
    assert list(alone.unjudged) == ["output"] and WHY in repr(alone)
    assert escape(WHY) in alone._repr_html_()
    first = fitted(alone.path.with_name("first"), loggers=[StopAfter(5)])  # the batches of an epoch
    start, middle, end = alone.definition.network(), first.network(), alone.network()
    for name in ("input->hidden1", "hidden1->hidden2"):
        for line, (before, after) in zip(alone.metrics, ((start, middle), (middle, end)), strict=True):
            change = (after.weights[name] - before.weights[name]).abs().double().mean().item()
            assert line[f"{name}.weight_change"] == pytest.approx(change, rel=1e-9) and change > 0
    assert "hidden2->output.weight_change" not in alone.metrics[0]


def test_rates_are_spikes_per_second_of_the_test(alone: neurosbd.Run) -> None:
    """Counted anew from the last weights. Must fail when a step is taken for a second (tried)."""
    definition, spikes = alone.definition, []
    source = DatasetBatches(definition.build(), data_of(definition), torch.device("cpu"))

    def count(t: int, frame: Frame) -> None:
        spikes.append(frame.activity["hidden1"].value.mean().item())

    for number, batch in enumerate(source.tests()):
        neurosbd.unroll(alone.network(), batch.inputs, (count,), generator=generator(0, "noise", "test", number))
    assert alone.metrics[-1]["hidden1.rate"] == pytest.approx(np.mean(spikes) / definition.time.dt, rel=1e-5)
    assert "input.rate" not in alone.metrics[-1] and "input.activity" not in alone.metrics[-1]


def test_a_run_that_is_stopped_within_an_epoch_goes_on_with_it(alone: neurosbd.Run, tmp_path: Path) -> None:
    """The lines of the metrics are those of a run that was not. Must fail when the weights of the beginning of the
    epoch are not kept (tried)."""
    assert fitted(tmp_path / "run", loggers=[StopAfter(7)]).result["status"] == "interrupted"
    assert timeless(fitted(tmp_path / "run", resume=True).metrics) == timeless(alone.metrics)


def timeless(lines: Sequence[Any]) -> list[dict[str, Any]]:
    clocks = ("seconds", "samples_per_second", "peak_memory_bytes")
    return [{key: value for key, value in line.items() if key not in clocks} for line in lines]


def as_before(run: Path) -> None:
    """Make a run directory what an earlier version left: an accuracy, no reason, no weights of when an epoch began."""
    config = json.loads((run / CONFIG).read_text())
    (run / CONFIG).write_text(json.dumps({key: value for key, value in config.items() if key != "unjudged"}))
    lines = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    judged = {"train_loss": 2.0, "train_accuracy": 0.1, "test_loss": 2.0, "test_accuracy": 0.2}
    (run / METRICS).write_text("".join(json.dumps({"epoch": 0, **judged, **line}) + "\n" for line in lines))
    state = torch.load(run / CHECKPOINT, weights_only=True)
    checkpoints.save(run / CHECKPOINT, {key: value for key, value in state.items() if key != "epoch_began"})


def test_a_run_of_an_earlier_version_opens_and_goes_on(tmp_path: Path) -> None:
    """With its accuracy as long as it lies there, without when it goes on. Must fail when the lines are taken as they
    are (tried)."""
    fitted(tmp_path / "run", loggers=[StopAfter(7)])
    as_before(tmp_path / "run")
    old = neurosbd.open_run(tmp_path / "run")
    assert old.metrics[0]["test_accuracy"] == 0.2 and "accuracy 20.00%" in repr(old)
    with pytest.warns(neurosbd.UsageWarning, match="has no weights of when its epoch began"):
        rest = fitted(tmp_path / "run", resume=True)
    assert rest.result["status"] == "finished" and len(rest.metrics) == 2 and not measured(rest.metrics)


# Who says so ----------------------------------------------------------------------------------------


def test_the_console_says_why_and_what_has_changed(tmp_path: Path) -> None:
    stream = io.StringIO()
    fitted(tmp_path / "run", loggers=[Console(stream)])
    said = stream.getvalue()
    assert WHY in said and "input->hidden1 |dw| " in said and " Hz, hidden2 " in said and "accuracy " not in said[-200:]
    assert (
        f"; run kept in {tmp_path / 'run'}" in said
        and "finished in 0:00:0" in said
        and ": test" not in said.splitlines()[-1]
    )


def test_a_bar_without_a_loss_goes_on(tmp_path: Path) -> None:
    """On a terminal, at a batch where the loss would be read. Must fail when it is read all the same (tried)."""
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    fitted(
        tmp_path / "run",
        {"training.epochs": 1, "data.subset": 60, "training.batch_size": 10},
        loggers=[Console(stream)],
    )
    assert "epoch 1/1" in stream.getvalue() and "nothing more can be printed" not in stream.getvalue()


def test_seeds_are_summed_up_without_a_measure(tmp_path: Path) -> None:
    runs = neurosbd.fit_seeds("digits-snn", [0, 1], rule="stdp", settings=FROZEN | FEW, out=tmp_path / "seeds")
    assert summary(runs) == f"2 of 2 runs have finished; {WHY}"


def test_nothing_stops_by_what_is_not_judged(tmp_path: Path) -> None:
    settings = {"data.validation": 0.25, "training.stop": {"metric": "validation_loss"}}
    message = (
        r"training.stop waits for a better validation_loss, but nothing that learns hears.*leave training.stop out"
    )
    with pytest.raises(neurosbd.UsageError, match=message):
        fitted(tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()


def test_a_page_says_why_and_shows_what_has_changed(alone: neurosbd.Run, tmp_path: Path) -> None:
    report = neurosbd.analyse(alone.path, out=tmp_path / "page")
    page = report.path.read_text()
    assert WHY.replace("'", "&#39;") in page and "test accuracy" not in page and "test loss" not in page
    assert not report.failed and "weight_changes" in {outcome.name for outcome in report.shown}
    assert WHY in str(report["learning_curves"].problem) and WHY in str(report["calibration"].problem)


def test_a_comparison_has_each_with_what_is_known_of_it(alone: neurosbd.Run, tmp_path: Path) -> None:
    """Changes of weights among themselves, no value beside runs that are judged. Must fail when rates are compared
    where accuracies can be (tried)."""
    judged = fitted(tmp_path / "judged", {"connection.2.plastic": True})
    among = compare([alone.path], tmp_path / "among")
    assert "hidden1 rate (Hz)" in among.quantities and "test accuracy" not in among.quantities
    both = compare([alone.path, judged.path], tmp_path / "both")
    assert both.quantities == ("test accuracy", "test loss", "seconds")
    assert "test accuracy" not in both.rows[0].estimates and both.rows[1].estimates["test accuracy"].n == 1
    assert both.warnings[0] == f"digits-snn, stdp: {WHY}"


def test_predictions_are_outputs_and_no_classes(alone: neurosbd.Run, tmp_path: Path) -> None:
    """Must fail when the largest output is called a class (tried)."""
    found = neurosbd.predict(alone, out=tmp_path / "found")
    assert not found.metrics and found.classes is found.probabilities is found.confusion is None and WHY in str(found)
    assert (tmp_path / "found" / "predictions.csv").read_text().startswith("example,target,output 0,output 1,")
    assert sorted(path.name for path in (tmp_path / "found").iterdir()) == ["predictions.csv"]
    with pytest.warns(neurosbd.UsageWarning, match="so its values stand for nothing"):
        alone.predict(np.zeros((2, 1, 8, 8), np.uint8))


# Judged all the same --------------------------------------------------------------------------------


def test_a_readout_that_was_taught_before_stays_judged(alone: neurosbd.Run, tmp_path: Path) -> None:
    """STDP moves the features below a readout that another run has taught: how much that costs is an accuracy; below
    one that nobody has, it is none. Also when the run goes on. Must fail when only what learns is asked (tried)."""
    taught = fitted(tmp_path / "taught", {"connection.2.plastic": True}, rule="sbd")
    moved = fitted(tmp_path / "moved", start=taught, loggers=[StopAfter(7)])
    assert moved.unjudged == {} and moved.result["status"] == "interrupted"
    rest = fitted(tmp_path / "moved", resume=True)
    assert "test_accuracy" in rest.metrics[-1] and rest.result["best"] is not None
    assert list(fitted(tmp_path / "still", start=alone).unjudged) == ["output"]


def test_heads_are_judged_by_themselves(tmp_path: Path) -> None:
    """A probe that learns beside a readout that does not is what the line, the result and the page have. Must fail when
    a head that learns is taken for what teaches the readout (tried)."""
    model = find("models", "digits-snn").read_text()
    probe = '\n[[connection]]\npre = "hidden2"\npost = "probe"\nkind = "dense"\nbias = true\n'
    population = 'probe = { size = [10], neuron = "li", role = "head" }\n'
    path = tmp_path / "probed.toml"
    path.write_text(model.replace("output = {", f"{population}output = {{", 1) + probe)
    stream = io.StringIO()
    run = neurosbd.fit(path, rule="stdp", settings=FROZEN | FEW, out=tmp_path / "run", loggers=[Console(stream)])
    assert list(run.unjudged) == ["output"] and "test_loss" not in run.metrics[-1]
    assert run.result["best"]["test_probe.accuracy"] == max(line["test_probe.accuracy"] for line in run.metrics)
    assert "probe:  train " in stream.getvalue() and "test probe accuracy" in stream.getvalue()
    assert ("test probe loss", f"{run.metrics[-1]['test_probe.loss']:.4g}", "") in how_it_went(run)
