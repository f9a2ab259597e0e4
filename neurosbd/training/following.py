"""Ranks other than 0 in a training: the same loop as that of rank 0, which alone writes and speaks."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from neurosbd.files import checkpoints
from neurosbd.runs.interrupt import Interrupt
from neurosbd.runs.loggers import Event
from neurosbd.runs.machine import deterministic_algorithms
from neurosbd.runs.own_parts import naming_own_parts
from neurosbd.runs.run import CHECKPOINT, PREVIOUS, Run, open_run
from neurosbd.training.session import Session
from neurosbd.training.sharing import Requests, text_of_first

_RESUMED = "resumed"


@contextmanager
def leading(session: Session, start: Event) -> Iterator[None]:
    """Context of the training of rank 0, which tells the others where it is and waits for them at its end.

    Args:
        session: of rank 0, in its run directory.
        start: what loggers are told first.
    """
    if session.ranks.size == 1:
        yield
        return
    resumed = start["start"] == _RESUMED
    text_of_first(session.ranks, session.device, f"{_RESUMED if resumed else 'new'}\n{Path(start['path']).resolve()}")
    yield
    text_of_first(session.ranks, session.device)


def follow(session: Session, interrupt: Interrupt) -> Run:
    """The training of another rank: what rank 0 does, but for writing.

    Args:
        session: that has not begun.
        interrupt: what may stop all ranks.
    Returns:
        The run that rank 0 has written, in a folder that this rank can read.
    Raises:
        RunError: if the training fails, or another rank has ended.
    """
    start, path = text_of_first(session.ranks, session.device).split("\n", 1)
    if start == _RESUMED and any((Path(path) / name).exists() for name in (CHECKPOINT, PREVIOUS)):
        session.load_state_dict(checkpoints.load(Path(path) / CHECKPOINT), Path(path) / CHECKPOINT)
    exactly = deterministic_algorithms() if session.definition.training.deterministic else nullcontext()
    with naming_own_parts(session.experiment), exactly:
        while not session.over(session.epoch) and not session.requests.stop:
            _epoch(session, interrupt)
    text_of_first(session.ranks, session.device)
    return open_run(Path(path))


def _epoch(session: Session, interrupt: Interrupt) -> None:
    """One epoch, or its rest; returns within it when one of the ranks is interrupted."""
    while session.number < len(session.batches):
        session.step(Requests(interrupt.asked, interrupt.checkpoint_asked))
        if session.requests.keep:
            interrupt.checkpoint_asked = False
        if session.requests.stop:
            return
    session.check()
    session.epoch_metrics()
    session.next_epoch()
