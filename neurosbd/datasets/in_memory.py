"""Data that a user has in memory: tensors, arrays, data sets of torch, iterables of batches."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Protocol, runtime_checkable

import numpy as np

from neurosbd.datasets.arrays import classified, measured
from neurosbd.datasets.definition import DatasetFile
from neurosbd.datasets.samples import EventSamples, Samples, Splits, joined
from neurosbd.errors import UsageError, warn

PREFIX = "object-"  # how the name of such a set begins; its content follows as a hash
_TEST_EVERY = 5  # of data that come without a test split, as of tables
_MOST = 10_000_000  # examples; beyond, an iterable has probably no end
_LEGAL = (
    "give (x, y), a data set with len() and [i] -> (x, y), or a list or another iterable of batches (x, y); or a pair "
    "of such, (train, test)"
)


@runtime_checkable
class MapStyle(Protocol):
    """A data set of torch: as many examples as `len` says, each (x, y)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> object: ...


def read_in_memory(data: object, size: tuple[int, ...], dt: float, definition: DatasetFile) -> Splits:
    """Both splits of data in memory; without a test split every fifth example is for the test.

    Args:
        data: as `neurosbd.fit` takes it; all of it is read into memory once.
        size: of an example as the network sees it; one with an axis before that is frames over time, [T, *size].
        dt: duration of a frame, s.
        definition: of the set, for its name.

    Raises:
        UsageError: if it is nothing of the kind, empty, or of other shapes than the network sees.
    """
    parts = _parts(data)
    samples = [_samples(*_arrays(part, where), size, dt, where) for part, where in parts]
    if len(samples) == 1:
        (whole,) = samples
        if len(whole) < _TEST_EVERY:
            raise UsageError(
                f"data: {len(whole)} examples, of which every fifth would be for the test; give {_TEST_EVERY} or more, "
                f"or (train, test)"
            )
        test = np.arange(len(whole)) % _TEST_EVERY == _TEST_EVERY - 1
        samples = [whole.take(np.flatnonzero(part)) for part in (~test, test)]
    train, test = samples
    if type(train) is not type(test) or train.targets.dtype.kind != test.targets.dtype.kind:
        raise UsageError("data: train and test are of different kinds; give frames, labels or values in both")
    if train.targets.dtype.kind == "f":
        return measured(train, test, definition)  # type: ignore[arg-type]
    names = getattr(parts[0][0], "classes", None)
    if isinstance(names, Sequence) and names and all(isinstance(name, str) for name in names):
        definition = definition.model_copy(update={"classes": tuple(names)})
    return classified(train, test, definition, "data")  # type: ignore[arg-type]


def content_hash(splits: Splits) -> str:
    """sha256 over all examples and targets of both splits, their shapes and types."""
    digest = hashlib.sha256()
    for samples in (splits.train, splits.test):
        for name, array in sorted(vars(samples).items()):
            if isinstance(array, np.ndarray):
                digest.update(f"{name} {array.dtype} {array.shape}".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _parts(data: object) -> list[tuple[object, str]]:
    """The split or splits, and what messages call them."""
    if isinstance(data, tuple) and len(data) == 2 and not _is_array(data[0]):
        return [(data[0], "data: train"), (data[1], "data: test")]
    return [(data, "data")]


def _is_array(value: object) -> bool:
    return hasattr(value, "__array__")


def _arrays(part: object, where: str) -> tuple[Sequence[np.ndarray] | np.ndarray, np.ndarray]:
    """Examples, one by one or as one array, and their targets."""
    if isinstance(part, tuple | list) and len(part) == 2 and _is_array(part[0]):
        return _array(part[0], f"{where}: x"), _array(part[1], f"{where}: y")
    if isinstance(part, MapStyle) and not isinstance(part, str | bytes | dict | list) and not _is_array(part):
        pairs: Iterable[tuple[object, object]] = (_pair(part[i], f"{where}[{i}]") for i in range(len(part)))
    elif isinstance(part, Iterable) and not isinstance(part, str | bytes | dict) and not _is_array(part):
        pairs = chain.from_iterable(_rows(batch, f"{where}: batch {i}") for i, batch in enumerate(part))
    else:
        raise UsageError(f"{where} is {type(part).__name__}; {_LEGAL}")
    examples, targets = [], []
    for x, y in pairs:
        examples.append(_array(x, f"{where}[{len(examples)}]: x"))
        targets.append(_array(y, f"{where}[{len(targets)}]: y"))
        if len(examples) > _MOST:
            raise UsageError(f"{where}: more than {_MOST:,} examples; has the iterable an end?")
    if len({y.shape for y in targets}) > 1:
        raise UsageError(f"{where}: targets are of different shapes; give one label, or k values, for each example")
    return examples, np.stack(targets) if targets else np.empty(0, np.int64)


def _pair(item: object, where: str) -> tuple[object, object]:
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise UsageError(f"{where} is {type(item).__name__}; an example is a pair (x, y)")
    return item[0], item[1]


def _rows(batch: object, where: str) -> Iterable[tuple[object, object]]:
    x, y = (_array(part, where) for part in _pair(batch, where))
    if not y.ndim:
        raise UsageError(
            f"{where} is one example, x {list(x.shape)} with a single y, but an iterable gives batches (x, y); make "
            f"them of it with torch.utils.data.DataLoader(data, batch_size=100)"
        )
    if not x.ndim or len(x) != len(y):
        raise UsageError(f"{where}: x is {list(x.shape)}, y is {list(y.shape)}; give as many targets as examples")
    return zip(x, y, strict=True)


def _array(value: Any, where: str) -> np.ndarray:
    """Numbers, whatever holds them."""
    try:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError) as problem:
        raise UsageError(f"{where} is no array of numbers ({str(problem)[:100]})") from None
    if array.dtype.kind not in "fiub":
        how = "; give pictures as arrays: transform=numpy.asarray, or ToTensor()" if array.dtype == object else ""
        how = "; give words as numbers: numpy.unique(y, return_inverse=True)[1]" if array.dtype.kind in "US" else how
        raise UsageError(f"{where} is {type(value).__name__} of {array.dtype}, not numbers{how}")
    return array


