"""How a run begins and ends in its directory, whatever it carries out."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from neurosbd.errors import RunError
from neurosbd.recording import Recorder
from neurosbd.runs.interrupt import Interrupt
from neurosbd.runs.loggers import Event, Loggers
from neurosbd.runs.machine import failure
from neurosbd.runs.run import CHECKPOINT, RESULT, Run, write_record


class Recording(Protocol):
    """Whatever may have a recorder."""

    @property
    def recorder(self) -> Recorder | None:
        """Of the signals that are recorded; None: there are none."""
        ...


class Attempt:
    """Carries out a run in its directory: result.json says at every moment how it stands.

    Args:
        path: the run directory.
        session: whose recording ends with the run.
        loggers: told how it begins.
        interrupt: what may stop it.
        close: writes result.json with a status and a reason, and gives the run.
    """

    def __init__(
        self,
        path: Path,
        session: Recording,
        loggers: Loggers,
        interrupt: Interrupt,
        close: Callable[[str, str | None], Run],
    ) -> None:
        self.path, self.session, self.loggers, self.interrupt = path, session, loggers, interrupt
        self._close = close

    def run(self, start: Event, work: Callable[[], None], over: Callable[[], bool]) -> Run:
        """Work to the end, or to an interrupt or a failure.

        Args:
            start: what loggers are told first.
            work: returns at its end, or when it is interrupted.
            over: whether it has come to its end.
        Raises:
            RunError: if it fails; says what is kept.
            KeyboardInterrupt: after a second Ctrl-C; says what is kept.
        """
        try:
            self.begin(start)
            work()
            return self.end(over())
        except (KeyboardInterrupt, Exception) as problem:
            told = self.fail(problem)
            if told is problem:
                raise
            raise told from problem.__cause__

    def begin(self, start: Event) -> None:
        """Say that it runs, in result.json and to the loggers."""
        with self.interrupt.writing():
            write_record(self.path / RESULT, {"status": "running", "reason": None})
        self.loggers.start(start)

    def end(self, finished: bool) -> Run:
        """Say in result.json that it has come to its end, or was interrupted before."""
        with self.interrupt.writing():
            self._end_recording(finished)
            return self._close("finished" if finished else "interrupted", None)

    def fail(self, problem: KeyboardInterrupt | Exception) -> KeyboardInterrupt | Exception:
        """Say in result.json why it ends before its end.

        Returns:
            What is to be raised: the reason, with what is kept; a mistake of ours as it is.
        """
        if isinstance(problem, KeyboardInterrupt):
            self._give_up("interrupted", None)
            return KeyboardInterrupt(self._kept())
        reason = failure(problem, self.path)
        self._give_up("failed", reason or f"{type(problem).__name__}: {problem}")
        return problem if reason is None else RunError(f"{reason}. {self._kept()}")

    def _give_up(self, status: str, reason: str | None) -> None:
        """Say in result.json how it ended, if that can still be written."""
        with self.interrupt.writing():
            with suppress(RunError, OSError):
                self._end_recording(complete=False)
            with suppress(OSError):
                self._close(status, reason)

    def _end_recording(self, complete: bool) -> None:
        if self.session.recorder is not None:
            self.session.recorder.close(complete)

    def _kept(self) -> str:
        there = (self.path / CHECKPOINT).exists()
        return f"{'The last checkpoint is kept' if there else 'There is no checkpoint yet'} in {self.path}"
