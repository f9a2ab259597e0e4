"""Trace files that were torn, forged, or are being written: every committed row is right, everything else refused."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from recorded import CONTENTS, check, write

import neurosbd
from neurosbd.errors import UsageError
from neurosbd.tracefiles import Clock, Contents, Rows, Series, Trace, TraceWriter, open_trace

HERE = Path(__file__).parent


@pytest.fixture
def server() -> Iterator["subprocess.Popen[str]"]:
    """Forks writers of tests/recorded.py."""
    line = [sys.executable, str(HERE / "recorded.py")]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        yield process
        process.stdin.close()


def killed(server: "subprocess.Popen[str]", path: Path, delay: float) -> list[int]:
    """Have a writer killed at some moment after its first commit; the rows that it had said were safe."""
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(f"{path}\n")
    server.stdin.flush()
    child = int(server.stdout.readline())
    lines = [server.stdout.readline()]
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    while not (line := server.stdout.readline()).endswith("end\n"):
        lines.append(line)
    return [int(n) for n in lines[-1].split()]


def kill_writers(server: "subprocess.Popen[str]", folder: Path, trials: int) -> int:
    """Kill so many writers; rows found in all."""
    generator, found = random.Random(0), 0
    for trial in range(trials):
        path = folder / f"{trial}.h5"
        safe = killed(server, path, generator.expovariate(1 / 0.03))
        with open_trace(path.with_name(f"{path.name}.partial")) as trace:
            there = check(trace)
            assert all(n >= m for n, m in zip(there, safe, strict=True)), (trial, there, safe)
            found += sum(there)
        path.with_name(f"{path.name}.partial").unlink()
    return found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks writers")
def test_killed_writers_lose_no_committed_row(server: "subprocess.Popen[str]", tmp_path: Path) -> None:
    """kill -9 at 50 random moments. Must fail without the flushes of `TraceWriter._commit`."""
    assert kill_writers(server, tmp_path, 50) > 50 * 60


@pytest.mark.skipif(not hasattr(os, "fork"), reason="its processes are forked")
def test_a_run_in_progress_can_be_read_at_any_moment(tmp_path: Path) -> None:
    """Every opening succeeds, every value is right, and rows only become more.

    Must fail if the file is not opened anew after its counts were read (`addr overflow`, seen in 2 of 37 openings).
    """
    program = "import sys, recorded, pathlib; recorded.write(pathlib.Path(sys.argv[1]), 40, 0.02)"
    line = [sys.executable, "-c", program, str(tmp_path / "live.h5")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(HERE)])}
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        before, openings = [0, 0], 0
        with open_trace(tmp_path / "live.h5.partial") as early:
            while process.poll() is None:
                with open_trace(tmp_path / "live.h5.partial") as trace:
                    there = check(trace)
                assert all(n >= m for n, m in zip(there, before, strict=True))
                before, openings = there, openings + 1
            assert sum(check(early)) > 0  # an old view of a file that has grown
    assert openings > 3 and before[0] > 40 * 20


def test_a_trace_that_is_finished_meanwhile_is_still_read(tmp_path: Path) -> None:
    """Must fail if only the name it was opened by is looked for when it has to be opened anew."""
    path = write(tmp_path / "a.h5", 2).close(complete=True)
    partial = path.rename(tmp_path / "a.h5.partial")
    trace = open_trace(partial)
    partial.rename(path)
    trace._attach()
    assert check(trace) == [80, 6]
    trace.close()


def test_a_finished_trace_opens_beside_other_readers(tmp_path: Path) -> None:
    """Must fail if it is opened without locking: HDF5 refuses to open a file twice in two ways (pynwb did not open)."""
    path = write(tmp_path / "a.h5", 1).close(complete=True)
    with open_trace(path) as trace, h5py.File(path, "r"):
        check(trace)


def forge(path: Path, name: str, make: Callable[[h5py.File, str], object]) -> None:
    with h5py.File(path, "r+") as file:
        del file[name]
        make(file, name)


def contents(**changes: object) -> bytes:
    plain = json.loads(CONTENTS.model_dump_json())
    plain["series"][0] |= changes
    return json.dumps(plain).encode()


V, OWN = "/acquisition/hidden.v/data", "/neurosbd/contents"
FORGERIES: dict[str, Callable[[Path], object]] = {
    "external link": lambda p: forge(p, V, lambda f, n: f.__setitem__(n, h5py.ExternalLink("other.h5", "/x"))),
    "soft link": lambda p: forge(p, V, lambda f, n: f.__setitem__(n, h5py.SoftLink("/neurosbd/contents"))),
    "linked group": lambda p: forge(
        p, "/acquisition/hidden.v", lambda f, n: f.__setitem__(n, h5py.ExternalLink("other.h5", "/"))
    ),
    "virtual": lambda p: forge(p, V, _virtual),
    "external storage": lambda p: forge(
        p, V, lambda f, n: f.create_dataset(n, (80, 2, 3), "f4", external=[("/etc/passwd", 0, 1920)])
    ),
    "text for numbers": lambda p: forge(
        p, V, lambda f, n: f.create_dataset(n, (80, 2, 3), h5py.string_dtype(), chunks=(40, 2, 3))
    ),
    "vlen numbers": lambda p: forge(
        p, V, lambda f, n: f.create_dataset(n, (80, 2, 3), h5py.vlen_dtype("f4"), chunks=(40, 2, 3))
    ),
    "other shape": lambda p: forge(p, V, lambda f, n: f.create_dataset(n, (80, 2, 4), "f4")),
    "fewer rows": lambda p: forge(p, V, lambda f, n: f.create_dataset(n, (79, 2, 3), "f4")),
    "vast chunks": lambda p: forge(p, V, _bomb),
    "unknown filter": lambda p: forge(
        p, V, lambda f, n: f.create_dataset(n, data=np.zeros((80, 2, 3), "f4"), fletcher32=True)
    ),
    "contents in a group": lambda p: forge(p, OWN, lambda f, n: f.create_group(n)),
    "contents that are no JSON": lambda p: forge(p, OWN, lambda f, n: f.__setitem__(n, np.bytes_(b"{"))),
    "contents of another type": lambda p: forge(p, OWN, lambda f, n: f.__setitem__(n, np.bytes_(b"[1, 2]"))),
    "contents too deep": lambda p: forge(p, OWN, lambda f, n: f.__setitem__(n, np.bytes_(b"[" * 200_000))),
    "contents as numbers": lambda p: forge(p, OWN, lambda f, n: f.__setitem__(n, 3)),
    "a path outside": lambda p: _says(p, path="/neurosbd/config"),
    "two of a name": lambda p: _says(p, name="hidden.v"),
    "a clock that is not there": lambda p: _says(p, clock=7),
    "absurd columns": lambda p: _says(p, columns=[2**39, 2**39]),
    "a type that is none": lambda p: _says(p, dtype="object"),
    "items that do not fit": lambda p: _says(p, items=[1, 2, 3]),
    "more examples": lambda p: _says(p, columns=[3, 300]),
    "more committed than there": lambda p: _commits(p, 81, 6),
    "absurdly many committed": lambda p: _commits(p, 10**15, 6),
    "negative committed": lambda p: _commits(p, -1, 6),
    "other clocks committed": lambda p: _commits(p, 80),
    "newer": lambda p: _attribute(p, "format", 99),
    "format that is text": lambda p: _attribute(p, "format", "new"),
}


def test_values_are_found_where_the_index_has_lost_them(tmp_path: Path) -> None:
    """Chunks lie where the checks say. Must fail if HDF5 alone is asked: it reads zeros, without an error."""
    path = write(tmp_path / "a.h5", 2).close(complete=True)
    lost = {"shape": (80, 2, 3), "dtype": "f4", "chunks": (40, 2, 3), "maxshape": (None, 2, 3)}
    forge(path, V, lambda file, name: file.create_dataset(name, **lost))
    with h5py.File(path) as file:
        data: Any = file[V]
        assert not data[:].any()
    read_all(path)


def _virtual(file: h5py.File, name: str) -> None:
    layout = h5py.VirtualLayout((80, 2, 3), "f4")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (80, 2, 3))
    file.create_virtual_dataset(name, layout)


def _bomb(file: h5py.File, name: str) -> None:
    shape, chunks = (80, 2, 3), (2**26, 2, 3)  # a chunk of 1.6 GB
    data = file.create_dataset(name, shape, "f4", chunks=chunks, compression="gzip", maxshape=(None, 2, 3))
    data.id.write_direct_chunk((0, 0, 0), bytes(4096))


def _says(file: Path, /, **changes: object) -> None:
    forge(file, OWN, lambda file, name: file.__setitem__(name, np.bytes_(contents(**changes))))


def _commits(path: Path, *rows: int) -> None:
    forge(path, "/neurosbd/committed", lambda file, name: file.__setitem__(name, np.array(rows, np.int64)))


def _attribute(path: Path, name: str, value: object) -> None:
    with h5py.File(path, "r+") as file:
        file["/neurosbd"].attrs[name] = value


def read_all(path: Path) -> None:
    with open_trace(path) as trace:
        assert trace.config and trace.started
        for name in trace:
            assert len(trace[name].items) == trace[name].shape[-1]
        check(trace)


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_files_are_refused(tmp_path: Path, forgery: str) -> None:
    """Each differs from a good file in one respect. Must fail without the check of that respect."""
    path = write(tmp_path / "a.h5", 2).close(complete=True)
    read_all(path)
    FORGERIES[forgery](path)
    start = time.process_time()
    with pytest.raises(UsageError, match=r"a\.h5"):
        read_all(path)
    assert time.process_time() - start < 10


DAMAGED = """
import os, pathlib, signal, sys
import recorded
from neurosbd.errors import UsageError
from neurosbd.tracefiles import open_trace
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        try:
            with open_trace(line.strip()) as trace:
                trace.config, trace.started
                for name in trace.names:
                    trace[name][:], trace[name].time
            os._exit(0)
        except UsageError:
            os._exit(2)
        except BaseException as problem:
            print(repr(problem), file=sys.stderr)
            os._exit(3)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def damaged(good: bytes, trial: int, generator: random.Random) -> bytes:
    """Cut off, with bits turned over, or with a part wiped out."""
    content = bytearray(good)
    if trial % 3 == 0:
        return bytes(content[: generator.randrange(len(content))])
    if trial % 3 == 1:
        for _ in range(generator.choice([1, 3, 20])):
            content[generator.randrange(min(len(content), generator.choice([20_000, 10**9])))] ^= (
                1 << generator.randrange(8)
            )
        return bytes(content)
    start, length = generator.randrange(len(content)), generator.randrange(1, 4096)
    content[start : start + length] = bytes([generator.choice([0, 255])]) * len(content[start : start + length])
    return bytes(content)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="its readers are forked")
