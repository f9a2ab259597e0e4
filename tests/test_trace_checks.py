"""Flipped bits: no value of a damaged trace is taken as data, and what is whole can still be read."""

import json
import random
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from recorded import CONTENTS, check, rows, write

from neurosbd.errors import UsageError
from neurosbd.tracefiles import Trace, TraceWriter, open_trace
from neurosbd.tracefiles.series import FORMAT, GROUP, Contents, Rows


def flipped(good: bytes, generator: random.Random, start: int = 0, stop: int | None = None) -> bytes:
    content = bytearray(good)
    content[generator.randrange(start, stop or len(content))] ^= 1 << generator.randrange(8)
    return bytes(content)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("good") / "a.h5", 2).close(complete=True)


def chunks(path: Path) -> list[tuple[str, int, int, int]]:
    """(dataset, first row, place, bytes) of every stored chunk of rows."""
    found = []
    with h5py.File(path) as file:
        for name in (
            *(series.path[1:] for series in CONTENTS.series),
            "neurosbd/clocks/0/sample",
            "neurosbd/clocks/1/epoch",
        ):
            data: Any = file[name]
            for number in range(data.id.get_num_chunks()):
                info = data.id.get_chunk_info(number)
                found.append((name, info.chunk_offset[0], info.byte_offset, info.size))
    return found


def test_a_flipped_bit_of_the_values_is_refused_by_dataset_and_rows(good: Path, tmp_path: Path) -> None:
    """300 bits, in data, packed spikes and clocks. Must fail if a chunk is used before it is compared."""
    generator, content, path = random.Random(0), good.read_bytes(), tmp_path / "a.h5"
    for _ in range(300):
        name, row, start, size = generator.choice(chunks(good))
        path.write_bytes(flipped(content, generator, start, start + size))
        with open_trace(path) as trace, pytest.raises(UsageError, match=rf"'/{name}', rows {row:,} to .*checksum"):
            check(trace)


def test_what_is_whole_is_still_read(good: Path, tmp_path: Path) -> None:
    """Must fail if one damaged chunk condemns the signal or the file."""
    content = bytearray(good.read_bytes())
    start = next(place for name, row, place, _ in chunks(good) if name.startswith("acquisition") and row == 40)
    content[start] ^= 1
    (tmp_path / "a.h5").write_bytes(content)
    with open_trace(tmp_path / "a.h5") as trace:
        v = trace["hidden.v"]
        np.testing.assert_array_equal(v[:40], rows(0, 0, 40).values["hidden.v"])
        assert trace["hidden.spikes"][:].any() and len(v.time) == 80
        with pytest.raises(UsageError, match="rows 40 to 79"):
            v[39:42]


def everything(trace: Trace) -> list[Any]:
    """Whatever a trace says."""
    found = [trace.rows, trace.names, trace.config, trace.started, trace.contents.model_dump_json()]
    for name in trace.names:
        signal = trace[name]
        found += [signal[:].tobytes(), *(getattr(signal, c).tobytes() for c in ("time", "step", "batch", "epoch"))]
        found += [signal.sample.tobytes()] if len(signal.examples) else []
    return found


def test_a_flipped_bit_anywhere_changes_nothing_or_is_refused(good: Path, tmp_path: Path) -> None:
    """Headers, tables of contents, checks, values: 300 bits. Must fail without any of their checksums."""
    generator, content, path, refused = random.Random(1), good.read_bytes(), tmp_path / "a.h5", 0
    with open_trace(good) as trace:
        right = everything(trace)
    ends = [0, 16_000, len(content)]  # half of them where the headers are
    for number in range(300):
        path.write_bytes(flipped(content, generator, 0, ends[1 + number % 2]))
        try:
            with open_trace(path) as trace:
                assert everything(trace) == right, number
        except UsageError as problem:
            assert "a.h5" in str(problem)
            refused += 1
    assert refused > 60


@pytest.mark.parametrize("name", ["contents", "config", "started", "checksum", "committed"])
def test_what_a_trace_says_of_itself_is_compared(good: Path, tmp_path: Path, name: str) -> None:
    """Each still legal by itself. Must fail without its comparison."""
    path = tmp_path / "a.h5"
    path.write_bytes(good.read_bytes())
    with h5py.File(path, "r+") as file:
        own: Any = file[GROUP]
        if name == "committed":
            own[name][0] = 40
        elif name in own:
            text = own[name][()].replace(b"hidden", b"hiddem").replace(b"formula", b"formulb")
            del own[name]
            own[name] = np.bytes_(text)
        else:
            own.attrs[name] = own.attrs[name] + 1 if name == "checksum" else np.bytes_(b"2020-01-01T00:00:00+00:00")
    with pytest.raises(UsageError, match="damaged"):
        open_trace(path)


def test_files_of_before_are_still_read_and_count_epochs_from_one(tmp_path: Path) -> None:
    """A file of format 1: no checks, epochs from 0, -1 before the training. Must fail if either is expected of it."""
    plain = CONTENTS.model_dump(mode="json", exclude={"batches", "lengths"}) | {"expected": [40, 3]}
    writer = TraceWriter.create(tmp_path / "a.h5", Contents.model_validate_json(json.dumps(plain)), "{}", "old")
    block = rows(0, 0, 40)
    epoch, batch = np.repeat([-1, 0], 20).astype("i4"), np.zeros(40, "i4")
    writer.append(0, Rows(block.time, block.step, batch, epoch, block.sample, block.values))
    path = writer.close(complete=True)
    with h5py.File(path, "r+") as file:
        own: Any = file[GROUP]
        del own["checks"], own["contents"], own.attrs["checksum"]
        own["contents"] = np.bytes_(json.dumps(plain).encode())
        own.attrs["format"] = np.int32(1)
    assert FORMAT > 1
    with open_trace(path) as trace:
        signal = trace["hidden.v"]
        assert (signal.epoch == np.repeat([0, 1], 20)).all()  # batches from 0 in both
        np.testing.assert_array_equal(signal[:], rows(0, 0, 40).values["hidden.v"])
