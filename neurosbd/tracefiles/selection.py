"""Reads any numpy selection of an HDF5 dataset, without loading more rows than it needs."""

import h5py
import numpy as np


def read(data: h5py.Dataset, shape: tuple[int, ...], key: object) -> np.ndarray:
    """`array(data)[:shape[0]][key]` for integers, slices, lists, arrays and masks, each of its own axis.

    Raises:
        IndexError: if the key does not fit.

    >>> file = h5py.File("x", "w", driver="core", backing_store=False)
    >>> read(file.create_dataset("x", data=np.arange(12).reshape(4, 3)), (3, 3), (slice(None, None, -1), [2, 0]))
    array([[8, 6],
           [5, 3],
           [2, 0]])
    """
    parts = _per_axis(key, len(shape))
    indices = [_indices(part, n, axis) for axis, (part, n) in enumerate(zip(parts, shape, strict=True))]
    block = _load(data, indices)
    flat = [0 if isinstance(part, int | np.integer) else slice(None) for part in parts]
    return block[tuple(flat)]


def _per_axis(key: object, axes: int) -> list[object]:
    parts = list(key) if isinstance(key, tuple) else [key]
    if any(part is Ellipsis for part in parts):
        at = next(i for i, part in enumerate(parts) if part is Ellipsis)
        parts[at : at + 1] = [slice(None)] * (axes - len(parts) + 1)
    if len(parts) > axes:
        raise IndexError(f"{len(parts)} indices for {axes} axes")
    return parts + [slice(None)] * (axes - len(parts))


def _indices(part: object, length: int, axis: int) -> np.ndarray:
    """What a part of a key selects of an axis, as indices."""
    if isinstance(part, slice):
        return np.arange(*part.indices(length))
    chosen = np.asarray(part)
    if chosen.dtype == bool:
        if chosen.shape != (length,):
            raise IndexError(f"a mask {list(chosen.shape)} for axis {axis} of length {length}")
        return np.flatnonzero(chosen)
    chosen = np.atleast_1d(chosen).astype(np.int64) if chosen.size else np.zeros(0, np.int64)
    if chosen.ndim > 1 or ((chosen < -length) | (chosen >= length)).any():
        raise IndexError(f"index {part!r} is out of range for axis {axis} of length {length}")
    return np.where(chosen < 0, chosen + length, chosen)


def _load(data: h5py.Dataset, indices: list[np.ndarray]) -> np.ndarray:
    """The block at the product of the indices: runs of neighbouring rows are read as one, columns as a range."""
    if any(len(index) == 0 for index in indices):
        return np.zeros([len(index) for index in indices], data.dtype)
    rows, *columns = indices
    ranges = tuple(slice(int(c.min()), int(c.max()) + 1) for c in columns)
    within = [c - c.min() for c in columns]
    wanted, back = np.unique(rows, return_inverse=True)
    runs = np.split(wanted, np.flatnonzero(np.diff(wanted) > 1) + 1)
    parts = [data[(slice(int(run[0]), int(run[-1]) + 1), *ranges)] for run in runs]
    block = parts[0] if len(parts) == 1 else np.concatenate(parts)
    for axis, index in enumerate([back, *within]):
        if not np.array_equal(index, np.arange(block.shape[axis])):
            block = np.take(block, index, axis)
    return block
