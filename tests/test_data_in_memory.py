"""Data that a user has in memory: arrays, data sets of torch, iterables of batches; and what is no data."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import neurosbd
from neurosbd.datasets.load import load_data

FEW: dict[str, Any] = {"training.epochs": 2}


class Examples:
    """A data set of the protocol of torch, torchvision and tonic: a length, and (x, label) by number."""

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.x[index], int(self.y[index])


def digits() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Pictures uint8 [N, 1, 8, 8] and labels, train and test."""
    data = load_data("digits")
    return tuple((s.values.transpose(0, 3, 1, 2), s.labels) for s in (data.train, data.test))  # type: ignore[return-value]


def weights(run: neurosbd.Run) -> dict[str, Tensor]:
    return run.checkpoint()["network"]


def test_every_form_of_the_same_data_gives_the_same_run(tmp_path: Path) -> None:
    """Arrays, tensors, a data set, a loader: the same weights and the same name. Must fail when the order of a
    loader's batches is lost, or a name does not follow from the content (tried both)."""
    train, test = digits()
    train = train[0][:200], train[1][:200]
    forms = {
        "arrays": (train, test),
        "tensors": tuple(tuple(map(torch.from_numpy, part)) for part in (train, test)),
        "sets": (Examples(*train), Examples(*test)),
        "torch": tuple(TensorDataset(*map(torch.from_numpy, part)) for part in (train, test)),
        "loaders": tuple(
            DataLoader(TensorDataset(*map(torch.from_numpy, part)), batch_size=32)  # type: ignore[arg-type]
            for part in (train, test)
        ),
    }  # fmt: skip
    runs = [neurosbd.fit("digits-mlp", data=data, settings=FEW, out=tmp_path / name) for name, data in forms.items()]
    for run in runs[1:]:
        assert run.definition.data.name == runs[0].definition.data.name
        assert all(torch.equal(value, weights(run)[name]) for name, value in weights(runs[0]).items())
    assert runs[0].config["examples"] == {"train": 200, "test": 355}
    assert torch.equal(runs[0].predict(test[0]), runs[1].predict(test[0]))


def test_the_same_data_by_file_and_by_hand_give_the_same_weights(tmp_path: Path) -> None:
    """Must fail when pictures in memory are scaled on their way (tried)."""
    (x, y), (u, v) = digits()
    np.savez(tmp_path / "mine.npz", train_values=x[:, 0], train_labels=y, test_values=u[:, 0], test_labels=v)
    by_file = neurosbd.fit("digits-mlp", data=tmp_path / "mine.npz", settings=FEW, out=tmp_path / "file")
    by_hand = neurosbd.fit("digits-mlp", data=((x, y), (u, v)), settings=FEW, out=tmp_path / "hand")
    assert all(torch.equal(value, weights(by_hand)[name]) for name, value in weights(by_file).items())


def test_pictures_that_are_no_whole_numbers_are_standardised(tmp_path: Path) -> None:
    """As ToTensor and Normalize give them; per channel, so that their units do not matter."""
    (x, y), test = digits()
    pictures = [(part[0].astype(np.float32) / 16, part[1]) for part in ((x, y), test)]
    one = neurosbd.fit("digits-mlp", data=tuple(pictures), settings=FEW, out=tmp_path / "one")
    other = neurosbd.fit(
        "digits-mlp", data=tuple((3 * a - 1, b) for a, b in pictures), settings=FEW, out=tmp_path / "other"
    )
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(other)[name], value, rtol=1e-2, atol=1e-3)
    found = one.predict(pictures[1][0])
    assert (found.argmax(1).numpy() == test[1]).mean() == one.metrics[-1]["test_accuracy"]


def test_without_a_test_split_every_fifth_example_is_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 10))
    settings = FEW | {"population.input.size": [10], "population.output.size": [2]}
    run = neurosbd.fit("diabetes-mlp", data=(x, x[:, 0]), settings=settings, out=tmp_path / "run")
    assert run.config["examples"] == {"train": 80, "test": 20} and "test_r_squared" in run.metrics[-1]


def spikes(lengths: list[int], seed: int = 0) -> tuple[list[Tensor], list[int]]:
    """Frames [T, 1, 8, 8] of any length, in which the upper or the lower half spikes."""
    generator = torch.Generator().manual_seed(seed)
    x, y = [], []
    for number, steps in enumerate(lengths):
        frames = (torch.rand(steps, 1, 8, 8, generator=generator) < 0.4).float()
        half = number % 2
        frames[:, :, 4 * half : 4 * half + 4] = 0
        x.append(frames)
        y.append(half)
    return x, y