def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    """Never another error, a crash or a hang. Must fail if a fault of h5py is let through (22 of 600 did)."""
    trials = 120
    good = write(tmp_path / "good.h5", 2).close(complete=True).read_bytes()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(HERE)])}
    ends: dict[int, int] = {}
    with subprocess.Popen(
        [sys.executable, "-c", DAMAGED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        generator = random.Random(trials)
        for trial in range(trials):
            (tmp_path / "a.h5").write_bytes(damaged(good, trial, generator))
            process.stdin.write(f"{tmp_path / 'a.h5'}\n")
            process.stdin.flush()
            end = int(process.stdout.readline())
            ends[end] = ends.get(end, 0) + 1
        process.stdin.close()
    assert set(ends) == {0, 2} and min(ends.values()) > trials / 10, ends


def test_opening_takes_no_longer_for_a_large_file(tmp_path: Path) -> None:
    """300 MB of values; only the table of contents and the counts are read. Must fail if values are."""
    series = Series(
        name="hidden.v", what="v", where="hidden", unit="threshold", path="/acquisition/hidden.v/data", clock=0,
        axes=("row", "example", "neuron"), columns=(1, 2000), size=(2000,),
    )  # fmt: skip
    contents = Contents(clocks=(Clock(examples=(0,)),), series=(series,), dt=1e-3, batch_size=1, steps=10)
    writer = TraceWriter.create(tmp_path / "a.h5", contents, "{}", "large")
    length = contents.block_rows(0)
    for start in range(0, 75 * length, length):
        row = np.arange(start, start + length)
        values = {"hidden.v": np.ones((length, 1, 2000), "f4") * row[:, None, None].astype("f4")}
        whole = row.astype("i4")
        writer.append(0, Rows(row * 1e-3, whole % 10, whole // 10, whole * 0, row[:, None], values))
    path = writer.close(complete=True)
    assert path.stat().st_size > 300e6
    start = time.process_time()
    with open_trace(path) as trace:
        assert trace["hidden.v"][20_000, 0, 1500] == 20_000
    assert time.process_time() - start < 1  # 5 ms alone


@pytest.mark.parametrize("content", [b"", b"no HDF5", bytes(4096), b"\x89HDF\r\n\x1a\n" + bytes(4000)])
def test_what_is_no_hdf5_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(UsageError, match=r"a\.h5"):
        neurosbd.open_run(tmp_path / "a.h5")


def test_hdf5_of_others_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(UsageError, match="no trace of neurosbd"):
        neurosbd.open_run(tmp_path / "a.h5")


def same(a: Trace, b: Trace) -> None:
    """Whether two traces hold the same, value for value."""
    assert (a.names, a.rows) == (b.names, b.rows)
    for name in a.names:
        one, other = a[name], b[name]
        np.testing.assert_array_equal(one[:], other[:], name)
        for coordinate in ("time", "step", "batch", "epoch", *(["sample"] if len(one.examples) else [])):
            np.testing.assert_array_equal(getattr(one, coordinate), getattr(other, coordinate), f"{name} {coordinate}")


def test_a_recording_killed_and_resumed_has_no_gap_and_no_repeat(tmp_path: Path) -> None:
    """kill -9 at three moments of a training; its trace is that of one which went through.

    Must fail if the rows behind the checkpoint stay in the file, or the rows that the checkpoint carries are dropped.
    """
    settings = {"training.epochs": 8, "data.subset": 20, "training.checkpoint_every": 3, "training.batch_size": 10}
    record = ["*.spikes[examples=0:3]", "hidden1.v[every=3 batches, neurons=random 5]", "*.weight", "*.dweight",
              "loss[on=test]"]  # fmt: skip
    whole = neurosbd.fit("digits-snn", settings=settings, record=record, out=tmp_path / "whole", device="cpu")
    line = [sys.executable, "-m", "neurosbd", "fit", "digits-snn", "--out", str(tmp_path / "parts"), "--device", "cpu"]
    line += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    line += [part for spec in record for part in ("--record", spec)]
    generator, kills = random.Random(0), 0
    for _ in range(3):
        again = ["--resume"] if (tmp_path / "parts/config.json").exists() else []
        with subprocess.Popen([*line, *again], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            _wait_for(process, tmp_path / "parts/trace.h5.partial")
            time.sleep(generator.uniform(0.2, 0.8))
            process.kill()
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 2
    done = subprocess.run([*line, "--resume"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    same(whole.trace, neurosbd.open_run(tmp_path / "parts").trace)


def _wait_for(process: "subprocess.Popen[str]", path: Path) -> None:
    """Until a file is there and changes, or the process is through."""
    start = time.time()
    while process.poll() is None and not (path.exists() and path.stat().st_mtime > start):
        assert time.time() - start < 60
        time.sleep(0.01)
