"""`neurosbd predict`: what a trained network says of data sets, tables, arrays and pictures, found by their names."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import neurosbd
from neurosbd.cli.main import main
from neurosbd.datasets.load import load_data

MODEL = """
[population]
input = {{ size = {size} }}
hidden = {{ size = [16], neuron = "relu" }}
output = {{ size = [{outputs}], neuron = "identity" }}
[[connection]]
pre = "input"
post = "hidden"
kind = "dense"
[[connection]]
pre = "hidden"
post = "output"
kind = "dense"
[training]
epochs = 3
batch_size = 10
"""


def model(folder: Path, size: Sequence[int], outputs: int, more: str = "") -> Path:
    path = folder / "model.toml"
    path.write_text(more + MODEL.format(size=list(size), outputs=outputs))
    return path


def table(path: Path, names: str, rows: Any) -> Path:
    path.write_text(names + "\n" + "\n".join(",".join(map(str, row)) for row in rows) + "\n")
    return path


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> neurosbd.Run:
    settings = {"training.epochs": 4}
    return neurosbd.fit("digits-mlp", settings=settings, out=tmp_path_factory.mktemp("runs") / "digits")


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> neurosbd.Run:
    """Trained on a table of three columns, whose class is told by their order; labels 3, 7 and 9."""
    folder = tmp_path_factory.mktemp("flowers")
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 120)
    x = rng.normal(size=(120, 3)) * 0.1 + np.eye(3)[label]
    rows = [(*row, (3, 7, 9)[c]) for row, c in zip(x.round(4).tolist(), label, strict=True)]
    data = table(folder / "flowers.csv", "petal,sepal,width,label", rows)
    with pytest.warns(neurosbd.UsageWarning, match="no example has the label"):
        return neurosbd.fit(model(folder, [3], 3), data=data, settings={"training.epochs": 30}, out=folder / "run")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> neurosbd.Run:
    """Trained on grey and white pictures in folders, one of which is named like a formula."""
    folder = tmp_path_factory.mktemp("pictures")
    for place, name in enumerate(("=dark", "light")):
        for i in range(10):
            save(folder / "data" / name / f"{i}.png", 40 + 150 * place + i)
    return neurosbd.fit(
        model(folder, [3, 4, 4], 2), data=folder / "data", settings={"training.epochs": 150}, out=folder / "run"
    )


def save(path: Path, value: int, side: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (value,) * 3).save(path)


# ---- the run's own test


@pytest.mark.parametrize("name", ["test", "digits"])
def test_the_test_split_gives_what_the_run_was_judged_by(digits: neurosbd.Run, name: str, tmp_path: Path) -> None:
    """Bit for bit. Must fail when targets are those of the training split (tried)."""
    found = neurosbd.predict(digits, name, tmp_path)
    last = digits.metrics[-1]
    assert found.metrics == {"loss": last["test_loss"], "accuracy": last["test_accuracy"]}
    data = load_data("digits")
    outputs = digits.predict(data.test.values)
    assert torch.equal(found.outputs, outputs) and found.classes is not None
    assert torch.equal(found.classes, outputs.argmax(1))
    assert found.probabilities is not None and torch.allclose(found.probabilities, outputs.softmax(1))
    assert (
        found.confusion is not None
        and np.trace(found.confusion) == (outputs.argmax(1).numpy() == data.test.labels).sum()
    )
    assert found.confusion.sum(1).tolist() == np.bincount(data.test.labels).tolist()


def test_its_files_say_the_same(digits: neurosbd.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(digits.path), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert f"accuracy {digits.metrics[-1]['test_accuracy']:.2%}" in said and "355 examples" in said
    rows = lines(tmp_path / "out" / "predictions.csv")
    right = np.mean([row["predicted"] == row["target"] for row in rows])
    assert right == digits.metrics[-1]["test_accuracy"] and len(rows) == 355
    assert sum(float(rows[0][f"probability {c}"]) for c in range(10)) == pytest.approx(1, abs=1e-5)
    confusion = lines(tmp_path / "out" / "confusion.csv")
    assert sum(int(row[f"predicted {c}"]) for c, row in enumerate(confusion)) == round(right * 355)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["accuracy"] == right
    assert (tmp_path / "out" / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_with_steps_and_noise_is_judged_as_its_own_test(tmp_path: Path) -> None:
    """Must fail when the encoder or the neurons draw from another stream than the test of the run (tried both), or when
    only the first step is shown (tried)."""
    settings = {
        "training.epochs": 1, "data.subset": 20, "data.encoder": {"kind": "poisson", "rate": 300.0}, "time.steps": 6,
        "population.hidden1.neuron": "escape",
    }  # fmt: skip
    run = neurosbd.fit("digits-snn", settings=settings, out=tmp_path / "run")
    found = neurosbd.predict(run)
    assert found.metrics["loss"] == run.metrics[-1]["test_loss"]
    assert found.path == run.path / "predictions" / "digits"


def test_values_are_in_the_units_of_the_data(tmp_path: Path) -> None:
    """R² by hand from the table. Must fail when outputs stay in deviations (tried)."""
    run = neurosbd.fit("diabetes-mlp", settings={"training.epochs": 5}, out=tmp_path / "run")
    found = neurosbd.predict(run)
    rows = lines(found.path / "predictions.csv")
    predicted, target = (
        np.array([float(row[f"{what} progression"]) for row in rows]) for what in ("predicted", "target")
    )
    explained = 1 - ((target - predicted) ** 2).sum() / ((target - target.mean()) ** 2).sum()
    last = run.metrics[-1]
    assert explained == pytest.approx(last["test_r_squared"], abs=1e-5)
    assert found.metrics["coverage"] == last["test_coverage"] and not (found.path / "confusion.csv").exists()


# ---- tables and arrays of one's own


def test_columns_are_found_by_their_names(flowers: neurosbd.Run, tmp_path: Path) -> None:
    """In another order, with others beside, without a label. Must fail when they are taken in their order (tried)."""
    rows = [("a", 0, 1, 0), ("b", 1, 0, 0), ("c", 0, 0, 1)]
    data = table(tmp_path / "new.csv", "name,width,petal,sepal", rows)
    with pytest.warns(neurosbd.UsageWarning, match="'name'"):
        found = neurosbd.predict(flowers, data)
    assert found.classes is not None and found.target is None and found.metrics == {}
    assert [row["predicted"] for row in lines(found.path / "predictions.csv")] == ["3", "9", "7"]
    assert [row["example"] for row in lines(found.path / "predictions.csv")] == ["line 2", "line 3", "line 4"]
    assert not (found.path / "metrics.json").exists()


def test_labels_of_a_table_are_names_of_classes(flowers: neurosbd.Run, tmp_path: Path) -> None:
    """Must fail when a label is taken for the place of its class (tried)."""
    rows = [(0, 1, 0, 7, "test"), (1, 0, 0, 3, "test"), (0, 0, 1, 7, "test"), (0, 0, 1, 9, "train")]
    found = neurosbd.predict(flowers, table(tmp_path / "new.csv", "petal,sepal,width,label,split", rows))
    assert found.metrics["accuracy"] == pytest.approx(2 / 3) and found.confusion is not None
    assert found.confusion.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]


def test_the_table_of_the_training_is_its_own_test(flowers: neurosbd.Run) -> None:
    with pytest.warns(neurosbd.UsageWarning, match="no example has the label"):
        found = neurosbd.predict(flowers, flowers.definition.data.name)
    assert len(found) == 24 and found.metrics["accuracy"] == flowers.metrics[-1]["test_accuracy"]


@pytest.mark.parametrize(
    ("names", "row", "said"),
    [
        ("petal,sepall,width", (0, 1, 0), "did you mean 'sepall'"),
        ("petal,sepal,width,label", (0, 1, 0, 4), "class '4' is none of those the run has learned: '3', '7', '9'"),
        ("petal,sepal,width", (0, "", 0), "line 2, column 'sepal'"),
        ("petal,sepal,width", (0, "nan", 0), "every column that the network was trained on is needed"),
        ("petal,sepal,width", (0, 1), "line 2 has 2 cells"),
        ("petal,petal,width", (0, 1, 2), "named 'petal'"),
        ("petal,sepal,width,split", (0, 1, 0, "train"), "no line has the split 'test'"),
        ("petal,sepal,width,label", (0, 1, 0, 3.5), "the label is 3.5"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_by_name(
    flowers: neurosbd.Run,
    names: str,
    row: Sequence[object],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = table(tmp_path / "new.csv", names, [row])
    assert main(["predict", str(flowers.path), str(data), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert said in told and "Traceback" not in told and not (tmp_path / "out").exists()
    assert "--set" not in told  # which there is none of here


def test_an_empty_table_is_refused(flowers: neurosbd.Run, tmp_path: Path) -> None:
    for text, said in (("", "nothing in it"), ("petal,sepal,width\n", "no line of numbers")):
        (tmp_path / "new.csv").write_text(text)
        with pytest.raises(neurosbd.UsageError, match=said):
            neurosbd.predict(flowers, tmp_path / "new.csv")


def test_arrays_with_or_without_labels(digits: neurosbd.Run, tmp_path: Path) -> None:
    data = load_data("digits").test
    for kept in ({}, {"labels": data.labels}):
        np.savez(tmp_path / "mine.npz", values=data.values, **kept)
        found = neurosbd.predict(digits, tmp_path / "mine.npz")
        assert torch.equal(found.outputs, digits.predict(data.values))
        assert found.metrics.get("accuracy") == (digits.metrics[-1]["test_accuracy"] if kept else None)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"values": np.zeros((3, 9, 9), np.uint8)}, r"\[3, 9, 9, 1\]"),
        ({"values": np.full((3, 8, 8), 200, np.uint8)}, "whole numbers 0..16"),
        ({"values": np.zeros((3, 8, 8), np.uint8), "labels": np.array([0, 1, 12])}, "class '12'"),
        ({"values": np.zeros((3, 8, 8), np.uint8), "labels": np.array([0, 1])}, "3 examples, but 2 labels"),
        ({"values": np.zeros((3, 8, 8), np.uint8), "targets": np.zeros(3)}, "has targets"),
        ({"x": np.zeros(3)}, "no array 'values'"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    digits: neurosbd.Run, arrays: dict[str, np.ndarray], said: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "mine.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(neurosbd.UsageError, match=said):
        neurosbd.predict(digits, tmp_path / "mine.npz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- pictures


def test_pictures_without_folders_are_told_apart(pictures: neurosbd.Run, tmp_path: Path) -> None:
    """The class that is named like a formula is no formula in the table."""
    save(tmp_path / "new" / "a.png", 42)
    save(tmp_path / "new" / "b.png", 195)
    found = neurosbd.predict(pictures, tmp_path / "new")
    assert [(row["example"], row["predicted"]) for row in lines(found.path / "predictions.csv")] == [
        ("a.png", "'=dark"), ("b.png", "light"),
    ]  # fmt: skip
    cells = [cell for row in lines(found.path / "predictions.csv") for cell in (*row, *row.values())]
    assert not any(cell.startswith(("=", "@", "+")) for cell in cells)


def test_pictures_in_folders_are_judged(pictures: neurosbd.Run, tmp_path: Path) -> None:
    save(tmp_path / "new" / "light" / "a.png", 195)
    save(tmp_path / "new" / "light" / "b.png", 41)
    found = neurosbd.predict(pictures, tmp_path / "new")
    assert found.confusion is not None and found.confusion.tolist() == [[0, 0], [1, 1]]
    assert (found.path / "confusion.png").exists()


@pytest.mark.parametrize(
    ("name", "side", "said"),
    [("dusk/a.png", 4, "class 'dusk'"), ("a.png", 5, "5, 5"), ("a.tif", 4, "not read"), ("a.txt", 4, "no picture")],
)
def test_pictures_that_do_not_fit_are_refused(
    pictures: neurosbd.Run, name: str, side: int, said: str, tmp_path: Path
) -> None:
    save(tmp_path / "x.png", 42, side)
    target = tmp_path / "new" / name
    target.parent.mkdir(parents=True)
    (tmp_path / "x.png").rename(target)
    with pytest.raises(neurosbd.UsageError, match=said):
        neurosbd.predict(pictures, tmp_path / "new", tmp_path / "out")


# ---- what cannot be asked


def test_what_is_no_run_on_data_is_refused(digits: neurosbd.Run, tmp_path: Path) -> None:
    run = neurosbd.simulate("stdp-window", out=tmp_path / "window")
    with pytest.raises(neurosbd.UsageError, match="not trained on a data set"):
        neurosbd.predict(run)
    with pytest.raises(neurosbd.UsageError, match="holds no run"):
        neurosbd.predict(tmp_path)
    bare = neurosbd.Run(tmp_path, digits.config, [], {"status": "running"})
    with pytest.raises(neurosbd.UsageError, match="no checkpoint"):
        neurosbd.predict(bare)
    for wrong, said in (("digts", "did you mean 'digits'"), ("diabetes", "has values to predict"), (3, "run.predict")):
        with pytest.raises(neurosbd.UsageError, match=said):
            neurosbd.predict(digits, wrong)  # type: ignore[arg-type]


def test_predictions_never_replace_what_they_are_about(flowers: neurosbd.Run, tmp_path: Path) -> None:
    """Must fail when the source is not looked at (tried)."""
    data = table(tmp_path / "predictions.csv", "petal,sepal,width", [(0, 1, 0)])
    before = data.read_text()
    with pytest.raises(neurosbd.UsageError, match="would be replaced"):
        neurosbd.predict(flowers, data, tmp_path)
    assert data.read_text() == before
    with pytest.raises(neurosbd.UsageError, match="cannot be written"):
        neurosbd.predict(flowers, data, data)


def test_a_run_of_before_the_names_were_kept_reads_its_data(digits: neurosbd.Run, tmp_path: Path) -> None:
    """Must fail when classes are taken for none (tried)."""
    units = {key: v for key, v in digits.config["units"].items() if key not in ("classes", "columns", "variables")}
    old = neurosbd.Run(digits.path, digits.config | {"units": units}, digits.metrics, digits.result)
    found = neurosbd.predict(old, out=tmp_path)
    assert found.metrics["accuracy"] == digits.metrics[-1]["test_accuracy"] and len(found.names) == 10
