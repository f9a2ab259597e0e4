"""The run directory while a run works in it: found or made, locked, begun, and its result kept true."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import torch

from neurosbd.config.definition import Definition
from neurosbd.errors import OUT, RESUME, RunError, UsageError
from neurosbd.files.parsing import JsonTable
from neurosbd.files.writing import legal_path, sweep_files, write_text
from neurosbd.recording import Recorder
from neurosbd.runs.forward import Units
from neurosbd.runs.lock import InUse, Lock, take
from neurosbd.runs.machine import provenance
from neurosbd.runs.run import (
    BEST,
    CHECKPOINT,
    CONFIG,
    CURVES,
    FIGURE,
    METRICS,
    PREVIOUS,
    RESULT,
    TRACE,
    write_record,
)
from neurosbd.tracefiles.writer import PARTIAL

RUNS = Path("runs")


class Occupied(UsageError):
    """Another run is in this directory."""


@contextmanager
def claimed(definition: Definition, out: str | Path | None, resume: bool) -> Iterator[Path]:
    """The run directory of a definition, in which no other process may write until the end of the context.

    Args:
        definition: resolved.
        out: the directory; none: runs/MODEL-RULE-seedN, numbered if taken; with `resume` the latest of them.
        resume: whether a run may be there already.

    Raises:
        UsageError: if it holds a run that shall not be resumed, another process works there, or it cannot be written.
    """
    if out is not None:
        path, lock, made = _enter(legal_path(out), resume)
    elif resume:
        path, lock, made = _enter(_latest(stem(definition)), resume)
    else:
        path, lock, made = _enter_free(stem(definition))
    try:
        sweep_files(path, (CONFIG, METRICS, RESULT, CHECKPOINT, PREVIOUS, BEST, CURVES, FIGURE))
        yield path
    finally:
        lock.release()
        if made:
            with suppress(OSError):  # there is something in it: the usual case
                path.rmdir()


def _enter(path: Path, resume: bool) -> tuple[Path, Lock, bool]:
    """Lock a directory; whether it had to be made."""
    made = False
    try:
        if not path.is_dir():
            path.mkdir(parents=True)
            made = True
        lock = take(path)
    except OSError as problem:
        raise UsageError(f"{_short(path)}: cannot be written ({problem.strerror}); choose another {OUT}") from None
    except ValueError as problem:
        if isinstance(problem, UsageError):
            raise
        raise UsageError(f"{_short(path)}: cannot be the name of a folder ({problem}); choose another {OUT}") from None
    there = _remains(path)
    if there and not (resume and CONFIG in there):
        lock.release()
        if CONFIG in there:
            raise Occupied(f"{path}: holds a run already; continue it with {RESUME} or choose another {OUT}")
        raise Occupied(
            f"{path}: holds {there[0]}, which a run would replace, but no {CONFIG}; choose another {OUT}, or remove it"
        )
    return path, lock, made


def _enter_free(stem: str) -> tuple[Path, Lock, bool]:
    """Lock the first of runs/STEM, runs/STEM-2, -3, ... that no run is in, and no other process at work."""
    for number in count(1):
        try:
            return _enter(RUNS / (stem if number == 1 else f"{stem}-{number}"), resume=False)
        except (Occupied, InUse):
            continue
    raise AssertionError("count never ends")


def _short(path: Path) -> str:
    text = str(path) if len(str(path)) <= 200 else f"{str(path)[:100]}...{str(path)[-60:]}"
    return (
        repr(text if len(text) <= 200 else f"{text[:100]}...{text[-60:]}") if "\0" in text or len(text) > 200 else text
    )


def _remains(path: Path) -> list[str]:
    """What is there of a run that was begun, or of somebody's own that a run would replace."""
    names = (CONFIG, CHECKPOINT, PREVIOUS, TRACE, f"{TRACE}{PARTIAL}", METRICS, RESULT, BEST, CURVES, FIGURE)
    return [name for name in names if (path / name).exists()]


def holds_run(path: Path) -> bool:
    """Whether a run is in this directory."""
    return (path / CONFIG).exists()


def to_resume(definition: Definition, out: str | Path | None) -> Path | None:
    """The directory of the run that `resume` would go on with, if there is one."""
    path = legal_path(out) if out is not None else _latest(stem(definition))
    return path if holds_run(path) else None


