"""The HDF5 files of the Spiking Heidelberg Digits: lists of spike times and channels of unequal length."""

import io
import math
import mmap
from pathlib import Path

import numpy as np

from neurosbd.datasets.definition import DatasetFile
from neurosbd.datasets.idx import content
from neurosbd.datasets.locate import actual
from neurosbd.datasets.samples import EventSamples, Splits, joined
from neurosbd.errors import UsageError
from neurosbd.files.hdf5 import Node

_CHANNELS = 700
_LONGEST = 2000.0  # s; what int32 microseconds can count
_MOST = 1 << 17  # recordings; the published training split has 8,156
_LAYOUT = {
    "spikes/times": "lists of floats, seconds",
    "spikes/units": "lists of integers, channels",
    "labels": "integers",
}


def read(definition: DatasetFile, folder: Path) -> Splits[EventSamples]:
    """shd_train.h5 and shd_test.h5, as they are or with gzip around them.

    Read are spikes/times (s), spikes/units (0 to 699) and labels; extra/ (speakers) is left alone.

    Raises:
        UsageError: if a file is cut short, corrupt, or refers to anything outside itself.
    Source: Cramer et al. 2020, IEEE Trans. Neural Netw. Learn. Syst. 33:2744.
    """
    train, test = (_split(actual(definition, folder, definition.files[split][0])) for split in ("train", "test"))
    return Splits(train, test, definition.classes)


def _split(path: Path) -> EventSamples:
    import h5py

    from neurosbd.files.hdf5 import check_heaps

    try:
        if path.suffix == ".gz":
            data = content(path)
            check_heaps(data, path, "fetch it again")
            with h5py.File(io.BytesIO(data), "r") as file:
                return _recordings(file, data, path)
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            check_heaps(mapped, path, "fetch it again")
            with h5py.File(path, "r") as file:
                return _recordings(file, mapped, path)
    except (OSError, LookupError, RuntimeError, TypeError, ValueError, MemoryError) as problem:
        if isinstance(problem, UsageError):
            raise
        raise UsageError(f"{path}: truncated or corrupt HDF5 file ({problem}); fetch it again") from None


def _recordings(file: object, data: bytes | mmap.mmap, path: Path) -> EventSamples:
    from neurosbd.files.hdf5 import check_lengths

    times, units, labels = (_dataset(file, name, path) for name in _LAYOUT)
    if not len(times) == len(units) == len(labels):
        raise UsageError(
            f"{path}: {len(times)} lists of times, {len(units)} of units, {len(labels)} labels; legal is the same "
            f"number of each: the file is corrupt; fetch it again"
        )
    for name, lists in (("times", times), ("units", units)):
        # Lists are stored as they are, never compressed or shared, so a file bounds what they can be.
        check_lengths(lists, data, len(data) // 2, f"{path}: 'spikes/{name}'", "fetch it again")
    found = [_events(times[i], units[i], f"{path}: recording {i}") for i in range(len(labels))]
    return joined([time for time, _ in found], [unit for _, unit in found], labels[:], (_CHANNELS,))


def _events(seconds: np.ndarray, channel: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Times (us) and units of a recording."""
    if seconds.shape != channel.shape:
        raise UsageError(f"{where} has {len(seconds)} times, but {len(channel)} units; fetch the file again")
    seconds = seconds.astype(np.float64)
    bad = np.flatnonzero(~((seconds >= 0) & (seconds <= _LONGEST)))  # also NaN
    if len(bad):
        raise UsageError(
            f"{where} has a spike at {seconds[bad[0]]} s; legal is 0 to {_LONGEST:g} s; fetch the file again"
        )
    bad = np.flatnonzero((channel < 0) | (channel >= _CHANNELS))
    if len(bad):
        raise UsageError(
            f"{where} has a spike in channel {channel[bad[0]]}; legal is 0 to {_CHANNELS - 1}; fetch the file again"
        )
    return np.rint(seconds * 1e6).astype(np.int32), channel.astype(np.int32)


def _dataset(file: object, name: str, path: Path) -> Node:
    """A dataset that lies in this very file and is what the layout says, before a byte of it is read."""
    import h5py

    from neurosbd.files.hdf5 import dataset

    node = dataset(file, name, path, f"needed: {', '.join(_LAYOUT)}; is this a file of SHD?")
    lists = name != "labels"
    item = h5py.check_vlen_dtype(node.dtype) if lists else node.dtype
    if item is None or np.dtype(item).kind not in ("f" if name == "spikes/times" else "iu") or node.ndim != 1:
        raise UsageError(f"{path}: '{name}' is {node.dtype} {node.shape}; legal are {_LAYOUT[name]}, [N]")
    if lists and node.id.get_type().encode()[3:6] != bytes(3):
        # The library takes lists of an unknown kind for granted and crashes on the first.
        raise UsageError(f"{path}: truncated or corrupt HDF5 file (type of '{name}'); fetch it again")
    if max(len(node), math.prod(node.chunks or ())) > _MOST:
        raise UsageError(f"{path}: '{name}' has room for more than {_MOST:,} recordings; refused")
    return node
