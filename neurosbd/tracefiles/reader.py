"""Reads a trace file: lazily, only what is committed, and without trusting the file."""

import contextlib
import difflib
import json
import math
import os
import time
import weakref
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import h5py
import numpy as np

import neurosbd.tracefiles.checks as checks
from neurosbd.errors import UsageError, recorded_by
from neurosbd.files.hdf5 import Node, dataset
from neurosbd.files.parsing import Json, JsonTable
from neurosbd.files.writing import legal_path
from neurosbd.schema.validation import validate
from neurosbd.text import html_table, sides
from neurosbd.tracefiles.checked_values import CheckedValues
from neurosbd.tracefiles.checks import Piece
from neurosbd.tracefiles.selection import read
from neurosbd.tracefiles.series import FORMAT, GROUP, PARTIAL, Contents, Split, coordinates, place
from neurosbd.tracefiles.signal import Signal

T = TypeVar("T")
_TRIES = 10  # a living writer may be in the middle of a commit
_MOST_TEXT = 64 << 20  # bytes of the table of contents or the configuration
_FAULTS = (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, RecursionError, MemoryError)
_FAULTS += (AttributeError, NotImplementedError)  # what h5py has for a file that is not whole
_MOST_CHUNK = 64 << 20  # bytes
_PADDING = 64 << 20  # bytes that may be missing at the end of a file that grows


