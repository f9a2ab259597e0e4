"""Readers, archives, cache and batches: real layouts in small, and everything that can be broken about them."""

import gzip
import os
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from neurosbd.datasets.definition import load_file
from neurosbd.datasets.inspect import inspect
from neurosbd.datasets.load import READERS, load_data, measure, resolve_data
from neurosbd.datasets.stream import Stream, resident
from neurosbd.errors import RunError, UsageError
from neurosbd.files.library import names

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_else_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEUROSBD_DATA", str(tmp_path / "nowhere"))


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """Six real-layout files: 20 train and 10 test images."""
    rng, folder = np.random.default_rng(0), tmp_path / "mnist"
    folder.mkdir()
    for part, count in (("train", 20), ("t10k", 10)):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return tmp_path


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    rng, folder = np.random.default_rng(0), tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        rows = rng.integers(0, 256, (10, 3073), np.uint8)
        rows[:, 0] = np.arange(10)
        rows.tofile(folder / f"{name}.bin")
    return tmp_path


def picture(path: Path, side: int = 8, value: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side, 3), value, np.uint8)).save(path)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Tiny ImageNet's layout: three classes, 2 training and 1 validation image each."""
    top = tmp_path / "tiny-imagenet-200"
    wnids = ["n03", "n01", "n02"]
    for k, wnid in enumerate(wnids):
        for i in range(2):
            picture(top / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", 64, 40 * k)
        picture(top / "val" / "images" / f"val_{k}.JPEG", 64, 40 * k)
    (top / "wnids.txt").write_text("\n".join(wnids))
    (top / "words.txt").write_text("n01\tone, first\nn02\ttwo\nn03\tthree\n")
    (top / "val" / "val_annotations.txt").write_text(
        "".join(f"val_{k}.JPEG\t{w}\t0\t0\t0\t0\n" for k, w in enumerate(wnids))
    )
    return tmp_path


def test_every_dataset_file_is_valid() -> None:
    for name in names("data"):
        definition = load_file(name, READERS)
        assert definition.licence and definition.source
        for item in definition.download:
            assert item.filename and item.size > 1000


def test_digits_are_embedded_and_real() -> None:
    digits = load_data("digits")
    assert digits.train.values.shape == (1442, 8, 8, 1) and digits.test.values.shape == (355, 8, 8, 1)
    assert digits.train.values.max() == 16 and digits.classes == tuple("0123456789")
    counts = np.bincount(digits.test.labels)
    assert counts.min() >= 34 and counts.max() <= 36  # a fifth of 174..183 per class


def test_idx(mnist: Path) -> None:
    data = load_data("mnist", mnist)
    assert data.size == (1, 28, 28) and len(data.train.labels) == 20 and data.mean == (0.1307,)


def test_cifar_planes_become_pixels(cifar: Path) -> None:
    data = load_data("cifar10", cifar)
    raw = np.fromfile(cifar / "cifar-10-batches-bin" / "data_batch_1.bin", np.uint8).reshape(-1, 3073)
    assert data.train.values.shape == (50, 32, 32, 3)
    assert data.train.values[3, 5, 7, 1] == raw[3, 1 + 1024 + 5 * 32 + 7]
    assert list(data.train.labels[:10]) == list(range(10))


def test_cifar100_uses_the_fine_label(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    rows = np.zeros((100, 3074), np.uint8)
    rows[:, 0], rows[:, 1] = 7, np.arange(100)
    for name in ("train.bin", "test.bin"):
        rows.tofile(folder / name)
    assert list(load_data("cifar100", tmp_path).train.labels) == list(range(100))


def test_tiny_imagenet_from_folder_and_zip(tiny: Path, tmp_path: Path) -> None:
    data = load_data("tiny-imagenet", tiny)
    assert data.size == (3, 64, 64) and data.classes == ("one", "two", "three")
    assert list(data.train.labels) == [0, 0, 1, 1, 2, 2] and list(data.test.labels) == [2, 0, 1]
    elsewhere = tmp_path / "zipped"
    elsewhere.mkdir()
    with zipfile.ZipFile(elsewhere / "tiny-imagenet-200.zip", "w") as archive:
        for path in (tiny / "tiny-imagenet-200").rglob("*"):
            archive.write(path, path.relative_to(tiny))
    again = load_data("tiny-imagenet", elsewhere)
    assert np.array_equal(again.train.values, data.train.values)


def test_cifar_from_the_published_archive(cifar: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "packed"
    elsewhere.mkdir()
    with tarfile.open(elsewhere / "cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.add(cifar / "cifar-10-batches-bin", "cifar-10-batches-bin")
    assert len(load_data("cifar10", elsewhere).train.labels) == 50


@pytest.mark.parametrize("split", [True, False])
def test_a_users_own_folder(tmp_path: Path, split: bool) -> None:
    for top in ("train", "test") if split else ("",):
        for k, name in enumerate(("cats", "dogs")):
            for i in range(5):
                picture(tmp_path / "mine" / top / name / f"x_{i}.png", 8, 50 * k + i)
    name, root = resolve_data("digits", str(tmp_path / "mine"))
    data = load_data(name, root)
    assert data.classes == ("cats", "dogs") and data.size == (3, 8, 8)
    assert len(data.test.labels) == (10 if split else 2)


def test_a_users_own_arrays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "mine.npz"
    np.savez(
        path, train_values=3 + 2 * rng.normal(size=(500, 4)), train_labels=np.arange(500) % 3,
        test_values=rng.normal(size=(30, 4)), test_labels=np.arange(30) % 3,
    )  # fmt: skip
    data = load_data(path)
    assert data.size == (4,) and data.classes == ("0", "1", "2")
    x, _ = resident(data.train, data, CPU).batch(torch.arange(500))
    torch.testing.assert_close(x.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std(0, correction=0), torch.ones(4), atol=1e-5, rtol=0)


def test_data_path_with_the_models_own_files_is_its_root(cifar: Path) -> None:
    assert resolve_data("cifar10", str(cifar)) == ("cifar10", str(cifar))
    assert resolve_data("cifar10", "mnist") == ("mnist", None)


@pytest.mark.parametrize("own", ["pictures/", "table.csv", "arrays.npz"])
def test_another_folder_replaces_a_models_own_path(tmp_path: Path, own: str) -> None:
    """A model file may name a path of its own. Must fail when that is read as a definition (tried)."""
    for name in ("cats", "dogs"):
        picture(tmp_path / "mine" / name / "x.png")
    assert resolve_data(own, str(tmp_path / "mine")) == (str(tmp_path / "mine"), None)


def test_arrays_of_which_nothing_is_made_are_said(tmp_path: Path) -> None:
    """As a validation split that somebody made. Must fail when nobody asks which arrays are left (tried)."""
    x, y, path = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 3, tmp_path / "mine.npz"
    arrays = {"train_values": x, "train_labels": y, "test_values": x, "test_labels": y}
    np.savez(path, **arrays, feature_names=np.array(["a", "b"]))
    load_data(path)
    with pytest.warns(UserWarning, match=r"nothing is read from 'train_labels', 'test_labels', 'validation_values'"):
        np.savez(path, **arrays, validation_values=x, train_targets=x, test_targets=x)
        load_data(path)


def broken(case: str, mnist: Path, cifar: Path, tiny: Path, tmp_path: Path) -> tuple[Any, Any]:
    """Break something; returns (name, root)."""
    if case == "gzip cut":
        path = mnist / "mnist" / "train-images-idx3-ubyte.gz"
        path.write_bytes(path.read_bytes()[:-40])
        return "mnist", mnist
    if case == "idx short":
        path = mnist / "mnist" / "train-images-idx3-ubyte.gz"
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-5]))
        return "mnist", mnist
    if case == "idx other":
        (mnist / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"hello world"))
        return "mnist", mnist
    if case == "idx absurd":
        path = mnist / "mnist" / "train-images-idx3-ubyte.gz"
        path.write_bytes(gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, *3 * [4_000_000_000]) + bytes(100)))
        return "mnist", mnist
    if case == "idx longer":
        path = mnist / "mnist" / "train-images-idx3-ubyte.gz"
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(10_000_000)))
        return "mnist", mnist
    if case == "idx empty":
        (mnist / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"")
        return "mnist", mnist
    if case == "cifar absurd":
        os.truncate(cifar / "cifar-10-batches-bin" / "data_batch_3.bin", 3073 << 30)  # a file with a hole
        return "cifar10", cifar
    if case == "cifar cut":
        path = cifar / "cifar-10-batches-bin" / "data_batch_3.bin"
        path.write_bytes(path.read_bytes()[:-1])
        return "cifar10", cifar
    if case == "cifar label":
        path = cifar / "cifar-10-batches-bin" / "data_batch_3.bin"
        path.write_bytes(b"\x63" + path.read_bytes()[1:])
        return "cifar10", cifar
    if case == "pickle":
        (tmp_path / "p").mkdir()
        (tmp_path / "p" / "cifar-10-python.tar.gz").write_bytes(b"")
        return "cifar10", tmp_path / "p"
    if case == "jpeg cut":
        path = next((tiny / "tiny-imagenet-200" / "train").rglob("*.JPEG"))
        path.write_bytes(path.read_bytes()[:60])
        return "tiny-imagenet", tiny
    if case == "no images of a class":
        (tiny / "tiny-imagenet-200" / "train" / "n01" / "images").rename(tiny / "elsewhere")
        return "tiny-imagenet", tiny
    if case == "not text":
        (tiny / "tiny-imagenet-200" / "words.txt").write_bytes(b"n01\t\xff\xfe")
        return "tiny-imagenet", tiny
    if case == "class elsewhere":
        (tiny / "tiny-imagenet-200" / "wnids.txt").write_text("n01\n../../up\n")
        return "tiny-imagenet", tiny
    if case == "picture elsewhere":
        (tiny / "tiny-imagenet-200" / "val" / "val_annotations.txt").write_text("../../x.JPEG\tn01\t0\t0\t0\t0\n")
        return "tiny-imagenet", tiny
    if case == "picture missing":
        (tiny / "tiny-imagenet-200" / "val" / "val_annotations.txt").write_text("val_9.JPEG\tn01\t0\t0\t0\t0\n")
        return "tiny-imagenet", tiny
    if case == "annotation":
        (tiny / "tiny-imagenet-200" / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn99\t0\t0\t0\t0\n")
        return "tiny-imagenet", tiny
    if case == "sizes":
        for i, side in enumerate((8, 9, 8, 8, 8, 8)):
            for name in ("a", "b"):
                picture(tmp_path / "mine" / name / f"x_{i}.png", side)
        return tmp_path / "mine", None
    if case == "nowhere":
        return "mnist", None
    arrays = {
        "train_values": np.ones((4, 2)), "train_labels": np.array([0, 1, 0, 1]),
        "test_values": np.ones((2, 2)), "test_labels": np.array([0, 1]),
    }  # fmt: skip
    changed: dict[str, Any] = {
        "nan": {"train_values": np.array([[1, np.nan], [1, 1], [1, 1], [1, 1]])},
        "count": {"train_labels": np.array([0, 1])},
        "negative": {"train_labels": np.array([0, -1, 0, 1])},
        "float labels": {"train_labels": np.array([0.0, 1, 0, 1])},
        "objects": {"train_values": np.array([{}, {}, {}, {}], object)},
        "shape": {"train_values": np.ones((4, 2, 2, 2, 2))},
        "width": {"test_values": np.ones((2, 3))},
        "key": {"tset_labels": arrays["test_labels"]},
        "not npz": {},
    }
    path = tmp_path / "mine.npz"
    np.savez(
        path, **{k: v for k, v in {**arrays, **changed[case]}.items() if not (case == "key" and k == "test_labels")}
    )
    if case == "not npz":
        path.write_bytes(b"PK nonsense")
    return path, None


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("gzip cut", "truncated or corrupt gzip"),
        ("idx short", "truncated or corrupt: header says"),
        ("idx other", "not an idx file"),
        ("idx absurd", r"header says \[4000000000.*but there are far fewer"),
        ("idx longer", r"header says \[20, 28, 28\], 15,696 bytes, but there are more"),
        ("idx empty", "starts with nothing|truncated or corrupt gzip"),
        ("cifar cut", r"30729 bytes; legal is a whole number of records of 3073"),
        ("cifar absurd", "legal is a whole number of records of 3073 bytes, at least one, in up to 4294967296"),
        ("no images of a class", r"n01/images: cannot be listed \(No such file"),
        ("not text", "words.txt: is no text in UTF-8"),
        ("class elsewhere", "wnids.txt: '../../up' cannot be the name"),
        ("picture elsewhere", "val_annotations.txt: '../../x.JPEG' cannot be the name"),
        ("picture missing", "val_9.JPEG: No such file"),
        ("cifar label", "labels go from 0 to 99"),
        ("pickle", "made of pickles.*binary version"),
        ("jpeg cut", "truncated or corrupt picture"),
        ("annotation", "no class of wnids.txt"),
        ("sizes", "must have one size"),
        ("nowhere", "neurosbd data get mnist"),
        ("nan", "1 of 4 examples hold NaN"),
        ("count", "4 examples, but 2 labels"),
        ("negative", "labels go from -1"),
        ("float labels", "give integers"),
        ("objects", "plain arrays"),
        ("shape", "give images as uint8"),
        ("width", "test examples"),
        ("key", "did you mean 'tset_labels'"),
        ("not npz", "not a readable .npz"),
    ],
)
def test_broken_data_is_refused_with_a_reason(
    case: str, message: str, mnist: Path, cifar: Path, tiny: Path, tmp_path: Path
) -> None:
    name, root = broken(case, mnist, cifar, tiny, tmp_path)
    with pytest.raises(UsageError, match=message):
        load_data(name, root)


