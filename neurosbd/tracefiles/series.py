"""What a trace file holds: series of rows, and the clocks that say when each row was taken."""

import math
from collections.abc import Iterable
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from neurosbd.schema.constants import Range, Seconds
from neurosbd.schema.schema import Record

FORMAT = 2  # 1: epochs counted from 0, no checksums
GROUP = "/neurosbd"
PARTIAL = ".partial"  # behind the name of a file that has not come to its clean end
BLOCK_BYTES = 8 << 20  # what a clock's series gather before they are moved and written
MOST_ROWS = 512  # per block
MOST_BLOCKS = 1024  # of a clock whose length is not known before
CHUNK_BYTES = 1 << 20  # what a reader has to load at least
MOST_COLUMNS = 2**31  # values of a row

Split = Literal["train", "test"]
Size = Annotated[int, Range(least=0, below=2**40)]
Count = Annotated[int, Range(least=1, below=2**40)]


class Clock(Record):
    """When rows are taken, and of which examples; series that agree in this share it.

    on: 'train' or 'test' batches.
    per: a row per 'step' of a trial, or per 'batch'.
    steps, batches, epochs: every so many.
    examples: places in the batch; () where rows have no examples.
    around: of a row per batch: also one before the first batch, and one after the last.
    """

    on: Split = "train"
    per: Literal["step", "batch"] = "step"
    steps: Count = 1
    batches: Count = 1
    epochs: Count = 1
    examples: tuple[Size, ...] = ()
    around: bool = False


class Series(Record):
    """One recorded signal: rows of the same shape.

    name: 'hidden.spikes', '@test' behind it if of test batches.
    what, where: 'spikes' and 'hidden'; '' for what belongs to the whole network.
    about, unit: for people.
    path: of its dataset in the file, [rows, *columns].
    clock: number of its clock.
    axes: 'row', then a name per column axis.
    columns: shape of a row.
    dtype: 'uint8' (compressed) or 'float32' (as it is).
    items: neurons or synapses of the last axis, counted through; none: all of them.
    size: of the population, shape of the weight.
    counted: what the numbers of `size` count, the names of the axes of a population; () of a weight or anything else.
    listed: whether it is of synapses that are listed, whose units lie beside the data, see `Ends`.
    """

    name: str = Field(min_length=1, max_length=500)
    what: str
    where: str
    about: str = ""
    unit: str
    path: str = Field(pattern=r"^(/acquisition|/processing/learning|/neurosbd/spikes)/[A-Za-z0-9_.@-]+/data$")
    clock: Size
    axes: tuple[str, ...]
    columns: tuple[Size, ...] = Field(max_length=2)
    dtype: Literal["uint8", "float32"] = "float32"
    items: tuple[Size, ...] | None = None
    size: tuple[Size, ...] = ()
    counted: tuple[Annotated[str, Field(max_length=100)], ...] = ()
    listed: bool = False

    @model_validator(mode="after")
    def _axes_fit(self) -> "Series":
        if len(self.axes) != 1 + len(self.columns):
            raise ValueError(f"{self.name}: {len(self.axes)} axes, but rows of shape {self.columns}")
        if self.items is not None and self.columns[-1:] != (len(self.items),):
            raise ValueError(f"{self.name}: {len(self.items)} items, but rows of shape {self.columns}")
        if self.listed and self.axes[-1] != "synapse":
            raise ValueError(f"{self.name}: {self.axes[-1]}s are no synapses, so that none is listed")
        if self.counted and len(self.counted) != len(self.size):
            raise ValueError(f"{self.name}: a size of {len(self.size)} numbers counts {list(self.counted)}")
        if math.prod(self.columns) >= MOST_COLUMNS:
            raise ValueError(f"{self.name}: rows of shape {self.columns}; legal are fewer than {MOST_COLUMNS:,} values")
        return self

    @property
    def row_bytes(self) -> int:
        """Memory of one row."""
        return math.prod(self.columns) * np.dtype(self.dtype).itemsize