class NotRecorded(UsageError):
    """A signal that an analysis needs is not in the trace; `spec` is what --record would take to have it."""

    def __init__(self, message: str, spec: str) -> None:
        super().__init__(message)
        self.spec = spec


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
        self._stored: dict[str, CheckedValues] = {}
        self._at = self.path
        if not self._growing:
            self._file = self._opened.enter_context(h5py.File(self.path, "r"))
            return
        whole = self.path.with_name(self.path.name.removesuffix(PARTIAL))
        self._at = whole if whole.exists() and not self.path.exists() else self.path
        stream: Any = _Padded(self._opened.enter_context(self._at.open("rb")))
        self._file = self._opened.enter_context(h5py.File(stream, "r"))

    def _open(self) -> None:
        self._attach()
        self._read_contents()
        if self._growing:
            self._attach()  # what was counted is certain to lie in a file that is opened afterwards
        self._lines = [self._checks(clock) for clock in range(len(self.rows))] if self.format > 1 else []

    def _read_contents(self) -> None:
        group = dataset(self._file, f"{GROUP}/contents", self.path, "this is no trace of neurosbd").parent
        self.format = int(group.attrs.get("format", 0))
        if self.format < 1:
            raise UsageError(f"{self.path}: has trace format {self.format}; legal are 1 to {FORMAT}; damaged")
        if self.format > FORMAT:
            raise UsageError(
                f"{self.path}: has trace format {self.format}, this version of neurosbd reads up to {FORMAT}; update it"
            )
        self.complete = bool(group.attrs.get("complete", 0))
        if self.format > 1:
            self._compare(group)
        self.contents = validate(Contents, self._text("contents"), str(self.path))
        committed = self.node(f"{GROUP}/committed")
        _check(committed, (len(self.contents.clocks),), np.dtype("i8"), f"{self.path}: '{GROUP}/committed'")
        self.rows = [int(n) for n in committed[:]]
        if min(self.rows, default=0) < 0:
            raise UsageError(f"{self.path}: '{GROUP}/committed' says {self.rows} rows; damaged")
        self._series = {series.name: series for series in self.contents.series}

    def _compare(self, group: h5py.Group) -> None:
        """Refuse a trace that says something else of itself than when it was made."""
        contents, config, started = self._bytes("contents"), self._bytes("config"), group.attrs.get("started", b"")
        if int(group.attrs.get("checksum", -1)) != checks.text(contents, config, bytes(started)):
            raise UsageError(f"{self.path}: '{GROUP}' contents, config or started do not have their checksum; damaged")

    def _checks(self, clock: int) -> np.ndarray:
        """The lines of checks of the rows that are counted.

        Raises:
            UsageError: if they are damaged, or are of other rows than those counted.
        """
        path, length = checks.where(clock), self.contents.block_rows(clock)
        data = self.node(path)
        chunks = sum(piece.chunks for piece in checks.pieces(self.contents, clock))
        blocks = -(-self.rows[clock] // length)
        _check(data, (blocks, 1 + chunks, 3), np.dtype("u8"), f"{self.path}: '{path}'")
        lines = data[: blocks + 1]
        counts = [int(one[0, 0]) for one in lines[:blocks]]
        for number in range(blocks):
            if not checks.is_whole(lines[number]):
                rows = f"rows {number * length:,} to {number * length + length - 1:,} of clock {clock}"
                raise UsageError(f"{self.path}: '{path}' line {number}, of {rows}, does not have its checksum; damaged")
        later = len(lines) > blocks and checks.is_whole(lines[blocks])
        if counts != [length] * (blocks - 1) + [self.rows[clock] - (blocks - 1) * length] * (blocks > 0) or (
            later and not self._growing
        ):
            raise UsageError(
                f"{self.path}: '{GROUP}/committed' says {self.rows[clock]:,} rows of clock {clock}, its checks say "
                f"otherwise; damaged"
            )
        return lines[:blocks]

    def node(self, path: str) -> h5py.Dataset:
        """A dataset of this very file."""
        return dataset(self._file, path, self.path, "the trace is damaged or no trace of neurosbd")

    def read(self, path: str, shape: tuple[int, ...], key: object) -> np.ndarray:
        """What `key` selects of the first rows of a dataset.

        Raises:
            UsageError: if it cannot be read.
        """
        return self._trying(path, lambda: read(self._values(path), shape, key))

    def _values(self, path: str) -> Node:
        """What the values of a dataset are read from; files of format 1 have no checksums."""
        if self.format == 1:
            return self.node(path)
        if path not in self._stored:
            clock, piece = self._pieces[path]
            self._stored[path] = CheckedValues(self._at, self.node(path), piece, self._lines[clock])
        return self._stored[path]

    @cached_property
    def _pieces(self) -> dict[str, tuple[int, Piece]]:
        numbers = range(len(self.contents.clocks))
        return {piece.path: (n, piece) for n in numbers for piece in checks.pieces(self.contents, n)}

    def check(self, path: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """Refuse a dataset that is not of the announced shape, or cannot be in the file at all.

        Raises:
            UsageError: saying what is there instead.
        """
        where = f"{self.path}: '{path}'"
        self._trying(path, lambda: _check(self.node(path), shape, dtype, where))
        if self.format == 1:  # later ones have a table of what is stored
            self._trying(path, lambda: checks.check_stored(self.node(path), shape, dtype, where))

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

    def _text(self, name: str) -> Json:
        """Parsed JSON of a dataset of bytes."""
        return self._trying(f"{GROUP}/{name}", lambda: self._parsed(name))

    def _parsed(self, name: str) -> Json:
        try:
            return json.loads(self._bytes(name))
        except (ValueError, RecursionError) as problem:
            raise UsageError(f"{self.path}: '{GROUP}/{name}' is not valid JSON ({problem}); damaged") from None

    def _bytes(self, name: str) -> bytes:
        node = self.node(f"{GROUP}/{name}")
        if node.shape != () or node.dtype.kind != "S" or node.dtype.itemsize > _MOST_TEXT:
            raise UsageError(f"{self.path}: '{GROUP}/{name}' is {node.dtype} {node.shape}; legal is one text")
        return node[()]

    @cached_property
    def config(self) -> JsonTable:
        """Everything that was resolved for the run, as in its config.json."""
        config = self._text("config")
        if not isinstance(config, dict):
            raise UsageError(f"{self.path}: '{GROUP}/config' is {type(config).__name__}, not a table; damaged")
        return config

    @property
    def is_free_run(self) -> bool:
        """Whether all rows are one piece of time; else each batch is a trial, which begins anew."""
        definition = self.config.get("definition")
        return isinstance(definition, dict) and bool(definition.get("simulation"))

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

    def __repr__(self) -> str:
        state = "complete" if self.complete else "not complete"
        return f"Trace({str(self.path)!r}: {len(self.names)} signals, {state})"

    def _repr_html_(self) -> str:
        rows = [
            (s.name, ", ".join(s.axes), sides((self.rows[s.clock], *s.columns)), s.dtype, s.unit)
            for s in self.contents.series
        ]
        return html_table(str(self.path), rows, ("signal", "axes", "shape", "type", "unit"))

    def __iter__(self) -> Iterator[str]:
        """Names of its signals, as of a dictionary."""
        return iter(self.names)

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
                f"To have it, run again with {recorded_by(spec)}",
                spec,
            )
        return Signal(self, series)

    def all(self, what: str, on: Split | None = None) -> list[Signal]:
        """All signals of a kind ('spikes', 'weight'), of training or test batches or both; maybe none."""
        found = [Signal(self, series) for series in self.contents.series if series.what == what]
        return [signal for signal in found if on in (None, signal.on)]

    def need(self, *signal_names: str, on: Split | None = None) -> list[Signal]:
        """All signals of any of these kinds.

        Raises:
            NotRecorded: if there is none; says which would provide it.
        """
        found = [signal for what in signal_names for signal in self.all(what, on)]
        if not found:
            which = "[on=test]" if on == "test" else ""
            specs = [what + which if what in ("score", "loss") else f"*.{what}{which}" for what in signal_names]
            raise NotRecorded(
                f"{self.path}: needs {' or '.join(signal_names)}{' of test batches' if on == 'test' else ''}, which "
                f"was not recorded; run again with {recorded_by(specs[0])}",
                specs[0],
            )
        return found

    def coordinate(self, clock: int, name: str) -> np.ndarray:
        """A coordinate of all rows of a clock."""
        if (clock, name) not in self._coordinates:
            dtype, columns = coordinates(self.contents.clocks[clock])[name]
            shape = (self.rows[clock], *columns)
            self.check(place(clock, name), shape, np.dtype(dtype))
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
    return Trace(legal_path(path))


def _check(data: h5py.Dataset, shape: tuple[int, ...], dtype: np.dtype, where: str) -> None:
    """Refuse what is not of the announced shape, or is stored in another way."""
    fits = data.ndim == len(shape) and data.shape[1:] == shape[1:] and data.shape[0] >= shape[0]
    if not fits or data.dtype != dtype:
        raise UsageError(f"{where} is {data.dtype} {data.shape}, the table of contents says {dtype} {shape}; damaged")
    if data.chunks and math.prod(data.chunks) * dtype.itemsize > _MOST_CHUNK:
        raise UsageError(f"{where} has chunks of {data.chunks}, which a reader would have to unpack whole; refused")
    if data.compression not in (None, "gzip") or data.fletcher32 or data.scaleoffset is not None:
        raise UsageError(f"{where} is stored with a filter that traces do not use; refused")


class _Padded:
    """A stream that reads zeros behind its end: a process may die before the file is as long as HDF5 says it is."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._stream.seek(offset + _PADDING if whence == os.SEEK_END else offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def readinto(self, buffer: memoryview) -> int:
        count = self._stream.readinto(buffer) or 0  # type: ignore[attr-defined]
        buffer[count:] = bytes(len(buffer) - count)
        return len(buffer)

    def read(self, size: int = -1) -> bytes:
        content = bytearray(size)
        self.readinto(memoryview(content))
        return bytes(content)

    def close(self) -> None:
        self._stream.close()
