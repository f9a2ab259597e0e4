"""Ctrl-C and SIGTERM as a request: finish the step, keep everything, then stop. SIGUSR1: keep a checkpoint now."""

import signal
import sys
import threading
from _thread import interrupt_main
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

_STOP = ("SIGINT", "SIGTERM")
_KEEP = "SIGUSR1"  # not on every platform
_SOON = 0.02  # seconds until a signal that met an import is looked at again


class Interrupt:
    """Context that owns the signals of a command.

    Before `hold`, SIGINT and SIGTERM act at once: nothing was begun yet. After it the first of them only sets `asked`;
    a second acts at once, by KeyboardInterrupt, except `writing`: files are finished first. While a module is imported
    a signal waits until that is done: an import that C++ code asked for would end the process without a word. What C
    code makes of a KeyboardInterrupt that meets it, such as an error of a schema that is being built, leaves the
    context as one again.

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
        self._later: threading.Timer | None = None  # brings a signal that met an import once more
        self._entered: FrameType | None = None  # who opened the context

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
        self._entered = sys._getframe(1)
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
        self._entered = None
        waiting = self._later is not None
        if self._later is not None:
            self._later.cancel()
        if (waiting and error is None) or (self._raised and isinstance(error, Exception)):
            raise KeyboardInterrupt from error

    def _stop(self, number: int, frame: FrameType | None) -> None:
        at_once = self.asked or not self._held
        self.asked = True
        if not at_once or self._writing:
            return
        if self._imports(frame):
            self._later = threading.Timer(_SOON, interrupt_main, [number])
            self._later.daemon = True
            self._later.start()
            return
        self._later = None
        self._raised = True
        raise KeyboardInterrupt

    def _imports(self, frame: FrameType | None) -> bool:
        """Whether a module is being imported within the context; whoever opened it may itself be imported."""
        while frame is not None and frame is not self._entered:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                return True
            frame = frame.f_back
        return False

    def _keep(self, number: int, frame: FrameType | None) -> None:
        self.checkpoint_asked = True
