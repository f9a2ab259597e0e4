"""What a run says of raw examples is what its own test has judged; the bare call of a network says when it is not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neurosbd
from neurosbd.datasets.samples import Samples
from neurosbd.errors import UsageError, UsageWarning
from neurosbd.losses import LOSSES, Gaussian, GaussianCRPS, Pinball, register
from neurosbd.network.network import Frame, Network
from neurosbd.runs.batches import DatasetBatches, data_of
from neurosbd.training.session import Session
from tests.test_events import nmnist as nmnist  # a fixture: a small set of recordings

CNN = """
about = "a small convolutional network"
source = "none"
[training]
epochs = 2
[population]
input = { size = [1, 8, 8] }
conv = { size = [4, 8, 8], neuron = "relu" }
output = { size = [10], neuron = "identity" }
[[connection]]
pre = "input"
post = "conv"
kind = "conv2d"
kernel = 3
padding = 1
[[connection]]
pre = "conv"
post = "output"
kind = "dense"
"""
SHORT = {"training.epochs": 3, "data.test_subset": 25}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "mlp": ("digits-mlp", {}),
    "cnn": ("cnn.toml", {}),
    "standardised": ("digits-mlp", {"recipe": "standard"}),
    "poisson": ("digits-snn", {"settings": {"data.encoder": {"kind": "poisson", "rate": 400.0}, "time.warmup": 3}}),
    "stochastic": ("digits-snn", {"settings": {"population.hidden2.neuron": {"kind": "escape"}}}),
}


def fitted(path: Path, model: str, options: dict[str, Any]) -> neurosbd.Run:
    (path / "cnn.toml").write_text(CNN)
    model = str(path / model) if model.endswith(".toml") else model
    settings = {**SHORT, **options.get("settings", {})}
    return neurosbd.fit(model, **{**options, "settings": settings}, out=path / "run")


def evaluated(run: neurosbd.Run) -> torch.Tensor:
    """Outputs of the test, averaged over the scored steps, as an observer of the run's own evaluation meets them."""
    experiment, cpu = run.definition.build(), torch.device("cpu")
    session = Session(experiment, DatasetBatches(experiment, data_of(experiment.definition), cpu), cpu)
    session.load_state_dict(run.checkpoint(), run.path / "checkpoint.pt")
    weights, found = session.batches.stimulus.weights, []  # type: ignore[attr-defined]

    def look(t: int, frame: Frame) -> None:
        found.append(frame.activity["output"].value * weights[t])

    session.evaluate((look,))
    steps = len(weights)
    sums = [sum(found[i + 1 : i + steps], found[i]) for i in range(0, len(found), steps)]
    return torch.cat(sums) / sum(weights)


@pytest.mark.parametrize("case", CASES)
def test_the_accuracy_of_predictions_is_that_of_the_run(case: str, tmp_path: Path) -> None:
    """On the raw test split, in whatever form it comes; outputs as the run's evaluation sees them, to the last bit.
    Must fail without the normalisation, with a few steps, or with another seed of the noise (each tried)."""
    run = fitted(tmp_path, *CASES[case])
    test = neurosbd.load_data("digits", test_subset=25).test
    outputs = run.predict(test.values)
    assert outputs.shape == (250, 10) and outputs.device.type == "cpu" and not outputs.requires_grad
    accuracy = (outputs.argmax(1).numpy() == test.labels).mean()
    assert accuracy == run.result["final"]["test_accuracy"] and accuracy > 0.2
    assert torch.equal(outputs, evaluated(run))
    pictures = test.values[..., 0]
    for form in (pictures, torch.from_numpy(pictures)[:, None], test, pictures.astype(np.float64), pictures.tolist()):
        assert torch.equal(run.predict(form), outputs)


def test_recordings_of_events_are_predicted_as_tested(nmnist: Path, tmp_path: Path) -> None:
    settings = {"training.epochs": 1, "time.steps": 10, "data.root": str(nmnist), "data.subset": None}
    with pytest.warns(UsageWarning, match="40 of 40 recordings of 'nmnist' go on after the end of the trial"):
        run = neurosbd.fit("nmnist-snn", settings=settings, out=tmp_path / "run")
    test = neurosbd.load_data("nmnist", nmnist).test
    found = run.predict(test)
    assert (found.argmax(1).numpy() == test.labels).mean() == run.result["final"]["test_accuracy"]
    with pytest.raises(UsageError, match=r"trained on recordings of events \(EventSamples\), as.* got ndarray"):
        run.predict(np.zeros((3, 2, 34, 34)))


