"""Runs killed at random moments and gone on with: is all there that was said to be, and is the end the same?

Every job is one command in a process of its own. It is carried out once undisturbed, which gives its end and its
length. Then it is started anew and sent signals at a moment drawn uniformly from that length: mostly SIGKILL, at times
an interrupt first, at times several times in a row. What it has acknowledged is read at once: lines of metrics.jsonl
and committed rows of the trace, which must be those of the undisturbed run. Then the command is repeated until it comes
to its end, and weights, metrics, trace or figures are compared bit for bit, and no temporary file may be left.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import neurosbd
from faults.attempts import TIMES, attempt, confined, digest
from faults.datafiles import DATA
from faults.freefiles import spiking_model
from neurosbd.cli.main import main as command_line

RUN = Path("run")
SIGNALS = ("KILL",) * 7 + ("INT KILL", "TERM KILL", "USR1 KILL", "INT INT", "INT", "TERM")
TRIES = 4  # to come to an end undisturbed; an interrupted one may say so once


@dataclass(frozen=True)
class Job:
    """One command that is killed.

    arguments: of the command line; again: more of them when it is repeated.
    before: makes what it needs.
    end: what must be the same however often it was killed.
    """

    arguments: tuple[str, ...]
    again: tuple[str, ...]
    before: Callable[[Path], None]
    end: Callable[[], object]


@dataclass(frozen=True)
class Killed:
    """What came of one job.

    kills: signals that ended it before its end.
    acknowledged, lost: rows and lines that were there after a kill; those of them that were not what they should be,
        then or at the end.
    differs: whether its end is another than the undisturbed one.
    problem: what else went wrong: a traceback, an end that is never reached, a file that is left behind.
    """

    job: str
    number: int
    signals: str
    kills: int
    acknowledged: int
    lost: int
    differs: bool
    problem: str


def _digits(folder: Path) -> None:
    """The decoded digits, so that most of a job is the run."""
    os.environ["NEUROSBD_CACHE"] = str(folder / ".cache")
    neurosbd.load_data("digits")


def _run(folder: Path) -> None:
    neurosbd.fit(
        "digits-mlp", out=folder / RUN, settings={"training.epochs": 2, "data.subset": 20},
        record=["*.rate[on=test, examples=0:8]", "score[on=test, examples=0:8]"],
    )  # fmt: skip


def _learned() -> object:
    run = neurosbd.open_run(RUN)
    return run.checkpoint()["network"], run.metrics, run.result["status"], traced(RUN)


def _reported() -> object:
    return json.loads(Path("page", "metrics.json").read_text())["analyses"]


def _decoded() -> object:
    return neurosbd.load_data("pictures")


def traced(path: Path) -> dict[str, Any]:
    """All rows of a trace: signals and, by clock, when they were taken."""
    trace = neurosbd.open_run(path).trace
    clocks = {f"clock {i}": trace.coordinate(i, "step")[:] for i in range(len(trace.rows))}
    return clocks | {name: trace[name][:] for name in trace.names}


_SMALL = ("--set", "data.subset=20", "--set", "training.checkpoint_every=3", "--out", str(RUN))
_RECORD = ("--record", "*.weight[every=5 batches]", "--record", "loss")
_RATES = ("--record", "*.rate[examples=0:4]", *_RECORD)
_SPIKES = ("--record", "*.spikes[examples=0:2]", "--record", "*.v[neurons=0:2, examples=0:2]", *_RECORD)
_TASK = (
    "--set", "training.epochs=4", "--set", "training.batches=3", "--set", "training.batch_size=8",
    "--set", "training.test_batches=1", "--set", "training.checkpoint_every=2", "--out", str(RUN),
)  # fmt: skip
_RESUME = ("--resume",)
JOBS = {
    "fit": Job(("fit", "digits-mlp", "--set", "training.epochs=12", *_SMALL, *_RATES), _RESUME, _digits, _learned),
    "fit-snn": Job(("fit", "digits-snn", "--set", "training.epochs=4", *_SMALL, *_SPIKES), _RESUME, _digits, _learned),
    "simulate": Job(("simulate", "xor-delayed-reward", *_TASK, *_SPIKES), _RESUME, _digits, _learned),
    "free": Job(
        ("simulate", "stdp.toml", "--set", "simulation.duration=0.4", "--out", str(RUN)),
        _RESUME,
        spiking_model,
        _learned,
    ),
    "analyse": Job(("analyse", str(RUN), "--out", "page"), (), _run, _reported),
    "cache": Job(("data", "check", "pictures"), (), DATA["png"].make, _decoded),
}


def _start(arguments: tuple[str, ...], folder: Path) -> int:
    """The command in a process of its own, which works in the folder; its number."""
    child = os.fork()
    if child == 0:
        confined(folder, seconds=300)
        said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(said), "w", buffering=1) for _ in range(2))
        status = 70
        try:
            status = command_line(arguments)
        except BaseException as problem:
            print(f"Traceback: {type(problem).__name__}: {problem}", file=sys.stderr)
        finally:
            os._exit(status)
    return child


def _wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _disturb(job: Job, folder: Path, length: float, again: bool, signals: str, rng: random.Random) -> bool:
    """Start a job and send it signals; whether that ended it before its end."""
    child = _start(job.arguments + (job.again if again else ()), folder)
    time.sleep(rng.uniform(0, length))
    for name in signals.split():
        try:
            os.kill(child, getattr(signal, f"SIG{name}"))
        except ProcessLookupError:
            break
        if name != signals.split()[-1]:
            time.sleep(rng.uniform(0, 0.1))
    return _wait(child) != 0


def prepared(name: str, top: Path) -> tuple[Path, float]:
    """The folder in which a job was carried out undisturbed, what it needs beside it, and how long it took."""
    folder = top / "jobs" / name
    if not folder.exists():
        (folder / "before").mkdir(parents=True)
        job = JOBS[name]
        made = attempt(lambda: job.before(folder / "before"), folder)
        shutil.copytree(folder / "before", folder / "whole")
        start = time.monotonic()
        status = _wait(_start(job.arguments, folder / "whole"))
        (folder / "length").write_text(str(time.monotonic() - start))
        if made.how != "read" or status != 0:
            raise RuntimeError(
                f"{name} does not come to its end undisturbed: {made.said} {(folder / 'whole/said.txt').read_text()}"
            )
    return folder, float((folder / "length").read_text())


def _acknowledged(whole: Path) -> dict[str, int]:
    """Lines and rows that are there, and how many of them are not those of the undisturbed run."""
    if not (RUN / "config.json").exists():
        return {"there": 0, "wrong": 0}
    wanted = [_plain(line) for line in neurosbd.open_run(whole / RUN).metrics]
    lines = [_plain(line) for line in neurosbd.open_run(RUN).metrics]
    wrong = sum(line not in wanted for line in lines)
    there = len(lines)
    if any((RUN / f"trace.h5{end}").exists() for end in ("", ".partial")):
        try:
            found = traced(RUN)
        except neurosbd.UsageError:  # killed while its head was written: nothing is acknowledged yet
            found = {}
        for name, values in found.items():
            same = traced(whole / RUN)[name][: len(values)]
            there += len(values)
            wrong += len(values) - len(same) if digest(values[: len(same)]) == digest(same) else len(values)
    return {"there": there, "wrong": wrong}


def _plain(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key not in TIMES}


def killed(name: str, number: int, seed: int, top: Path) -> Killed:
    """Kill a job once, at times several times, have it come to its end, and compare."""
    job, rng = JOBS[name], random.Random(f"{seed}/{name}/{number}")
    origin, length = prepared(name, top)
    kills, there, lost, sent, problem, status, tries = 0, 0, 0, [], "", 1, TRIES
    with tempfile.TemporaryDirectory(dir=top) as place:
        folder = Path(shutil.copytree(origin / "before", Path(place) / "w"))
        for turn in range(rng.choice((1, 1, 1, 2, 4))):
            signals = rng.choice(SIGNALS)
            if not _disturb(job, folder, length, turn > 0, signals, rng):
                status = 0  # at its end before the signal came
                break
            kills += 1
            sent.append(signals)
            if job.end is _learned:
                verdict, counted = _counted(origin / "whole", folder)
                problem = problem or verdict
                there, lost = there + counted["there"], lost + counted["wrong"]
        while status != 0 and tries > 0:
            status, tries = _wait(_start(job.arguments + (job.again if kills else ()), folder)), tries - 1
        said = (folder / "said.txt").read_text(errors="replace")
        if status != 0:
            problem = problem or f"does not come to its end: {said.splitlines()[-1] if said else status}"
        elif "Traceback" in said:
            problem = problem or said[said.index("Traceback") :].splitlines()[0]
        left = [str(p.relative_to(folder)) for p in folder.rglob(".*-*") if p.exists()]
        problem = problem or (f"left behind: {', '.join(sorted(left)[:3])}" if left else "")
        ends = [attempt(job.end, where) for where in (origin / "whole", folder)]
    differs = ends[1].how != "read" or ends[0].value != ends[1].value
    problem = problem or (ends[1].said if ends[1].how != "read" else "")
    return Killed(name, number, ", ".join(sent), kills, there, lost, differs, problem)


def _counted(whole: Path, folder: Path) -> tuple[str, dict[str, int]]:
    """What is acknowledged just now, read in a process of its own."""
    note = folder / "counted.json"
    verdict = attempt(lambda: note.write_text(json.dumps(_acknowledged(whole))), folder)
    if verdict.how != "read":
        return f"cannot be read after a kill: {verdict.how} {verdict.said} {verdict.where}", {"there": 0, "wrong": 0}
    return "", json.loads(note.read_text())


def _killed(task: tuple[str, int, int, Path]) -> Killed:
    return killed(*task)


def campaign(names: list[str], kills: int, seed: int, workers: int, top: Path) -> list[Killed]:
    """Jobs in turn until so many kills were carried out."""
    found: list[Killed] = []
    if not kills:
        return found
    for name in names:
        prepared(name, top)
    number = 0
    with multiprocessing.get_context("fork").Pool(workers, maxtasksperchild=100) as pool:
        while (missing := kills - sum(one.kills for one in found)) > 0:
            batch = range(number, number + max(workers, missing // 2))
            number = batch.stop
            found += pool.imap_unordered(_killed, [(names[n % len(names)], n, seed, top) for n in batch])
            print(f"{sum(one.kills for one in found)} of {kills} kills", file=sys.stderr, flush=True)
    return found


def table(found: list[Killed]) -> dict[str, dict[str, int]]:
    """Per job and in all: kills, rows acknowledged and lost, ends that differ, other problems."""
    rows = {}
    for name in [*dict.fromkeys(one.job for one in found), "all"]:
        ones = [one for one in found if name in (one.job, "all")]
        sums = {what: sum(getattr(one, what) for one in ones) for what in ("kills", "acknowledged", "lost", "differs")}
        rows[name] = {"jobs": len(ones), **sums, "problems": sum(bool(one.problem) for one in ones)}
    return rows


def faulty(found: list[Killed]) -> list[Killed]:
    """Those with something lost, different, or otherwise wrong."""
    return [one for one in found if one.lost or one.differs or one.problem]


def show(found: list[Killed], seed: int) -> None:
    """Print the table, and how to see every fault again."""
    if found:
        rows = table(found)
        print("\n" + f"{'job':<18}" + "".join(f"{key:>14}" for key in rows["all"]))
        for name, row in rows.items():
            print(f"{name:<18}" + "".join(f"{value:>14,}" for value in row.values()))
    for one in faulty(found):
        print(f"{asdict(one)}\n        --seed {seed} --only {one.job} --number {one.number}")
