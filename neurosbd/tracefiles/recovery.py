"""Going on with a trace: what a stopped or killed run committed is copied into a new file.

The old file is read only, by its checks where its indices are torn, and replaced when the new one is whole.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from neurosbd.errors import OUT, RunError, UsageError
from neurosbd.tracefiles.reader import Trace, open_trace
from neurosbd.tracefiles.series import FORMAT, PARTIAL, Contents, Rows, coordinates
from neurosbd.tracefiles.writer import TraceWriter, describe, refuse_link


def resume(path: Path, contents: Contents, rows: list[int]) -> TraceWriter:
    """Go on after `rows` of each clock; whatever was written later is dropped.

    Raises:
        UsageError: if the file is missing, damaged, of other contents, of an older format, or holds fewer rows.
        RunError: if there is no room for the new file.
    """
    unfinished = path.with_name(path.name + PARTIAL)
    refuse_link(unfinished)
    sweep(path)
    if not unfinished.exists():
        raise UsageError(
            f"{unfinished}: is gone, but the checkpoint was recording into it; put it back, or start anew in another "
            f"{OUT}"
        )
    with open_trace(unfinished) as trace:
        if trace.format < FORMAT:
            raise UsageError(
                f"{unfinished}: was written by an earlier version of neurosbd; it can be read and exported, but not "
                f"gone on with. Start anew in another {OUT}"
            )
        other = _other_unit(trace.contents, contents)
        if other:
            raise UsageError(
                f"{unfinished}: {other}, so that it was begun by an earlier version of neurosbd; it can be read and "
                f"exported, but not gone on with. Start anew in another {OUT}"
            )
        if trace.contents != contents or any(have < want for have, want in zip(trace.rows, rows, strict=False)):
            raise UsageError(
                f"{unfinished}: is not the trace of this checkpoint (rows {trace.rows}, the checkpoint was at {rows}, "
                f"or other signals); give the same record.signals, or start anew in another {OUT}"
            )
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
            try:
                copied = copy(trace, Path(folder) / path.name, rows).close(complete=False)
            except RunError as problem:
                raise RunError(f"{unfinished}: cannot be copied to go on with ({problem}); it is as it was") from None
            os.replace(copied, unfinished)
    return TraceWriter.reopened(path, contents)


def _other_unit(there: Contents, asked: Contents) -> str:
    """Which signal of the same recording is in another unit; '' if that is not all that is different."""
    units = {series.name: series.unit for series in asked.series}
    alike = [series.model_copy(update={"unit": units.get(series.name, series.unit)}) for series in there.series]
    if there.model_copy(update={"series": tuple(alike)}) != asked:
        return ""
    moved = next((series for series in there.series if series.unit != units[series.name]), None)
    return f"holds '{moved.name}' in {moved.unit}, where it is in {units[moved.name]} now" if moved else ""


def copy(trace: Trace, path: Path, rows: list[int] | None = None, remark: str = "") -> TraceWriter:
    """A new trace with the rows of another; not closed.

    Args:
        trace: to copy.
        path: of the new one at its clean end.
        rows: of each clock, whole blocks or all; none: all that is committed.
        remark: behind the description of the run.
    """
    description = describe(trace.config) + remark
    ends = {series.name: trace[series.name].ends for series in trace.contents.series if series.listed}
    writer = TraceWriter.create(path, trace.contents, json.dumps(trace.config), description, trace.started, ends)
    try:
        for clock, count in enumerate(trace.rows if rows is None else rows):
            for block in _blocks(trace, clock, count):
                writer.append(clock, block)
        writer.drain()
    except BaseException:
        with contextlib.suppress(RunError):
            writer.close(complete=False)
        raise
    return writer


def _blocks(trace: Trace, clock: int, rows: int) -> Iterator[Rows]:
    """What a clock recorded, in blocks as a writer takes them."""
    when = {name: trace.coordinate(clock, name) for name in coordinates(trace.contents.clocks[clock])}
    when.setdefault("sample", np.zeros((rows, 0), np.int64))
    signals = [trace[series.name] for series in trace.contents.of(clock)]
    length = trace.contents.block_rows(clock)
    for start in range(0, rows, length):
        part = slice(start, min(start + length, rows))
        yield Rows(**{name: values[part] for name, values in when.items()}, values={s.name: s[part] for s in signals})


def sweep(path: Path) -> None:
    """Remove copies that a killed process did not finish."""
    for leftover in path.parent.glob(f".{path.name}-*"):
        if leftover.is_dir() and not leftover.is_symlink():
            for file in (leftover / path.name, leftover / f"{path.name}{PARTIAL}"):
                file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                leftover.rmdir()