def test_frames_over_time_of_any_length(tmp_path: Path) -> None:
    """As a data set of tonic gives them after ToFrame: the network sees the very frames, and nothing after their end.
    Must fail when a frame falls into the step before its own (tried)."""
    from neurosbd.datasets.definition import load_file
    from neurosbd.datasets.events import event_resident
    from neurosbd.datasets.in_memory import read_in_memory
    from neurosbd.datasets.load import READERS

    x, y = spikes([3, 7, 5, 7, 6, 4] * 5)
    for dt in (1e-3, 0.3e-3, 1 / 3000):
        splits = read_in_memory(Examples(x, y), (1, 8, 8), dt, load_file("arrays", READERS))
        resident = event_resident(splits.test, torch.device("cpu"))
        batch, target = resident.batch(torch.arange(len(resident)))
        shown = torch.stack([*batch.frames(8, dt)])
        for place, number in enumerate(range(4, 30, 5)):
            steps = len(x[number])
            assert torch.equal(shown[:steps, place], x[number]) and shown[steps:, place].sum() == 0
            assert target[place] == y[number]
    settings = {"training.epochs": 4, "time.steps": 7, "data.encoder": "constant", "population.output.size": [2]}
    run = neurosbd.fit("digits-snn", data=Examples(x, y), settings=settings, out=tmp_path / "run")
    assert run.result["status"] == "finished" and run.config["examples"] == {"train": 24, "test": 6}


def test_frames_after_the_end_of_a_trial_are_said(tmp_path: Path) -> None:
    """A third of the recordings have 8 frames, the others 4, and 6 steps are shown: of 16 frames, all alike, 2 are not.
    Must fail when nothing is said, or of recordings that just fit (tried)."""
    frame = (torch.arange(64) % 2).float().reshape(1, 1, 8, 8)
    data = Examples([frame.expand(steps, 1, 8, 8) for steps in [4, 4, 8] * 10], [0, 1, 1] * 10)
    settings = {"training.epochs": 1, "data.encoder": "constant", "population.output.size": [2]}
    for steps, times in ((6, 1), (8, 0)):
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            out = tmp_path / f"{steps}"
            neurosbd.fit("digits-snn", data=data, settings=settings | {"time.steps": steps}, out=out)
        told = [str(w.message) for w in heard if "never shown" in str(w.message)]
        assert len(told) == times
        assert not told or ("10 of 30 recordings" in told[0] and "12.5% of all events" in told[0])
        assert not told or "time.steps = 8" in told[0]


def test_names_of_classes_come_along(tmp_path: Path) -> None:
    (x, y), test = digits()
    data = Examples(x, y), Examples(*test)
    data[0].classes = [f"digit {i}" for i in range(10)]  # type: ignore[attr-defined]
    run = neurosbd.fit("digits-mlp", data=data, settings=FEW, out=tmp_path / "run")
    assert run.config["units"]["classes"][3] == "digit 3"


def test_resume_needs_the_same_data(tmp_path: Path) -> None:
    """Must fail when the name of the data does not depend on every single value (tried)."""
    train, test = digits()
    out = tmp_path / "run"
    run = neurosbd.fit("digits-mlp", data=(train, test), settings=FEW, out=out)
    again = neurosbd.fit("digits-mlp", data=(train, test), settings=FEW, out=out, resume=True)
    assert again.metrics == run.metrics
    changed = train[0].copy()
    changed[0, 0, 0, 0] += 1
    with pytest.raises(neurosbd.UsageError, match=r"data\.name.*give the same ones, fit\(data=\.\.\.\)"):
        neurosbd.fit("digits-mlp", data=((changed, train[1]), test), settings=FEW, out=out, resume=True)
    with pytest.raises(neurosbd.UsageError, match=r"data\.name.*give the same ones, fit\(data=\.\.\.\)"):
        neurosbd.fit("digits-mlp", settings=FEW, out=out, resume=True)
    with pytest.raises(neurosbd.UsageError, match="an object that lived in Python"):
        neurosbd.predict(run)


def endless() -> Iterator[Any]:
    yield 3


X, Y = np.zeros((10, 1, 8, 8), np.uint8), np.arange(10) % 2


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ((X[:, :, :7], Y), r"examples are \[1, 7, 8\], but the input population has size \[1, 8, 8\]"),
        ((X[:0], Y[:0]), "there is no example in it"),
        (Examples(X[:0], Y[:0]), "there is no example in it"),
        ((X, Y[:9]), "10 examples, but 9 targets"),
        ((X[:3], Y[:3]), "every fifth"),
        ((X, Y - 1), "labels go from -1"),
        ((np.where(np.arange(10)[:, None, None, None] == 3, np.nan, 0.5) * np.ones(X.shape), Y), "NaN"),
        (Examples([*X[:9], X[9, :, :4]], Y), "different shapes"),
        (Examples([object()] * 5, Y), "no array of numbers|not numbers"),
        ((X, Y * 1j), "not numbers"),
        ([3], r"batch 0 is int; an example is a pair"),
        ([(X, Y[:3])], "as many targets as examples"),
        (endless(), "pair"),
        (3, "data is int; give"),
        ({"x": X}, "data is dict; give"),
        (((X, Y), (np.ones((4, 3, 1, 8, 8), np.uint8), Y[:4])), "different kinds"),
        ((np.full((10, 3, 1, 8, 8), np.nan), Y), "NaN"),
        ((X, np.arange(10)), "10 classes|readout"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::neurosbd.UsageWarning")
def test_what_is_no_data_is_one_sentence(data: Any, said: str, tmp_path: Path) -> None:
    settings = FEW | {"population.output.size": [2]}
    with pytest.raises(neurosbd.UsageError, match=said):
        neurosbd.fit("digits-mlp", data=data, settings=settings, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
