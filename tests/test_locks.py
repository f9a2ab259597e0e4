"""Two processes and one run directory: the second is refused, whatever the first is doing; the dead hold nothing."""

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from neurosbd.errors import UsageError
from neurosbd.runs.lock import LOCK, Holder, InUse, is_held, take
from neurosbd.runs.loggers import Event, NullLogger
from neurosbd.runs.run import open_run
from neurosbd.training.fit import fit

QUICK = {"training.epochs": 1, "data.subset": 8}
HERE = platform.node()


def started(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def leave(folder: Path, **changes: Any) -> None:
    """A lock file as a process of this machine that is gone would leave it, but for `changes`."""
    holder = Holder(HERE, 2**22 + 1, "12", "2026-01-01 00:00:00")  # numbers of processes are smaller
    folder.mkdir(exist_ok=True)
    (folder / LOCK).write_text(json.dumps(holder._replace(**changes)._asdict()))


class Within(NullLogger):
    """Does something when the first epoch has been told."""

    def __init__(self, act: Any) -> None:
        self.act = act

    def on_epoch(self, event: Event) -> None:
        if event["epoch"] == 1:
            self.act()


@pytest.mark.parametrize("resume", [False, True])
def test_the_second_is_refused_and_changes_nothing(tmp_path: Path, resume: bool) -> None:
    """With --resume and without. Must fail without the lock: the second would start anew (tried)."""
    seen: list[Any] = []

    def second() -> None:
        before = {p.name: p.read_bytes() for p in tmp_path.joinpath("run").iterdir()}
        with pytest.raises(InUse, match=rf"process {os.getpid()} of '{HERE}' \(since .* is at work there; wait"):
            fit("digits-mlp", settings=QUICK, out=tmp_path / "run", resume=resume)
        seen.append(before == {p.name: p.read_bytes() for p in tmp_path.joinpath("run").iterdir()})
        seen.append(open_run(tmp_path / "run").result["status"])

    run = fit("digits-mlp", settings=QUICK, out=tmp_path / "run", loggers=[Within(second)])
    assert seen == [True, "running"] and run.result["status"] == "finished"
    assert not (tmp_path / "run" / LOCK).exists()


def test_of_many_that_start_at_once_one_wins(tmp_path: Path) -> None:
    """Of threads at one directory one works there; each of those without --out has a directory of its own.

    Must fail when the lock is looked at before it is made (tried).
    """
    won: list[Any] = []
    barrier = threading.Barrier(8)

    def enter() -> None:
        barrier.wait()
        with contextlib.suppress(InUse):
            won.append(take(tmp_path))

    for _ in range(50):
        threads = [threading.Thread(target=enter) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        won.pop().release()
        assert not list(tmp_path.iterdir())


def test_default_names_of_processes_that_start_at_once_differ(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "neurosbd", "fit", "digits-mlp"]
    line += [word for key, value in QUICK.items() for word in ("--set", f"{key}={value}")]
    both = [subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = [process.communicate(timeout=300)[0].splitlines()[-1] for process in both]
    assert [process.returncode for process in both] == [0, 0, 0]
    assert len({line.split()[-1] for line in told}) == 3
    assert {p.name for p in (tmp_path / "runs").iterdir()} == {f"digits-mlp-sbd-seed0{n}" for n in ("", "-2", "-3")}


STALE: list[dict[str, Any]] = [{}, {"pid": os.getpid()}, {"pid": 1, "process": "no such start"}]


@pytest.mark.parametrize("changes", STALE, ids=["gone", "of another process by now", "of another user's by now"])
def test_a_stale_lock_passes_on(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Must fail when only the number of the process is looked at (tried: the second and third)."""
    leave(tmp_path / "run", **changes)
    assert not is_held(tmp_path / "run")
    assert fit("digits-mlp", settings=QUICK, out=tmp_path / "run").result["status"] == "finished"


def test_locks_that_are_not_stale(tmp_path: Path) -> None:
    """A process that lives, of which no file lock tells; another machine; text that says nothing; a link."""
    run = tmp_path / "run"
    leave(run, pid=os.getpid(), process=started(os.getpid()))
    assert is_held(run)
    with pytest.raises(UsageError, match=f"process {os.getpid()} of"):
        fit("digits-mlp", settings=QUICK, out=run)
    leave(run, host="elsewhere")
    with pytest.raises(UsageError, match=rf"of 'elsewhere' .*cannot tell. If it is gone, remove .*{LOCK} and try"):
        fit("digits-mlp", settings=QUICK, out=run)
    for text in ("rubbish", "[]", "[" * 5000, '{"pid": 1}', json.dumps(Holder(HERE, -1, "", "")._asdict())):
        (run / LOCK).write_text(text)
        with pytest.raises(UsageError, match="says not who is at work there; if nobody is, remove this file"):
            fit("digits-mlp", settings=QUICK, out=run)
    (run / LOCK).unlink()
    (tmp_path / "precious").write_text("")
    (run / LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(UsageError, match="cannot be written"):
        fit("digits-mlp", settings=QUICK, out=run)
    assert (tmp_path / "precious").read_text() == "" and not (run / "config.json").exists()


def test_a_killed_run_says_so_and_goes_on(tmp_path: Path) -> None:
    """Also while its parent has not looked after it, a zombie. Must fail when a zombie counts as alive (tried)."""
    line = [sys.executable, "-m", "neurosbd", "fit", "digits-mlp", "--set", "training.epochs=3000", "--out", "run"]
    process = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while "epoch    1/" not in process.stdout.readline():
        pass
    assert open_run(tmp_path / "run").result["status"] == "running" and is_held(tmp_path / "run")
    process.send_signal(signal.SIGKILL)
    while "Z" not in Path(f"/proc/{process.pid}/stat").read_text().split()[2]:
        time.sleep(0.01)
    result = open_run(tmp_path / "run").result
    assert result["status"] == "killed" and "--resume" in result["reason"]
    take(tmp_path / "run").release()
    process.communicate()


def test_resume_where_nothing_is_yet_starts(tmp_path: Path) -> None:
    run = fit("digits-mlp", settings=QUICK, out=tmp_path / "run", resume=True)
    assert run.result["status"] == "finished"


def test_remains_without_a_config_are_not_taken_for_a_new_run(tmp_path: Path) -> None:
    """Resumed, the new run would take the old checkpoint for its own. Must fail if only config.json counts (tried)."""
    run = fit("digits-mlp", settings=QUICK, out=tmp_path / "run")
    (run.path / "config.json").unlink()
    for resume in (False, True):
        with pytest.raises(UsageError, match=r"holds checkpoint.pt, which a run would replace, but no config.json"):
            fit("digits-mlp", settings=QUICK, out=tmp_path / "run", resume=resume)


@pytest.mark.parametrize("name", ["metrics.jsonl", "result.json", "best.pt", "curves.csv", "figure.png"])
def test_a_file_of_somebodys_own_is_not_replaced(tmp_path: Path, name: str) -> None:
    """In a folder that was made for other things. Must fail when it does not count as being there (tried)."""
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=rf"holds {name}, which a run would replace, but no config.json"):
        fit("digits-mlp", settings=QUICK, out=tmp_path)
    assert (tmp_path / name).read_text() == "mine" and [each.name for each in tmp_path.iterdir()] == [name]
