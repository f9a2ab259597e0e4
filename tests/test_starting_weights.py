"""Starting from the weights of another run."""

import hashlib
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

import neurosbd
from neurosbd.cli.main import main
from neurosbd.runs.batches import DatasetBatches, data_of
from neurosbd.runs.loggers import Event, NullLogger
from neurosbd.training.session import Session
from neurosbd.training.starting_weights import start_from

FEW = {"training.epochs": 2, "data.subset": 20}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> neurosbd.Run:
    return neurosbd.fit("digits-mlp", settings=FEW, out=tmp_path_factory.mktemp("runs") / "first")


def weights(run: neurosbd.Run) -> dict[str, torch.Tensor]:
    return run.checkpoint()["network"]


def test_a_run_starts_where_another_ended(first: neurosbd.Run, tmp_path: Path) -> None:
    """What a fresh learner and optimizer make of those weights by hand. Must fail when it starts from weights
    of its own, or the optimizer's moments come along (tried both)."""
    run = neurosbd.fit("digits-mlp", rule="dfa", settings=FEW, start=first, seed=5, out=tmp_path / "second")
    definition, experiment = run.definition, run.definition.build()
    experiment.network.load_state_dict(weights(first))
    session = Session(
        experiment, DatasetBatches(experiment, data_of(definition), torch.device("cpu")), torch.device("cpu")
    )
    while session.epoch < 2:
        while session.number < len(session.batches):
            session.step()
        session.next_epoch()
    for name, parameter in session.network.named_parameters():
        assert torch.equal(parameter, weights(run)[name]), name


def test_it_says_where_it_started(first: neurosbd.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["fit", "digits-mlp", "--rule", "bp", "--from", str(first.path), "--out", str(tmp_path / "second")]
    line += ["--set", "training.epochs=1", "--set", "data.subset=20"]
    assert main(line) == 0
    assert f"starting from the weights of {first.path}" in capsys.readouterr().out
    told = json.loads((tmp_path / "second" / "config.json").read_text())["start"]
    digest = hashlib.sha256((first.path / "checkpoint.pt").read_bytes()).hexdigest()
    assert told == {"run": str(first.path.resolve()), "sha256": digest, "taught": ["output"]}


def test_resume_does_not_need_the_other_run(first: neurosbd.Run, tmp_path: Path) -> None:
    """Interrupted after an epoch and resumed without the first run: the same weights as in one go. Must fail when
    resume looks for the other run (tried)."""
    shutil.copytree(first.path, tmp_path / "first")
    settings = FEW | {"training.epochs": 3}
    whole = neurosbd.fit("digits-mlp", settings=settings, start=tmp_path / "first", out=tmp_path / "whole")

    class Stop(NullLogger):
        """Interrupts after the first epoch, as Ctrl-C does."""

        def on_epoch(self, event: Event) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    parts = {"settings": settings, "start": tmp_path / "first", "out": tmp_path / "parts"}
    stopped = neurosbd.fit("digits-mlp", **parts, loggers=[Stop()])  # type: ignore[arg-type]
    assert stopped.result["status"] == "interrupted"
    shutil.rmtree(tmp_path / "first")
    resumed = neurosbd.fit("digits-mlp", **parts, resume=True)  # type: ignore[arg-type]
    assert resumed.result["status"] == "finished" and resumed.config["start"] == whole.config["start"]
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name
    with pytest.raises(neurosbd.UsageError, match="started from"):
        neurosbd.fit("digits-mlp", settings=settings, start=first, out=tmp_path / "parts", resume=True)


def test_moments_and_absent_synapses_come_along(tmp_path: Path) -> None:
    """Weights that were absent stay absent under another seed. Must fail when the mask stays behind (tried)."""
    settings = FEW | {"connection": [
        {"pre": "input", "post": "hidden1", "kind": "dense", "bias": True, "sparsity": 0.5},
        {"pre": "hidden1", "post": "hidden2", "kind": "dense", "bias": True},
        {"pre": "hidden2", "post": "output", "kind": "dense", "bias": True},
    ], "population.hidden1.neuron": "standardised"}  # fmt: skip
    one = neurosbd.fit("digits-mlp", settings=settings, out=tmp_path / "one")
    two = neurosbd.fit("digits-mlp", settings=settings, seed=7, start=one, out=tmp_path / "two")
    absent = weights(one)["weights.input->hidden1"] == 0
    assert absent.float().mean() > 0.4 and torch.equal(weights(two)["weights.input->hidden1"] == 0, absent)
    network = neurosbd.load_model("digits-mlp", settings=settings | {"seed": 7}).network()
    start_from(one, network)
    moments = [name for name in network.state_dict() if name.startswith("memory:")]
    assert moments and all(torch.equal(network.state_dict()[name], weights(one)[name]) for name in moments)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"population.hidden1.size": [32]},
            r"'weights.input->hidden1' is \[128, 64\] in it, and is \[32, 64\] in this model",
        ),
        (
            {"connection": [{"pre": "input", "post": "hidden1", "kind": "dense"},
                            {"pre": "hidden1", "post": "hidden2", "kind": "dense"},
                            {"pre": "hidden2", "post": "output", "kind": "dense"}]},
            r"'biases.input->hidden1' is \[128\] in it, and is not there in this model",
        ),
    ],
)  # fmt: skip
def test_a_run_of_another_shape_is_refused(
    first: neurosbd.Run, settings: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(neurosbd.UsageError, match=said):
        neurosbd.fit("digits-mlp", settings=FEW | settings, start=first.path, out=tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_what_is_no_start_is_refused(first: neurosbd.Run, tmp_path: Path) -> None:
    shutil.copytree(first.path, tmp_path / "bare")
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        (tmp_path / "bare" / name).unlink()
    for source, said in ((tmp_path / "bare", "no checkpoint"), (tmp_path / "nothing", "holds no run")):
        with pytest.raises(neurosbd.UsageError, match=said):
            neurosbd.fit("digits-mlp", settings=FEW, start=source, out=tmp_path / "second")
    (tmp_path / "bare" / "checkpoint.pt").write_bytes(b"PK" * 300)
    with pytest.raises(neurosbd.UsageError, match="not a readable"):
        neurosbd.fit("digits-mlp", settings=FEW, start=tmp_path / "bare", out=tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_listed_synapses_come_along_with_their_units(tmp_path: Path) -> None:
    """From a run of another seed, with other synapses and another number of them. Must fail when the weights of other
    pairs are taken for those of these (tried)."""
    few = FEW | {"training.epochs": 1, "connection.1.sparsity": 0.8, "connection.1.storage": "sparse", "time.steps": 3}
    first = neurosbd.fit("digits-snn", settings=few, seed=1, out=tmp_path / "first")
    network, theirs = first.definition.model_copy(update={"seed": 2}).build().network, first.network()
    assert len(network.weights["hidden1->hidden2"]) != len(theirs.weights["hidden1->hidden2"])
    start_from(first, network)
    x = 4 * torch.rand(9, 4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    network.eval()
    theirs.eval()
    frames = [neurosbd.unroll(each, x).activity for each in (network, theirs)]
    assert frames[0]["hidden2"].value.any() and torch.equal(frames[0]["hidden2"].value, frames[1]["hidden2"].value)
