"""Gathers the rows of one clock in blocks on the device of the run."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from neurosbd.files.checkpoints import StateDict
from neurosbd.recording.picking import Picking
from neurosbd.tracefiles.series import Clock, Rows, Series
from neurosbd.transfers import HostMemory, host_memory

_TYPES = {"uint8": torch.bool, "float32": torch.float32}  # spikes: nothing is copied to bytes as fast as truth
_ALIGNED = 64  # bytes


class _Presence(NamedTuple):
    """Which recorded examples a batch has: their rows and places; `rows` on the device are None if it has all."""

    there: np.ndarray
    rows: Tensor | None
    places: Tensor


class SeriesRows:
    """The rows of one series within a block.

    Maps are kept in the order in which they lie in memory; the writer puts them in order while the run goes on.

    Args:
        series: whose values these are.
        block: bytes, on the device.
        start: where in the block they begin.
        length: rows of the block.
        pick: takes what is recorded out of the values; None: all is.
    """

    def __init__(self, series: Series, block: Tensor, start: int, length: int, pick: Picking | None) -> None:
        self._pick = pick
        self._kind = series.dtype
        self._columns = series.columns
        self._length = length
        self._bytes = slice(start, start + length * series.row_bytes)
        self._place = block[self._bytes].view(_TYPES[self._kind])
        self._shape, self._strides = self._columns, None  # of a row
        # Made once and for all: in a run they are far from the cache, and making a view takes as long as filling it.
        self._rows: tuple[Tensor, ...] = ()
        self._flat: tuple[Tensor, ...] = ()  # the same, each in one line

    def reuse(self) -> None:
        """The block is filled once more; rows that were laid out before a whole value was seen may lie amiss."""
        if self._strides is None:
            self._rows = self._flat = ()

    def lay(self, like: Tensor | None = None) -> Tensor:
        """All rows of the block, [length, *columns], or each as the values lie in memory."""
        if like is not None:
            self._shape, self._strides = tuple(like.shape), torch.empty_like(like, device="meta").stride()
        rows = self._on(self._place)
        self._rows = rows.unbind()
        self._flat = () if self._pick is None else self._place.view(self._length, math.prod(self._columns)).unbind()
        return rows

    def _on(self, place: Tensor) -> Tensor:
        if self._strides is None:
            return place.view(self._length, *self._shape)
        size = math.prod(self._shape)
        return place.as_strided((self._length, *self._shape), (size, *self._strides), place.storage_offset())

    def copied(self, host: Tensor, count: int) -> np.ndarray:
        """The first rows in a copy of the block, whether it is there already or not."""
        return self._on(host[self._bytes].view(_TYPES[self._kind]))[:count].numpy().view(self._kind)

    def put(self, at: int, value: Tensor | None, present: Tensor | None) -> None:
        """Fill a row of the block; `present`: rows of the examples that the batch has, None: all."""
        some, pick = value, self._pick
        if value is not None and pick is not None:
            if present is None and self._flat and pick.into(self._flat[at], value):
                return
            some = pick(value)
        if not self._rows:
            self.lay(some if present is None else None)
        row = self._rows[at]
        if some is None:
            row.fill_(float("nan"))
        elif present is None:
            (row if some.shape == row.shape else row.view(some.shape)).copy_(some)
        else:  # the last batch of an epoch may have fewer examples
            row.fill_(float("nan") if row.is_floating_point() else 0)
            row.index_copy_(0, present, some.reshape(len(present), *row.shape[1:]).to(row.dtype))


class _Block(NamedTuple):
    """Memory of so many rows, and where in it those of each series are."""

    host: HostMemory  # of its bytes, on the device
    series_rows: dict[str, SeriesRows]


class Taken(NamedTuple):
    """A block that was filled, for whoever writes it."""

    rows: Rows
    wait: Callable[[], None]  # until the values are there
    done: Callable[[], None]  # what to call when they are not needed any more


class Gathering:
    """The block that is being filled.

    A row is opened, its values are put in as they come up, and it counts when the next one is opened or the trial
    ends. Nothing is moved to the host before the block is full, then it is moved at once, and who writes it waits for
    it, not the run. Blocks that were written are filled again: memory that is new costs more than what is put there.

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
        self._picks = {s.name: _picking(s, clock) for s in series}
        self._written: deque[_Block] = deque()  # that can be filled again
        self._start()

    def _start(self) -> None:
        self.count = 0
        self._coordinates: list[tuple[float, int, int, int, np.ndarray]] = []
        # The block that was written last is the likeliest to be in the cache.
        self._block = self._written.pop() if self._written else self._new()
        for series_rows in self._block.series_rows.values():
            series_rows.reuse()

    def _new(self) -> _Block:
        sizes = [-(-self.length * s.row_bytes // _ALIGNED) * _ALIGNED for s in self.series.values()]
        starts = [0, *accumulate(sizes)]
        memory = torch.empty(starts.pop(), dtype=torch.uint8, device=self.device)
        named = zip(self.series.items(), starts, strict=True)
        rows = {n: SeriesRows(s, memory, start, self.length, self._picks[n]) for (n, s), start in named}
        return _Block(host_memory(memory), rows)

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
        self._block.series_rows[name].put(self.count - 1, value, self._present.rows)

    def examples(self) -> Tensor:
        """Places of the recorded examples that the batch of the open row has."""
        return self._present.places

    def take(self) -> Taken:
        """The rows so far, on their way to the host; the next block begins."""
        block = self._block
        block.host.copy()
        taken = Taken(self._rows(), block.host.wait, lambda: self._written.append(block))
        self._start()
        return taken

    def pending(self) -> Rows:
        """The rows so far, on the host."""
        self._block.host.copy()
        self._block.host.wait()
        return self._rows()

    def _rows(self) -> Rows:
        """The rows so far, where they are on the host once they have been copied."""
        columns = list(zip(*self._coordinates, strict=True)) or [()] * 5
        kinds = (np.float64, np.int32, np.int32, np.int32)
        time, step, batch, epoch = (np.array(c, kind) for c, kind in zip(columns[:4], kinds, strict=True))
        sample = np.array(columns[4], np.int64).reshape(self.count, len(self.clock.examples))
        host, places = self._block.host.values, self._block.series_rows.items()
        values = {name: series_rows.copied(host, self.count) for name, series_rows in places}
        return Rows(time, step, batch, epoch, sample, values)

    def state_dict(self) -> StateDict:
        """The rows so far, as tensors."""
        rows = self.pending().ordered(self.series.values())
        plain = {name: torch.from_numpy(getattr(rows, name)) for name in Rows._fields[:-1]}
        return {**plain, "values": {name: torch.from_numpy(v).clone() for name, v in rows.values.items()}}

    def load_state_dict(self, state: StateDict) -> None:
        """Go on with the rows of `state_dict`."""
        self._start()
        *plain, sample = (state[name].numpy() for name in Rows._fields[:-1])
        self._coordinates = [
            (float(t), int(s), int(b), int(e), row) for t, s, b, e, row in zip(*plain, sample, strict=True)
        ]
        self.count = len(self._coordinates)
        for name, value in state["values"].items():
            self._block.series_rows[name].lay()[: self.count] = value.to(self.device)


def _picking(series: Series, clock: Clock) -> Picking | None:
    """What takes a series out of the values of a step; None where it is all of them."""
    chosen = clock.examples if clock.per == "step" and series.what != "eligibility" else None
    return None if chosen is None and series.items is None else Picking(series.items, series.size, chosen)
