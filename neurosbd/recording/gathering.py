"""Gathers the rows of one clock in blocks on the device of the run. Layer 3."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neurosbd.recording.picking import Picking
from neurosbd.traces.series import Clock, Rows, Series


class _Presence(NamedTuple):
    """Which recorded examples a batch has: their rows and places; `rows` on the device are None if it has all."""

    there: np.ndarray
    rows: Tensor | None
    places: Tensor


_TYPES = {"uint8": torch.uint8, "float32": torch.float32}


class Gathering:
    """The block that is being filled.

    A row is opened, its values are put in as they come up, and it counts when the next one is opened or the trial
    ends. Nothing is moved to the host before the block is full.

    Args:
        clock: of these series.
        series: that share it.
        length: rows of a block.
        device: where the values are.
    """

    def __init__(self, clock: Clock, series: Sequence[Series], length: int, device: torch.device) -> None:
        self.clock = clock
        self.series = {s.name: s for s in series}
        self.length = length
        self.device = device
        self._places = np.array(clock.examples, np.int64)
        self._presence: dict[int, _Presence] = {}  # by the size of the batch
        self._sample: np.ndarray | None = None
        self._picking = {s.name: _picking(s, clock) for s in series}
        self._start()

    def _start(self) -> None:
        self.count = 0
        self._coordinates: list[tuple[float, int, int, int, np.ndarray]] = []
        self._values: dict[str, Tensor] = {}  # series -> rows, [length, *columns] or as the values lie in memory

    @property
    def full(self) -> bool:
        """Whether the block has to be taken before another row is opened."""
        return self.count == self.length

    def open(self, time: float, step: int, batch: int, epoch: int, sample: np.ndarray) -> None:
        """Begin a row; sample [B] numbers the examples of the batch."""
        self._present = self._presence.get(len(sample)) or self._look(len(sample))
        if sample is not self._sample:  # the steps of a trial share it
            self._sample, there = sample, self._present.there
            self._shown = np.full(len(self._places), -1, np.int64)
            self._shown[there] = sample[self._places[there]]
        self._coordinates.append((time, step, batch, epoch, self._shown))
        self.count += 1

    def _look(self, batch: int) -> _Presence:
        """Once per size of the batch, since moving indices to a device makes it wait."""
        there = np.flatnonzero(self._places < batch)
        rows, places = (torch.from_numpy(n).to(self.device) for n in (there, self._places[there]))
        self._presence[batch] = _Presence(there, None if len(there) == len(self._places) else rows, places)
        return self._presence[batch]

    def put(self, name: str, value: Tensor | None) -> None:
        """What a series shows in the open row; None: nothing was there.

        Args:
            name: of the series.
            value: [B, *size]; of an eligibility [E, *size] for the `examples`; [*size] for rows per batch.
        """
        if value is None:
            self._block(name)[self.count - 1].fill_(float("nan"))
            return
        some = self._picking[name](value.detach())
        row = self._block(name, some)[self.count - 1]
        if row.dtype == torch.uint8:
            some = some.to(torch.bool).view(torch.uint8)  # several times as fast as straight to uint8
        rows = self._present.rows
        if rows is None:
            row.view(some.shape).copy_(some)
            return
        row.fill_(float("nan") if row.is_floating_point() else 0)  # the last batch of an epoch may have fewer examples
        row.index_copy_(0, rows, some.reshape(len(rows), *row.shape[1:]).to(row.dtype))

    def _block(self, name: str, like: Tensor | None = None) -> Tensor:
        """Rows of a series, made when the first of them comes up.

        Maps are kept in the order in which they lie in memory; the writer puts them in order while the run goes on.
        """
        block = self._values.get(name)
        if block is None:
            series = self.series[name]
            kind, columns = _TYPES[series.dtype], series.columns
            if like is not None and like.ndim == 4 and self._present.rows is None:
                one = torch.empty_like(like, dtype=kind)
                shape, strides = (self.length, *one.shape), (one.numel(), *one.stride())
                block = torch.empty_strided(shape, strides, dtype=kind, device=self.device)
            else:
                block = torch.empty((self.length, *columns), dtype=kind, device=self.device)
            self._values[name] = block
        return block

    def examples(self) -> Tensor:
        """Places of the recorded examples that the batch of the open row has."""
        return self._present.places

    def take(self) -> Rows:
        """The rows so far, on the host; the next block begins."""
        rows = self.pending()
        self._start()
        return rows

    def pending(self) -> Rows:
        """The rows so far, on the host."""
        columns = list(zip(*self._coordinates, strict=True)) or [()] * 5
        kinds = (np.float64, np.int32, np.int32, np.int32)
        time, step, batch, epoch = (np.array(c, kind) for c, kind in zip(columns[:4], kinds, strict=True))
        sample = np.array(columns[4], np.int64).reshape(self.count, len(self.clock.examples))
        values = {name: self._block(name)[: self.count].cpu().numpy() for name in self.series}
        return Rows(time, step, batch, epoch, sample, values)

    def state_dict(self) -> dict[str, Any]:
        """The rows so far, as tensors."""
        rows = self.pending().ordered(self.series.values())
        plain = {name: torch.from_numpy(getattr(rows, name)) for name in Rows._fields[:-1]}
        return {**plain, "values": {name: torch.from_numpy(v).clone() for name, v in rows.values.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the rows of `state_dict`."""
        self._start()
        *plain, sample = (state[name].numpy() for name in Rows._fields[:-1])
        self._coordinates = [
            (float(t), int(s), int(b), int(e), row) for t, s, b, e, row in zip(*plain, sample, strict=True)
        ]
        self.count = len(self._coordinates)
        for name, value in state["values"].items():
            self._block(name)[: self.count] = value.to(self.device)


def _picking(series: Series, clock: Clock) -> Picking:
    chosen = clock.examples if clock.per == "step" and series.what != "eligibility" else None
    return Picking(series.items, series.size, chosen)
