"""A writer that dies between any two of its writes: the trace opens, holds what was told to be safe, and goes on."""

import os
import random
from pathlib import Path

import h5py
import pytest
from recorded import BLOCKS, CONTENTS, check, rows

from neurosbd.tracefiles import TraceWriter, open_trace, recovery, writer


class Logged:
    """A file in memory that keeps every write: (place, bytes), or (size, None) where it is cut off or made longer."""

    def __init__(self) -> None:
        self.content, self.at = bytearray(), 0
        self.log: list[tuple[int, bytes | None]] = []

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.at = offset + (0, self.at, len(self.content))[whence]
        return self.at

    def tell(self) -> int:
        return self.at

    def read(self, size: int) -> bytes:
        part = bytes(self.content[self.at : self.at + size])
        self.at += len(part)
        return part

    def readinto(self, buffer: memoryview) -> int:
        part = self.content[self.at : self.at + len(buffer)]
        buffer[: len(part)] = part
        self.at += len(part)
        return len(part)

    def write(self, content: memoryview) -> int:
        self.log.append((self.at, bytes(content)))
        replay([self.log[-1]], self.content)
        self.at += len(content)
        return len(content)

    def truncate(self, size: int) -> int:
        self.log.append((size, None))
        replay([self.log[-1]], self.content)
        return size

    def flush(self) -> None:
        pass


def replay(log: list[tuple[int, bytes | None]], content: bytearray) -> bytearray:
    for at, written in log:
        size = at if written is None else at + len(written)
        content.extend(bytes(max(0, size - len(content))))
        if written is None:
            del content[size:]
        else:
            content[at:size] = written
    return content


def written(path: Path, monkeypatch: pytest.MonkeyPatch, blocks: int) -> tuple[Logged, list[tuple[int, list[int]]]]:
    """All writes of a whole trace, and after how many of them which rows were told to be safe."""
    stream, real = Logged(), h5py.File
    with monkeypatch.context() as patch:
        patch.setattr(writer.h5py, "File", lambda name, mode, **more: real(stream, "w", **more))
        patch.setattr(Path, "replace", lambda self, target: target)
        made = TraceWriter.create(path, CONTENTS, '{"a": 1}', "dies")
        safe = [(len(stream.log), [0, 0])]
        for block in range(blocks):
            for clock, length in enumerate(BLOCKS):
                made.append(clock, rows(clock, block * length, (block + 1) * length))
            safe.append((0, made.drain()))
            safe[-1] = (len(stream.log), safe[-1][1])
        made.close(complete=True)
    return stream, safe


def test_death_at_any_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Must fail if chunks are found by HDF5's index alone: it is torn when its tree of 64 chunks is split, and where
    the end of the file is not yet as far as it says (`addr overflow`)."""
    stream, safe = written(tmp_path / "a.h5", monkeypatch, 70)
    first, moments = safe[0][0], range(safe[0][0], len(stream.log) + 1)
    generator = random.Random(0)
    chosen = sorted({*generator.sample(moments, 40), *range(len(stream.log) - 12, len(stream.log) + 1)})
    content, done, partial = replay(stream.log[:first], bytearray()), first, tmp_path / "a.h5.partial"
    for moment in chosen:
        replay(stream.log[done:moment], content)
        done = moment
        partial.write_bytes(content)
        certain = [there for when, there in safe if when <= moment][-1]
        with open_trace(partial) as trace:
            found = check(trace)
        assert all(n >= m for n, m in zip(found, certain, strict=True)), (moment, found, certain)
        if moment in chosen[::9] or moment > len(stream.log) - 4:
            taken_up = recovery.resume(tmp_path / "a.h5", CONTENTS, certain)
            for clock, length in enumerate(BLOCKS):
                taken_up.append(clock, rows(clock, certain[clock], certain[clock] + length))
            with open_trace(taken_up.close(complete=True)) as trace:
                assert check(trace) == [n + length for n, length in zip(certain, BLOCKS, strict=True)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5"]
