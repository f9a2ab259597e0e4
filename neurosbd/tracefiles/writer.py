"""Writes a trace file: whole blocks, committed one by one, so that a killed run keeps all of them.

All datasets exist before the first row. A block is appended, its checks are noted, all is flushed, and only then it is
counted in `committed`; readers see the counted rows alone. The file has the suffix '.partial' until its clean end.
A file that a process left behind is never written to again: whoever goes on copies what is committed into a new one.
"""

import queue
import signal
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any, BinaryIO

import h5py
import numpy as np

import neurosbd.tracefiles.checks as checks
import neurosbd.tracefiles.nwb as nwb
from neurosbd.errors import OUT, RESUME, RunError, UsageError, warn
from neurosbd.files.hdf5 import Node
from neurosbd.files.parsing import Json
from neurosbd.tracefiles.compression import compress
from neurosbd.tracefiles.ends import Ends, write_ends
from neurosbd.tracefiles.nwb_tables import trials_of, units_of
from neurosbd.tracefiles.series import (
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

_VERSIONS = (
    "v108",
    "v110",
)  # superblock 2: its headers have checksums, and no lock flag that a killed writer would leave
_WAITING = 4  # blocks between the run and the disk at most
_FAULTS = (OSError, RuntimeError, ValueError, KeyError, MemoryError)  # of HDF5, mostly of a disk that is full


class TraceWriter:
    """Appends blocks to a trace file, compressing and writing in a thread of its own.

    Use `create`. Errors of the disk are raised by the next call.
    """

    def __init__(self, path: Path, file: h5py.File, contents: Contents) -> None:
        self.path = path
        self.contents = contents
        self._file = file
        self._committed: h5py.Dataset = file[f"{GROUP}/committed"]  # type: ignore[assignment]
        self._rows = [int(n) for n in self._committed[:]]
        self._pieces = [checks.pieces(contents, clock) for clock in range(len(contents.clocks))]
        self._problem: BaseException | None = None
        self._missing = ""  # what the file could not have, to be said
        self._queue: queue.Queue[Callable[[], object] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._work, name="trace writer", daemon=True)
        self._thread.start()

    @classmethod
    def create(
        cls,
        path: Path,
        contents: Contents,
        config: str,
        description: str,
        started: str | None = None,
        ends: Mapping[str, Ends] = MappingProxyType({}),
    ) -> "TraceWriter":
        """A new file at `path` + '.partial', in place of one that may be there.

        Args:
            path: of the file at its clean end.
            contents: what it will hold.
            config: JSON of everything that was resolved.
            description: of the run, in a line.
            started: when the run did, an ISO time; none: now.
            ends: of the synapses of every series that lists them, by its name.
        Raises:
            UsageError: if it cannot be written, or is a link to another place.
        """
        unfinished = path.with_name(path.name + PARTIAL)
        refuse_link(unfinished)
        refuse_link(path)
        started = started or datetime.now(UTC).isoformat()
        try:
            unfinished.unlink(missing_ok=True)
            # "x" never leads through a link that appears meanwhile.
            return cls(path, new_file(unfinished, "x", contents, config, description, started, ends), contents)
        except _FAULTS as problem:
            raise UsageError(f"{unfinished}: cannot be written ({problem})") from None

    @classmethod
    def reopened(cls, path: Path, contents: Contents) -> "TraceWriter":
        """A file that this process has made and closed.

        Raises:
            RunError: if it cannot be opened.
        """
        unfinished = path.with_name(path.name + PARTIAL)
        try:
            return cls(path, h5py.File(unfinished, "r+", libver=_VERSIONS), contents)
        except _FAULTS as problem:
            raise RunError(f"{unfinished}: the trace cannot be gone on with ({problem})") from None

    def append(
        self,
        clock: int,
        rows: Rows,
        wait: Callable[[], object] = lambda: None,
        done: Callable[[], object] = lambda: None,
    ) -> None:
        """Hand over a block: `contents.block_rows(clock)` rows, or fewer in the last one of a session.

        Args:
            clock: of the rows.
            rows: to be added; not to be changed before they are written.
            wait: called, in the thread of the writer, before it looks at their values.
            done: called, in the thread of the writer, when they are.
        Raises:
            RunError: if an earlier block could not be written.
        """
        self._check()
        if len(rows):
            self._queue.put(partial(self._commit, clock, rows, wait, done))

    def drain(self) -> list[int]:
        """Wait until everything handed over is committed; rows of each clock.

        Raises:
            RunError: if a block could not be written.
        """
        self._queue.join()
        self._check()
        return list(self._rows)

    def close(self, complete: bool, most: float | None = None) -> Path:
        """End the file; a complete one gets its tables and its final name.

        Ctrl-C and SIGTERM wait until that is done.

        Args:
            complete: whether nothing more will come.
            most: bytes that the file may have; tables beyond it, or too long for people, are left out and that is said.
        Returns:
            Where it is.
        Raises:
            RunError: if something could not be written; what was committed stays.
        """
        with _deferred():
            self._end(complete, most)
        if self._problem is not None and not isinstance(self._problem, Exception):
            raise self._problem
        self._check()
        if self._missing:
            warn(f"{self.path}: {self._missing}")
        return self.path if complete else self.path.with_name(self.path.name + PARTIAL)

    def _end(self, complete: bool, most: float | None) -> None:
        self._queue.put(partial(self._complete, most) if complete else lambda: None)
        self._queue.put(None)
        self._thread.join()
        if complete and self._problem is None:
            try:
                self.path.with_name(self.path.name + PARTIAL).replace(self.path)
            except OSError as problem:
                self._problem = problem

    def _complete(self, most: float | None) -> None:
        """Fill the tables. They are written once: whoever dies here leaves a file whose rows are copied."""
        file, rows = self._file, self._rows
        nwb.fill(file, "/intervals/trials", trials_of(file, self.contents, rows))
        file.flush()
        room = None if most is None else most - file.id.get_filesize()
        units, self._missing = units_of(file, self.contents, rows, room)
        nwb.fill(file, "/units", units)
        file.flush()
        file[GROUP].attrs.modify("complete", np.int8(1))

    def _check(self) -> None:
        if self._problem is not None:
            raise RunError(
                f"{self.path}: the trace cannot be written ({self._problem}); committed rows are kept, and {RESUME} "
                f"goes on when there is room"
            )

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                if self._problem is None:
                    job()
            except BaseException as problem:  # told to the run at its next call
                self._problem = problem
            finally:
                self._queue.task_done()
        try:
            self._file.close()
        except BaseException as problem:
            self._problem = self._problem or problem
        self._queue.task_done()

    def _commit(self, clock: int, rows: Rows, wait: Callable[[], object], done: Callable[[], object]) -> None:
        """Append everywhere, note the checks, flush, count, flush."""
        start, length = self._rows[clock], self.contents.block_rows(clock)
        table: Node = self._file[checks.where(clock)]
        if start % length or start // length >= len(table):
            raise ValueError(
                f"a block of clock {clock} cannot begin at row {start:,}; blocks have {length:,} rows, and "
                f"{len(table):,} were announced"
            )
        wait()
        rows = rows.ordered(self.contents.of(clock))
        plain = {place(clock, name): getattr(rows, name) for name in coordinates(self.contents.clocks[clock])}
        plain |= {series.path: rows.values[series.name] for series in self.contents.of(clock)}
        chunks = [c for p in self._pieces[clock] for c in _append(self._file[p.path], start, plain[p.path], p)]
        table[start // length] = checks.line(len(rows), chunks)
        self._file.flush()
        self._rows[clock] = start + len(rows)
        self._committed[clock] = self._rows[clock]
        self._file.flush()
        done()


@contextmanager
def _deferred() -> Iterator[None]:
    """Ctrl-C and SIGTERM that come meanwhile come afterwards."""
    late: list[int] = []
    before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
    if threading.current_thread() is threading.main_thread():  # no other one is interrupted
        known = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not None]
        before = {number: signal.signal(number, lambda number, _: late.append(number)) for number in known}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in late:
            signal.raise_signal(number)


def refuse_link(path: Path) -> None:
    """A trace is not written through a link, and none is taken away.

    Raises:
        UsageError: if there is one.
    """
    if path.is_symlink():
        raise UsageError(
            f"{path}: is a link to {path.readlink()}; a trace is not written through a link. Remove it, or give the "
            f"directory it leads to as {OUT}"
        )


def new_file(
    where: Path | BinaryIO, mode: str, contents: Contents, config: str, description: str, started: str,
    ends: Mapping[str, Ends],
) -> h5py.File:  # fmt: skip
    """A file with everything but rows; see `TraceWriter.create`. If that fails, what was written is still there."""
    file = h5py.File(where, mode, libver=_VERSIONS)
    try:
        nwb.write_header(file, description, started)
        _lay_out(file, contents, config, started)
        for series in contents.series:
            if series.listed:
                data: Node = file[series.path]
                write_ends(data.parent, ends[series.name])
        file.flush()
    except BaseException:
        with suppress(*_FAULTS):
            file.close()
        raise
    return file


def _lay_out(file: h5py.File, contents: Contents, config: str, started: str) -> None:
    """All groups and datasets."""
    own = file.create_group(GROUP)
    own.attrs["format"] = np.int32(FORMAT)
    own.attrs["complete"] = np.int8(0)
    own.attrs["started"] = np.bytes_(started.encode())
    plain = contents.model_dump_json().encode()
    own["contents"], own["config"] = np.bytes_(plain), np.bytes_(config.encode())
    own.attrs["checksum"] = checks.text(plain, config.encode(), started.encode())
    own["committed"] = np.zeros(len(contents.clocks), np.int64)
    for number, clock in enumerate(contents.clocks):
        length = contents.block_rows(number)
        for name, (dtype, columns) in coordinates(clock).items():
            at = place(number, name)
            data = file.create_dataset(at, (0, *columns), dtype, maxshape=(None, *columns), chunks=(length, *columns))
            if name == "time":
                nwb.describe_time(data)
    for series in contents.series:
        _create(file, series, contents)
    checks.create(file, contents)
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


def _append(dataset: Node, start: int, rows: np.ndarray, piece: checks.Piece) -> Iterator[tuple[int, int, int]]:
    """Add a block behind row `start`, chunk by chunk; where each lies, its bytes and their CRC-32.

    The chunks go to the file as they are: compressing outside HDF5 lets the run go on meanwhile, since HDF5 does not
    free the interpreter.
    """
    dataset.resize(start + len(rows), axis=0)
    for corner in piece.corners():
        part = rows[(slice(None), *(slice(a, a + c) for a, c in zip(corner, piece.chunk[1:], strict=True)))]
        chunk = part.astype(piece.dtype, copy=False)
        if chunk.shape != piece.chunk:
            chunk = np.zeros(piece.chunk, piece.dtype)
            chunk[tuple(slice(n) for n in part.shape)] = part
        content: Any = np.ascontiguousarray(chunk)
        content = compress(content) if piece.packed else content
        dataset.id.write_direct_chunk((start, *corner), content)
        stored = dataset.id.get_chunk_info_by_coord((start, *corner))
        yield stored.byte_offset, stored.size, zlib.crc32(content)


def describe(config: Mapping[str, Json]) -> str:
    """One line about a run, for the header of its trace."""
    definition = config.get("definition", {})
    rule = definition.get("rule", {})
    return f"{definition.get('name', 'a network')}, rule {rule.get('kind', '?')}, simulated and recorded by neurosbd"
