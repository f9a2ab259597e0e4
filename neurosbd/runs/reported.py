"""Runs that go on from report to report: a line of metrics and a checkpoint each; measures and a figure at the end."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

from neurosbd.config.definition import Experiment
from neurosbd.errors import warn, warnings_so_far
from neurosbd.files import checkpoints
from neurosbd.files.checkpoints import StateDict
from neurosbd.files.parsing import JsonTable
from neurosbd.runs import directory
from neurosbd.runs.attempt import Attempt
from neurosbd.runs.interrupt import Interrupt
from neurosbd.runs.job import Job
from neurosbd.runs.keeping import keep
from neurosbd.runs.loggers import Event, Loggers, MetricsFile
from neurosbd.runs.machine import deterministic_algorithms
from neurosbd.runs.own_parts import naming_own_parts
from neurosbd.runs.resuming import Resumable, entered
from neurosbd.runs.run import CHECKPOINT, METRICS, RESULT, Run, open_run, write_record
from neurosbd.tasks import Findings


class ReportedSession(Resumable, Protocol):
    """What goes on from report to report, which are its epochs: a free run, a protocol."""

    experiment: Experiment

    @property
    def reports_now(self) -> bool:
        """Whether the last advance ended a report."""
        ...

    @property
    def batches(self) -> int:
        """What counts as batches so far, between which there may be checkpoints."""
        ...

    def introduction(self) -> Event:
        """What loggers are told of it at the start."""
        ...

    def advance(self) -> None:
        """As far as nothing may come between."""
        ...

    def read(self) -> dict[str, float]:
        """What the report that has just ended says."""
        ...

    def findings(self, metrics: Sequence[JsonTable]) -> Findings:
        """Measures and a figure, of the lines of all reports."""
        ...

    def state_dict(self) -> StateDict:
        """Everything needed to go on bit for bit."""
        ...


def run_reported(session: ReportedSession, job: Job, interrupt: Interrupt) -> Run:
    """Carry out a session that has not begun in its directory, or go on with the run that is there.

    Raises:
        UsageError: if it cannot be carried out as asked; nothing has been written then.
        RunError: if it fails; says what is kept.
        KeyboardInterrupt: after a second Ctrl-C.
    """
    interrupt.hold()
    with _introduced(session, job) as start, job.loggers.ending(start["path"]):
        return ReportedRun(session, start, job.loggers, interrupt).run()


@contextmanager
def _introduced(session: ReportedSession, job: Job) -> Iterator[Event]:
    """The run directory of a session, and what loggers are told at the start."""
    definition, device = session.definition, session.introduction()["device"]
    seeds = {"seeds": job.seeds} if job.seeds else {}
    with entered(session, job.out, job.resume, lambda: directory.config_of(definition, device) | seeds) as there:
        yield {
            **session.introduction(), **there._asdict(), "model": definition.name, "seed": definition.seed,
            "device": str(device), "epoch": _reports(session), "finished": _over(session), **seeds,
        }  # fmt: skip


class ReportedRun:
    """The loop over reports and what it writes.

    Args:
        session: that is about to run.
        start: what loggers are told first.
        loggers: told how it goes on.
        interrupt: what may stop it.
    """

    def __init__(self, session: ReportedSession, start: Event, loggers: Loggers, interrupt: Interrupt) -> None:
        self.session, self.start, self.loggers, self.interrupt = session, start, loggers, interrupt
        self.path: Path = start["path"]
        self.metrics = [line for line in open_run(self.path).metrics if line["epoch"] <= _reports(session)]
        self.warned: list[str] = open_run(self.path).result.get("warnings", [])  # before it was stopped
        self.metrics_file = MetricsFile(self.path, self.metrics, interrupt)
        lacking = _reports(session) - len(self.metrics)
        if lacking > 0:
            warn(f"{self.path / METRICS}: lacks {lacking} of {_reports(session)} reports; the figure leaves them out")
        self.begun = time.perf_counter()

    def run(self) -> Run:
        """Go on to the end, or to an interrupt or a failure, see `Attempt.run`."""
        attempt = Attempt(self.path, self.session, self.loggers, self.interrupt, self._close)
        exactly = deterministic_algorithms() if self.session.definition.training.deterministic else nullcontext()
        with exactly:
            return attempt.run({**self.start, "metrics": tuple(self.metrics)}, self._go_on, lambda: _over(self.session))

    def _go_on(self) -> None:
        with naming_own_parts(self.session.experiment):
            while not _over(self.session) and not self.interrupt.asked:
                self._advance()

    def _advance(self) -> None:
        """To where the session can be stopped; what follows a report, or a signal."""
        session, interrupt, before = self.session, self.interrupt, self.session.batches
        session.advance()
        if session.reports_now:
            line = {"epoch": _reports(session), **session.read(), "seconds": time.perf_counter() - self.begun}
            self.begun = time.perf_counter()
            self.metrics_file.on_epoch(line)
            self.loggers.tell("on_epoch", line)
        every = session.definition.training.checkpoint_every
        due = every is not None and session.batches // every > before // every
        if session.reports_now or due or interrupt.asked or interrupt.checkpoint_asked:
            self._checkpoint()

    def _checkpoint(self) -> None:
        self.interrupt.checkpoint_asked = False
        path, session = self.path / CHECKPOINT, self.session
        with self.interrupt.writing():
            checkpoints.save(path, session.state_dict())
        self.loggers.tell("on_checkpoint", {"path": path, "epoch": _reports(session), "batch": session.position[1]})

    def _close(self, status: str, reason: str | None) -> Run:
        """Write result.json; of a finished run also measures and a figure."""
        result: JsonTable = {
            "status": status, "reason": reason, "epochs": len(self.metrics),
            "final": self.metrics[-1] if self.metrics else None, "best": None,
            "seconds": sum(line.get("seconds", 0.0) for line in self.metrics),
            "warnings": list(dict.fromkeys([*self.warned, *warnings_so_far()])),
        }  # fmt: skip
        if status == "finished" and self.metrics:
            return keep(self.path, result, self.session.findings(self._whole_lines()))
        write_record(self.path / RESULT, result)
        return open_run(self.path)

    def _whole_lines(self) -> list[JsonTable]:
        """The lines that say all that the last one does; a file that was changed may have others."""
        whole = [line for line in self.metrics if line.keys() >= self.metrics[-1].keys()]
        if len(whole) < len(self.metrics):
            odd = next(line for line in self.metrics if not line.keys() >= self.metrics[-1].keys())
            lacking = ", ".join(sorted(self.metrics[-1].keys() - odd.keys()))
            warn(
                f"{self.path / METRICS}: {len(self.metrics) - len(whole)} of {len(self.metrics)} lines lack what the "
                f"others say, that of report {odd['epoch']} {lacking}; measures and figure leave them out"
            )
        return whole


def _reports(session: ReportedSession) -> int:
    return session.position[0]


def _over(session: ReportedSession) -> bool:
    return session.over(_reports(session))
