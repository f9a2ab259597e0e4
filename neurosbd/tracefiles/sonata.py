"""A trace as SONATA files: spikes and one report per population, edges with their last recorded weights; for libsonata,
Blue Brain SNAP and the Allen tools.

Source: SONATA data format 0.1 (Dai et al. 2020, PLoS Comput. Biol. 16:e1007696).
"""

from collections.abc import Iterator
from typing import NamedTuple

import h5py
import numpy as np

from neurosbd.errors import UsageError, warn
from neurosbd.files.hdf5 import Node
from neurosbd.schema.units import shown_unit
from neurosbd.tracefiles.reader import Trace
from neurosbd.tracefiles.signal import Signal

_SORTING = h5py.enum_dtype({"none": 0, "by_id": 1, "by_time": 2}, basetype="u1")
_NAMESAKES = ("v", "rate")  # whose report has the name of its population
_REPORTED = (*_NAMESAKES, "drive", "clamp", "current", "conductance")
_CHUNK = 1 << 18  # bytes


class _Trial(NamedTuple):
    """One example of one batch, in a slot of time of its own."""

    start: float  # ms
    epoch: int
    batch: int
    example: int
    sample: int
    values: np.ndarray  # [step, neuron]


def write_sonata(trace: Trace, file: h5py.File) -> None:
    """Write the spikes of a trace, its potentials, rates, drives, currents and conductances, and its synapses.

    SONATA has one time axis and no examples: every example of every recorded batch is a trial, and trials follow one
    another without a gap, batch after batch and in a batch example after example. `node_ids` are the numbers of the
    neurons in their population; the components of a unit whose value is a vector are the elements of one node. Which
    trial is which says /neurosbd/trials. A last trial that was cut off is left out.
    Populations are named as here, '@test' behind those of test batches; where both v and rate of one were recorded, v
    is its report and the rate is that of 'NAME.rate'. Drives and currents of clamps are reports 'NAME.drive' and
    'NAME.clamp', what a connection gives to its post neurons 'PRE_to_POST.current' and 'PRE_to_POST.conductance', whose
    `node_ids` name their `node_population`. Volts, amperes and siemens are in mV, pA and nS there.
    The synapses of every recorded weight are the edges PRE_to_POST, with the weights of its last row as `syn_weight`,
    and `delay`, ms, where they have delays of their own; `synapse` are their numbers here. Kernels are no edges, and
    are left out with a warning.

    Args:
        trace: to read.
        file: new and empty.
    Raises:
        NotRecorded: if there is none of them.
        UsageError: of spikes of vectors: SONATA has no elements that spike.
    """
    found = trace.need("spikes", *_REPORTED, "weight")
    file.attrs["magic"] = np.uint32(0x0A7A)
    file.attrs["version"] = np.array([0, 1], np.uint32)
    for signal in found:
        population = signal.name.replace(f".{signal.what}", "")
        if signal.what == "spikes":
            _write_spikes(file, signal, population)
        elif signal.what == "weight":
            _write_edges(file, signal)
        else:
            plain = signal.what in _NAMESAKES and f"report/{population}" not in file
            named = population if plain else f"{population}.{signal.what}"
            _write_report(file, signal, named.replace("->", "_to_"))


def _write_spikes(file: h5py.File, signal: Signal, population: str) -> None:
    if "components" in signal.counted:
        raise UsageError(
            f"{signal.trace.path}: '{signal.name}' has a spike per component of a unit, and in SONATA only whole nodes "
            f"spike; export to 'nwb', whose units are components, or record v or rate alone"
        )
    group = file.create_group(f"spikes/{population}")
    group.attrs.create("sorting", 2, dtype=_SORTING)
    times, nodes = _growing(group, "timestamps", "f8"), _growing(group, "node_ids", "u8")
    times.attrs["units"] = "ms"
    trials = _Trials(file, signal)
    for trial in trials:
        step, item = np.nonzero(trial.values)
        _append(times, trial.start + step * trials.dt)
        _append(nodes, signal.items[item])


def _write_report(file: h5py.File, signal: Signal, population: str) -> None:
    group = file.create_group(f"report/{population}")
    count = len(signal.items)
    data = _growing(group, "data", "f4", (count,))
    unit, factor = shown_unit(signal.unit)
    data.attrs["units"] = "" if unit == "1" else unit
    mapped, trials = _mapping(signal), _Trials(file, signal)
    for trial in trials:
        _append(data, trial.values[:, mapped.columns] * factor)
    mapping = group.create_group("mapping")
    mapping["node_ids"] = mapped.nodes.astype(np.uint64)
    mapping["node_ids"].attrs["sorted"] = np.uint8((np.diff(mapped.nodes) > 0).all())
    mapping["node_ids"].attrs["node_population"] = signal.where.partition(" (")[0].rpartition("->")[2]
    mapping["index_pointers"] = np.append(mapped.first, count).astype(np.uint64)
    mapping["element_ids"] = mapped.elements.astype(np.uint32)
    mapping["time"] = np.array([0, len(data) * trials.dt, trials.dt])
    mapping["time"].attrs["units"] = "ms"