def config_of(definition: Definition, device: torch.device, units: Units | None = None) -> JsonTable:
    """What config.json says: everything resolved, by which plugins, in which units of the data, on what it runs."""
    kept = {} if units is None else {"units": json.loads(units.model_dump_json())}
    content = definition.model_dump(mode="json")
    return {"format": 1, "definition": content, **definition.plugins(), **kept, **provenance(device)}


@contextmanager
def beginning(path: Path, config: JsonTable, recorder: Recorder | None) -> Iterator[None]:
    """Context in which a new run is prepared in `path`. It exists once its config.json does; what is written before
    that is no obstacle to another start.

    Raises:
        UsageError: if something cannot be written; then, as after any other error within, nothing of it is left.
    """
    try:
        write_text(path / METRICS, "")
        write_record(path / RESULT, {"status": "running", "reason": None})
        write_record(path / CONFIG, config)
        yield
    except BaseException as problem:
        if recorder is not None:
            with suppress(RunError):
                recorder.close(complete=False)
        for name in (CONFIG, RESULT, METRICS, f"{TRACE}{PARTIAL}"):
            (path / name).unlink(missing_ok=True)
        if isinstance(problem, OSError):
            raise UsageError(f"{path}: cannot be written ({problem.strerror}); choose another {OUT}") from None
        raise


@contextmanager
def seeds_folder(definition: Definition, out: str | Path | None, seeds: Sequence[int], resume: bool) -> Iterator[Path]:
    """The folder in which every seed of a definition has its run directory; if nothing has been put there it is gone
    again at the end.

    Args:
        definition: resolved.
        out: the folder; none: runs/MODEL-RULE-seeds, numbered if taken; with `resume` the latest of them.
        seeds: that shall have a run there.
        resume: whether runs may be there already.
    Raises:
        UsageError: if it holds a run of one of the seeds, or is one itself, or cannot be made.
    """
    name = f"{_stem(definition)}-seeds"
    path = legal_path(out) if out is not None else _latest(name) if resume else None
    if path is not None and holds_run(path):
        raise Occupied(f"{path}: is the directory of a run itself; choose another {OUT} for a folder of runs")
    taken = [] if path is None or resume else [of_seed(path, s) for s in seeds if holds_run(of_seed(path, s))]
    if taken:
        raise Occupied(f"{taken[0]}: holds a run already; go on with {RESUME} or choose another {OUT}")
    path, made = _made(path, name)
    try:
        yield path
    finally:
        if made:
            with suppress(OSError):  # there is something in it: the usual case
                path.rmdir()


def of_seed(folder: Path, seed: int) -> Path:
    """The run directory of a seed."""
    return folder / f"seed{seed}"


def runs_in(folder: Path) -> list[Path]:
    """The run directories of a folder of seeds, by seed; [] if it is no such folder."""
    found = {int(path.name[4:]): path for path in folder.glob("seed*") if path.name[4:].isdecimal()}
    return [found[seed] for seed in sorted(found) if holds_run(found[seed])]


def _made(path: Path | None, stem: str) -> tuple[Path, bool]:
    """A folder that is there now, of no name the first new one of runs/STEM, runs/STEM-2, ...; whether it was made."""
    for number in count(1):
        each = path if path is not None else RUNS / (stem if number == 1 else f"{stem}-{number}")
        try:
            each.mkdir(parents=True)
            return each, True
        except FileExistsError:
            if path is not None and path.is_dir():
                return path, False
            if path is not None:
                raise UsageError(f"{_short(path)}: is no folder; choose another {OUT}") from None
        except (OSError, ValueError) as problem:
            reason = getattr(problem, "strerror", None) or problem
            raise UsageError(f"{_short(each)}: cannot be written ({reason}); choose another {OUT}") from None
    raise AssertionError("count never ends")


def stem(definition: Definition) -> str:
    """Name of a run directory, if nobody says."""
    return f"{_stem(definition)}-seed{definition.seed}"


def _stem(definition: Definition) -> str:
    """What all seeds of a definition share; a free run in which nothing learns has no rule."""
    fixed = definition.simulation is not None and not any(entry.plastic for entry in definition.connection)
    rule = "" if fixed else f"-{definition.rule.kind}"
    return f"{definition.name}{rule}"


def _latest(stem: str) -> Path:
    """The last of runs/STEM, runs/STEM-2, ... that holds a run, or runs of several seeds; or runs/STEM."""
    path, number = RUNS / stem, 2
    while holds_run(after := RUNS / f"{stem}-{number}") or runs_in(after):
        path, number = after, number + 1
    return path
