"""Picks what a series asks for out of the values of a step. Layer 3."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class _Gather(NamedTuple):
    """Where chosen values lie in memory: at `distances` from the beginning of each row of a matrix."""

    shape: tuple[int, int]
    strides: tuple[int, int]
    distances: Tensor  # int64, on the device of the values
    found: tuple[int, int]  # examples (1 if there are none), items


class Picking:
    """Takes chosen neurons or synapses of chosen examples in one gather.

    Where they lie in memory is worked out once per layout, so channels-last maps need not be put in order first.

    Args:
        items: of the population or weight, counted through; None: all of them.
        size: of the population, shape of the weight.
        examples: places in the batch; None: of all there are, or the values have none.
    """

    def __init__(self, items: tuple[int, ...] | None, size: tuple[int, ...], examples: tuple[int, ...] | None) -> None:
        self._along = None if items is None else np.unravel_index(np.array(items), size)
        self._examples = examples
        self._rows: dict[int, slice | Tensor] = {}  # size of the batch -> chosen examples
        self._gathers: dict[object, _Gather] = {}  # by layout

    def __call__(self, values: Tensor) -> Tensor:
        """Of values [B, *size] or [*size]: [E, *size], or [E, chosen] or [1, chosen]."""
        if self._along is None:
            return values if self._examples is None else values[self._where(values)]
        layout = values.shape, values.stride()
        gather = self._gathers.get(layout)
        if gather is None:
            gather = self._gathers[layout] = self._measured(values, self._along)
        some = values.as_strided(gather.shape, gather.strides).index_select(1, gather.distances)
        return some if some.shape == gather.found else some.view(gather.found)

    def _where(self, values: Tensor) -> slice | Tensor:
        """The chosen examples that this batch has."""
        batch = values.shape[0]
        where = self._rows.get(batch)
        if where is None:
            places = self._places(batch)
            where = slice(len(places)) if _leading(places) else torch.from_numpy(places).to(values.device)
            self._rows[batch] = where
        return where

    def _places(self, batch: int) -> np.ndarray:
        places = np.arange(batch) if self._examples is None else np.array(self._examples)
        return places[places < batch]

    def _measured(self, values: Tensor, along: tuple[np.ndarray, ...]) -> _Gather:
        """A row per example if these are the first ones, which needs few distances; else one row of everything."""
        strides = np.array(values.stride())
        extent = 1 + int((np.array(values.shape) - 1) @ strides)
        distances = strides[values.ndim - len(along) :] @ np.stack(along)
        places, items = self._places(values.shape[0]) if values.ndim > len(along) else np.zeros(1, int), len(distances)
        if _leading(places):
            shape, steps = (len(places), int(distances.max()) + 1), (values.stride(0), 1)
        else:
            shape, steps = (1, extent), (extent, 1)
            distances = (places[:, None] * strides[0] + distances).ravel()
        return _Gather(shape, steps, torch.from_numpy(distances).to(values.device), (len(places), items))


def _leading(places: np.ndarray) -> bool:
    return np.array_equal(places, np.arange(len(places)))
