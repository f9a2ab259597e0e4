"""Writes a trace file: whole blocks, committed one by one, so that a killed run keeps all of them.

All datasets exist before the first row. A block is appended, flushed, and only then counted in
`committed`; readers see the counted rows alone. The file has the suffix '.partial' until its clean end.
"""

import queue
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import neurosbd.traces.nwb as nwb
from neurosbd.errors import RunError, UsageError
from neurosbd.traces.deflate import compress
from neurosbd.traces.series import (
    FORMAT,
    GROUP,
    PARTIAL,
    Clock,
    Contents,
    Rows,
    Series,
    chunk_shape,
    coordinates,
    place,
)
from neurosbd.traces.units import trials_of, units_of

_VERSIONS = ("earliest", "v110")  # superblock 0: no lock flag that a killed writer would leave behind
_WAITING = 4  # blocks between the run and the disk at most


class TraceWriter:
    """Appends blocks to a trace file, compressing and writing in a thread of its own.

    Use `create` or `resume`. Errors of the disk are raised by the next call.
    """

    def __init__(self, path: Path, file: h5py.File, contents: Contents) -> None:
        self.path = path
        self.contents = contents
        self._file = file
        self._committed: h5py.Dataset = file[f"{GROUP}/committed"]  # type: ignore[assignment]
        self._rows = [int(n) for n in self._committed[:]]
        self._problem: Exception | None = None
        self._queue: queue.Queue[tuple[int, Rows, Callable[[], object]] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._work, name="trace writer", daemon=True)
        self._thread.start()

    @classmethod
    def create(
        cls, path: Path, contents: Contents, config: str, description: str, started: str | None = None
    ) -> "TraceWriter":
        """A new file at `path` + '.partial'.

        Args:
            path: of the file at its clean end.
            contents: what it will hold.
            config: JSON of everything that was resolved.
            description: of the run, in a line.
            started: when the run did, an ISO time; none: now.
        Raises:
            UsageError: if it cannot be written.
        """
        partial = path.with_name(path.name + PARTIAL)
        try:
            file = h5py.File(partial, "w", libver=_VERSIONS)
        except OSError as problem:
            raise UsageError(f"{partial}: cannot be written ({problem})") from None
        started = started or datetime.now(UTC).isoformat()
        nwb.write_header(file, description, started)
        _lay_out(file, contents, config, started)
        file.flush()
        return cls(path, file, contents)

    @classmethod
    def resume(cls, path: Path, contents: Contents, rows: list[int]) -> "TraceWriter":
        """Go on after `rows` of each clock; whatever was written later is dropped.

        Raises:
            UsageError: if the file is missing, of other contents, or holds fewer rows.
        """
        partial = path.with_name(path.name + PARTIAL)
        try:
            file = h5py.File(partial, "r+", libver=_VERSIONS)
            there = Contents.model_validate_json(file[f"{GROUP}/contents"][()])  # type: ignore[index,arg-type]
            committed = file[f"{GROUP}/committed"]
            counts = [int(n) for n in committed[:]]  # type: ignore[index]
        except (OSError, KeyError, ValueError, TypeError) as problem:
            raise UsageError(f"{partial}: the trace to go on with cannot be opened ({problem})") from None
        if there != contents or any(have < want for have, want in zip(counts, rows, strict=False)):
            file.close()
            raise UsageError(
                f"{partial}: is not the trace of this checkpoint (rows {counts}, the checkpoint was at {rows}, or "
                f"other signals); give the same record.signals, or start anew in another --out"
            )
        file[GROUP].attrs["complete"] = np.int8(0)
        committed[:] = rows  # type: ignore[index]
        file.flush()  # first nobody counts on the rest any more, then it goes
        for dataset, clock in _datasets(file, contents):
            dataset.resize(rows[clock], axis=0)
        file.flush()
        return cls(path, file, contents)

    def append(self, clock: int, rows: Rows, done: Callable[[], object] = lambda: None) -> None:
        """Hand over a block: `contents.block_rows(clock)` rows, or fewer in the last one of a session.

        Args:
            clock: of the rows.
            rows: to be added; not to be changed before they are written.
            done: called, in the thread of the writer, when they are.
        Raises:
            RunError: if an earlier block could not be written.
        """
        self._check()
        if len(rows):
            self._queue.put((clock, rows, done))

    def drain(self) -> list[int]:
        """Wait until everything handed over is committed; rows of each clock.

        Raises:
            RunError: if a block could not be written.
        """
        self._queue.join()
        self._check()
        return list(self._rows)

    def close(self, complete: bool, limited: bool = True) -> Path:
        """End the file; a complete one gets its tables and its final name.

        Args:
            complete: whether nothing more will come.
            limited: no table where that would be very large.
        Returns:
            Where it is.
        Raises:
            RunError: if something could not be written; what was committed stays.
        """
        try:
            self.drain()
            if complete:
                nwb.fill(self._file, "/intervals/trials", trials_of(self._file, self.contents, self._rows))
                nwb.fill(self._file, "/units", units_of(self._file, self.contents, self._rows, limited))
                self._file[GROUP].attrs["complete"] = np.int8(1)
        except (OSError, RuntimeError) as problem:
            raise RunError(f"{self.path}: the trace cannot be written ({problem})") from None
        finally:
            self._queue.put(None)
            self._thread.join()
            self._file.close()
        partial = self.path.with_name(self.path.name + PARTIAL)
        return partial.replace(self.path) if complete else partial

    def _check(self) -> None:
        if self._problem is not None:
            raise RunError(f"{self.path}: the trace cannot be written ({self._problem}); committed rows are kept")

    def _work(self) -> None:
        while (block := self._queue.get()) is not None:
            try:
                clock, rows, done = block
                if self._problem is None:
                    self._commit(clock, rows)
                done()
            except Exception as problem:  # told to the run at its next call
                self._problem = problem
            finally:
                self._queue.task_done()
        self._queue.task_done()

    def _commit(self, clock: int, rows: Rows) -> None:
        """Append everywhere, flush, count, flush."""
        start, found = self._rows[clock], self.contents.of(clock)
        rows = rows.ordered(found)
        for name in coordinates(self.contents.clocks[clock]):
            _append(self._file[place(clock, name)], start, getattr(rows, name))  # type: ignore[arg-type]
        for series in found:
            _append(self._file[series.path], start, rows.values[series.name])  # type: ignore[arg-type]
        self._file.flush()
        self._rows[clock] = start + len(rows)
        self._committed[clock] = self._rows[clock]
        self._file.flush()


