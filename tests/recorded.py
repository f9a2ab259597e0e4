"""A trace whose every value follows from its row number, and a server of processes that write it until they are killed.

`python tests/recorded.py` reads names of traces from its standard input. Each is written by a process forked for it,
which prints its number first and then, after each commit, the rows of every clock; 'end' follows when it is dead.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from neurosbd.tracefiles.reader import Trace
from neurosbd.tracefiles.series import Clock, Contents, Rows, Series
from neurosbd.tracefiles.writer import TraceWriter

CONTENTS = Contents(
    clocks=(Clock(examples=(0, 2)), Clock(per="batch")),
    series=(
        Series(
            name="hidden.spikes", what="spikes", where="hidden", unit="1", path="/neurosbd/spikes/hidden.spikes/data",
            clock=0, axes=("row", "example", "neuron"), columns=(2, 300), dtype="uint8", size=(300,),
        ),
        Series(
            name="hidden.v", what="v", where="hidden", unit="threshold", path="/acquisition/hidden.v/data",
            clock=0, axes=("row", "example", "neuron"), columns=(2, 3), items=(7, 9, 250), size=(300,),
        ),
        Series(
            name="input->hidden.weight", what="weight", where="input->hidden", unit="weight",
            path="/processing/learning/weight/data", clock=1, axes=("row", "synapse"), columns=(9000,), size=(300, 30),
        ),
    ),
    dt=1e-3, batch_size=4, steps=10, expected=(40 * 1000, 3 * 1000), lengths=(40, 3),
)  # fmt: skip
BLOCKS = tuple(CONTENTS.block_rows(clock) for clock in range(2))


def rows(clock: int, start: int, stop: int) -> Rows:
    """The rows of a clock, by formula."""
    row = np.arange(start, stop)
    batch = row // CONTENTS.steps if clock == 0 else row
    values = {
        s.name: ((row.reshape(-1, *[1] * len(s.columns)) * 31 + np.arange(np.prod(s.columns)).reshape(s.columns)) * 7)
        for s in CONTENTS.of(clock)
    }
    values = {
        name: (v % 5 == 0).astype(np.uint8) if name.endswith("spikes") else v.astype(np.float32)
        for name, v in values.items()
    }
    examples = len(CONTENTS.clocks[clock].examples)
    return Rows(
        row * 1e-3, (row % 10).astype("i4"), (batch % 5).astype("i4"), (batch // 5).astype("i4"),
        row[:, None] * 100 + np.arange(examples), values,
    )  # fmt: skip


def write(path: Path, blocks: int, pause: float = 0.0) -> TraceWriter:
    """A trace of so many blocks per clock; not closed. Told on the standard output as it is committed."""
    writer = TraceWriter.create(path, CONTENTS, json.dumps({"definition": {"name": "formula"}}), "by formula")
    for block in range(blocks):
        for clock, length in enumerate(BLOCKS):
            writer.append(clock, rows(clock, block * length, (block + 1) * length))
        print(*writer.drain(), flush=True)
        time.sleep(pause)
    return writer


def check(trace: Trace) -> list[int]:
    """Compare all values of a trace with the formula; rows of each clock."""
    for clock, count in enumerate(trace.rows):
        wanted = rows(clock, 0, count)
        for name in ("time", "step", "batch", "epoch", *(["sample"] if clock == 0 else [])):
            np.testing.assert_array_equal(trace.coordinate(clock, name), getattr(wanted, name), name)
        for series in CONTENTS.of(clock):
            np.testing.assert_array_equal(trace[series.name][:], wanted.values[series.name], series.name)
    return trace.rows


def serve() -> None:
    """See the head of the file."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            print(os.getpid(), flush=True)
            write(Path(line.strip()), 1_000_000)
        os.waitpid(child, 0)
        print("end", flush=True)


if __name__ == "__main__":
    serve()
