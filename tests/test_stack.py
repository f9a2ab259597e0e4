"""Networks of several seeds that learn side by side: each as it learns alone."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.cli.main import main
from neurosbd.datasets.stream import Resident
from neurosbd.errors import RunError, UsageError
from neurosbd.learning.batch import Batch
from neurosbd.runs.batches import DatasetBatches, data_of
from neurosbd.runs.loggers import Event, NullLogger
from neurosbd.training import capacity
from neurosbd.training.fit_seeds import fit_seeds
from neurosbd.training.session import Session
from neurosbd.training.stack import Stack, why_apart
from tests.test_fit import FAST, StopAfter, same

SEEDS = (3, 5, 8)
RECURRENT = """
loss = "cross_entropy"
[time]
steps = 7
block = 3
warmup = 1
[data]
encoder = "poisson"
subset = 40
[rule]
kind = "sbd"
delay = 1
activity_filter = 5e-3
neuromodulator = { scale = 0.05, forgetting = { start = 0.8, end = 0.99 } }
[training]
optimizer = { kind = "sgd", lr = 0.05, momentum = 0.9, weight_decay = 1e-4 }
schedule = { kind = "cosine" }
[population]
input = { size = [1, 8, 8] }
hidden = { size = [24], neuron = { kind = "lif", tau_mem = 10e-3 } }
head = { size = [10], neuron = "li", role = "head" }
output = { size = [10], neuron = "li" }
[[connection]]
pre = "input"
post = "hidden"
kind = "dense"
bias = true
sparsity = 0.3
[[connection]]
pre = "hidden"
post = "hidden"
kind = "dense"
autapses = false
delay = 2
[[connection]]
pre = "hidden"
post = "head"
kind = "dense"
[[connection]]
pre = "hidden"
post = "output"
kind = "dense"
"""


MAPS = """
loss = "cross_entropy"
[rule]
kind = "sbd"
[training]
schedule = { kind = "cosine" }
[population]
input = { size = [1, 8, 8] }
maps1 = { size = [4, 6, 6], neuron = "tanh" }
local = { size = [3, 6, 6], neuron = "tanh" }
maps2 = { size = [5, 4, 4], neuron = "tanh" }
output = { size = [10], neuron = "identity" }
[[connection]]
pre = "input"
post = "maps1"
kind = "conv2d"
kernel = 3
bias = true
sparsity = 0.2
[[connection]]
pre = "maps1"
post = "local"
kind = "local2d"
kernel = 3
padding = 1
bias = true
sparsity = 0.2
[[connection]]
pre = "local"
post = "maps2"
kind = "conv2d"
kernel = 3
[[connection]]
pre = "maps2"
post = "output"
kind = "dense"
pool = "average"
bias = true
"""
SPIKING_MAPS = (
    MAPS.replace('"tanh"', '"lif"').replace('"identity"', '"li"')
    + """