def _samples(
    x: Sequence[np.ndarray] | np.ndarray, y: np.ndarray, size: tuple[int, ...], dt: float, where: str
) -> Samples | EventSamples:
    if len(x) == 0:
        raise UsageError(f"{where}: there is no example in it")
    if len(x) != len(y):
        raise UsageError(f"{where}: {len(x)} examples, but {len(y)} targets")
    target = _targets(y, where)
    if all(example.ndim == len(size) + 1 and example.shape[1:] == size for example in x):
        if target.dtype.kind == "f":
            raise UsageError(f"{where}: frames over time have labels here, not values to predict; give integers")
        return _recordings(x, target, size, dt, where)
    shapes = {example.shape for example in x}
    if len(shapes) > 1:
        legal = f"{list(size)} each, or frames [T, {str(list(size))[1:]} of any number T"
        raise UsageError(f"{where}: examples are of different shapes, such as {_two(shapes)}; give {legal}")
    return Samples(_still(np.asarray(x) if isinstance(x, np.ndarray) else np.stack(x), size, where), target)


def _two(shapes: Iterable[tuple[int, ...]]) -> str:
    return " and ".join(str(list(shape)) for shape in sorted(shapes)[:2])


def _targets(y: np.ndarray, where: str) -> np.ndarray:
    if y.dtype.kind in "iub" and y.ndim == 1:
        return y.astype(np.int64)
    if y.dtype.kind in "fiu" and y.ndim in (1, 2):
        return y.astype(np.float64 if y.dtype.kind != "f" or y.itemsize > 4 else np.float32).reshape(len(y), -1)
    raise UsageError(f"{where}: targets are {y.dtype} {list(y.shape)}; give integers [N], or values [N] or [N, k]")


def _still(values: np.ndarray, size: tuple[int, ...], where: str) -> np.ndarray:
    """As `Samples` has them: pictures [N, height, width, channels], features [N, n]."""
    shape = values.shape[1:]
    if len(size) == 3 and shape == size:
        values = values.transpose(0, 2, 3, 1)
    elif len(size) == 3 and size[0] == 1 and shape == size[1:]:
        values = values[..., None]
    elif shape != size and not (len(size) == 3 and shape == (*size[1:], size[0])):
        same = math.prod(shape) == math.prod(size)
        how = f"give x.reshape(-1, {', '.join(map(str, size))})" if same else "give those"
        raise UsageError(
            f"{where}: examples are {list(shape)}, but the input population has size {list(size)}; {how}, or "
            f"frames over time [T, {str(list(size))[1:]}"
        )
    if len(size) == 3 and values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    return np.ascontiguousarray(values.astype(np.float64 if values.itemsize > 4 else np.float32))


def _recordings(
    x: Sequence[np.ndarray] | np.ndarray, target: np.ndarray, size: tuple[int, ...], dt: float, where: str
) -> EventSamples:
    """Frames as events, one at the start of its frame: what is not 0 is a spike."""
    times, units, several = [], [], False
    for number, frames in enumerate(x):
        if not bool(np.isfinite(frames).all()):
            raise UsageError(f"{where}[{number}]: frames hold NaN or infinity; clean them first")
        step, unit = np.nonzero(frames.reshape(len(frames), -1))
        several = several or bool(((frames != 0) & (frames != 1)).any())
        times.append(np.ceil(step * (dt * 1e6) - 1e-6).astype(np.int32))
        units.append(unit.astype(np.int32))
    if several:
        warn(f"{where}: frames hold other numbers than 0 and 1; whatever is not 0 is shown as one spike")
    return joined(times, units, target, size)
