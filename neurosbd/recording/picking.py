"""Picks what a series asks for out of the values of a step."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class _Gather(NamedTuple):
    """Where chosen values lie in memory: so far from the first value of all."""

    extent: int  # memory from the first value to the last chosen one
    distances: Tensor  # int64, on the device of the values, one behind the other
    shape: tuple[int, ...]  # [E, chosen] or [chosen]


class Picking:
    """Takes chosen neurons or synapses of chosen examples in one gather.

    Where they lie in memory is worked out once per layout, so channels-last maps need not be put in order first.

    Args:
        items: of the population or weight, counted through; None: all of them.
        size: of the population, shape of the weight.
        examples: places in the batch; None: of all there are, or the values have none.
    """

    def __init__(self, items: tuple[int, ...] | None, size: tuple[int, ...], examples: tuple[int, ...] | None) -> None:
        self._items = None if items is None else np.array(items, np.int64)
        self._size = size
        self._examples = None if examples is None else np.array(examples, np.int64)
        self._rows: dict[int, slice | Tensor | None] = {}  # size of the batch -> chosen examples; None: all
        self._gathers: dict[object, _Gather] = {}  # by layout

    def __call__(self, values: Tensor) -> Tensor:
        """Of values [B, *size] or [*size]: [E, *size], or [E, chosen], or [chosen]."""
        if self._items is None:
            return self._whole(values)
        gather = self._gathers.get((values.shape, values.stride())) or self._measure(values, self._items)
        return values.as_strided((gather.extent,), (1,)).index_select(0, gather.distances).view(gather.shape)

    def into(self, place: Tensor, values: Tensor) -> bool:
        """Put what is picked straight into a place [n] of its own; whether that could be done."""
        if self._items is None or place.dtype != values.dtype:
            return False
        gather = self._gathers.get((values.shape, values.stride())) or self._measure(values, self._items)
        torch.index_select(values.as_strided((gather.extent,), (1,)), 0, gather.distances, out=place)
        return True

    def _whole(self, values: Tensor) -> Tensor:
        """All units of the chosen examples, in the layout of the values."""
        if self._examples is None:
            return values
        batch = len(values)
        if batch not in self._rows:  # once per size of the batch, since moving indices to a device makes it wait
            there = self._examples[self._examples < batch]
            leading = np.array_equal(there, np.arange(len(there)))
            some = slice(len(there)) if leading else torch.from_numpy(there).to(values.device)
            self._rows[batch] = None if leading and len(there) == batch else some
        where = self._rows[batch]
        return values if where is None else values[where]

    def _measure(self, values: Tensor, items: np.ndarray) -> _Gather:
        """Once per layout."""
        batched = tuple(values.shape) != self._size
        strides = np.array(values.stride()[batched:], np.int64)
        distances = strides @ np.stack(np.unravel_index(items, self._size))
        if batched:
            chosen = np.arange(len(values)) if self._examples is None else self._examples[self._examples < len(values)]
            distances = values.stride(0) * chosen[:, None] + distances
        flat = torch.from_numpy(distances.reshape(-1)).to(values.device)
        gather = _Gather(int(distances.max(initial=-1)) + 1, flat, distances.shape)
        self._gathers[values.shape, values.stride()] = gather
        return gather