[time]
steps = 5
block = 3
[data]
encoder = "poisson"
"""
)


def sessions(model: str | Path, rule: str | None, settings: dict[str, Any], dtype: torch.dtype) -> list[Session]:
    """One for each of SEEDS."""
    definition = neurosbd.load_model(str(model), rule, settings)
    data, cpu, found = data_of(definition), torch.device("cpu"), []
    for seed in SEEDS:
        experiment = definition.model_copy(update={"seed": seed}).build()
        batches = DatasetBatches(experiment, data, cpu)
        split = batches.stream.split
        assert isinstance(split, Resident)
        batches.stream.split = replace(split, shift=split.shift.to(dtype), scale=split.scale.to(dtype))
        experiment.network.to(dtype)
        found.append(Session(experiment, batches, cpu))
    return found


def apart(one: Any, other: Any) -> float:
    """The largest difference between two states, by the largest number of the tensor or the number itself."""
    if isinstance(one, Tensor):
        largest = one.abs().max().clamp(min=1e-30) if one.numel() else torch.ones(())
        return float(((one - other).abs().max() if one.numel() else torch.zeros(())) / largest)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return max((apart(one[key], other[key]) for key in one), default=0.0)
    if isinstance(one, list | tuple):
        return max((apart(a, b) for a, b in zip(one, other, strict=True)), default=0.0)
    if isinstance(one, float):
        return abs(one - other) / max(abs(one), 1e-30)
    assert one == other
    return 0.0


@pytest.fixture
def own(tmp_path: Path) -> dict[str, Path]:
    """Models that are not shipped, by name."""
    found = {}
    for name, text in {"recurrent": RECURRENT, "maps": MAPS, "spiking maps": SPIKING_MAPS}.items():
        found[name] = tmp_path / f"{name.replace(' ', '-')}.toml"
        found[name].write_text(text)
    return found


@pytest.mark.parametrize(
    ("model", "rule", "settings"),
    [
        ("digits-mlp", "sbd", {}),
        ("digits-mlp", "sbd", {"rule.neuromodulator.activations": ["identity", "square"]}),
        ("digits-mlp", "ebd", {"data.flip": True, "data.crop": 1}),
        ("digits-mlp", "sbp", {}),
        ("digits-mlp", "dfa", {"training.optimizer": {"kind": "adamw"}}),
        ("digits-mlp", "bp", {"training.clip_norm": 0.5}),
        ("diabetes-mlp", "sbd", {"data.subset": 100}),
        ("digits-snn", "sbd", {"time.steps": 5}),
        ("digits-snn", "sbp", {"time.steps": 5}),
        ("digits-snn", "bptt", {"time.steps": 5}),
        ("recurrent", None, {}),
        ("recurrent", "sbp", {}),
        ("maps", "sbd", {}),
        ("maps", "sbp", {"rule.neuromodulator.layout": {"kind": "patchwise", "patch": 2}}),
        ("maps", "ebd", {"rule.neuromodulator.layout": "full"}),
        ("maps", "dfa", {"connection.2.pool_drive": "max", "population.maps2.size": [5, 2, 2]}),
        ("maps", "bp", {}),
        ("spiking maps", "sbd", {}),
        ("spiking maps", "bptt", {}),
    ],
)
def test_each_network_learns_what_it_learns_alone(
    own: dict[str, Path], model: str, rule: str | None, settings: dict[str, Any]
) -> None:
    """20 batches over two epochs, put together anew after the seventh, the last of an epoch with fewer examples:
    weights, projections, heads, moments of the optimizer, schedule and sums of the metrics, 1e-12 in float64.

    Must fail if the networks share a projection (tried), the score carries 1 / (networks x B) (tried), all learn from
    the batches of one seed (tried), the optimizer starts afresh where they are put together (tried), or gradients are
    clipped by the norm over all networks (tried).
    """
    torch.set_default_dtype(torch.float64)
    try:
        settings = {"data.subset": 40, "training.epochs": 2} | settings
        path = own.get(model, model)
        alone, together = (sessions(path, rule, settings, torch.float64) for _ in range(2))
        assert why_apart(alone[0].experiment) is None
        left = 20
        while left:
            count = min(left, 7, len(alone[0].batches) - alone[0].number)
            stack = Stack(together)
            for _ in range(count):
                assert stack.step() == []
                for session in alone:
                    session.step()
            stack.hand_back()
            found = [apart(one.state_dict(), other.state_dict()) for one, other in zip(alone, together, strict=True)]
            assert max(found) < 1e-12
            left -= count
            if alone[0].number == len(alone[0].batches):
                for session in (*alone, *together):
                    session.next_epoch()
                if alone[0].epoch == 2:
                    break
    finally:
        torch.set_default_dtype(torch.float32)
    first, second = (dict(session.network.named_parameters()) for session in alone[:2])
    assert all(apart(first[name].detach(), second[name].detach()) > 0.1 for name in first if "weights" in name)


def test_runs_at_once_are_the_runs_alone(tmp_path: Path) -> None:
    """In single precision, whole runs on disk with their tests: weights to 1e-5, losses of every epoch to 1e-5."""
    settings = FAST | {"time.steps": 4}
    runs = fit_seeds("digits-snn", SEEDS, settings=settings, out=tmp_path / "all")
    assert [run.path.name for run in runs] == [f"seed{seed}" for seed in SEEDS]
    for seed, run in zip(SEEDS, runs, strict=True):
        alone = neurosbd.fit("digits-snn", seed=seed, settings=settings, out=tmp_path / f"alone{seed}")
        assert run.config["seeds"] == {"all": list(SEEDS), "at_once": True, "because": None}
        assert run.config["definition"] == alone.config["definition"] and run.result["status"] == "finished"
        assert apart(run.checkpoint()["network"], alone.checkpoint()["network"]) < 1e-5
        for one, other in zip(run.metrics, alone.metrics, strict=True):
            assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-5)
            assert one["test_loss"] == pytest.approx(other["test_loss"], rel=1e-5)
            assert one["train_accuracy"] == other["train_accuracy"]


def test_stopped_and_resumed_they_are_the_same_bit_for_bit(tmp_path: Path) -> None:
    """Stopped within the second epoch all have a checkpoint of the same batch. One goes on alone for an epoch of its
    own accord, as its single run; with the others it then comes to its end."""
    whole = fit_seeds("digits-mlp", range(3), settings=FAST, out=tmp_path / "whole")
    out = tmp_path / "parts"
    found = fit_seeds("digits-mlp", range(3), settings=FAST, out=out, loggers=[StopAfter(17)])
    assert [run.result["status"] for run in found] == ["interrupted"] * 3
    assert {(run.checkpoint()["epoch"], run.checkpoint()["number"]) for run in found} == {(1, 4)}
    copy = neurosbd.open_run(out / "seed1").checkpoint()["network"]
    found = fit_seeds("digits-mlp", range(3), settings=FAST, out=out, resume=True)
    assert all(same(one.path, other.path) for one, other in zip(found, whole, strict=True))
    assert apart(copy, found[1].checkpoint()["network"]) > 1e-3

    out = tmp_path / "one-ahead"
    fit_seeds("digits-mlp", range(3), settings=FAST, out=out, loggers=[StopAfter(17)])
    ahead = neurosbd.fit("digits-mlp", seed=1, settings=FAST, out=out / "seed1", resume=True, loggers=[StopAfter(12)])
    assert ahead.result["status"] == "interrupted" and ahead.checkpoint()["epoch"] == 2
    found = fit_seeds("digits-mlp", range(3), settings=FAST, out=out, resume=True)
    for one, other in zip(found, whole, strict=True):
        assert one.result["status"] == "finished" and len(one.metrics) == 3
        assert apart(one.checkpoint()["network"], other.checkpoint()["network"]) < 1e-5


def test_one_that_diverges_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 1 is shown infinity in its 17th batch, and keeps the checkpoint before; the others are as without it.

    Must fail if what their projections measured in that batch counts twice (tried).
    """
    again = Session.again

    def spoilt(session: Session, number: int) -> tuple[Batch, torch.Generator]:
        batch, noise = again(session, number)
        if (session.definition.seed, session.epoch, number) != (1, 1, 3):
            return batch, noise
        return replace(batch, inputs=[torch.full_like(x, torch.inf) for x in batch.inputs]), noise

    monkeypatch.setattr(Session, "again", spoilt)
    with pytest.raises(
        RunError, match=r"1 of 3 seeds failed \(1\); seed 1: the loss is not finite at step 17 \(epoch 2"
    ):
        fit_seeds("digits-mlp", range(3), settings=FAST, out=tmp_path / "all")
    failed = neurosbd.open_run(tmp_path / "all" / "seed1")
    assert failed.result["status"] == "failed" and failed.checkpoint()["epoch"] == 1
    for seed in (0, 2):
        run = neurosbd.open_run(tmp_path / "all" / f"seed{seed}")
        alone = neurosbd.fit("digits-mlp", seed=seed, settings=FAST, out=tmp_path / f"alone{seed}")
        assert run.result["status"] == "finished"
        assert apart(run.checkpoint()["learner"], alone.checkpoint()["learner"]) < 1e-5
        assert apart(run.checkpoint()["network"], alone.checkpoint()["network"]) < 1e-5


