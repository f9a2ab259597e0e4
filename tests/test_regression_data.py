"""Values to predict: the sets that ship, and files of one's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neurosbd.config.resolve import load_model
from neurosbd.datasets.inspect import inspect
from neurosbd.datasets.load import load_data
from neurosbd.datasets.processes import PROCESSES, Heteroscedastic, OrientationTuned
from neurosbd.errors import UsageError, UsageWarning
from neurosbd.losses import Gaussian
from neurosbd.runs.batches import DatasetBatches
from tests.values import SHIPPED, generator


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_sets_are_whole_and_the_same_every_time(name: str) -> None:
    data, again = load_data(name), load_data(name)
    for samples, other in ((data.train, again.train), (data.test, again.test)):
        assert samples.targets.shape == (len(samples), data.outputs) and samples.targets.dtype == np.float32
        assert np.array_equal(samples.targets, other.targets) and np.array_equal(samples.values, other.values)
    assert data.outputs == len(data.variables) and not data.classes
    np.testing.assert_allclose(data.target_mean, data.train.targets.mean(0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(data.target_std, data.train.targets.std(0, dtype=np.float64), rtol=1e-6)


def test_embedded_sets_are_the_published_ones() -> None:
    """Known sums: must fail when rows are lost or columns exchanged."""
    data = load_data("diabetes")
    y = np.concatenate((data.train.targets, data.test.targets))
    assert (len(data.train), len(data.test)) == (354, 88) and y.sum() == 67243 and (y.min(), y.max()) == (25, 346)
    assert list(data.train.values[0][:3]) == [59, 2, pytest.approx(32.1)] and data.train.targets[0] == 151
    visits = load_data("doctor-visits")
    y = np.concatenate((visits.train.targets, visits.test.targets))
    assert (
        len(y) == 20190 and y.mean() == pytest.approx(2.8604, abs=1e-4) and y.var() == pytest.approx(20.288, abs=1e-3)
    )
    assert len(visits.test) == 4000 and visits.kind == "counts"
    assert "1 values to predict (counts): visits" in " ".join(inspect("doctor-visits").lines)
    assert inspect("diabetes").verified == 1


def test_inputs_and_targets_are_standardised_by_the_training_split_alone() -> None:
    """Must fail when the test split has a part in the statistics (its targets are moved far away here)."""
    data = load_data("diabetes")
    batches = DatasetBatches(load_model("diabetes-mlp").build(), data, torch.device("cpu"))
    x, y = batches.stream.split.batch(torch.arange(batches.examples))
    assert x.mean(0).abs().max() < 1e-5 and (x.std(0, correction=0) - 1).abs().max() < 1e-4
    assert y.mean().abs() < 1e-5 and y.std(correction=0) == pytest.approx(1, abs=1e-4)
    trial = next(batches.tests())
    raw = (data.test.targets[: len(trial.target)] - data.target_mean[0]) / data.target_std[0]
    torch.testing.assert_close(trial.target, torch.tensor(raw, dtype=torch.float32))
    counts = DatasetBatches(load_model("spike-counts-mlp").build(), load_data("spike-counts"), torch.device("cpu"))
    assert next(counts.tests()).target.frac().abs().max() == 0  # left as they are for a loss of counts


def test_subset_is_of_all_examples() -> None:
    part = load_data("diabetes", subset=50, test_subset=7)
    assert (len(part.train), len(part.test)) == (50, 7)
    assert np.array_equal(part.train.targets, load_data("diabetes").train.targets[:50])
    drawn = [load_data("diabetes", subset=50, subset_seed=s).train.targets for s in (1, 1, 2)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    generated = load_data("heteroscedastic", test_subset=5).test
    assert generated.truth is not None and generated.truth.mean.shape == (5, 1)
    with pytest.raises(UsageError, match=r"data\.subset is 400, but there are 354 examples"):
        load_data("diabetes", subset=400)


def test_truth_of_generated_data_is_that_of_the_draws() -> None:
    """Mean, spread and nominal coverage of the true model. Must fail with a spread of another size."""
    drawn = Heteroscedastic().draw(100_000, generator())
    z = (drawn.targets - drawn.mean) / drawn.std
    assert abs(z.mean()) < 0.015 and z.std().item() == pytest.approx(1, abs=0.01)
    low, high = Gaussian().interval(torch.cat((drawn.mean, 2 * drawn.std.log()), 1))
    inside = ((low <= drawn.targets) & (drawn.targets <= high)).double()
    assert inside.mean().item() == pytest.approx(0.9, abs=0.004)
    outer = inside[drawn.values[:, 0].abs() > 1.8].mean().item()
    assert outer == pytest.approx(0.9, abs=0.012)  # where the noise is largest as well
    for r in (None, 5.0):
        cells = OrientationTuned(r=r).draw(50_000, generator())
        z = (cells.targets - cells.mean) / cells.std
        assert z.mean(0).abs().max() < 0.02 and (z.std(0) - 1).abs().max() < 0.03


def test_cells_are_tuned_to_orientation_and_blind_to_phase() -> None:
    """Must fail when the orientation of a grating and that of the cell disagree, or the phase matters."""
    cells = OrientationTuned()
    theta = torch.tensor([[0.0], [torch.pi / 2]])
    full = torch.ones(2, 1)
    images = cells._gratings(theta, 0 * full, full).float()
    assert images[0, 0].std() > 50 and images[0, :, 0].std() < 1  # at 0 degrees it changes along x alone
    assert images[1, :, 0].std() > 50 and images[1, 0].std() < 1
    drawn = cells.draw(4000, generator())
    assert drawn.values.dtype == torch.uint8 and drawn.values.shape == (4000, 8, 8, 1)
    best = drawn.mean.argmax(1)
    assert torch.bincount(best, minlength=8).min() > 350  # every eighth of the orientations has its cell


@pytest.mark.parametrize("name", list(PROCESSES))
def test_processes_draw_from_the_generator_alone(name: str) -> None:
    process = PROCESSES[name]()
    one, two = (process.draw(20, generator(3)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one.values, process.draw(20, generator(4)).values)
    assert one.mean.shape == one.std.shape == one.targets.shape and (one.std > 0).all()


# Data of one's own --------------------------------------------------------------------------------


def own(path: Path, y: Any, key: str = "targets", count: int = 40) -> Path:
    rng = np.random.default_rng(0)
    arrays = {f"{split}_values": rng.normal(size=(count, 3)) for split in ("train", "test")}
    np.savez(path, **arrays, **{f"{split}_{key}": y for split in ("train", "test")})  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    ("y", "kind"),
    [
        (np.linspace(-1, 1, 40), "reals"),
        (np.linspace(0.5, 1, 40)[:, None] * np.ones(2), "positive"),
        (np.arange(40), "counts"),
        (np.arange(40) % 2 == 0, "binary"),
    ],
)
def test_own_arrays_tell_their_kind(tmp_path: Path, y: np.ndarray, kind: str) -> None:
    data = load_data(own(tmp_path / "mine.npz", y))
    assert data.kind == kind and data.outputs == (1 if y.ndim == 1 else 2) and data.variables[0] == "y0"
    assert data.train.targets.shape == (40, data.outputs)


def table(path: Path, head: str, line: str, count: int = 50) -> Path:
    rows = [line.format(i=i, half=i / 2, odd=i % 2, part="test" if i >= 40 else "train") for i in range(count)]
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def test_own_tables(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", "x,target:speed,z,target:count,split", "{i},{half},-{i},{i},{part}")
    data = load_data(path, columns=("x", "z"))  # by name: wanted, though they count the rows
    assert data.variables == ("speed", "count") and data.size == (2,) and data.kind == "reals"
    assert (len(data.train), len(data.test)) == (40, 10) and list(data.test.targets[0]) == [20, 40]
    assert list(data.test.values[0]) == [40, -40]
    data = load_data(table(tmp_path / "b.csv", "label,x,y", "{odd},{i},{half}"), columns=("x", "y"))
    assert data.kind == "classes" and data.classes == ("0", "1") and list(data.test.labels) == [0, 1] * 5
    assert list(data.test.values[:, 0]) == list(range(4, 50, 5))
    with pytest.warns(UsageWarning, match="counts the rows"):
        assert "train: 40 examples, 20..20 per class" in inspect(str(tmp_path / "b.csv")).lines


@pytest.mark.parametrize(
    ("head", "line", "message"),
    [
        ("x,y", "{i},{i}", "the columns are x, y; the first line must name the columns"),
        ("target,label,x", "{i},{odd},{i}", "the columns are target, label, x"),
        ("target,x", "{i},word", "line 2, column 'x': 'word' is no number"),
        ("target,x", "{i}", "line 2 has 1 cells, but there are 2 columns"),
        ("label,x", "{half},{i}", "line 3: the label is 0.5; give integers from 0"),
        ("target,x,split", "{i},{i},dev", "line 2: split is 'dev'; legal are train and test"),
        ("target,x", "{i},nan", "line 2, column 'x': 'nan' is no finite number"),
        ("target,x", "nan,{i}", "line 2, column 'target': 'nan' is no finite number"),
        ("target,x", "7,{i}", "'target' is the same for all training examples"),
    ],
)
def test_tables_that_are_wrong_say_where(tmp_path: Path, head: str, line: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_data(table(tmp_path / "bad.csv", head, line))


def test_own_arrays_that_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"train_labels are float64 \[40\]; give integers"):
        load_data(own(tmp_path / "a.npz", np.linspace(0, 1, 40), "labels"))
    with pytest.raises(UsageError, match=r"train_targets are <U1 \[40\]; give numbers"):
        load_data(own(tmp_path / "b.npz", np.array(["a"] * 40)))
    with pytest.raises(UsageError, match="40 examples, but 39 targets"):
        load_data(own(tmp_path / "c.npz", np.linspace(0, 1, 39)))
    wrong = own(tmp_path / "d.npz", np.linspace(-1, 1, 40))
    file = tmp_path / "mine.toml"
    file.write_text(
        f'about = "x"\nlicence = "x"\nsource = "x"\nreader = "arrays"\nfiles = {{ all = ["{wrong.name}"] }}\n'
        'targets = "counts"\n'
    )
    with pytest.raises(UsageError, match="targets are no counts, the first is -1; legal are finite counts"):
        load_data(file, tmp_path)
