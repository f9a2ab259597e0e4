"""Reads a trace file: lazily, only what is committed, and without trusting the file."""

import contextlib
import difflib
import json
import math
import time
import weakref
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from neurosbd.errors import UsageError
from neurosbd.hdf5 import dataset
from neurosbd.schema import validate
from neurosbd.traces.selection import read
from neurosbd.traces.series import FORMAT, GROUP, PARTIAL, Clock, Contents, Series, Split, coordinates, place

T = TypeVar("T")
_TRIES = 10  # a living writer may be in the middle of a commit
_MOST_TEXT = 64 << 20  # bytes of the table of contents or the configuration
_FAULTS = (OSError, KeyError, RuntimeError, ValueError, TypeError)  # that h5py has for a file that is not whole
_MOST_CHUNK = 64 << 20  # bytes
_DEFLATE = 1032  # the most that deflate can shrink by


class NotRecorded(UsageError):
    """A signal that an analysis needs is not in the trace; `spec` is what --record would take to have it."""

    def __init__(self, message: str, spec: str) -> None:
        super().__init__(message)
        self.spec = spec


class Signal:
    """One recorded signal, [row, ...]: a lazy array. Indexing gives numpy arrays of what was asked for.

    name, what, where, unit, axes: as in docs/traces.md.
    size: of the population, or shape of the weight.
    examples: places in the batch [n]; empty for signals per batch.
    clock: when rows were taken.
    """

    def __init__(self, trace: "Trace", series: Series) -> None:
        self.trace = trace
        self.name, self.what, self.where = series.name, series.what, series.where
        self.unit, self.axes, self.size, self.about = series.unit, series.axes, series.size, series.about
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

    def __getitem__(self, key: Any) -> np.ndarray:
        return self.trace.read(self._path, self.shape, key)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    @cached_property
    def items(self) -> np.ndarray:
        """Neurons or synapses that were recorded, counted through the population or the weight, [n]."""
        items = self._series.items
        return np.arange(self._series.columns[-1]) if items is None else np.array(items, int)

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

    def to_xarray(self) -> Any:
        """An xarray.DataArray with named axes and coordinates; loads the signal."""
        xarray = _needs("xarray")
        coords: dict[str, Any] = {name: ("row", getattr(self, name)) for name in ("time", "step", "batch", "epoch")}
        if "example" in self.axes:
            coords |= {"example": self.examples, "sample": (("row", "example"), self.sample)}
        if self.axes[-1] not in ("row", "example"):
            coords[self.axes[-1]] = self.items
        attributes = {"units": self.unit, "long_name": self.about, "on": self.on}
        return xarray.DataArray(self[:], dims=self.axes, coords=coords, name=self.name, attrs=attributes)

    def to_frame(self) -> Any:
        """A tidy pandas.DataFrame, a line per value, with all coordinates as columns; loads the signal."""
        _needs("pandas")
        return self.to_xarray().to_dataframe().reset_index()