def test_each_stops_early_by_its_own_validation(tmp_path: Path) -> None:
    settings = {"training.epochs": 12, "data.subset": 20, "data.validation": 0.2, "training.stop.patience": 1}
    settings |= {"training.optimizer.lr": 0.05}
    runs = fit_seeds("digits-mlp", SEEDS, settings=settings, out=tmp_path / "all")
    ends = []
    for seed, run in zip(SEEDS, runs, strict=True):
        alone = neurosbd.fit("digits-mlp", seed=seed, settings=settings, out=tmp_path / f"alone{seed}")
        assert run.result["status"] == "finished" and run.result["epochs"] == alone.result["epochs"]
        assert run.result["stop"]["best"]["epoch"] == alone.result["stop"]["best"]["epoch"]
        assert apart(run.checkpoint("best")["network"], alone.checkpoint("best")["network"]) < 1e-4
        ends.append(run.result["epochs"])
    assert len(set(ends)) > 1 and min(ends) < 12


class Keeping(NullLogger):
    def __init__(self) -> None:
        self.events: list[tuple[str, Event]] = []

    def on_start(self, event: Event) -> None:
        self.events.append(("start", event))

    def on_batch(self, event: Event) -> None:
        if event["batch"] == 2:
            self.events.append(("batch", event["read"]()))

    def on_epoch(self, event: Event) -> None:
        self.events.append(("epoch", event))

    def on_end(self, event: Event) -> None:
        self.events.append(("end", event))


def test_loggers_are_told_of_all_as_of_one(tmp_path: Path) -> None:
    """The folder, means over the seeds, and the seconds of all together."""
    log = Keeping()
    runs = fit_seeds("digits-mlp", SEEDS, settings=FAST | {"training.epochs": 1}, out=tmp_path / "all", loggers=[log])
    assert [name for name, _ in log.events] == ["start", "batch", "epoch", "end"]
    (_, start), (_, read), (_, epoch), (_, end) = log.events
    assert start["path"] == end["path"] == tmp_path / "all" and start["seeds"]["all"] == list(SEEDS)
    assert read.keys() == {"loss", "accuracy"} and end["status"] == "finished"
    lines = [run.metrics[0] for run in runs]
    assert epoch["test_loss"] == pytest.approx(sum(line["test_loss"] for line in lines) / 3)
    assert epoch["seconds"] == pytest.approx(sum(line["seconds"] for line in lines))


