"""Sets that are one .npz file: the embedded ones and a user's own arrays."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from neurosbd.datasets.classes import numbered
from neurosbd.datasets.columns import chosen, row_numbers
from neurosbd.datasets.definition import DatasetFile
from neurosbd.datasets.samples import Samples, Splits, kind_of
from neurosbd.errors import UsageError
from neurosbd.files.npz import keys, load

_WIDEST = 1 << 20  # columns of features


def read_digits(definition: DatasetFile, folder: Path) -> Splits:
    """images [N, 8, 8] and labels [N]; in each class, every fifth image is a test image."""
    path = folder / definition.files["all"][0]
    arrays = load(path, ("images", "labels"))
    images, labels = _values(arrays["images"], path), _labels(arrays["labels"], path, "labels")
    _check_lengths(images, labels, str(path), "labels")
    every = definition.options["test_every"]
    test = np.zeros(len(labels), bool)
    for label in range(len(definition.classes)):
        test[np.flatnonzero(labels == label)[every - 1 :: every]] = True
    return Splits(Samples(images[~test], labels[~test]), Samples(images[test], labels[test]), definition.classes)


def read_table(definition: DatasetFile, folder: Path) -> Splits:
    """values [N, n] and targets [N, k]; of every `test_every` blocks of `block` examples the last is for the test."""
    path = folder / definition.files["all"][0]
    arrays = load(path, ("values", "targets"))
    every, block = definition.options["test_every"], definition.options.get("block", 1)
    whole = Samples(_values(arrays["values"], path), _targets(arrays["targets"], path, "targets"))
    _check_lengths(whole.values, whole.targets, str(path), "targets")
    test = np.arange(len(whole)) // block % every == every - 1
    train, test = (whole.take(np.flatnonzero(part)) for part in (~test, test))
    splits = Splits(train, test, kind=definition.targets or "reals", variables=definition.variables)
    return _of_columns(splits, definition, definition.features, definition.name)


def read_arrays(definition: DatasetFile, folder: Path) -> Splits:
    """A user's .npz with train_values, test_values, and labels or targets of both.

    Values are images uint8 [N, height, width] or [N, height, width, channels], or features [N, n] of any number type.
    train_labels and test_labels are integers from 0; train_targets and test_targets are numbers [N] or [N, k].
    feature_names, if there, are texts [n].
    """
    path = folder / definition.files["all"][0]
    there = keys(path)
    kept = "targets" if "train_targets" in there else "labels"
    read = tuple(f"{split}_{what}" for split in ("train", "test") for what in ("values", kept))
    arrays = load(path, read)
    decode = _targets if kept == "targets" else _labels
    train, test = (
        Samples(_values(arrays[f"{split}_values"], path), decode(arrays[f"{split}_{kept}"], path, f"{split}_{kept}"))
        for split in ("train", "test")
    )
    for split, samples in (("train", train), ("test", test)):
        _check_lengths(samples.values, samples.targets, f"{path}: {split}", kept)
    splits = measured(train, test, definition) if kept == "targets" else classified(train, test, definition, str(path))
    splits = _of_columns(splits, definition, definition.features or _names(path), str(path))
    return replace(splits, remarks=(*splits.remarks, *_unread(path, [name for name in there if name not in read])))


def _unread(path: Path, names: Sequence[str]) -> list[str]:
    """A sentence about the arrays of a file of which nothing is made, if there are any."""
    unread = ", ".join(f"'{name}'" for name in names if name != "feature_names")
    return [f"{path}: nothing is read from {unread}"] if unread else []


def read_unsplit(path: Path) -> tuple[np.ndarray, str, np.ndarray | None]:
    """Examples of an .npz that are for no training: `test_values`, or `values`, and what they are, if that is there.

    Returns:
        Values as `Samples` has them; 'labels' or 'targets'; and these, None if there are none.
    Raises:
        UsageError: if there are none, or they are no arrays of the right kind.
    """
    there = keys(path)
    before = "test_" if "test_values" in there else ""
    kept = next((what for what in ("labels", "targets") if f"{before}{what}" in there), None)
    arrays = load(path, (f"{before}values", *([f"{before}{kept}"] if kept else [])))
    values = _values(arrays[f"{before}values"], path)
    if kept is None:
        return values, "labels", None
    decode = _targets if kept == "targets" else _labels
    target = decode(arrays[f"{before}{kept}"], path, f"{before}{kept}")
    _check_lengths(values, target, str(path), kept)
    return values, kept, target


def classified(train: Samples, test: Samples, definition: DatasetFile, source: str) -> Splits:
    """Splits of a user's own with classes; without names these are the labels that occur."""
    if definition.classes:
        return Splits(train, test, definition.classes)
    learned, tested, classes, remarks = numbered(train.targets, test.targets, source)
    return Splits(replace(train, targets=learned), replace(test, targets=tested), classes, remarks=remarks)


