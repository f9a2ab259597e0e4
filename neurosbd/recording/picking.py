"""Picks what a series asks for out of the values of a step. Layer 3."""

import numpy as np
import torch
from torch import Tensor


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
        self._distances: dict[object, Tensor] = {}  # layout -> of the chosen values from the first one, in memory

    def __call__(self, values: Tensor) -> Tensor:
        """Of values [B, *size] or [*size]: [E, *size], or what was chosen, counted through."""
        if self._along is None:
            return values if self._examples is None else values[self._where(values)]
        layout = values.shape, values.stride()
        distances = self._distances.get(layout)
        if distances is None:
            distances = self._distances[layout] = self._measured(values)
        extent = 1 + sum((n - 1) * s for n, s in zip(*layout, strict=True))
        return values.as_strided((extent,), (1,)).index_select(0, distances)

    def _where(self, values: Tensor) -> slice | Tensor:
        """The chosen examples that this batch has."""
        batch = values.shape[0]
        where = self._rows.get(batch)
        if where is None:
            places = self._places(batch)
            first = np.array_equal(places, np.arange(len(places)))
            where = slice(len(places)) if first else torch.from_numpy(places).to(values.device)
            self._rows[batch] = where
        return where

    def _places(self, batch: int) -> np.ndarray:
        places = np.arange(batch) if self._examples is None else np.array(self._examples)
        return places[places < batch]

    def _measured(self, values: Tensor) -> Tensor:
        assert self._along is not None
        strides = np.array(values.stride())
        distances = strides[values.ndim - len(self._along) :] @ np.stack(self._along)
        if values.ndim > len(self._along):
            distances = self._places(values.shape[0])[:, None] * strides[0] + distances
        return torch.from_numpy(distances.ravel()).to(values.device)