class Twice(NullLogger):
    """Two signals at once: the second does not wait."""

    def on_batch(self, event: Event) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_a_second_ctrl_c_ends_all(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit_seeds("digits-mlp", range(2), settings=FAST, out=tmp_path / "all", loggers=[Twice()])
    assert [neurosbd.open_run(tmp_path / "all" / f"seed{n}").result["status"] for n in range(2)] == ["interrupted"] * 2


@pytest.mark.parametrize(
    ("model", "rule", "settings", "reason"),
    [
        ("mnist-vnn-cnn", "gevb", {}, "connection 'input->conv1' is a VectorConv2d"),
        ("cifar10-small", "sbd", {}, "a batch takes 7.8e+08 multiplications in its maps; above 6.7e+07 turns are"),
        ("digits-snn", "eprop", {}, "EligibilityPropagation takes one network"),
        ("digits-mlp", "fa", {}, "FeedbackAlignment takes one network"),
        ("digits-mlp", "dkp", {}, "DirectKolenPollack takes one network"),
        ("digits-mlp", "sbd", {"rule.neuromodulator.layout": {"kind": "low_rank"}}, "or its layout does"),
        ("digits-mlp", "sbd", {"rule.homeostasis": [{"kind": "power"}]}, "rule.homeostasis"),
        ("digits-mlp", "sbd", {"rule.forward_broadcast": 0.1}, "rule.forward_broadcast"),
        ("digits-mlp", "sbd", {"population.hidden1.dropout": 0.1}, "population 'hidden1' draws random numbers"),
        ("digits-snn", "sbd", {"population.hidden1.neuron": "escape"}, "population 'hidden1' draws random numbers"),
        ("digits-snn", "sbd", {"population.hidden1.neuron": {"kind": "leaky_rate", "noise": 0.1}}, "'hidden1' draws"),
        ("digits-mlp", "sbd", {"population.hidden1.neuron": "standardised"}, "'hidden1' remembers what it measures"),
        ("digits-mlp", "sbd", {"record.signals": ["hidden1.rate"]}, "something is recorded"),
        ("digits-mlp", "sbd", {"connection.0.constraints": ["nonnegative"]}, "have constraints"),
        ("digits-snn", "sbd", {"population.hidden1.neuron.v_threshold": {"kind": "uniform", "low": 0.5, "high": 1.5}},
         "neurons of population 'hidden1' differ"),
    ],
)  # fmt: skip
def test_why_networks_take_turns(model: str, rule: str, settings: dict[str, Any], reason: str) -> None:
    definition = neurosbd.load_model(model, rule, settings)
    assert reason in (why_apart(definition.build()) or "")


def test_what_does_not_fit_side_by_side_takes_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has room for two of three networks. Must fail if one network is counted (tried)."""
    (session,) = sessions("digits-mlp", "sbd", FAST, torch.float32)[:1]
    monkeypatch.setattr(capacity, "_memory", lambda device: 2 * sum(capacity._needed(session)))
    assert capacity.too_large_at_once(session, 2) is None
    runs = fit_seeds("digits-mlp", SEEDS, settings=FAST | {"training.epochs": 1}, out=tmp_path / "all")
    assert runs[0].config["seeds"]["because"].startswith("side by side they take at least 0.0 GB, but cpu has")


def test_processes_that_share_a_batch_take_one_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(UsageError, match="torchrun has started 2 processes, which share the batches of one run"):
        fit_seeds("digits-mlp", range(2), out=tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_a_folder_of_seeds_is_told_from_a_run(tmp_path: Path) -> None:
    fit_seeds("digits-mlp", range(2), settings=FAST | {"training.epochs": 1}, out=tmp_path / "all")
    with pytest.raises(UsageError, match=r"holds no run .*; give one of the runs in it, such as .*seed0"):
        neurosbd.open_run(tmp_path / "all")


def test_what_takes_turns_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the console and in config.json."""
    line = ["fit", "digits-mlp", "--seeds", "0:2", "--set", "training.epochs=1", "--set", "data.subset=20"]
    for rule, told in (
        ("fa", "one after another: a FeedbackAlignment takes one network at a time"),
        ("sbd", "at once"),
    ):
        assert main([*line, "--rule", rule, "--out", str(tmp_path / rule)]) == 0
        assert told in capsys.readouterr().out.splitlines()[0]
    assert "FeedbackAlignment" in neurosbd.open_run(tmp_path / "fa" / "seed1").config["seeds"]["because"]
