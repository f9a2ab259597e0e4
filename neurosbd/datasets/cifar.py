"""The official binary archives of CIFAR-10 and CIFAR-100: records of label bytes and RGB planes."""

from pathlib import Path

import numpy as np

from neurosbd.datasets.definition import DatasetFile
from neurosbd.datasets.samples import Samples, Splits
from neurosbd.errors import UsageError

_PIXELS = 3 * 32 * 32
_LARGEST = 1 << 32  # bytes; a published file has 154 MB


def read(definition: DatasetFile, folder: Path) -> Splits:
    """All records of the train and test files; the last label byte is the (fine) class.

    Source: A. Krizhevsky 2009, the CIFAR page (binary version).
    """
    labels = definition.options["label_bytes"]
    train, test = (_records([folder / name for name in definition.files[split]], labels) for split in ("train", "test"))
    return Splits(train, test, definition.classes)


def _records(paths: list[Path], labels: int) -> Samples:
    record = labels + _PIXELS
    parts = []
    for path in paths:
        size = path.stat().st_size
        if size == 0 or size % record or size > _LARGEST:
            raise UsageError(
                f"{path}: truncated or corrupt: {size} bytes; legal is a whole number of records of {record} bytes, at "
                f"least one, in up to {_LARGEST} bytes"
            )
        parts.append(np.fromfile(path, np.uint8).reshape(-1, record))
    rows = np.concatenate(parts)
    images = rows[:, labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Samples(images, rows[:, labels - 1].astype(np.int64))
