"""Opens a run for a report: without trusting its files, and with an empty trace if it recorded nothing."""

from pathlib import Path

from neurosbd.errors import UsageError
from neurosbd.files.writing import legal_path
from neurosbd.runs.directory import holds_run, runs_in
from neurosbd.runs.run import CONFIG, METRICS, RESULT, TRACE, Run, open_run
from neurosbd.tracefiles import NotRecorded, Trace
from neurosbd.tracefiles.series import Contents


class Untraced(Trace):
    """The trace of a run that recorded nothing: whatever is asked of it says which --record would provide it."""

    def __init__(self, run: Run) -> None:
        self.path = run.path / TRACE
        self.complete = True
        self.contents = Contents(clocks=(), series=(), dt=1.0, batch_size=1, steps=1)
        self.rows = []
        self._series = {}
        vars(self)["config"] = run.config

    def close(self) -> None:
        """Nothing is open."""


def opened(path: str | Path) -> Run:
    """A run whose files have the form that reports rely on.

    Raises:
        UsageError: if it is none.
    """
    run = open_run(path)
    for file, content in ((CONFIG, run.config), (RESULT, run.result), *((METRICS, line) for line in run.metrics)):
        if not isinstance(content, dict):
            raise UsageError(f"{run.path / file}: is {type(content).__name__}, not a table; this is no run of neurosbd")
    if not isinstance(run.config.get("definition"), dict):
        raise UsageError(f"{run.path / CONFIG}: has no definition; this is no run of neurosbd")
    return run


def run_directories(path: str | Path) -> list[Path]:
    """A run's directory as it is given; of a folder with a run for every seed, those of all."""
    found = legal_path(path)
    return [found] if holds_run(found) else runs_in(found) or [found]


def with_trace(run: Run) -> Run:
    """The run; if it recorded nothing, with an empty trace in place of an error that knows no signal."""
    try:
        _ = run.trace
    except NotRecorded:
        vars(run)["trace"] = Untraced(run)
    except UsageError:  # a damaged one: every analysis that asks for it says so
        pass
    return run
