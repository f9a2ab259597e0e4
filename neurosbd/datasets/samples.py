"""What a reader delivers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch

from neurosbd.datasets.normalisation import measure
from neurosbd.errors import UsageError
from neurosbd.losses.targets import TARGETS

_LARGEST = 1e300  # of a feature: differences of such numbers are still finite


@dataclass(frozen=True)
class Truth:
    """The distribution that targets were drawn from.

    mean: E[y|x], [N, k].
    std: of y given x, [N, k].
    """

    mean: np.ndarray
    std: np.ndarray

    def take(self, index: np.ndarray) -> "Truth":
        """That of the examples with these numbers."""
        return Truth(self.mean[index], self.std[index])


@dataclass(frozen=True)
class Samples:
    """Examples of one split in memory or memory-mapped.

    values: images uint8 [N, height, width, channels], or features float32 or float64 [N, n], as exact as given.
    targets: classes int64 [N], or values to predict float32 or float64 [N, k].
    truth: of generated data.
    """

    values: np.ndarray
    targets: np.ndarray
    truth: Truth | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example, as stored."""
        return self.values.shape[1:]

    def take(self, index: np.ndarray) -> "Samples":
        """The examples with these numbers."""
        return Samples(self.values[index], self.targets[index], self.truth and self.truth.take(index))

    @property
    def labels(self) -> np.ndarray:
        """The targets of a set with classes, int64 [N]."""
        return self.targets

    def fault(self) -> str | None:
        """What makes the values unusable."""
        if self.values.dtype.kind != "f":
            return None
        largest = min(_LARGEST, float(np.finfo(self.values.dtype).max))
        bad = int((~(np.abs(self.values) <= largest)).any(axis=tuple(range(1, self.values.ndim))).sum())
        return f"{bad} of {len(self)} examples hold NaN, infinity or more than 1e300; clean them first" if bad else None


