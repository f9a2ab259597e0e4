"""Sets that are one .npz file: the embedded digits and a user's own arrays."""

import zipfile
from pathlib import Path

import numpy as np

from neurosbd.datasets.definition import DatasetFile
from neurosbd.datasets.samples import Samples, Splits
from neurosbd.errors import UsageError, nearest

_KEYS = ("train_values", "train_labels", "test_values", "test_labels")


def read_digits(definition: DatasetFile, folder: Path) -> Splits:
    """images [N, 8, 8] and labels [N]; in each class, every fifth image is a test image."""
    arrays = _load(folder / definition.files["all"][0], ("images", "labels"))
    images, labels = arrays["images"][..., None], arrays["labels"].astype(np.int64)
    every = definition.options["test_every"]
    test = np.zeros(len(labels), bool)
    for label in range(len(definition.classes)):
        test[np.flatnonzero(labels == label)[every - 1 :: every]] = True
    return Splits(Samples(images[~test], labels[~test]), Samples(images[test], labels[test]), definition.classes)


def read_arrays(definition: DatasetFile, folder: Path) -> Splits:
    """A user's .npz with train_values, train_labels, test_values, test_labels.

    Values are images uint8 [N, height, width] or [N, height, width, channels], or features [N, n] of
    any number type; labels are integers from 0.
    """
    path = folder / definition.files["all"][0]
    arrays = _load(path, _KEYS)
    splits = [
        Samples(_values(arrays[f"{split}_values"], path), _labels(arrays[f"{split}_labels"], path, split))
        for split in ("train", "test")
    ]
    classes = definition.classes or tuple(str(i) for i in range(1 + int(max(s.labels.max(initial=0) for s in splits))))
    return Splits(splits[0], splits[1], classes)


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
        return values.astype(np.float32)
    raise UsageError(
        f"{path}: values are {values.dtype} {list(values.shape)}; give images as uint8 [N, height, width(, channels)] "
        f"or features as numbers [N, n]"
    )


def _labels(labels: np.ndarray, path: Path, split: str) -> np.ndarray:
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise UsageError(f"{path}: {split}_labels are {labels.dtype} {list(labels.shape)}; give integers [N]")
    return labels.astype(np.int64)
