"""Picks what a series asks for out of the values of a step. Layer 3."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class _Gather(NamedTuple):
    """Where chosen values of maps lie in memory: so far from the first value of their example."""

    shape: tuple[int, int]  # examples (1 if there are none), memory of one
    strides: tuple[int, int]
    distances: Tensor  # int64, on the device of the values


class Picking:
    """Takes chosen neurons or synapses of chosen examples in one gather.

    Where they lie in memory is worked out once per layout, so channels-last maps need not be put in order first.

    Args:
        items: of the population or weight, counted through; None: all of them.
        size: of the population, shape of the weight.
        examples: places in the batch; None: of all there are, or the values have none.
    """

    def __init__(self, items: tuple[int, ...] | None, size: tuple[int, ...], examples: tuple[int, ...] | None) -> None:
        self._items = None if items is None else torch.tensor(items)
        self._size = size
        self._examples = None if examples is None else np.array(examples, np.int64)
        self._rows: dict[int, slice | Tensor | None] = {}  # size of the batch -> chosen examples; None: all
        self._gathers: dict[object, _Gather] = {}  # by layout

    def __call__(self, values: Tensor) -> Tensor:
        """Of values [B, *size] or [*size]: [E, *size], or [E, chosen], or [chosen]."""
        if self._examples is not None:
            batch = len(values)
            where = self._rows[batch] if batch in self._rows else self._look(values, self._examples)
            if where is not None:
                values = values[where]
        if self._items is None:
            return values
        if len(self._size) == 1:
            return values.index_select(-1, self._on(values))
        gather = self._gathers.get((values.shape, values.stride())) or self._measure(values)
        return values.as_strided(gather.shape, gather.strides).index_select(1, gather.distances)

    def _on(self, values: Tensor) -> Tensor:
        """The chosen items, where the values are."""
        assert self._items is not None
        if self._items.device != values.device:
            self._items = self._items.to(values.device)
        return self._items

    def _look(self, values: Tensor, examples: np.ndarray) -> slice | Tensor | None:
        """Once per size of the batch, since moving indices to a device makes it wait."""
        batch = len(values)
        there = examples[examples < batch]
        leading = np.array_equal(there, np.arange(len(there)))
        some = slice(len(there)) if leading else torch.from_numpy(there).to(values.device)
        self._rows[batch] = None if leading and len(there) == batch else some
        return self._rows[batch]

    def _measure(self, values: Tensor) -> _Gather:
        """Once per layout."""
        assert self._items is not None
        inner = values.ndim - len(self._size)
        strides = np.array(values.stride()[inner:])
        distances = torch.from_numpy(strides @ np.stack(np.unravel_index(self._items.cpu().numpy(), self._size)))
        rows = (len(values), values.stride(0)) if inner else (1, 1)
        extent = int(distances.max()) + 1
        gather = _Gather((rows[0], extent), (rows[1], 1), distances.to(values.device))
        self._gathers[values.shape, values.stride()] = gather
        return gather
