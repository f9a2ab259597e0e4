"""The NWB side of a trace file: what makes pynwb, MatNWB, neo and their like read it.

Source: NWB core schema 2.8 and hdmf-common 1.8, written with plain h5py.
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import h5py
import numpy as np

from neurosbd.files.hdf5 import Node
from neurosbd.tracefiles.series import Series

VERSION = "2.8.0"
_GROUPS = ("acquisition", "analysis", "processing", "stimulus/presentation", "stimulus/templates", "general")
_UNITS = {
    "spike_times": "when it spiked, s of simulated time",
    "obs_intervals": "from its first to its last recorded step, s; the trials say what was recorded between",
    "population": "where the neuron is",
    "neuron": "its number there; positions of a channel and components of a unit are counted through",
    "example": "its place in the batch",
}
_TRIALS = {
    "start_time": "of a batch, s of simulated time",
    "stop_time": "of a batch, s of simulated time",
    "split": "whether it was of the training or of the test",
    "epoch": "from 1; 0 is before the training",
    "batch": "within the epoch, from 0",
    "example": "places in the batch of what was shown side by side",
    "sample": "which examples of the split they are",
    "target": "class or values that they should lead to",
}


def write_header(file: h5py.File, description: str, started: str) -> None:
    """Root attributes and the groups every NWB file has; `started` is an ISO time."""
    now = datetime.now(UTC).isoformat()
    _typed(file, "NWBFile", "core")
    file.attrs["nwb_version"] = VERSION
    text = {"session_description": description, "identifier": str(uuid.uuid4()), "session_start_time": started,
            "timestamps_reference_time": started}  # fmt: skip
    for name, value in text.items():
        file[name] = value
    file.create_dataset("file_create_date", data=[now], dtype=h5py.string_dtype(), maxshape=(None,))
    for name in _GROUPS:
        file.create_group(name)
    module = file.create_group("processing/learning")
    _typed(module, "ProcessingModule", "core")
    module.attrs["description"] = "signals of learning: third factors, eligibilities, weights and their changes"


def describe_series(group: h5py.Group, series: Series) -> None:
    """Make the group of a series a TimeSeries."""
    _typed(group, "TimeSeries", "core")
    group.attrs["description"] = series.about
    through = [f"{number} {name}" for number, name in zip(series.size, series.counted, strict=False)]
    counted = f"; {series.axes[-1]}s are counted through {' x '.join(through)}, the last fastest" if through[1:] else ""
    if series.listed:
        counted = "; synapse n leads from unit pre[n] to unit post[n], see the datasets beside the data"
    group.attrs["comments"] = f"axes: {', '.join(series.axes)}{counted}"


def describe_time(time: h5py.Dataset) -> None:
    """What a dataset of timestamps says of itself."""
    time.attrs["interval"] = np.int32(1)
    time.attrs["unit"] = "seconds"
    time.make_scale("time")


def describe_data(data: h5py.Dataset, unit: str) -> None:
    """What the data of a TimeSeries say of themselves."""
    data.attrs.update({"conversion": np.float64(1), "offset": np.float64(0), "resolution": np.float64(-1)})
    data.attrs["unit"] = unit


def create_tables(file: h5py.File, dt: float, target: tuple[int, ...]) -> None:
    """Empty tables, to be filled at the end: nothing is created while the run goes on.

    Args:
        file: new.
        dt: duration of a step, s.
        target: shape of the target of an example.
    """
    trials = _table(file, "/intervals/trials", "TimeIntervals", "core", "when something was recorded", _TRIALS)
    for name in ("start_time", "stop_time", "epoch", "batch"):
        _column(trials, name, "f8" if name.endswith("time") else "i8", _TRIALS[name])
    _column(trials, "split", h5py.string_dtype(), _TRIALS["split"])
    for name in ("example", "sample"):
        _index(trials, f"{name}_index", _column(trials, name, "i8", _TRIALS[name]))
    _index(trials, "target_index", _column(trials, "target", "f8" if target else "i8", _TRIALS["target"], target))
    units = _table(file, "/units", "Units", "core", "a row per recorded neuron and place in the batch", _UNITS)
    times = _column(units, "spike_times", "f8", _UNITS["spike_times"])
    times.attrs["resolution"] = np.float64(dt)
    _index(units, "spike_times_index", times)
    intervals = _column(units, "obs_intervals", "f8", _UNITS["obs_intervals"], (2,))
    _index(units, "obs_intervals_index", intervals)
    _column(units, "population", h5py.string_dtype(), _UNITS["population"])
    for name in ("neuron", "example"):
        _column(units, name, "i8", _UNITS[name])


def fill(file: h5py.File, table: str, columns: Mapping[str, Sequence[object] | np.ndarray]) -> None:
    """Put whole columns into an empty table."""
    for name, values in columns.items():
        data: Node = file[f"{table}/{name}"]
        data.resize(len(values), axis=0)
        if len(values):
            data[:] = values


def _table(file: h5py.File, path: str, kind: str, namespace: str, about: str, columns: Mapping[str, str]) -> h5py.Group:
    table = file.create_group(path)
    _typed(table, kind, namespace)
    table.attrs["description"] = about
    table.attrs.create("colnames", list(columns), dtype=h5py.string_dtype())
    _typed(_growing(table, "id", "i8"), "ElementIdentifiers", "hdmf-common")
    return table


def _column(table: h5py.Group, name: str, kind: object, about: str, shape: tuple[int, ...] = ()) -> h5py.Dataset:
    data = _growing(table, name, kind, shape)
    _typed(data, "VectorData", "hdmf-common")
    data.attrs["description"] = about
    return data


def _index(units: h5py.Group, name: str, target: h5py.Dataset) -> None:
    index = _growing(units, name, "u4")
    _typed(index, "VectorIndex", "hdmf-common")
    index.attrs["description"] = f"where the rows of {name.removesuffix('_index')} end"
    index.attrs["target"] = target.ref


def _growing(table: h5py.Group, name: str, kind: object, shape: tuple[int, ...] = ()) -> h5py.Dataset:
    return table.create_dataset(name, (0, *shape), kind, maxshape=(None, *shape), chunks=(1024, *shape))


def _typed(node: Node, neurodata_type: str, namespace: str) -> None:
    node.attrs["neurodata_type"] = neurodata_type
    node.attrs["namespace"] = namespace
    node.attrs["object_id"] = str(uuid.uuid4())
