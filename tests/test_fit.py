"""The main job: run directory, resume bit for bit, Ctrl-C, kill -9, divergence, health."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neurosbd
from neurosbd.config.definition import Definition
from neurosbd.config.resolve import load_model
from neurosbd.datasets.load import Dataset, load_data
from neurosbd.errors import RunError, UsageError, UsageWarning
from neurosbd.rules import RULES
from neurosbd.runs.batches import DatasetBatches
from neurosbd.runs.loggers import Event, NullLogger
from neurosbd.runs.run import open_run, write_metrics
from neurosbd.training.fit import fit
from neurosbd.training.loop import _merit
from neurosbd.training.session import Session

FAST = {"training.epochs": 3, "data.subset": 40}
FILES = {"config.json", "metrics.jsonl", "result.json", "checkpoint.pt", "checkpoint.previous.pt"}
KEYS = {
    "epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds", "samples_per_second",
    "peak_memory_bytes",
}  # fmt: skip


def weights(path: Path) -> dict[str, torch.Tensor]:
    return open_run(path).checkpoint()["network"]


def same(one: Path, two: Path) -> bool:
    a, b = open_run(one).checkpoint(), open_run(two).checkpoint()
    return _equal({k: v for k, v in a.items()}, {k: v for k, v in b.items()})


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    return a == b


# No vectors; a policy gradient needs neurons that draw their spikes
ELSEWHERE = ("rmax", "reinforce", "gevb", "corinfomax_ep")  # they want neurons that digits-mlp has not
ON_RATES = [n for n, make in RULES.items() if n not in ELSEWHERE and not make().timed]


@pytest.mark.filterwarnings("ignore:.*states by how much a weight changes:neurosbd.errors.UsageWarning")
@pytest.mark.filterwarnings("ignore:.*rule '(stdp|rstdp)' pairs spikes, but:neurosbd.errors.UsageWarning")
@pytest.mark.filterwarnings("ignore:.*rule 'corinfomax' learns at basal:neurosbd.errors.UsageWarning")
@pytest.mark.parametrize("rule", ON_RATES)
def test_a_run_leaves_everything(tmp_path: Path, rule: str) -> None:
    run = neurosbd.fit("digits-mlp", rule=rule, seed=5, settings=FAST, out=tmp_path / "run")
    assert run.result["status"] == "finished" and len(run.metrics) == 3
    assert all(set(line) == KEYS for line in run.metrics)
    assert all(0 <= line["test_accuracy"] <= 1 and line["peak_memory_bytes"] > 1e6 for line in run.metrics)
    assert run.config["definition"]["seed"] == 5 and run.config["definition"]["rule"]["kind"] == rule
    assert set(run.config["versions"]) == {"python", "torch", "numpy", "pydantic", "neurosbd"}
    assert {p.name for p in run.path.iterdir()} == FILES
    reopened = neurosbd.open_run(run.path)
    assert reopened.definition.rule.kind == rule
    if rule == "forward_forward":  # which does not answer by the readout of the network alone
        return
    data = load_data("digits", subset=40)
    x = torch.tensor(np.array(data.test.values)).permute(0, 3, 1, 2).float() / 16
    x = (x - data.mean[0]) / data.std[0]
    hits = (reopened.network()(x).argmax(1) == torch.tensor(data.test.labels)).double().mean().item()
    assert hits == pytest.approx(run.metrics[-1]["test_accuracy"], abs=1e-9)


def test_a_run_whose_checkpoint_is_gone_is_not_written_over(tmp_path: Path) -> None:
    """Must fail if it starts anew in its directory (tried); it does if nothing was trained."""
    settings = {"training.epochs": 1, "data.subset": 2, "training.batch_size": 4}
    run = neurosbd.fit("digits-mlp", settings=settings, out=tmp_path / "run", record="output.rate")
    (run.path / "checkpoint.pt").unlink()
    before = {file: file.read_bytes() for file in run.path.iterdir() if file.is_file()}
    with pytest.raises(UsageError, match=r"checkpoint\.pt is gone, but epochs were trained \(1 in metrics\.jsonl\)"):
        neurosbd.fit("digits-mlp", settings=settings, out=run.path, record="output.rate", resume=True)
    assert {file: file.read_bytes() for file in run.path.iterdir() if file.is_file()} == before


def test_a_batch_of_more_examples_than_there_are_is_said(tmp_path: Path) -> None:
    """Must fail without the warning, and when it comes for a batch of exactly all (both tried)."""
    settings = {"data.subset": 2, "training.epochs": 1, "training.schedule": "constant"}
    with pytest.warns(UsageWarning, match="training.batch_size is 21, but there are 20 training examples") as said:
        fit("digits-mlp", settings=settings | {"training.batch_size": 21}, out=tmp_path / "more")
    assert sum("batch_size" in str(warning.message) for warning in said) == 1
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fit("digits-mlp", settings=settings | {"training.batch_size": 20}, out=tmp_path / "all")
    assert not any("batch_size" in str(warning.message) for warning in said)


def test_digits_by_score_broadcast_reach_95_percent(tmp_path: Path) -> None:
    """The promise of the README, on its default recipe: mean of 3 seeds."""
    runs = [fit("digits-mlp", seed=seed, out=tmp_path / str(seed)) for seed in range(3)]
    assert np.mean([run.metrics[-1]["test_accuracy"] for run in runs]) >= 0.95


@pytest.mark.parametrize("rule", ["sbd", "bp"])
def test_same_seed_same_run_bit_for_bit(tmp_path: Path, rule: str) -> None:
    for name in ("a", "b"):
        fit("digits-mlp", rule=rule, settings=FAST, out=tmp_path / name)
    assert same(tmp_path / "a", tmp_path / "b")
    fit("digits-mlp", rule=rule, seed=1, settings=FAST, out=tmp_path / "c")
    assert not torch.equal(
        weights(tmp_path / "a")["weights.input->hidden1"], weights(tmp_path / "c")["weights.input->hidden1"]
    )


def session_of(definition: Definition, data: Dataset) -> Session:
    experiment, cpu = definition.build(), torch.device("cpu")
    return Session(experiment, DatasetBatches(experiment, data, cpu), cpu)


def _shown(session: Session) -> torch.Tensor:
    (frame,) = session.batches.batch(1, 2).inputs
    return frame


@pytest.mark.filterwarnings("ignore:.*states by how much a weight changes:neurosbd.errors.UsageWarning")
@pytest.mark.filterwarnings("ignore:.*rule '(stdp|rstdp)' pairs spikes, but:neurosbd.errors.UsageWarning")
@pytest.mark.filterwarnings("ignore:.*rule 'corinfomax' learns at basal:neurosbd.errors.UsageWarning")
def test_rules_of_one_seed_start_from_the_same_weights_and_see_the_same_batches() -> None:
    data = load_data("digits")
    sessions = [session_of(load_model("digits-mlp", rule), data) for rule in ON_RATES]
    first = sessions[0].network.state_dict()
    for session in sessions[1:]:
        assert all(torch.equal(first[k], v) for k, v in session.network.state_dict().items())
        assert torch.equal(_shown(session), _shown(sessions[0]))


class StopAfter(NullLogger):
    """A logger that sends a signal to this process after so many batches."""

    def __init__(self, batches: int, number: int = signal.SIGINT) -> None:
        self.left = batches
        self.number = number

    def on_batch(self, event: Event) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("stop", [1, 7, 13, 20])
@pytest.mark.parametrize("rule", ["sbd", "bp"])
def test_interrupted_and_resumed_is_the_uninterrupted_run_bit_for_bit(tmp_path: Path, rule: str, stop: int) -> None:
    """13 batches an epoch: stops in the first, in the middle, at the very end of one, and in the second."""
    settings = FAST | {"data.flip": True, "data.crop": 1}
    fit("digits-mlp", rule=rule, settings=settings, out=tmp_path / "whole")
    run = fit("digits-mlp", rule=rule, settings=settings, out=tmp_path / "parts", loggers=[StopAfter(stop)])
    assert run.result["status"] == "interrupted"
    run = fit("digits-mlp", rule=rule, settings=settings, out=tmp_path / "parts", resume=True)
    assert run.result["status"] == "finished" and same(tmp_path / "whole", tmp_path / "parts")
    keys = KEYS - {"seconds", "samples_per_second", "peak_memory_bytes"}
    for a, b in zip(open_run(tmp_path / "whole").metrics, run.metrics, strict=True):
        assert {k: a[k] for k in keys} == {k: b[k] for k in keys}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "neurosbd", *arguments]


def test_killed_at_any_moment_and_resumed_is_the_same_run(tmp_path: Path) -> None:
    """kill -9 while it writes checkpoints after every second batch; resumed until it is done."""
    settings = {"training.epochs": 12, "data.subset": 40, "training.checkpoint_every": 2}
    line = ["digits-mlp", *(part for key, value in settings.items() for part in ("--set", f"{key}={value}"))]
    fit("digits-mlp", settings=settings, out=tmp_path / "whole")
    killed = 0
    for delay in itertools.cycle((0.05, 0.3, 0.15)):
        again = ["--resume"] if (tmp_path / "parts" / "config.json").exists() else []
        process = subprocess.Popen(
            command("fit", *line, "--out", str(tmp_path / "parts"), *again), stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        time.sleep(delay)
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        if process.returncode == 0 or killed >= 3:
            break
    assert killed
    done = subprocess.run(
        command("fit", *line, "--out", str(tmp_path / "parts"), "--resume"), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert same(tmp_path / "whole", tmp_path / "parts")
    assert [m["epoch"] for m in open_run(tmp_path / "parts").metrics] == list(range(1, 13))
    assert not [p for p in (tmp_path / "parts").iterdir() if p.name.startswith(".")]  # nothing half-written is left


def test_ctrl_c_on_the_command_line_keeps_everything_and_says_how_to_go_on(tmp_path: Path) -> None:
    line = command("fit", "digits-mlp", "--set", "training.epochs=2000", "--out", str(tmp_path / "run"))
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1 and "--resume" in told and "Traceback" not in told
    assert open_run(tmp_path / "run").result["status"] == "interrupted"
    assert open_run(tmp_path / "run").checkpoint()["number"] > 0 or open_run(tmp_path / "run").checkpoint()["epoch"] > 0


def test_a_stop_after_the_last_batch_is_a_finished_run(tmp_path: Path) -> None:
    """39 batches in all: asked to stop in the very last one, there is nothing left to resume."""
    first = fit("digits-mlp", settings=FAST, out=tmp_path / "run", loggers=[StopAfter(39)])
    assert first.result["status"] == "interrupted"  # its last evaluation is still to come
    for _ in range(2):
        assert fit("digits-mlp", settings=FAST, out=tmp_path / "run", resume=True).result["status"] == "finished"
    assert len(open_run(tmp_path / "run").metrics) == 3


def test_a_disk_that_fills_up_ends_the_run_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    fit("digits-mlp", settings=FAST | {"training.epochs": 1}, out=tmp_path / "well")
    monkeypatch.setattr("neurosbd.files.checkpoints.save", full)
    with pytest.raises(RunError, match=r"No space left on device.*There is no checkpoint yet"):
        fit("digits-mlp", settings=FAST, out=tmp_path / "run")


def test_a_checkpoint_on_request(tmp_path: Path) -> None:
    seen: list[bool] = []

    class Look(StopAfter):
        def on_batch(self, event: Event) -> None:
            seen.append((tmp_path / "run" / "checkpoint.pt").exists())
            super().on_batch(event)

    fit("digits-mlp", settings=FAST, out=tmp_path / "run", loggers=[Look(3, signal.SIGUSR1)])
    assert seen[:5] == [False, False, False, True, True]


def test_a_diverging_run_names_the_layer_the_step_and_the_way_out(tmp_path: Path) -> None:
    settings = FAST | {
        "training.optimizer": {"kind": "sgd", "lr": 1e6, "momentum": 0.9},
        "training.schedule": "constant",
        "loss": "squared_error",
    }
    with pytest.raises(
        RunError,
        match=r"not finite at step \d+ .*first seen in the (weights|activity|loss itself).*'.*try a tenth",
    ):
        fit("digits-mlp", settings=settings, out=tmp_path / "run")
    assert open_run(tmp_path / "run").result["status"] == "failed"
    assert json.loads((tmp_path / "run" / "result.json").read_text())["reason"]


def test_a_broken_layer_is_found() -> None:
    session = session_of(load_model("digits-mlp"), load_data("digits"))
    with torch.no_grad():
        session.network.biases["input->hidden1"][3] = float("inf")
    with pytest.raises(RunError, match=r"step 1 \(epoch 1\); first seen in the activity of 'hidden1'"):
        session.step()
    with torch.no_grad():
        session.network.weights["hidden1->hidden2"][3, 4] = float("nan")
    with pytest.raises(RunError, match="weights of 'hidden1->hidden2'"):
        session.step()


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_loss_that_is_seldom_looked_at_never_reaches_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int
) -> None:
    """As on a GPU, where a look waits. Must fail without the look before a checkpoint (tried)."""
    settings = FAST | {"training.optimizer": {"kind": "sgd", "lr": 1e6}, "training.schedule": "constant"}
    settings |= {"loss": "squared_error", "training.epochs": epochs}
    start = Session.__init__

    def seldom(self: Session, *arguments: Any) -> None:
        start(self, *arguments)
        self._check_every = 10**6

    monkeypatch.setattr(Session, "__init__", seldom)
    with pytest.raises(RunError, match="the loss is not finite at step"):
        fit("digits-mlp", settings=settings, out=tmp_path / "run")
    assert open_run(tmp_path / "run").result["status"] == "failed"
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_a_third_factor_that_comes_too_late_is_refused(tmp_path: Path) -> None:
    """Hidden synapses would never learn, without a word."""
    for model, rule in (("digits-mlp", "sbd"), ("digits-snn", "rstdp")):
        with pytest.raises(UsageError, match=r"rule.delay is 1.*no hidden synapse would learn.*at most 0"):
            fit(model, rule=rule, settings={"rule.delay": 1}, out=tmp_path / "run")
    late = {"rule.delay": 15, "data.subset": 2, "training.epochs": 1}
    before = load_model("digits-snn", settings=late).network().state_dict()["weights.input->hidden1"]
    fit("digits-snn", settings=late, out=tmp_path / "late")
    assert not torch.equal(weights(tmp_path / "late")["weights.input->hidden1"], before)
    with pytest.raises(UsageError, match=r"rule.delay is 16, but 15 of the 16 steps"):
        fit("digits-snn", settings=late | {"rule.delay": 16}, out=tmp_path / "run")


def test_warnings_and_speeds_survive_a_resume(tmp_path: Path) -> None:
    """Must fail if the warnings are those of the process alone, or batches are counted for examples (both tried)."""
    dead = FAST | {"population.hidden2.neuron": "hard_sigmoid", "connection.1.weight": "zeros"}
    dead |= {"connection.1.plastic": False, "training.epochs": 2}
    last = -(-400 // load_model("digits-mlp").training.batch_size)

    class Stop(NullLogger):
        def on_batch(self, event: Event) -> None:
            assert event["batches"] == last
            if (event["epoch"], event["batch"]) == (
                2,
                last - 1,
            ):  # with the step that follows the epoch is through, but not recorded
                signal.raise_signal(signal.SIGINT)

    whole = fit("digits-mlp", settings=dead, out=tmp_path / "whole")
    cut = fit("digits-mlp", settings=dead, out=tmp_path / "cut", loggers=[Stop()])
    assert cut.result["status"] == "interrupted" and len(cut.metrics) == 1
    resumed = fit("digits-mlp", settings=dead, out=tmp_path / "cut", resume=True)
    assert resumed.result["warnings"] == whole.result["warnings"]
    layer, learned = whole.result["warnings"]
    assert "'hidden2': 100% of its units" in layer and "rule 'bp' tells whether" in learned
    assert all((line["samples_per_second"] or 1) > 0 for line in resumed.metrics)
    undefined = [line | {"test_accuracy": None} for line in resumed.metrics[:1]]  # as NaN is written
    write_metrics(tmp_path / "cut", [*undefined, *resumed.metrics[1:]])
    again = fit("digits-mlp", settings=dead, out=tmp_path / "cut", resume=True)  # nothing is left to do
    assert again.result["best"]["epoch"] == 2
    assert again.result["warnings"] == whole.result["warnings"]


def test_a_nan_measure_is_never_the_best() -> None:
    measured = [None, float("nan"), -3.0, 2.0]
    assert max(measured, key=lambda value: _merit(value, 1)) == 2.0
    assert max(measured, key=lambda value: _merit(value, -1)) == -3.0


def test_dead_and_exploding_layers_are_named_once(tmp_path: Path) -> None:
    dead = FAST | {
        "population.hidden2.neuron": "hard_sigmoid",
        "connection.1.weight": "zeros",
        "connection.1.plastic": False,
    }
    run = fit("digits-mlp", settings=dead, out=tmp_path / "dead")
    (layer,) = (warning for warning in run.result["warnings"] if "population" in warning)
    assert "'hidden2': 100% of its units" in layer
    loud = FAST | {"connection.0.weight": {"kind": "kaiming_normal", "gain": 1e4}, "connection.0.plastic": False}
    run = fit("digits-mlp", settings=loud, out=tmp_path / "loud")
    assert any("'hidden1': mean |activity|" in warning for warning in run.result["warnings"])
    assert fit("digits-mlp", settings=FAST, out=tmp_path / "well").result["warnings"] == []


def test_frozen_connections_do_not_move(tmp_path: Path) -> None:
    settings = FAST | {"connection.0.plastic": False}
    start = load_model("digits-mlp", settings=settings).network().state_dict()
    for rule in ("sbd", "bp"):
        fit("digits-mlp", rule=rule, settings=settings, out=tmp_path / rule)
        assert torch.equal(weights(tmp_path / rule)["weights.input->hidden1"], start["weights.input->hidden1"])
        assert not torch.equal(weights(tmp_path / rule)["weights.hidden1->hidden2"], start["weights.hidden1->hidden2"])


def test_weight_decay_never_touches_projections(tmp_path: Path) -> None:
    settings = (
        FAST
        | {"training.optimizer": {"kind": "sgd", "lr": 0.1, "weight_decay": 1.0}}
        | {"training.schedule": "constant", "training.epochs": 10}
    )
    fit("digits-mlp", rule="dfa", settings=settings, out=tmp_path / "a")
    session = session_of(load_model("digits-mlp", "dfa", settings), load_data("digits"))
    kept = open_run(tmp_path / "a").checkpoint()["learner"]
    before = session.learner.state_dict()["modulators"]
    assert set(before) == {"hidden1", "hidden2"}
    for name, state in before.items():
        assert torch.equal(state["frozen"], kept["modulators"][name]["frozen"])
    assert weights(tmp_path / "a")["weights.input->hidden1"].norm() < 5


def test_clipping_bounds_the_gradient() -> None:
    session = session_of(load_model("digits-mlp", settings={"training.clip_norm": 1e-3}), load_data("digits"))
    session.step()
    norm = torch.stack([p.grad.norm() for p in session.network.parameters() if p.grad is not None]).norm()
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 3}, r"differs in seed \(0 there, 3 asked\)"),
        ({"rule.kind": "dfa"}, r"differs in rule\.kind \(sbd there, dfa asked\)"),
        ({"training.batch_size": 16}, "training.batch_size"),
    ],
)
def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    fit("digits-mlp", settings=FAST, out=tmp_path / "run")
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    with pytest.raises(UsageError, match=message):
        fit(
            "digits-mlp",
            settings=FAST | {k: v for k, v in change.items() if v is not None},
            out=tmp_path / "run",
            resume=True,
        )
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable checkpoint"),
        (b"rubbish", "not a readable checkpoint"),
        ("cut", "not a readable checkpoint"),
        ({"format": 99}, "format 99"),
        ({"other": 1}, "not a checkpoint of neurosbd"),
        ("pickle", "not a readable checkpoint"),
    ],
)
def test_bad_checkpoints_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    fit("digits-mlp", settings=FAST, out=tmp_path / "run")
    path = tmp_path / "run" / "checkpoint.pt"
    if content == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    elif content == "pickle":
        torch.save({"format": 1, "evil": Path("x")}, path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    longer = FAST | {"training.epochs": 3}
    with pytest.raises(UsageError, match=message):
        fit("digits-mlp", settings=longer, out=tmp_path / "run", resume=True)


def test_an_occupied_or_unwritable_folder_is_left_alone(tmp_path: Path) -> None:
    fit("digits-mlp", settings=FAST, out=tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    with pytest.raises(UsageError, match="holds a run already"):
        fit("digits-mlp", settings=FAST, out=tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UsageError, match="cannot be written"):
        fit("digits-mlp", settings=FAST, out=tmp_path / "file" / "run")


def test_default_folders_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    short = FAST | {"training.epochs": 1}
    names = [fit("digits-mlp", settings=short).path.name for _ in range(2)]
    assert names == ["digits-mlp-sbd-seed0", "digits-mlp-sbd-seed0-2"]


def test_convolution_trains_and_resumes(tmp_path: Path) -> None:
    """A small CNN on the digits: the whole path through conv2d, pooling, flip and crop."""
    text = (Path(__file__).resolve().parents[1] / "models" / "cifar10-small.toml").read_text()
    text = (
        text.replace("[3, 32, 32]", "[1, 8, 8]")
        .replace("[32, 32, 32]", "[8, 8, 8]")
        .replace("[64, 16, 16]", "[12, 4, 4]")
    )
    text = text.replace('name = "cifar10"', 'name = "digits"\nsubset = 40\ncrop = 1').replace("[256]", "[32]")
    model = tmp_path / "small.toml"
    model.write_text(text)
    settings = {"training.epochs": 8, "training.batch_size": 20, "rule.neuromodulator.forgetting": 0.9}
    whole = fit(model, settings=settings, out=tmp_path / "whole")
    fit(model, settings=settings, out=tmp_path / "parts", loggers=[StopAfter(27)])
    fit(model, settings=settings, out=tmp_path / "parts", resume=True)
    assert same(tmp_path / "whole", tmp_path / "parts")
    assert whole.metrics[-1]["test_accuracy"] > 0.25  # chance is 0.10; mirrored digits are hard
