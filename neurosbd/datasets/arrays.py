"""Sets that are one .npz file: the embedded ones and a user's own arrays."""

import zipfile
from pathlib import Path

import numpy as np

from neurosbd.datasets.definition import DatasetFile
from neurosbd.datasets.samples import Samples, Splits, kind_of
from neurosbd.errors import UsageError, nearest


def read_digits(definition: DatasetFile, folder: Path) -> Splits:
    """images [N, 8, 8] and labels [N]; in each class, every fifth image is a test image."""
    arrays = _load(folder / definition.files["all"][0], ("images", "labels"))
    images, labels = arrays["images"][..., None], arrays["labels"].astype(np.int64)
    every = definition.options["test_every"]
    test = np.zeros(len(labels), bool)
    for label in range(len(definition.classes)):
        test[np.flatnonzero(labels == label)[every - 1 :: every]] = True
    return Splits(Samples(images[~test], labels[~test]), Samples(images[test], labels[test]), definition.classes)


def read_table(definition: DatasetFile, folder: Path) -> Splits:
    """values [N, n] and targets [N, k]; of every `test_every` blocks of `block` examples the last is for the test."""
    arrays = _load(folder / definition.files["all"][0], ("values", "targets"))
    every, block = definition.options["test_every"], definition.options.get("block", 1)
    whole = Samples(arrays["values"].astype(np.float32), arrays["targets"].astype(np.float32))
    test = np.arange(len(whole)) // block % every == every - 1
    train, test = (whole.take(np.flatnonzero(part)) for part in (~test, test))
    return Splits(train, test, kind=definition.targets or "reals", variables=definition.variables)


def read_arrays(definition: DatasetFile, folder: Path) -> Splits:
    """A user's .npz with train_values, test_values, and labels or targets of both.

    Values are images uint8 [N, height, width] or [N, height, width, channels], or features [N, n] of any number type.
    train_labels and test_labels are integers from 0; train_targets and test_targets are numbers [N] or [N, k].
    """
    path = folder / definition.files["all"][0]
    kept = "targets" if "train_targets" in _names(path) else "labels"
    arrays = _load(path, tuple(f"{split}_{what}" for split in ("train", "test") for what in ("values", kept)))
    decode = _targets if kept == "targets" else _labels
    train, test = (
        Samples(_values(arrays[f"{split}_values"], path), decode(arrays[f"{split}_{kept}"], path, split))
        for split in ("train", "test")
    )
    if kept == "targets":
        return measured(train, test, definition)
    return classified(train, test, definition)


def classified(train: Samples, test: Samples, definition: DatasetFile) -> Splits:
    """Splits of a user's own with classes; without names they are counted."""
    count = 1 + int(max(s.targets.max(initial=0) for s in (train, test)))
    return Splits(train, test, definition.classes or tuple(str(i) for i in range(count)))


def measured(train: Samples, test: Samples, definition: DatasetFile, names: tuple[str, ...] = ()) -> Splits:
    """Splits of a user's own with values to predict; their kind, if not given, is what they all are."""
    kind = definition.targets or kind_of(np.concatenate((train.targets, test.targets)))
    names = definition.variables or names or tuple(f"y{i}" for i in range(train.targets.shape[1]))
    return Splits(train, test, kind=kind, variables=names)


def exact(numbers: np.ndarray) -> np.ndarray:
    """Numbers as float32 if that holds them all, else as float64."""
    return numbers.astype(np.float32 if np.can_cast(numbers.dtype, np.float32) else np.float64)


def _names(path: Path) -> list[str]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return list(getattr(archive, "files", []))
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, AttributeError):
        return []  # `_load` says what is wrong


def _load(path: Path, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in keys if key not in archive.files]
            if missing:
                raise UsageError(
                    f"{path}: no array '{missing[0]}'{nearest(missing[0], archive.files)}; needed: {', '.join(keys)}"
                )
            return {key: archive[key] for key in keys}
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, AttributeError) as problem:
        if isinstance(problem, UsageError):
            raise
        raise UsageError(f"{path}: not a readable .npz file of plain arrays ({problem})") from None


def _values(values: np.ndarray, path: Path) -> np.ndarray:
    if values.dtype == np.uint8 and values.ndim in (3, 4):
        return values if values.ndim == 4 else values[..., None]
    if values.dtype.kind in "fiu" and values.ndim == 2:
        return exact(values)
    raise UsageError(
        f"{path}: values are {values.dtype} {list(values.shape)}; give images as uint8 [N, height, width(, channels)] "
        f"or features as numbers [N, n]"
    )


def _labels(labels: np.ndarray, path: Path, split: str) -> np.ndarray:
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise UsageError(f"{path}: {split}_labels are {labels.dtype} {list(labels.shape)}; give integers [N]")
    return labels.astype(np.int64)


def _targets(targets: np.ndarray, path: Path, split: str) -> np.ndarray:
    if targets.dtype.kind not in "fiub" or targets.ndim not in (1, 2) or 0 in targets.shape[1:]:
        raise UsageError(
            f"{path}: {split}_targets are {targets.dtype} {list(targets.shape)}; give numbers [N] or [N, k] "
            f"(classes go into {split}_labels)"
        )
    return exact(targets.reshape(len(targets), -1))