@dataclass(frozen=True)
class EventSamples:
    """Recordings of one split, as lists of events of unequal length, one behind the other.

    Recording i holds the events offsets[i] to offsets[i + 1], in the order of its file.

    time: of each event since the start of its recording, us, int32 [E].
    unit: that the event comes from, a flat index into `size`, int32 [E].
    offsets: int64 [N + 1].
    targets: classes int64 [N].
    size: of a frame as a network sees it, (polarities, height, width) or (channels,).
    """

    time: np.ndarray
    unit: np.ndarray
    offsets: np.ndarray
    targets: np.ndarray
    size: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one frame."""
        return self.size

    @property
    def labels(self) -> np.ndarray:
        """The targets of a set with classes, int64 [N]."""
        return self.targets

    @property
    def duration(self) -> float:
        """Time that covers every event, s."""
        return (int(self.time.max(initial=-1)) + 1) * 1e-6

    def after(self, steps: int, dt: float) -> tuple[int, int]:
        """How many recordings go on after so many steps, and how many events they have there.

        >>> times = [np.array([0, 2000, 3000], np.int32), np.array([1999], np.int32)]
        >>> joined(times, [np.zeros(3, np.int32), np.zeros(1, np.int32)], [0, 1], (1,)).after(2, 1e-3)
        (1, 2)
        """
        end = -(-steps * round(dt * 1e9) // 1000)  # us
        late = np.flatnonzero(self.time >= end)
        return len(np.unique(np.searchsorted(self.offsets, late, side="right"))), len(late)

    def take(self, index: np.ndarray) -> "EventSamples":
        """The recordings with these numbers."""
        counts = np.diff(self.offsets)[index]
        offsets = _offsets(counts)
        events = np.arange(offsets[-1]) + np.repeat(self.offsets[index] - offsets[:-1], counts)
        return EventSamples(self.time[events], self.unit[events], offsets, self.targets[index], self.size)

    def fault(self) -> str | None:
        """What makes the events unusable."""
        if len(self.time) == 0:
            return "there is no event in it"
        low, high, units = int(self.unit.min()), int(self.unit.max()), math.prod(self.size)
        return f"units go from {low} to {high}, but there are {units} from 0" if low < 0 or high >= units else None


def joined(
    times: Sequence[np.ndarray], units: Sequence[np.ndarray], labels: Sequence[int] | np.ndarray, size: tuple[int, ...]
) -> EventSamples:
    """Recordings, each with the times (us) and units of its events, as one split."""
    nothing = np.empty(0, np.int32)
    return EventSamples(
        np.concatenate([nothing, *times], dtype=np.int32, casting="same_kind"),
        np.concatenate([nothing, *units], dtype=np.int32, casting="same_kind"),
        _offsets([len(time) for time in times]),
        np.asarray(labels, np.int64),
        size,
    )


def _offsets(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)


S = TypeVar("S", Samples, EventSamples)


@dataclass(frozen=True)
class Splits(Generic[S]):
    """Both splits of a data set, and what their targets are.

    classes: their names; none where values are to be predicted.
    kind: of the targets, a name of `neurosbd.losses.TARGETS`.
    variables: names of the values to be predicted; none for classes.
    columns: names of the features, of a table; dropped: those of its columns that were left out as asked.
    remarks: what was done while reading that may not be meant, a sentence each; said again whenever the set is loaded.
    """

    train: S
    test: S
    classes: tuple[str, ...] = ()
    kind: str = "classes"
    variables: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def kind_of(targets: np.ndarray) -> str:
    """The narrowest kind of targets that all these values are: binary, counts, positive or reals."""
    if np.equal(np.mod(targets, 1), 0).all() and targets.min(initial=0) >= 0:
        return "binary" if targets.max(initial=0) <= 1 else "counts"
    return "positive" if targets.min(initial=1) > 0 else "reals"


def check(splits: Splits[S], source: str) -> Splits[S]:
    """Refuse what no network can learn from: nothing there, NaN, labels without a class, targets of another kind.

    Raises:
        UsageError: with the split, the figures and the fix.
    """
    for split, samples in (("train", splits.train), ("test", splits.test)):
        where = f"{source}: {split}"
        what = "labels" if splits.kind == "classes" else "targets"
        if len(samples) != len(samples.targets):
            raise UsageError(f"{where}: {len(samples)} examples, but {len(samples.targets)} {what}")
        if len(samples) == 0:
            raise UsageError(f"{where}: there is no example in it")
        if splits.kind == "classes":
            _check_labels(samples.targets, splits.classes, where)
        else:
            _check_targets(samples.targets, splits, where)
        fault = samples.fault()
        if fault:
            raise UsageError(f"{where}: {fault}")
    if splits.train.shape != splits.test.shape:
        raise UsageError(
            f"{source}: train examples are {list(splits.train.shape)}, test examples {list(splits.test.shape)}"
        )
    return splits


def _check_labels(labels: np.ndarray, classes: tuple[str, ...], where: str) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(classes):
        raise UsageError(f"{where}: labels go from {low} to {high}, but there are {len(classes)} classes from 0")


def _check_targets(targets: np.ndarray, splits: Splits[S], where: str) -> None:
    kind = TARGETS[splits.kind]
    if targets.ndim != 2 or targets.shape[1] != len(splits.variables):
        raise UsageError(
            f"{where}: targets are {list(targets.shape)}, but there are {len(splits.variables)} variables "
            f"({', '.join(splits.variables[:8])}); give a column for each"
        )
    wrong = targets[~kind.allows(torch.from_numpy(targets)).numpy()]
    if len(wrong):
        raise UsageError(
            f"{where}: {len(wrong)} of {targets.size} targets are no {kind.name}, the first is {wrong[0]:g}; legal are "
            f"{kind.legal}"
        )
    same = np.flatnonzero(np.isinf(measure(splits.train.targets, 1.0)[1]))
    if len(same):
        raise UsageError(
            f"{where}: '{splits.variables[same[0]]}' is the same for all training examples, so there is nothing to "
            f"predict; leave it out"
        )
