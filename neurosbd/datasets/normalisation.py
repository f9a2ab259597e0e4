"""Mean and standard deviation of every channel, feature or target, and values in units of them.

Counted exactly for pictures; for numbers in two passes in float64, each column divided by a power of two of its own
before: picoamperes, Julian dates and targets of 1e8 give the units that the same data in plain numbers give. Only what
has been standardised is cast to float32.
"""

import math
from collections.abc import Iterator

import numpy as np

_PART = 1 << 22  # numbers that are turned into float64 at once
_ROUNDING = 4 * float(np.finfo(np.float64).eps)  # of its largest value: a column that varies by less is constant


def measure(values: np.ndarray, maximum: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel (pictures) or column, in units of the maximum.

    Args:
        values: pictures uint8 or uint16 [N, height, width, channels], or numbers [N, n].
        maximum: value that counts as 1.

    Returns:
        Means and deviations. The deviation of what is constant, up to the rounding of its largest value, is infinite:
        it has no scale, and in units of it every example is 0.
    """
    picture = values.dtype.kind == "u" and values.dtype.itemsize <= 2
    mean, std = (_of_pictures if picture else _of_columns)(values)
    return tuple(m / maximum for m in mean), tuple(s / maximum if s else math.inf for s in std)


def standardise(values: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """(values - mean) / std of every column in float64, as float32 [N, n]."""
    found = np.empty(values.shape, np.float32)
    with np.errstate(over="ignore"):  # what no float32 holds becomes infinite
        for rows, part in _parts(values):
            found[rows] = (part - np.array(mean)) / np.array(std)
    return found


def limits(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value of every column, float64 [n] each."""
    ends = [(part.min(0), part.max(0)) for _, part in _parts(values)]
    low, high = zip(*ends, strict=True)
    return np.min(low, 0), np.max(high, 0)


def _parts(values: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Some rows at a time, in float64."""
    step = max(1, _PART // max(1, math.prod(values.shape[1:])))
    for start in range(0, len(values), step):
        yield slice(start, start + step), values[start : start + step].astype(np.float64)


def _of_pictures(values: np.ndarray) -> tuple[list[float], list[float]]:
    """From how often each grey value occurs: whole numbers, so nothing is rounded before the end."""
    levels = np.iinfo(values.dtype).max + 1
    step = max(1, _PART // max(1, math.prod(values.shape[1:])))
    mean, std = [], []
    for channel in range(values.shape[-1]):
        counts = np.zeros(levels, np.int64)
        for start in range(0, len(values), step):
            counts += np.bincount(values[start : start + step, ..., channel].ravel(), minlength=levels)
        grey = [(level, count) for level, count in enumerate(counts.tolist()) if count]
        number = sum(count for _, count in grey)
        total, squares = (sum(level**power * count for level, count in grey) for power in (1, 2))
        mean.append(total / number)
        std.append(math.sqrt(number * squares - total**2) / number)
    return mean, std


def _of_columns(values: np.ndarray) -> tuple[list[float], list[float]]:
    """Two passes over numbers below 1, so that no square is too large or too small; the second corrects the first."""
    exponent = np.frexp(np.abs(limits(values)).max(0))[1]
    mean, left, squares = (np.zeros(values.shape[1]) for _ in range(3))
    for _, part in _parts(values):
        mean += np.ldexp(part, -exponent).sum(0) / len(values)
    for _, part in _parts(values):
        deviation = np.ldexp(part, -exponent) - mean
        left += deviation.sum(0) / len(values)
        squares += np.square(deviation).sum(0) / len(values)
    std = np.sqrt(np.maximum(squares - left**2, 0))
    std = np.where(std > _ROUNDING, std, 0)
    return np.ldexp(mean + left, exponent).tolist(), np.ldexp(std, exponent).tolist()