def _lay_out(file: h5py.File, contents: Contents, config: str, started: str) -> None:
    """All groups and datasets."""
    own = file.create_group(GROUP)
    own.attrs["format"] = np.int32(FORMAT)
    own.attrs["complete"] = np.int8(0)
    own.attrs["started"] = np.bytes_(started.encode())
    own["contents"] = np.bytes_(contents.model_dump_json().encode())
    own["config"] = np.bytes_(config.encode())
    own["committed"] = np.zeros(len(contents.clocks), np.int64)
    for number, clock in enumerate(contents.clocks):
        length = contents.block_rows(number)
        for name, kind in coordinates(clock).items():
            columns = (len(clock.examples),) if name == "sample" else ()
            at = place(number, name)
            data = file.create_dataset(at, (0, *columns), kind, maxshape=(None, *columns), chunks=(length, *columns))
            if name == "time":
                nwb.describe_time(data)
    for series in contents.series:
        _create(file, series, contents)
    nwb.create_tables(file, contents.dt, next((s.columns[1:] for s in contents.series if s.what == "target"), ()))


def _create(file: h5py.File, series: Series, contents: Contents) -> None:
    """The group of a series: its data, what describes them, and a dimension scale of each axis (for xarray)."""
    group = file.create_group(series.path.removesuffix("/data"))
    group["timestamps"] = file[place(series.clock, "time")]  # a hard link: one dataset for all series of the clock
    if not series.path.startswith(GROUP):
        nwb.describe_series(group, series)
    compression = {"compression": "gzip", "compression_opts": 1} if series.dtype == "uint8" else {}
    data = group.create_dataset(
        "data", (0, *series.columns), series.dtype, maxshape=(None, *series.columns),
        chunks=chunk_shape(series, contents.block_rows(series.clock)), **compression,
    )  # fmt: skip
    nwb.describe_data(data, series.unit)
    scales = ["timestamps", *_create_scales(group, series, contents.clocks[series.clock])]
    for axis, (label, scale) in enumerate(zip(series.axes, scales, strict=True)):
        data.dims[axis].label = label
        data.dims[axis].attach_scale(group[scale])


def _create_scales(group: h5py.Group, series: Series, clock: Clock) -> tuple[str, ...]:
    """A dataset for each axis but the first, that counts what lies along it; their names."""
    names = series.axes[1:]
    for name, count in zip(names, series.columns, strict=True):
        places = clock.examples if name == "example" else series.items
        numbers = np.arange(count) if places is None else np.array(places)
        packed = {"compression": "gzip", "shuffle": True, "chunks": (min(count, 1 << 18),)} if count else {}
        group.create_dataset(name, data=numbers.astype(np.int64), **packed).make_scale(name)
    return names


def _datasets(file: h5py.File, contents: Contents) -> list[tuple[Any, int]]:
    """Every dataset that grows, and its clock."""
    clocks = [(file[place(n, name)], n) for n, clock in enumerate(contents.clocks) for name in coordinates(clock)]
    return clocks + [(file[series.path], series.clock) for series in contents.series]


def _append(dataset: Any, start: int, rows: np.ndarray) -> None:
    """Add a block behind row `start`, a multiple of the chunk length, chunk by chunk.

    The chunks go to the file as they are: compressing outside HDF5 lets the run go on meanwhile, since HDF5 does not
    free the interpreter.
    """
    dataset.resize(start + len(rows), axis=0)
    length, *columns = dataset.chunks
    if start % length:
        raise ValueError(f"{dataset.name}: a block cannot begin at row {start}, within a chunk of {length} rows")
    compressed = dataset.compression is not None
    for corner in np.ndindex(*(-(-n // c) for n, c in zip(rows.shape[1:], columns, strict=True))):
        at = tuple(i * c for i, c in zip(corner, columns, strict=True))
        part = rows[(slice(None), *(slice(a, a + c) for a, c in zip(at, columns, strict=True)))]
        chunk = part.astype(dataset.dtype, copy=False)
        if chunk.shape != dataset.chunks:
            chunk = np.zeros(dataset.chunks, dataset.dtype)
            chunk[tuple(slice(n) for n in part.shape)] = part
        content: Any = np.ascontiguousarray(chunk)
        dataset.id.write_direct_chunk((start, *at), compress(content) if compressed else content)


def describe(config: Mapping[str, Any]) -> str:
    """One line about a run, for the header of its trace."""
    definition = config.get("definition", {})
    rule = definition.get("rule", {})
    return f"{definition.get('name', 'a network')}, rule {rule.get('kind', '?')}, simulated and recorded by neurosbd"