def measured(train: Samples, test: Samples, definition: DatasetFile, names: tuple[str, ...] = ()) -> Splits:
    """Splits of a user's own with values to predict; their kind, if not given, is what they all are."""
    kind = definition.targets or kind_of(np.concatenate((train.targets, test.targets)))
    names = definition.variables or names or tuple(f"y{i}" for i in range(train.targets.shape[1]))
    return Splits(train, test, kind=kind, variables=names)


def _names(path: Path) -> tuple[str, ...]:
    """Those of the features, if the file has them."""
    if "feature_names" not in keys(path):
        return ()
    names = load(path, ("feature_names",))["feature_names"]
    if names.dtype.kind != "U" or names.ndim != 1:
        raise UsageError(f"{path}: feature_names are {names.dtype} {list(names.shape)}; give texts, one per feature")
    return tuple(names.tolist())


def _of_columns(splits: Splits, definition: DatasetFile, given: tuple[str, ...], source: str) -> Splits:
    """Features as the columns of a table, as far as they are asked for; without names they are x0, x1, ..."""
    values = splits.train.values
    if values.ndim != 2 or splits.test.values.shape[1:] != values.shape[1:]:
        return splits
    names = given or tuple(f"x{i}" for i in range(values.shape[1]))
    if len(names) != values.shape[1] or len(set(names)) < len(names):
        raise UsageError(
            f"{source}: {len(names)} names of features, {len(set(names))} of them different, for {values.shape[1]} "
            f"features; give each a name of its own"
        )
    read = np.array(chosen(names, definition.columns, (), source), bool)
    if not read.any():
        raise UsageError(f"{source}: data.columns leaves no input of {len(names)}; choose at least one")
    train, test = (replace(s, values=s.values[:, read]) if not read.all() else s for s in (splits.train, splits.test))
    columns, dropped = (tuple(np.array(names)[part].tolist()) for part in (read, ~read))
    counting = row_numbers(train.values, np.ones(len(train), bool), columns, definition.columns, source)
    return replace(
        splits, train=train, test=test, columns=columns, dropped=dropped, remarks=(*splits.remarks, *counting)
    )


def _exact(numbers: np.ndarray) -> np.ndarray:
    """Numbers as float32 if that holds them all, else as float64."""
    return numbers.astype(np.float32 if np.can_cast(numbers.dtype, np.float32) else np.float64)


def _values(values: np.ndarray, path: Path) -> np.ndarray:
    if values.dtype == np.uint8 and values.ndim in (3, 4):
        return values if values.ndim == 4 else values[..., None]
    if values.dtype.kind in "fiu" and values.ndim == 2 and 0 < values.shape[1] <= _WIDEST:
        return _exact(values)
    raise UsageError(
        f"{path}: values are {values.dtype} {list(values.shape)}; give images as uint8 [N, height, width(, channels)] "
        f"or features as numbers [N, n] (n up to {_WIDEST:,})"
    )


def _labels(labels: np.ndarray, path: Path, key: str) -> np.ndarray:
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise UsageError(f"{path}: {key} are {labels.dtype} {list(labels.shape)}; give integers [N]")
    if labels.max(initial=0) > np.iinfo(np.int64).max:
        raise UsageError(f"{path}: {key} go up to {labels.max()}; give integers from 0")
    return labels.astype(np.int64)


def _targets(targets: np.ndarray, path: Path, key: str) -> np.ndarray:
    if targets.dtype.kind not in "fiub" or targets.ndim not in (1, 2) or 0 in targets.shape[1:]:
        raise UsageError(
            f"{path}: {key} are {targets.dtype} {list(targets.shape)}; give numbers [N] or [N, k] "
            f"(classes go into {key.replace('targets', 'labels')})"
        )
    return _exact(targets.reshape(len(targets), -1))


def _check_lengths(values: np.ndarray, targets: np.ndarray, where: str, kept: str) -> None:
    if len(values) != len(targets):
        raise UsageError(f"{where}: {len(values)} examples, but {len(targets)} {kept}")