class Contents(Record):
    """The table of contents of a trace file."""

    clocks: tuple[Clock, ...]
    series: tuple[Series, ...]
    dt: Seconds
    batch_size: Count
    steps: Count  # per trial
    expected: tuple[Count, ...] = ()  # rows of each clock at most, if that is known before
    batches: Count | None = None  # of the training per epoch, if there are epochs
    lengths: tuple[Count, ...] = ()  # rows of a block of each clock; none: as `block_length` has them

    @model_validator(mode="after")
    def _consistent(self) -> "Contents":
        for what, given in (("expected lengths", self.expected), ("lengths of blocks", self.lengths)):
            if given and len(given) != len(self.clocks):
                raise ValueError(f"{len(given)} {what} for {len(self.clocks)} clocks")
        for series in self.series:
            if series.clock >= len(self.clocks):
                raise ValueError(f"{series.name}: there is no clock {series.clock}")
            examples = self.clocks[series.clock].examples
            if "example" in series.axes[1:2] and series.columns[0] != len(examples):
                raise ValueError(f"{series.name}: rows of shape {series.columns}, but {len(examples)} examples")
        for what, values in (("name", [s.name for s in self.series]), ("path", [s.path for s in self.series])):
            if len(set(values)) < len(values):
                raise ValueError(f"two series have the same {what}")
        return self

    def of(self, clock: int) -> list[Series]:
        """The series of a clock."""
        return [series for series in self.series if series.clock == clock]

    def block_rows(self, clock: int) -> int:
        """Rows that the series of a clock gather before they are written; the length of their chunks."""
        if self.lengths:
            return self.lengths[clock]
        row = sum(series.row_bytes for series in self.of(clock))
        return block_length(row, self.expected[clock] if self.expected else MOST_ROWS)

    def blocks(self, clock: int) -> int:
        """Blocks that a clock can have."""
        return -(-self.expected[clock] // self.block_rows(clock)) if self.expected else MOST_BLOCKS


def block_length(row: int, expected: int) -> int:
    """Rows of a block of a clock whose rows have so many bytes and are so many at most.

    Chunks are stored whole, so blocks are of about one length.
    """
    most = max(1, min(MOST_ROWS, expected, BLOCK_BYTES // max(row, 1)))
    return -(-expected // -(-expected // most))


class Rows(NamedTuple):
    """A block of one clock: when its rows were taken, and what they hold; all arrays have the same length."""

    time: np.ndarray  # float64, s of simulated time
    step: np.ndarray  # int32, within the trial
    batch: np.ndarray  # int32, within the epoch; -1 before the first
    epoch: np.ndarray  # int32, from 1; 0 before the training
    sample: np.ndarray  # int64 [rows, examples]: which example of the data set was shown
    values: dict[
        str, np.ndarray
    ]  # series name -> [rows, *columns], or the same values in more axes, in any memory order

    def __len__(self) -> int:
        return len(self.time)

    def ordered(self, series: Iterable[Series]) -> "Rows":
        """The same rows, their values as [rows, *columns]."""
        values = {s.name: self.values[s.name].reshape(len(self), *s.columns) for s in series}
        return Rows(self.time, self.step, self.batch, self.epoch, self.sample, values)


class Coordinate(NamedTuple):
    """What says of every row of a clock when it was taken, or of which examples: its type, and the shape of a row."""

    dtype: str
    columns: tuple[int, ...] = ()


def coordinates(clock: Clock) -> dict[str, Coordinate]:
    """Those of a clock, by name."""
    found = {"time": Coordinate("f8"), "step": Coordinate("i4"), "batch": Coordinate("i4"), "epoch": Coordinate("i4")}
    return found | ({"sample": Coordinate("i8", (len(clock.examples),))} if clock.examples else {})


def place(clock: int, coordinate: str) -> str:
    """Where a coordinate of a clock lies in the file.

    Times are called as NWB calls them: they are linked into its groups, and hdmf keeps the first name it meets.
    """
    return f"{GROUP}/clocks/{clock}/{'timestamps' if coordinate == 'time' else coordinate}"


def chunk_shape(series: Series, rows: int) -> tuple[int, ...]:
    """Chunks of a dataset: `rows` long, the columns split evenly until one is at most 1 MiB (or a column is)."""
    shape = list(series.columns)
    for axis in range(len(shape)):
        rest = rows * math.prod(shape[axis + 1 :]) * np.dtype(series.dtype).itemsize
        most = max(1, min(shape[axis], CHUNK_BYTES // max(1, rest)))
        shape[axis] = -(-shape[axis] // -(-shape[axis] // most)) if shape[axis] else 1
    return (rows, *shape)
