"""The layout of N-MNIST: a folder or zip per split, a folder per digit, a file of address events per recording."""

import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import numpy as np

from neurosbd.datasets.definition import DatasetFile
from neurosbd.datasets.locate import actual
from neurosbd.datasets.samples import EventSamples, Splits, joined
from neurosbd.errors import UsageError
from neurosbd.files.library import path_component
from neurosbd.files.writing import regular

_EVENT = 5  # bytes
_SIDE = 34  # pixels
_OVERFLOW_ROW = 240  # y of a record that only says that the clock of the camera ran over
_OVERFLOW = 1 << 13  # us that such a record adds to all later stamps
_BACKWARDS = 10_000  # us; events read out together may swap, a larger step back means that bytes are lost
_LARGEST = 1 << 24  # bytes of a recording; the published ones stay below 50 kB
_LARGEST_SPLIT = 1 << 32  # bytes unpacked; the published training split has 1.2 GB


class _Recording(NamedTuple):
    number: str  # file name: the number of the MNIST image that was shown
    label: int
    where: str
    open: Callable[[], IO[bytes]]


def read(definition: DatasetFile, folder: Path) -> Splits[EventSamples]:
    """Recordings in Train/<digit>/*.bin and Test/<digit>/*.bin, or in Train.zip and Test.zip; any number of them.

    The order is that of the file names, which is the order of the images in MNIST. A record has 40 bits,
    big-endian: x (8), y (8), polarity (1), time in us (23).

    Raises:
        UsageError: if a file is cut short, has events outside 34x34 pixels, or time runs backwards in it.
    Source: Orchard et al. 2015, Front. Neurosci. 9:437; overflow records as in its authors' event-Python.
    """
    for name in definition.classes:
        path_component(name)  # the folder of a class
    train, test = (
        _split(actual(definition, folder, definition.files[split][0]), definition.classes)
        for split in ("train", "test")
    )
    return Splits(train, test, definition.classes)


def _split(path: Path, classes: tuple[str, ...]) -> EventSamples:
    if path.is_dir():
        return _decoded(
            _Recording(file.name, label, str(file), partial(file.open, "rb"))
            for label, name in enumerate(classes)
            for file in (path / name).glob("[!.]*.bin")
            if regular(file)
        )
    try:
        with zipfile.ZipFile(path) as zipped:
            return _decoded(_members(zipped, path, classes))
    except UsageError:
        raise
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError) as problem:
        raise UsageError(f"{path}: truncated or corrupt zip file ({problem}); fetch it again") from None


def _members(zipped: zipfile.ZipFile, path: Path, classes: tuple[str, ...]) -> list[_Recording]:
    recordings, size = [], 0
    for member in zipped.infolist():
        name = PurePosixPath(member.filename)
        if name.parent.name in classes and name.suffix == ".bin" and not name.name.startswith("."):
            label = classes.index(name.parent.name)
            recordings.append(_Recording(name.name, label, f"{path}: {name}", partial(zipped.open, member)))
            size += member.file_size
    if size > _LARGEST_SPLIT:
        raise UsageError(f"{path}: unpacks to more than {_LARGEST_SPLIT >> 30} GiB; refused")
    return recordings


def _decoded(recordings: Iterable[_Recording]) -> EventSamples:
    ordered = sorted(recordings, key=lambda r: (r.number, r.label))
    twin = next((b for a, b in pairwise(ordered) if (a.number, a.label) == (b.number, b.label)), None)
    if twin is not None:
        raise UsageError(f"{twin.where}: there are two recordings {twin.number} of class {twin.label}; fetch it again")
    events = [_events(recording) for recording in ordered]
    size = (2, _SIDE, _SIDE)
    return joined([time for time, _ in events], [unit for _, unit in events], [r.label for r in ordered], size)


def _events(recording: _Recording) -> tuple[np.ndarray, np.ndarray]:
    """Times (us) and units of a recording."""
    with recording.open() as stream:
        data = stream.read(_LARGEST + 1)
    if not data or len(data) % _EVENT or len(data) > _LARGEST:
        raise UsageError(
            f"{recording.where}: truncated or corrupt: {len(data)} bytes; legal is a whole number of records "
            f"of {_EVENT} bytes, at least one, in up to {_LARGEST} bytes; fetch it again"
        )
    record = np.frombuffer(data, np.uint8).reshape(-1, _EVENT).astype(np.int64)
    x, y, polarity = record[:, 0], record[:, 1], record[:, 2] >> 7
    overflow = y == _OVERFLOW_ROW
    time = ((record[:, 2] & 127) << 16) + (record[:, 3] << 8) + record[:, 4] + _OVERFLOW * np.cumsum(overflow)
    outside = np.flatnonzero(((x >= _SIDE) | (y >= _SIDE)) & ~overflow)
    if len(outside):
        first = outside[0]
        raise UsageError(
            f"{recording.where}: record {first} has x = {x[first]}, y = {y[first]}; legal is 0 to {_SIDE - 1}: "
            f"the file is corrupt or no N-MNIST recording; fetch it again"
        )
    _check_time(time, recording.where)
    unit = (polarity * _SIDE + y) * _SIDE + x
    return time[~overflow].astype(np.int32), unit[~overflow].astype(np.int32)


def _check_time(time: np.ndarray, where: str) -> None:
    step = np.diff(time, prepend=time[:1])
    worst = int(step.argmin())
    if step[worst] < -_BACKWARDS:
        raise UsageError(
            f"{where}: time goes back from {time[worst - 1]} to {time[worst]} us at record {worst}; legal are "
            f"steps back of up to {_BACKWARDS} us: the file is corrupt; fetch it again"
        )
    if time.max() > np.iinfo(np.int32).max:
        raise UsageError(
            f"{where}: time runs to {time.max()} us; legal is up to {np.iinfo(np.int32).max} us: the file is corrupt; "
            f"fetch it again"
        )