class Trace:
    """An open trace file. Nothing but its table of contents is read before it is asked for.

    Args:
        path: of the file.
    Raises:
        UsageError: if it is no trace, of a newer format, truncated, corrupt, or leads outside itself.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened = contextlib.ExitStack()
        weakref.finalize(self, self._opened.close)
        problem: Exception | None = None
        for _ in range(_TRIES if self._growing else 1):
            try:
                self._open()
                return
            except FileNotFoundError:
                raise UsageError(f"{path}: there is no such trace") from None
            except UsageError:
                self.close()
                raise
            except _FAULTS as fault:
                problem = fault
            self.close()
            time.sleep(0.05)
        raise UsageError(
            f"{path}: truncated or corrupt HDF5 file, or being written at this moment ({problem}); if its run is "
            f"still going on, try again"
        )

    @property
    def _growing(self) -> bool:
        return self.path.name.endswith(PARTIAL)

    def _attach(self) -> None:
        """Open the file, anew if it was open.

        One that grows is read without a lock, through a stream of its own: HDF5 would share what it remembers of the
        file with whoever has it open in this process. A finished one is opened as everyone does: HDF5 opens a file
        twice only in the same way (pynwb beside `run.trace`). A run that finished meanwhile has renamed its file.
        """
        self.close()
        if not self._growing:
            self._file = self._opened.enter_context(h5py.File(self.path, "r"))
            return
        whole = self.path.with_name(self.path.name.removesuffix(PARTIAL))
        path = whole if whole.exists() and not self.path.exists() else self.path
        self._file = self._opened.enter_context(h5py.File(self._opened.enter_context(path.open("rb")), "r"))

    def _open(self) -> None:
        self._attach()
        self._read_contents()
        if self._growing:
            self._attach()  # what was counted is certain to lie in a file that is opened afterwards

    def _read_contents(self) -> None:
        group = dataset(self._file, f"{GROUP}/contents", self.path, "this is no trace of neurosbd").parent
        self.format = int(group.attrs.get("format", 0))
        if self.format > FORMAT:
            raise UsageError(
                f"{self.path}: has trace format {self.format}, this version of neurosbd reads up to {FORMAT}; update it"
            )
        self.complete = bool(group.attrs.get("complete", 0))
        self.contents = validate(Contents, self._text("contents"), str(self.path))
        committed = self.node(f"{GROUP}/committed")
        _check(committed, (len(self.contents.clocks),), np.dtype("i8"), f"{self.path}: '{GROUP}/committed'")
        self.rows = [int(n) for n in committed[:]]
        if min(self.rows, default=0) < 0:
            raise UsageError(f"{self.path}: '{GROUP}/committed' says {self.rows} rows; damaged")
        self._series = {series.name: series for series in self.contents.series}

    def node(self, path: str) -> h5py.Dataset:
        """A dataset of this very file."""
        return dataset(self._file, path, self.path, "the trace is damaged or no trace of neurosbd")

    def read(self, path: str, shape: tuple[int, ...], key: Any) -> np.ndarray:
        """What `key` selects of the first rows of a dataset.

        Raises:
            UsageError: if it cannot be read.
        """
        return self._trying(path, lambda: read(self.node(path), shape, key))

    def check(self, path: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """Refuse a dataset that is not of the announced shape, or cannot be in the file at all.

        Raises:
            UsageError: saying what is there instead.
        """
        self._trying(path, lambda: _check(self.node(path), shape, dtype, f"{self.path}: '{path}'"))

    def _trying(self, path: str, action: Callable[[], T]) -> T:
        """Carry out something that reads. A file that grows is opened anew where that fails."""
        problem: Exception | None = None
        for _ in range(_TRIES if self._growing else 1):
            try:
                return action()
            except (UsageError, IndexError):
                raise
            except _FAULTS as fault:  # of a file that grows: its writer has moved what this process had not read yet
                problem = fault
            if self._growing:
                time.sleep(0.05)
                self._attach()
        raise UsageError(f"{self.path}: '{path}' cannot be read; the file is damaged ({problem})")

    def _text(self, name: str) -> Any:
        """Parsed JSON of a dataset of bytes."""
        return self._trying(f"{GROUP}/{name}", lambda: self._parsed(name))

    def _parsed(self, name: str) -> Any:
        node = self.node(f"{GROUP}/{name}")
        if node.shape != () or node.dtype.kind != "S" or node.dtype.itemsize > _MOST_TEXT:
            raise UsageError(f"{self.path}: '{GROUP}/{name}' is {node.dtype} {node.shape}; legal is one text")
        return json.loads(node[()])

    @cached_property
    def config(self) -> dict[str, Any]:
        """Everything that was resolved for the run, as in its config.json."""
        return self._text("config")

    @property
    def started(self) -> str:
        """When the run did, as an ISO time."""
        text = self._trying(GROUP, lambda: self._file[GROUP].attrs.get("started"))
        try:
            return datetime.fromisoformat(text.decode() if isinstance(text, bytes) else "").isoformat()
        except ValueError:
            raise UsageError(f"{self.path}: '{GROUP}' does not say when the run started; damaged") from None

    @property
    def dt(self) -> float:
        """Duration of a step, s."""
        return self.contents.dt

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all recorded signals."""
        return tuple(self._series)

    def __contains__(self, name: object) -> bool:
        return name in self._series

    def __getitem__(self, name: str) -> Signal:
        """A signal by name; 'hidden.spikes' also finds 'hidden.spikes@test' if only test batches were recorded."""
        series = self._series.get(name) or self._series.get(f"{name}@test")
        if series is None:
            near = difflib.get_close_matches(name, self.names, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'? " if near else ""
            spec = name.removesuffix("@test") + ("[on=test]" if name.endswith("@test") else "")
            raise NotRecorded(
                f"{self.path}: '{name}' was not recorded; {hint}It has {', '.join(self.names)}. "
                f'To have it, run again with --record "{spec}"',
                spec,
            )
        return Signal(self, series)

    def all(self, what: str, on: Split | None = None) -> list[Signal]:
        """All signals of a kind ('spikes', 'weight'), of training or test batches or both; maybe none."""
        found = [Signal(self, series) for series in self.contents.series if series.what == what]
        return [signal for signal in found if on in (None, signal.on)]

    def need(self, *whats: str, on: Split | None = None) -> list[Signal]:
        """All signals of any of these kinds.

        Raises:
            NotRecorded: if there is none; says which --record would provide it.
        """
        found = [signal for what in whats for signal in self.all(what, on)]
        if not found:
            which = "[on=test]" if on == "test" else ""
            specs = [what + which if what in ("score", "loss") else f"*.{what}{which}" for what in whats]
            raise NotRecorded(
                f"{self.path}: needs {' or '.join(whats)}{' of test batches' if on == 'test' else ''}, which was not "
                f'recorded; run again with --record "{specs[0]}"',
                specs[0],
            )
        return found

    def coordinate(self, clock: int, name: str) -> np.ndarray:
        """A coordinate of all rows of a clock."""
        if (clock, name) not in self._coordinates:
            columns = (len(self.contents.clocks[clock].examples),) if name == "sample" else ()
            shape = (self.rows[clock], *columns)
            kind = np.dtype(coordinates(self.contents.clocks[clock])[name])
            self.check(place(clock, name), shape, kind)
            values = self.read(place(clock, name), shape, ...)
            if name == "epoch" and self.format == 1:  # that counted from 0, and the test before it as -1
                values = values + (self.coordinate(clock, "batch") >= 0)
            self._coordinates[clock, name] = values
        return self._coordinates[clock, name]

    @cached_property
    def _coordinates(self) -> dict[tuple[int, str], np.ndarray]:
        return {}

    def close(self) -> None:
        """Close the file; its signals cannot be read any more."""
        self._opened.close()

    def __enter__(self) -> "Trace":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_trace(path: str | Path) -> Trace:
    """Open a trace file, finished, interrupted or still being written.

    Raises:
        UsageError: if it is no readable trace.
    """
    return Trace(Path(path))


def _check(data: h5py.Dataset, shape: tuple[int, ...], dtype: np.dtype, where: str) -> None:
    """Refuse what is not of the announced shape, or cannot be in the file at all."""
    fits = data.ndim == len(shape) and data.shape[1:] == shape[1:] and data.shape[0] >= shape[0]
    if not fits or data.dtype != dtype:
        raise UsageError(f"{where} is {data.dtype} {data.shape}, the table of contents says {dtype} {shape}; damaged")
    if data.chunks and math.prod(data.chunks) * dtype.itemsize > _MOST_CHUNK:
        raise UsageError(f"{where} has chunks of {data.chunks}, which a reader would have to unpack whole; refused")
    stored = data.id.get_storage_size() * (_DEFLATE if data.compression == "gzip" else 1)
    if data.compression not in (None, "gzip") or data.fletcher32 or data.scaleoffset is not None:
        raise UsageError(f"{where} is stored with a filter that traces do not use; refused")
    if int(np.prod(shape, dtype=object)) * dtype.itemsize > stored:
        raise UsageError(f"{where} claims {shape} values of {dtype}, more than the file can hold; refused")


def _needs(module: str) -> Any:
    try:
        return __import__(module)
    except ImportError:
        raise UsageError(f"needs {module}: pip install 'neurosbd[report]'") from None
