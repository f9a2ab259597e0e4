"""A session and its run directory: begun there, or taken up where the run in it stopped, with its trace."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from neurosbd.config.definition import Definition
from neurosbd.datasets.in_memory import PREFIX
from neurosbd.errors import OUT, UsageError, warn
from neurosbd.files import checkpoints
from neurosbd.files.checkpoints import StateDict
from neurosbd.files.parsing import Json, JsonTable
from neurosbd.recording import Recorder
from neurosbd.runs import directory
from neurosbd.runs.records import read_config
from neurosbd.runs.run import BEST, CHECKPOINT, CONFIG, PREVIOUS, TRACE, open_run
from neurosbd.runs.stopping import Stopping
from neurosbd.tracefiles.writer import PARTIAL, describe


class Resumable(Protocol):
    """What can go on from a checkpoint: a training, a free run, a protocol."""

    definition: Definition
    recorder: Recorder | None
    stopping: Stopping | None

    @property
    def position(self) -> tuple[int, int]:
        """How many epochs are through, and how much of the next one."""
        ...

    def over(self, epochs: int) -> bool:
        """Whether it has come to its end after so many epochs."""
        ...

    def load_state_dict(self, state: StateDict, source: Path) -> None:
        """Go on from what `state_dict` gave."""
        ...


class Entered(NamedTuple):
    """A run directory that a session works in."""

    path: Path
    start: str  # 'new', 'resumed' or 'nothing to resume'
    recording: str | None  # how large the trace will be, and where; None: there is none


@contextmanager
def entered(
    session: Resumable, out: str | Path | None, resume: bool, config: Callable[[], JsonTable]
) -> Iterator[Entered]:
    """The run directory of a session, with nobody else in it: a new one, or taken up where the run in it stopped.

    Args:
        session: that has not begun.
        out: the directory; none: runs/MODEL-RULE-seedN, numbered if taken; with `resume` the latest of them.
        resume: whether it may go on with a run that is there; if none is, this one starts.
        config: what config.json is to say of a new run.
    Raises:
        UsageError: if it cannot be written, another process works there, or the run there is another one.
    """
    with directory.claimed(session.definition, out, resume) as path:
        if directory.holds_run(path):
            take_up(session, path)
            yield Entered(path, "resumed", _start_recording(session.recorder, path, read_config(path / CONFIG)))
            return
        begun = config()
        with directory.beginning(path, begun, session.recorder):
            recording = _start_recording(session.recorder, path, begun)
        yield Entered(path, "nothing to resume" if resume else "new", recording)


def _start_recording(recorder: Recorder | None, path: Path, config: JsonTable) -> str | None:
    """Open the trace of a run directory, if there shall be one; how large it will be, and where."""
    if recorder is None:
        return None
    recorder.start(path / TRACE, json.dumps(config), describe(config))
    return f"{recorder.plan.estimate(recorder.extent)}, into {path / TRACE}"


def take_up(session: Resumable, path: Path) -> None:
    """Put a session where the run in `path` stopped."""
    run = open_run(path)
    recorded = run.definition.model_dump(mode="json")
    asked = session.definition.model_dump(mode="json")
    recorded, asked = (
        {k: _placeless(v) for k, v in d.items() if k not in ("about", "source")} for d in (recorded, asked)
    )
    if recorded != asked:
        changed, data = _differences(recorded, asked), run.definition.data.name
        same = (
            " (its data were objects in memory: give the same ones, fit(data=...))" if data.startswith(PREFIX) else ""
        )
        raise UsageError(
            f"{path}: the checkpoint there is of another model or recipe; it differs in {', '.join(changed[:5])}. "
            f"Give the same model, rule and settings{same}, or choose another {OUT}"
        )
    if (path / CHECKPOINT).exists() or (path / PREVIOUS).exists():
        session.load_state_dict(checkpoints.load(path / CHECKPOINT), path / CHECKPOINT)
        keep_best(session, path)  # as a kill between the two files had left to do
    elif run.result["status"] == "finished" or len(run.metrics) > 1:  # a kill before the first one leaves one line
        raise UsageError(
            f"{path}: {CHECKPOINT} is gone, but epochs were trained ({len(run.metrics)} in metrics.jsonl), which would "
            f"be written over; put it back, or start anew in another {OUT}"
        )
    if session.over(session.position[0]) and session.recorder is not None:
        whole, unfinished = (path / TRACE).exists(), (path / f"{TRACE}{PARTIAL}").exists()
        if whole or not unfinished:
            session.recorder = None  # a trace that is whole already stays as it is
        if not whole and not unfinished:
            warn(f"{path / TRACE}: is gone; the run has come to its end, so nothing is recorded anew")


def keep_best(session: Resumable, path: Path) -> None:
    """Keep the checkpoint just written, if the epoch before it is the best so far."""
    best = session.stopping.epoch if session.stopping is not None else 0
    if best and session.position == (best, 0):
        checkpoints.keep_as(path / CHECKPOINT, path / BEST)


def _placeless(value: Json) -> Json:
    """The same with files by their names alone: who moves a folder goes on with its files. Of spikes the content is
    compared, arrays are in the checkpoint."""
    if isinstance(value, list):
        return [_placeless(item) for item in value]
    if not isinstance(value, dict):
        return value
    named = {key: _placeless(item) for key, item in value.items()}
    return named | ({"file": Path(named["file"]).name} if isinstance(named.get("file"), str) else {})


def _differences(old: object, new: object, at: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys([*old, *new])
        return [d for k in keys for d in _differences(old.get(k), new.get(k), f"{at}.{k}" if at else k)]
    return [] if old == new else [f"{at} ({old} there, {new} asked)"]