def test_subset_takes_the_first_of_each_class_or_draws(cifar: Path) -> None:
    whole, part = load_data("cifar10", cifar), load_data("cifar10", cifar, subset=2)
    assert list(np.bincount(part.train.labels)) == [2] * 10
    assert np.array_equal(part.train.values, whole.train.values[:20])
    drawn = [load_data("cifar10", cifar, subset=2, subset_seed=s).train.values for s in (1, 1, 2)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    with pytest.raises(UsageError, match=r"data.subset is 6 for each class, but class 0 has 5 examples.* for all"):
        load_data("cifar10", cifar, subset=6)


def test_measured_normalisation_equals_numpy() -> None:
    values = np.random.default_rng(0).integers(0, 256, (2100, 5, 4, 3), np.uint8)
    mean, std = measure(values, 255.0)
    np.testing.assert_allclose(mean, (values / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (values / 255).std((0, 1, 2)), rtol=1e-10)


def test_batches_cover_an_epoch_once_and_are_normalised(cifar: Path) -> None:
    data = load_data("cifar10", cifar)
    stream = Stream(resident(data.train, data, CPU), 8, seed=0)
    assert len(stream) == 7
    seen = torch.cat([stream.batch(0, k)[0] for k in range(7)])
    expected = (
        torch.tensor(np.array(data.train.values)).permute(0, 3, 1, 2) / 255 - torch.tensor(data.mean)[:, None, None]
    ) / torch.tensor(data.std)[:, None, None]
    assert seen.shape == expected.shape
    torch.testing.assert_close(
        seen.sum((1, 2, 3)).sort().values, expected.sum((1, 2, 3)).sort().values, rtol=1e-4, atol=1e-2
    )
    assert stream.batch(0, 0)[0].is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(stream.batch(0, 0)[1], stream.batch(1, 0)[1])
    again = Stream(resident(data.train, data, CPU), 8, seed=0)
    assert torch.equal(again.batch(5, 3)[0], stream.batch(5, 3)[0])  # any batch of any epoch, at once


def test_shift_and_mirror_equal_padding_by_reflection(cifar: Path) -> None:
    """Oracle: torch's reflection padding, then a crop, then a flip."""
    data = load_data("cifar10", cifar)
    split = resident(data.train, data, CPU)
    index = torch.arange(6)
    offset = torch.tensor([[0, 0], [4, -4], [-3, 2], [1, 4], [-4, -4], [2, 0]])
    mirror = torch.tensor([False, True, False, True, True, False])
    got, _ = split.moved(index, offset, mirror)
    plain, _ = split.batch(index)
    padded = torch.nn.functional.pad(plain, (4, 4, 4, 4), mode="reflect")
    for i in range(6):
        r, c = (4 + offset[i]).tolist()
        want = padded[i, :, r : r + 32, c : c + 32]
        assert torch.equal(got[i], want.flip(-1) if mirror[i] else want)


def test_every_image_is_mirrored_in_every_other_epoch(cifar: Path) -> None:
    data = load_data("cifar10", cifar)
    stream = Stream(resident(data.train, data, CPU), 50, seed=0, flip=True)
    pictures = []
    for epoch in range(3):
        x, _ = stream.batch(epoch, 0)
        pictures.append(x[stream._order(epoch).argsort()])
    assert torch.equal(pictures[0], pictures[2]) and torch.equal(pictures[0], pictures[1].flip(-1))
    mirrored = sum(
        not torch.equal(a, b) for a, b in zip(pictures[0], stream.split.batch(torch.arange(50))[0], strict=True)
    )
    assert 10 <= mirrored <= 40


def test_check_reports_and_refuses_other_content(cifar: Path) -> None:
    with pytest.raises(RunError, match="published is cee916563c9f"):
        inspect("cifar10", cifar)
    report = inspect("digits")
    assert any("1,442" in line for line in report.lines)


def test_real_sets_are_the_published_ones(real_data: Path) -> None:
    for name, files in (("mnist", 4), ("cifar10", 6)):
        assert inspect(name, real_data).verified == files
