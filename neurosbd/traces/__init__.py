"""Trace files: signals of a run in HDF5, valid NWB beside our own group. Layer 1."""

from neurosbd.traces.reader import NotRecorded, Trace, open_trace
from neurosbd.traces.series import Clock, Contents, Rows, Series, Split
from neurosbd.traces.signal import Signal
from neurosbd.traces.writer import TraceWriter

__all__ = [
    "Clock", "Contents", "NotRecorded", "Rows", "Series", "Signal", "Split", "Trace", "TraceWriter", "open_trace",
]  # fmt: skip
