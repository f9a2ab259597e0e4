"""Trace files: signals of a run in HDF5, valid NWB beside our own group."""

from neurosbd.tracefiles.reader import NotRecorded, Trace, open_trace
from neurosbd.tracefiles.series import Clock, Contents, Rows, Series, Split
from neurosbd.tracefiles.signal import Signal
from neurosbd.tracefiles.writer import TraceWriter

__all__ = [
    "Clock", "Contents", "NotRecorded", "Rows", "Series", "Signal", "Split", "Trace", "TraceWriter", "open_trace",
]  # fmt: skip