@pytest.mark.parametrize("loss", ["squared_error", "gaussian", "crps", "pinball"])
def test_values_come_in_the_units_of_the_data(loss: str, tmp_path: Path) -> None:
    """R² of the predicted means, or the explained quantile loss, by numpy in the units of the targets: as in the run,
    to rounding. Must fail when offset or scale is left out (tried)."""
    size = LOSSES[loss]().parameters  # type: ignore[attr-defined]
    settings = {"training.epochs": 4, "loss": loss, "population.output.size": [size]}
    run = neurosbd.fit("diabetes-mlp", settings=settings, out=tmp_path / "run")
    data = neurosbd.load_data("diabetes")
    outputs, y = run.predict(data.test.values).numpy(), data.test.targets.astype(np.float64)
    assert outputs.shape == (88, size) and 100 < outputs[:, 0].mean() < 200
    if loss == "pinball":
        constant = np.median(data.train.targets)
        explained = 1 - np.abs(y - outputs).sum() / np.abs(y - constant).sum()
        assert explained == pytest.approx(run.result["final"]["test_explained_pinball"], abs=1e-6)
        return
    explained = 1 - ((y - outputs[:, :1]) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    assert explained == pytest.approx(run.result["final"]["test_r_squared"], abs=1e-6)


def test_outputs_in_other_units_describe_the_same_distribution() -> None:
    """Losses of y and of offset + scale y: densities divide by the scale, scores and quantile losses multiply by it.
    Must fail when a log-variance moves by log scale once (tried)."""
    torch.manual_seed(0)
    y, offset, scale = torch.randn(6, 2).double(), torch.tensor([5.0, -3.0]).double(), torch.full((2,), 40.0).double()
    for loss, expected in (
        (Gaussian(), lambda value: value + scale.log().sum()),
        (GaussianCRPS(), lambda value: value * 40),
        (Pinball((0.1, 0.5, 0.9)), lambda value: value * 40),
    ):
        output = torch.randn(6, 2 * loss.parameters).double()
        moved = loss.per_example(loss.in_units(output, offset, scale), offset + scale * y)
        torch.testing.assert_close(moved, expected(loss.per_example(output, y)))


def test_counts_are_predicted_by_their_loss(tmp_path: Path) -> None:
    settings = {"training.epochs": 1, "data.subset": 200, "data.test_subset": 100}
    run = neurosbd.fit("spike-counts-mlp", settings=settings, out=tmp_path / "run")
    data = neurosbd.load_data("spike-counts", subset=200, test_subset=100)
    means = LOSSES["poisson"]().mean(run.predict(data.test.values))  # type: ignore[attr-defined]
    assert means.shape == data.test.targets.shape and (means > 0).all()


def test_a_loss_that_does_not_know_its_units_says_so(tmp_path: Path) -> None:
    class Two:
        """Two outputs per value, of which only the first counts."""

        parameters = 2

        def per_example(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return (output[:, :1] - target).square().sum(1)

        def score(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return torch.cat((2 * (output[:, :1] - target), torch.zeros_like(target)), 1)

    loss = register("two", Two())
    settings = {"training.epochs": 1, "loss": loss, "population.output.size": [2]}
    run = neurosbd.fit("diabetes-mlp", settings=settings, out=tmp_path / "run")
    with pytest.warns(UsageWarning, match=r"loss 'two' has 2 outputs per value.*offset = \[1.*scale = \["):
        assert run.predict(neurosbd.load_data("diabetes").test.values)[:, 0].abs().max() < 20


def test_a_run_predicts_without_its_data(tmp_path: Path) -> None:
    """What normalises is kept in config.json; a run of a version that kept nothing measures its data, if they are
    there. Must fail when the units are those of the examples that are predicted (tried)."""
    rng, data = np.random.default_rng(0), tmp_path / "mine.npz"
    x, labels = rng.normal(50, 9, (120, 64)), rng.integers(0, 3, 120)
    x[:, 0] += 20 * labels
    np.savez(data, train_values=x[:90], train_labels=labels[:90], test_values=x[90:], test_labels=labels[90:])
    settings = {"population.input.size": [64], "population.output.size": [3], "training.epochs": 3}
    run = neurosbd.fit("digits-mlp", data=str(data), settings=settings, out=tmp_path / "run")
    outputs = run.predict(x[90:])
    assert (outputs.argmax(1).numpy() == labels[90:]).mean() == run.result["final"]["test_accuracy"]
    torch.testing.assert_close(run.predict(x[95:96]), outputs[5:6])
    config = run.path / "config.json"
    content = json.loads(config.read_text())
    units = content.pop("units")
    config.write_text(json.dumps(content))
    assert torch.equal(neurosbd.open_run(run.path).predict(x[90:]), outputs)
    data.unlink()
    with pytest.raises(UsageError, match=r"did not keep the units of its data.*mine.npz"):
        neurosbd.open_run(run.path).predict(x[90:])
    config.write_text(json.dumps({**content, "units": units}))
    assert torch.equal(neurosbd.open_run(run.path).predict(x[90:]), outputs)
    for broken, message in (({"std": [-1.0]}, "units.*std|std"), ({"size": [3]}, r"size \[64\]")):
        config.write_text(json.dumps({**content, "units": {**units, **broken}}))
        with pytest.raises(UsageError, match=message):
            neurosbd.open_run(run.path).predict(x[90:])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> neurosbd.Run:
    settings = {"training.epochs": 1, "data.subset": 5, "data.test_subset": 5}
    return neurosbd.fit("digits-mlp", settings=settings, out=tmp_path_factory.mktemp("run") / "run")


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((8, 8), np.uint8), r"\[8, 8\]; give \[N, 1, 8, 8\].*single example x\[None\]"),
        (np.zeros((3, 9, 8), np.uint8), r"\[3, 9, 8\]; give \[N, 1, 8, 8\] or \[N, 8, 8, 1\] or \[N, 8, 8\]$"),
        (np.zeros((3, 64), np.uint8), r"\[3, 64\]"),
        (np.zeros((0, 8, 8), np.uint8), "no example"),
        (np.full((3, 8, 8), 0.5), r"float64.*whole numbers 0..16.*\* 16"),
        (np.ones((3, 8, 8)), r"float64.*whole numbers"),
        (np.full((3, 8, 8), 17), "from 17 to 17; legal are whole numbers 0..16"),
        (np.full((3, 8, 8), np.nan), "float64"),
        ([[1, 2], [3]], "no array of numbers"),
        ("pictures", "give numbers"),
        (None, "give numbers"),
    ],
)
def test_what_cannot_be_shown_is_refused(x: Any, message: str, run: neurosbd.Run) -> None:
    with pytest.raises(UsageError, match=message):
        run.predict(x)


