"""The validation split: held out of the training split, seeded, stratified, measured; and off unless asked for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neurosbd
from neurosbd.datasets.holdout import hold_out
from neurosbd.datasets.load import load_data
from neurosbd.datasets.samples import Samples
from neurosbd.errors import UsageError, UsageWarning
from neurosbd.runs.batches import data_of

QUICK: dict[str, Any] = {"training.epochs": 2, "data.subset": 20, "data.test_subset": 5}


def numbered(counts: list[int]) -> Samples:
    """Examples whose only feature is their number, so many of every class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return Samples(np.arange(len(labels), dtype=np.float32)[:, None], labels.astype(np.int64))


@pytest.mark.parametrize(("amount", "shares"), [(0.1, [10, 5, 3, 2]), (20, [10, 5, 3, 2]), (7, [3, 2, 1, 1])])
def test_every_class_gives_its_share_and_nothing_is_in_both(amount: float, shares: list[int]) -> None:
    """Shares by hand. Must fail when examples are drawn from all (tried), or stay in the training split (tried)."""
    samples = numbered([100, 50, 30, 20])
    train, held = hold_out(samples, amount, 0, "set", tuple("abcd"))
    assert held is not None and np.bincount(held.labels, minlength=4).tolist() == shares
    assert sorted([*train.values[:, 0], *held.values[:, 0]]) == samples.values[:, 0].tolist()
    again, other = (hold_out(samples, amount, seed, "set", tuple("abcd"))[1] for seed in (0, 1))
    assert again is not None and other is not None
    assert np.array_equal(again.values, held.values) and not np.array_equal(other.values, held.values)


def test_nothing_is_held_out_unless_asked_for() -> None:
    samples = numbered([5, 5])
    assert hold_out(samples, None, 0, "set", ("a", "b")) == (samples, None)
    assert load_data("digits").validation is None and set(load_data("digits").splits) == {"train", "test"}


def test_statistics_of_the_training_split_know_nothing_of_it() -> None:
    """Inputs and targets alike. Must fail when they are taken before it is held out (tried)."""
    data = load_data("diabetes", validation=0.3)
    assert data.validation is not None and len(data.validation) == round(0.3 * (len(data.train) + len(data.validation)))
    assert data.mean == pytest.approx(data.train.values.mean(0, np.float64), rel=1e-9)
    assert data.target_mean == pytest.approx(data.train.targets.mean(0, np.float64), rel=1e-9)


@pytest.mark.parametrize(
    ("amount", "message"),
    [
        (1.0, "a fraction of the training examples, such as 0.1, or how many of them, such as 500, got 1.0"),
        (0, "how many of them, such as 500, got 0"),
        (-0.5, "got -0.5"),
        (True, "got True"),
        ("much", "got 'much'"),
        (200, r"data.validation is 200, which is 200 of 200 training examples; legal are 1 to 199"),
        (0.001, r"data.validation is 0.001, which is 0 of 200 training examples"),
    ],
)
def test_bad_values_are_refused_with_what_is_legal(tmp_path: Path, amount: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        neurosbd.fit("digits-mlp", settings=QUICK | {"data.validation": amount}, out=tmp_path / "run")
    with pytest.raises(UsageError, match=message):
        load_data("digits", subset=20, validation=amount)
    assert not list(tmp_path.iterdir())


def test_a_class_of_which_none_would_be_left_is_named() -> None:
    with pytest.raises(UsageError, match="hold out the only example of class 'rare' and leave none to learn from"):
        hold_out(numbered([9, 1]), 9, 0, "set", ("common", "rare"))
    with pytest.warns(UsageWarning, match=r"no example of 1 of 2 classes \(rare\)"):
        hold_out(numbered([99, 1]), 9, 0, "set", ("common", "rare"))


@pytest.mark.parametrize("model", ["digits-mlp", "digits-snn", "diabetes-mlp"])
def test_its_metrics_are_those_of_the_network_on_it(tmp_path: Path, model: str) -> None:
    """Computed anew from the checkpoint. Must fail when another split is judged under its name (tried)."""
    settings = {"training.epochs": 1, "data.validation": 0.25} | ({"data.subset": 8} if "digits" in model else {})
    run = neurosbd.fit(model, settings=settings, out=tmp_path / "run")
    held = data_of(run.definition).validation
    assert held is not None
    outputs, targets = run.predict(held if model != "digits-snn" else held.values), held.targets
    if model == "diabetes-mlp":
        spread = ((targets - targets.mean(0)) ** 2).sum()
        means = run.definition.loss.build().mean(outputs).numpy()
        expected = 1 - ((means - targets) ** 2).sum() / spread
        assert run.metrics[0]["validation_r_squared"] == pytest.approx(expected, abs=1e-4)
    elif model == "digits-mlp":
        expected = (outputs.argmax(1).numpy() == targets).mean()
        assert run.metrics[0]["validation_accuracy"] == pytest.approx(expected)
        loss = torch.nn.functional.cross_entropy(outputs, torch.from_numpy(targets)).item()
        assert run.metrics[0]["validation_loss"] == pytest.approx(loss, rel=1e-5)
    else:  # its encoder draws other spikes for another split
        assert 0 <= run.metrics[0]["validation_accuracy"] <= 1


def test_a_run_learns_from_what_is_left_and_is_resumed_exactly(tmp_path: Path) -> None:
    settings = QUICK | {"data.validation": 50}
    whole = neurosbd.fit("digits-mlp", settings=settings, out=tmp_path / "whole")
    neurosbd.fit("digits-mlp", settings=settings | {"training.epochs": 2}, out=tmp_path / "again")
    again = neurosbd.open_run(tmp_path / "again")
    timed = {"seconds", "samples_per_second", "peak_memory_bytes"}
    for a, b in zip(whole.metrics, again.metrics, strict=True):
        assert {k: v for k, v in a.items() if k not in timed} == {k: v for k, v in b.items() if k not in timed}
    assert json.loads((whole.path / "config.json").read_text())["definition"]["data"]["validation"] == 50
    assert len(data_of(whole.definition).train) == 150


def test_which_examples_follows_the_seed_or_that_of_the_subset() -> None:
    """Must fail when data.subset_seed is left aside (tried)."""

    def held(**settings: Any) -> np.ndarray:
        asked = {"data.validation": 20, **{key.replace("__", "."): value for key, value in settings.items()}}
        data = data_of(neurosbd.load_model("digits-mlp", settings=asked))
        assert data.validation is not None
        return data.validation.values

    assert not np.array_equal(held(seed=0), held(seed=1))
    assert np.array_equal(held(seed=0, data__subset_seed=3), held(seed=1, data__subset_seed=3))


def test_pages_and_curves_show_it(tmp_path: Path) -> None:
    """And only where it is there."""
    with_, without = (
        neurosbd.fit("digits-mlp", settings=QUICK | more, out=tmp_path / name)
        for name, more in (("with", {"data.validation": 0.2}), ("without", {}))
    )
    for run, there in ((with_, True), (without, False)):
        page = neurosbd.analyse(run.path).path.read_text()
        assert ("validation accuracy" in page) == there
        numbers = json.loads((run.path / "report" / "metrics.json").read_text())
        assert ("validation" in json.dumps(numbers).replace("null", "")) or not there
        assert ("validation orange" in run._repr_html_()) == there


def test_the_console_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from neurosbd.cli.main import main

    settings = [f"--set={key}={value}" for key, value in (QUICK | {"data.validation": 0.1}).items()]
    assert main(["fit", "digits-mlp", *settings, "--out", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "180 train, 20 validation, 50 test" in out and out.count("  validation ") == 2
