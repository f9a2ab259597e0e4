"""A recording that is stopped, on a full disk or among links: nothing committed is lost, nothing else touched."""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import CONTENTS, check, rows, write

import neurosbd
from neurosbd.errors import RunError, UsageError
from neurosbd.tracefiles import Trace, TraceWriter, open_trace, recovery, writer

SETTINGS = {"training.epochs": 3, "data.subset": 40, "data.test_subset": 10}
RECORD = ["*.rate[examples=0:8]", "*.weight", "loss[on=test]"]


def fit(out: Path, **more: Any) -> neurosbd.Run:
    return neurosbd.fit("digits-mlp", settings=SETTINGS, record=RECORD, out=out, device="cpu", **more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return fit(tmp_path_factory.mktemp("whole") / "run").trace


def same(one: Trace, other: Trace) -> None:
    assert one.names == other.names
    for name in one.names:
        np.testing.assert_array_equal(one[name][:], other[name][:], name)
        np.testing.assert_array_equal(one[name].time, other[name].time, name)


def full_disk(calls: int) -> Callable[..., Any]:
    """What appends chunks, until there is no room."""
    real, left = writer._append, [calls]

    def append(*given: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*given)

    return append


@pytest.mark.parametrize("calls", [0, 3, 12, 20])
def test_a_full_disk_ends_the_run_and_with_room_it_goes_on(
    whole: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """The trace is that of an undisturbed run. Must fail if a block that was not written whole is counted."""
    with monkeypatch.context() as patch:
        patch.setattr(writer, "_append", full_disk(calls))
        patch.setattr(neurosbd.tracefiles.series, "MOST_ROWS", 16)
        with pytest.raises(RunError, match=r"trace cannot be written .*No space left.* committed rows are kept"):
            fit(tmp_path / "run")
    assert neurosbd.open_run(tmp_path / "run").result["status"] == "failed"
    with neurosbd.open_run(tmp_path / "run").trace as kept:
        for name in kept.names:
            np.testing.assert_array_equal(kept[name][:], whole[name][: len(kept[name])])
    monkeypatch.setattr(neurosbd.tracefiles.series, "MOST_ROWS", 16)
    same(fit(tmp_path / "run", resume=True).trace, whole)
    assert not [p for p in (tmp_path / "run").iterdir() if p.name.startswith(".trace")]


def test_no_room_for_the_copy_leaves_the_old_one_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Must fail if the old file is written to, or replaced before the new one is whole."""
    partial = write(tmp_path / "a.h5", 3).close(complete=False)
    before = partial.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(writer, "_append", full_disk(9))
        with pytest.raises(RunError, match=r"cannot be copied to go on with.*it is as it was"):
            recovery.resume(tmp_path / "a.h5", CONTENTS, [120, 9])
    assert partial.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.h5.partial"]
    recovery.resume(tmp_path / "a.h5", CONTENTS, [120, 9]).close(complete=True)
    with open_trace(tmp_path / "a.h5") as trace:
        assert check(trace) == [120, 9]


def test_an_interrupt_waits_for_the_end_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two Ctrl-C while the tables are written. Must fail if the caller does not wait, or loses the interrupt."""
    made, real = write(tmp_path / "a.h5", 2), writer.nwb.fill

    def fill(*given: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        real(*given)

    monkeypatch.setattr(writer.nwb, "fill", fill)
    with pytest.raises(KeyboardInterrupt):
        made.close(complete=True)
    with open_trace(tmp_path / "a.h5") as trace:
        assert check(trace) == [80, 6] and trace.complete


@pytest.mark.parametrize("name", ["a.h5", "a.h5.partial"])
def test_nothing_is_written_through_a_link(tmp_path: Path, name: str) -> None:
    """Neither anew nor to go on. Must fail if the link is followed, or taken away without a word."""
    (tmp_path / "other").mkdir()
    precious = write(tmp_path / "other/precious.h5", 2).close(complete=True)
    before = precious.read_bytes()
    (tmp_path / name).symlink_to(precious)
    with pytest.raises(UsageError, match=r"is a link to .*precious"):
        TraceWriter.create(tmp_path / "a.h5", CONTENTS, "{}", "x")
    if name.endswith("partial"):
        with pytest.raises(UsageError, match=r"is a link to .*precious"):
            recovery.resume(tmp_path / "a.h5", CONTENTS, [40, 3])
    assert precious.read_bytes() == before and (tmp_path / name).is_symlink()


def test_more_rows_than_announced_are_refused(tmp_path: Path) -> None:
    """Must fail if the checks of another block are overwritten."""
    made = TraceWriter.create(tmp_path / "a.h5", CONTENTS.model_copy(update={"expected": (40, 3)}), "{}", "short")
    made.append(0, rows(0, 0, 40))
    made.append(0, rows(0, 40, 80))
    with pytest.raises(RunError, match="1 were announced"):
        made.drain()
    with pytest.raises(RunError):
        made.close(complete=True)


def test_leftovers_of_copies_are_swept_and_nothing_else(tmp_path: Path) -> None:
    """Must fail if a folder that a link leads to is emptied."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a.h5").write_text("mine")
    (tmp_path / ".a.h5-linked").symlink_to(tmp_path / "mine")
    (tmp_path / ".a.h5-x1").mkdir()
    (tmp_path / ".a.h5-x1/a.h5.partial").write_text("half")
    recovery.sweep(tmp_path / "a.h5")
    assert (tmp_path / "mine/a.h5").read_text() == "mine" and not (tmp_path / ".a.h5-x1").exists()