def test_tables_must_hold_numbers(tmp_path: Path) -> None:
    run = neurosbd.fit("diabetes-mlp", settings={"training.epochs": 1}, out=tmp_path / "run")
    x = neurosbd.load_data("diabetes").test.values.copy()
    assert torch.equal(run.predict(Samples(x, np.zeros(len(x)))), run.predict(x.astype(np.float32)))
    x[3, 2] = np.nan
    with pytest.raises(UsageError, match="1 of 88 examples hold NaN or infinity, the first is 3"):
        run.predict(x)
    with pytest.raises(UsageError, match=r"x is \[10\]; give \[N, 10\]; of a single example x\[None\]"):
        run.predict(x[0])


def test_a_task_has_nothing_to_predict(tmp_path: Path) -> None:
    settings = {"training.epochs": 1, "training.batches": 1, "training.test_batches": 1}
    with pytest.warns(UsageWarning, match="Adam"):
        run = neurosbd.simulate("xor-delayed-reward", settings=settings, out=tmp_path / "run")
    with pytest.raises(UsageError, match=r"not trained on a data set.*neurosbd.unroll"):
        run.predict(np.zeros((1, 3)))


# The bare call ------------------------------------------------------------------------------------


def network(model: str) -> Network:
    return neurosbd.load_model(model).network()


def test_the_bare_call_of_a_network_with_time_says_what_it_is() -> None:
    """Once per network; a rate network is complete after one step and says nothing."""
    one, two, x = network("digits-snn"), network("digits-snn"), torch.zeros(2, 1, 8, 8)
    for spiking in (one, two):
        with pytest.warns(UsageWarning, match=r"one step from rest.*'hidden1', 'hidden2', 'output'.*run.predict\(x\)"):
            spiking(x)
        spiking(x)  # pytest turns a second warning into an error
    network("digits-mlp")(x)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 1, 8, 8), np.float32), r"must be a tensor \[B, 1, 8, 8\], got ndarray.*torch.as_tensor"),
        (torch.zeros(1, 8, 8), r"lacks the axis of a batch: x\[None\]"),
        (torch.zeros(4, 64), r"\[4, 64\], but must be \[B, 1, 8, 8\]; x.reshape\(4, 1, 8, 8\)"),
        (torch.zeros(4, 1, 9, 8), r"\[4, 1, 9, 8\], but must be \[B, 1, 8, 8\]$"),
        (torch.zeros(5, 4, 1, 8, 8), "inputs over time go into neurosbd.unroll"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), r"torch.uint8, but the weights are torch.float32.*normalise"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.float64), r"use x.to\(torch.float32\)"),
        (None, "got NoneType"),
    ],
)
def test_what_a_network_cannot_be_shown_is_refused(x: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        network("digits-mlp")(x)
