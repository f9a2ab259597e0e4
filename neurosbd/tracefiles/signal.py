"""One recorded signal as a lazy array: rows, what they mean, and when they were taken."""

from collections.abc import Iterator
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike

from neurosbd.errors import UsageError
from neurosbd.tracefiles.ends import Ends, read_ends
from neurosbd.tracefiles.series import Clock, Series, Split

if TYPE_CHECKING:
    from pandas import DataFrame
    from xarray import DataArray

    from neurosbd.tracefiles.reader import Trace


class Signal:
    """One recorded signal, [row, ...]: a lazy array. Indexing gives numpy arrays of what was asked for.

    name, what, where, unit, axes: as in docs/traces.md.
    size: of the population, or shape of the weight.
    counted: what its numbers count: units; channels, height, width; units, components; () of a weight.
    listed: whether its synapses are numbered one by one, so that only `ends` says which units they join.
    examples: places in the batch [n]; empty for signals per batch.
    clock: when rows were taken.
    """

    def __init__(self, trace: "Trace", series: Series) -> None:
        self.trace = trace
        self.name, self.what, self.where = series.name, series.what, series.where
        self.unit, self.axes, self.about = series.unit, series.axes, series.about
        self.size, self.counted, self.listed = series.size, series.counted, series.listed
        self.clock: Clock = trace.contents.clocks[series.clock]
        self.on: Split = self.clock.on
        self.examples = np.array(self.clock.examples, int)
        self.shape = (trace.rows[series.clock], *series.columns)
        self.dtype = np.dtype(series.dtype)
        self._clock = series.clock
        self._path, self._series = series.path, series
        trace.check(self._path, self.shape, self.dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        axes = ", ".join(f"{axis} {n}" for axis, n in zip(self.axes, self.shape, strict=True))
        return f"<Signal {self.name} [{axes}] {self.dtype}, unit {self.unit}, {self.on}>"

    def __getitem__(self, key: object) -> np.ndarray:
        return self.trace.read(self._path, self.shape, key)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    @cached_property
    def items(self) -> np.ndarray:
        """Neurons or synapses that were recorded, counted through the population or the weight, [n]."""
        items = self._series.items
        return np.arange(self._series.columns[-1]) if items is None else np.array(items, int)

    @cached_property
    def numbers(self) -> dict[str, np.ndarray]:
        """Number of every recorded neuron along each axis of its population, by the name of the axis, [n] each."""
        if not self.counted:
            return {}
        return dict(zip(self.counted, np.unravel_index(self.items, self.size), strict=True))

    @cached_property
    def ends(self) -> Ends:
        """The units that the recorded synapses join: `ends.post[n]`, `ends.pre[n]`, and `ends.delay[n]`, steps, where
        synapses have delays of their own.

        Raises:
            UsageError: if these are no synapses between two units each, such as kernels.
        """
        return read_ends(self.trace, self._series)

    @property
    def nbytes(self) -> int:
        """Memory of the whole signal."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def time(self) -> np.ndarray:
        """Simulated time of every row since the start of the training, s, [row]."""
        return self.trace.coordinate(self._clock, "time")

    @property
    def step(self) -> np.ndarray:
        """Step within the trial, [row]; the last one for signals per batch."""
        return self.trace.coordinate(self._clock, "step")

    @property
    def batch(self) -> np.ndarray:
        """Batch within the epoch, [row]; -1 before the first."""
        return self.trace.coordinate(self._clock, "batch")

    @property
    def epoch(self) -> np.ndarray:
        """Epoch, from 1, [row]; 0 before the training."""
        return self.trace.coordinate(self._clock, "epoch")

    @property
    def sample(self) -> np.ndarray:
        """Number of the example in its split of the data set, [row, example]; -1 in the rest of a short batch."""
        if not len(self.examples):
            raise UsageError(f"{self.trace.path}: '{self.name}' is counted per batch and has no examples")
        return self.trace.coordinate(self._clock, "sample")

    @property
    def begins(self) -> np.ndarray:
        """Whether a row is the first one of a trial, of a free run of the whole time, [row]; a copy."""
        if self.trace.is_free_run:
            return np.arange(len(self)) == 0
        return np.append(True, (np.diff(self.epoch) != 0) | (np.diff(self.batch) != 0))[: len(self)]

    def rows(self, *, epoch: int | None = None, batch: int | None = None, step: int | None = None) -> np.ndarray:
        """Numbers of the rows of an epoch, a batch within its epoch, a step within its trial."""
        chosen = np.ones(len(self), bool)
        for wanted, there in ((epoch, "epoch"), (batch, "batch"), (step, "step")):
            if wanted is not None:
                chosen &= getattr(self, there) == wanted
        return np.flatnonzero(chosen)

    def blocks(self, most: int = 16 << 20) -> Iterator[tuple[slice, np.ndarray]]:
        """The signal from front to back in pieces of at most `most` bytes: (rows, values)."""
        row = max(1, self.nbytes // max(1, len(self)))
        length = max(1, most // row)
        for start in range(0, len(self), length):
            rows = slice(start, min(start + length, len(self)))
            yield rows, self[rows]

    def trials(self, epoch: int | None = None) -> Iterator[tuple[slice, np.ndarray]]:
        """Batch after batch: (its rows, values [step, example, item]), of one epoch or of all."""
        rows = np.arange(len(self)) if epoch is None else self.rows(epoch=epoch)
        ends = np.flatnonzero((np.diff(self.epoch[rows]) != 0) | (np.diff(self.batch[rows]) != 0)) + 1
        ahead = (16 << 20) * len(self) // max(1, self.nbytes)  # rows read at once: those of a rate network are short
        start, piece = 0, self[:0]
        for trial in np.split(rows, ends) if len(rows) else ():
            first, last = int(trial[0]), int(trial[-1]) + 1
            if last > start + len(piece):
                start, piece = first, self[first : max(last, first + ahead)]
            yield slice(first, last), piece[first - start : last - start]

    def to_xarray(self) -> "DataArray":
        """An xarray.DataArray with named axes and coordinates; loads the signal."""
        xarray = _needs("xarray")
        coords: dict[str, object] = {name: ("row", getattr(self, name)) for name in ("time", "step", "batch", "epoch")}
        if "example" in self.axes:
            coords |= {"example": self.examples, "sample": (("row", "example"), self.sample)}
        if self.axes[-1] not in ("row", "example"):
            coords[self.axes[-1]] = self.items
        if self.axes[-1] == "synapse" and (self.listed or len(self.size) == 2):
            found = {name: ends for name, ends in self.ends._asdict().items() if ends is not None}
            coords |= {name: ("synapse", ends) for name, ends in found.items()}
        attributes = {"units": self.unit, "long_name": self.about, "on": self.on}
        return xarray.DataArray(self[:], dims=self.axes, coords=coords, name=self.name, attrs=attributes)

    def to_frame(self) -> "DataFrame":
        """A tidy pandas.DataFrame, a line per value, with all coordinates as columns; loads the signal."""
        _needs("pandas")
        return self.to_xarray().to_dataframe().reset_index()


def _needs(module: str) -> ModuleType:
    try:
        return __import__(module)
    except ImportError:
        raise UsageError(f"needs {module}: pip install 'neurosbd[report]'") from None