def _write_edges(file: h5py.File, signal: Signal) -> None:
    try:
        ends = signal.ends
    except UsageError as problem:
        warn(f"{problem}; SONATA has no edges for it, so it is left out; 'nwb' keeps it")
        return
    pre, post = signal.where.partition(" (")[0].split("->")
    group, count = file.create_group(f"edges/{signal.where.replace('->', '_to_')}"), len(ends.post)
    for name, units, population in (("source", ends.pre, pre), ("target", ends.post, post)):
        group[f"{name}_node_id"] = units.astype(np.uint64)
        group[f"{name}_node_id"].attrs["node_population"] = population
    group["edge_type_id"] = np.full(count, -1, np.int64)
    group["edge_group_id"], group["edge_group_index"] = np.zeros(count, np.uint16), np.arange(count, dtype=np.uint64)
    group["synapse"] = signal.items.astype(np.uint64)
    attributes = group.create_group("0")
    if len(signal):
        attributes["syn_weight"] = signal[-1]
        attributes["syn_weight"].attrs["time"] = signal.time[-1] * 1e3
    if ends.delay is not None:
        attributes["delay"] = ends.delay * (signal.trace.dt * 1e3)


class _Mapping(NamedTuple):
    """Which columns of a signal a report has in which order, and whose they are."""

    columns: slice | np.ndarray
    nodes: np.ndarray  # in the order of their columns
    first: np.ndarray  # column of each
    elements: np.ndarray  # of each column


def _mapping(signal: Signal) -> _Mapping:
    """Of vectors a unit is a node, and its components are its elements; else a neuron is a node of one element."""
    if "components" not in signal.counted:
        count = len(signal.items)
        return _Mapping(slice(None), signal.items, np.arange(count), np.zeros(count))
    order = np.argsort(signal.items, kind="stable")
    nodes, first = np.unique(signal.numbers["units"][order], return_index=True)
    return _Mapping(order, nodes, first, signal.numbers["components"][order])


class _Trials:
    """The trials of a signal one after another, noted in the file as they go by.

    dt: time between two rows, ms.
    """

    def __init__(self, file: h5py.File, signal: Signal) -> None:
        self.signal = signal
        contents = signal.trace.contents
        self.dt = signal.clock.steps * contents.dt * 1e3
        self.rows = -(-contents.steps // signal.clock.steps)  # per trial
        group = file.create_group(f"neurosbd/trials/{signal.name}")
        kinds = {"start": "f8", "epoch": "i4", "batch": "i4", "example": "i8", "sample": "i8"}
        self._notes = {name: _growing(group, name, kind) for name, kind in kinds.items()}
        self._notes["start"].attrs["units"] = "ms"

    def __iter__(self) -> Iterator[_Trial]:
        number, signal = 0, self.signal
        for rows, values in signal.trials():
            if len(values) > self.rows:
                raise UsageError(
                    f"{signal.trace.path}: '{signal.name}' has trials of more than {self.rows} rows; damaged"
                )
            if len(values) < self.rows:
                continue
            here = [place for place in range(len(signal.examples)) if signal.sample[rows.start, place] >= 0]
            trials = [
                _Trial(
                    (number + n) * self.rows * self.dt, int(signal.epoch[rows.start]), int(signal.batch[rows.start]),
                    int(signal.examples[place]), int(signal.sample[rows.start, place]), values[:, place],
                )
                for n, place in enumerate(here)
            ]  # fmt: skip
            for name, notes in self._notes.items():
                _append(notes, np.array([getattr(trial, name) for trial in trials]))
            number += len(trials)
            yield from trials


def _growing(group: h5py.Group, name: str, kind: str, shape: tuple[int, ...] = ()) -> Node:
    row = max(1, int(np.prod(shape))) * np.dtype(kind).itemsize
    chunk = (max(1, min(1024, _CHUNK // row)), *shape)
    return group.create_dataset(name, (0, *shape), kind, maxshape=(None, *shape), chunks=chunk)


def _append(data: Node, values: np.ndarray) -> None:
    start = len(data)
    data.resize(start + len(values), axis=0)
    data[start:] = values
