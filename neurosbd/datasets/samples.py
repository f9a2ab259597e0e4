"""What a reader delivers."""

from dataclasses import dataclass

import numpy as np

from neurosbd.errors import UsageError


@dataclass(frozen=True)
class Samples:
    """Examples of one split in memory or memory-mapped.

    values: images uint8 [N, height, width, channels], or features float32 [N, n].
    labels: classes int64 [N].
    """

    values: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Splits:
    """Both splits of a data set, with the names of the classes."""

    train: Samples
    test: Samples
    classes: tuple[str, ...]


def check(splits: Splits, source: str) -> Splits:
    """Refuse what no network can learn from: nothing there, NaN, labels without a class.

    Raises:
        UsageError: with the split, the figures and the fix.
    """
    for split, samples in (("train", splits.train), ("test", splits.test)):
        where = f"{source}: {split}"
        if len(samples.values) != len(samples.labels):
            raise UsageError(f"{where}: {len(samples.values)} examples, but {len(samples.labels)} labels")
        if len(samples.values) == 0:
            raise UsageError(f"{where}: there is no example in it")
        low, high = int(samples.labels.min()), int(samples.labels.max())
        if low < 0 or high >= len(splits.classes):
            raise UsageError(
                f"{where}: labels go from {low} to {high}, but there are {len(splits.classes)} classes from 0"
            )
        if samples.values.dtype.kind == "f":
            bad = int((~np.isfinite(samples.values)).any(axis=tuple(range(1, samples.values.ndim))).sum())
            if bad:
                raise UsageError(
                    f"{where}: {bad} of {len(samples.values)} examples hold NaN or infinity; clean them first"
                )
    if splits.train.values.shape[1:] != splits.test.values.shape[1:]:
        raise UsageError(
            f"{source}: train examples are {list(splits.train.values.shape[1:])}, "
            f"test examples {list(splits.test.values.shape[1:])}"
        )
    return splits
