"""Ctrl-C and SIGTERM as a request: finish the step, keep everything, then stop. SIGUSR1: keep a checkpoint now."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

_STOP = ("SIGINT", "SIGTERM")
_KEEP = "SIGUSR1"  # not on every platform


class Interrupt:
    """Context that owns the signals of a command.

    Before `hold`, SIGINT and SIGTERM act at once: nothing was begun yet. After it the first of them only sets `asked`;
    a second acts at once, by KeyboardInterrupt, except `writing`: files are finished first. What C code makes of a
    KeyboardInterrupt that meets it, such as an error of a schema that is being built, leaves the context as one again.

    asked: whether the run shall stop after this step.
    checkpoint_asked: whether a checkpoint shall be written after this step; set back by who writes it.
    """

    def __init__(self) -> None:
        self.asked = False
        self.checkpoint_asked = False
        self._held = False
        self._raised = False  # whether a KeyboardInterrupt is on its way
        self._writing = 0
        self._before: dict[int, object] = {}

    def hold(self) -> None:
        """From now on a run has begun, that a signal must not leave half-made.

        Raises:
            KeyboardInterrupt: if a signal was lost before, for instance in a callback of C.
        """
        self._held = True
        if self.asked:
            raise KeyboardInterrupt

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Context in which no signal acts at once. Keep it short, and look at `asked` after it."""
        self._writing += 1
        try:
            yield
        finally:
            self._writing -= 1

    def __enter__(self) -> "Interrupt":
        handlers = {name: self._stop for name in _STOP} | {_KEEP: self._keep}
        for name, handler in handlers.items():
            number = getattr(signal, name, None)
            if number is None:
                continue
            try:
                self._before[number] = signal.signal(number, handler)
            except ValueError:  # not the main thread: leave signals alone
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            if handler is not None:  # None: nobody in Python had set it
                signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
        if self._raised and isinstance(error, Exception):
            raise KeyboardInterrupt from error

    def _stop(self, number: int, frame: FrameType | None) -> None:
        at_once = self.asked or not self._held
        self.asked = True
        if at_once and not self._writing:
            self._raised = True
            raise KeyboardInterrupt

    def _keep(self, number: int, frame: FrameType | None) -> None:
        self.checkpoint_asked = True
