"""Trainings of several seeds side by side: one loop over their batches, and for each what its own run would leave."""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch

from neurosbd.errors import RunError, UsageWarning
from neurosbd.files.parsing import JsonTable
from neurosbd.runs.interrupt import Interrupt
from neurosbd.runs.loggers import Loggers
from neurosbd.runs.machine import deterministic_algorithms
from neurosbd.runs.own_parts import naming_own_parts
from neurosbd.runs.run import Run
from neurosbd.training.loop import Training
from neurosbd.training.stack import Stack


class Together:
    """Trainings that go on side by side, to their ends, or to an interrupt.

    Args:
        trainings: in their run directories, told to no loggers; of definitions that differ in their seed alone.
        folder: of the run directories.
        loggers: told of all as of one: means over the seeds.
        interrupt: what may stop all of them.
    """

    def __init__(self, trainings: Sequence[Training], folder: Path, loggers: Loggers, interrupt: Interrupt) -> None:
        self.trainings = tuple(trainings)
        self.folder = folder
        self.loggers = loggers
        self.interrupt = interrupt
        self.runs: dict[int, Run] = {}  # seed -> run that has come to an end
        self.failed: dict[int, str] = {}  # seed -> reason

    def run(self) -> None:
        """Train until all have come to an end, or an interrupt.

        Raises:
            KeyboardInterrupt: after a second Ctrl-C.
            RunError: if something fails that is not of one seed alone.
        """
        first = self.trainings[0]
        exactly = deterministic_algorithms() if first.session.definition.training.deterministic else nullcontext()
        try:
            for training in self.trainings:
                training.begin()
            self._tell_start()
            with naming_own_parts(first.session.experiment), exactly:
                while (going := self._going()) and not self.interrupt.asked:
                    self._epoch(going)
            for training in self._left():
                self.runs[training.seed] = training.end()
        except (KeyboardInterrupt, Exception) as problem:
            told = [training.fail(problem) for training in self._left()]
            if not told or told[0] is problem:
                raise
            raise told[0] from problem.__cause__

    def _tell_start(self) -> None:
        """What the one that is least far has to say, of the folder."""
        least = min(self.trainings, key=_position)
        starts = {training.start["start"] for training in self.trainings}
        start = "resumed" if "resumed" in starts else least.start["start"]
        self.loggers.start({**least.start, "path": self.folder, "start": start, "metrics": ()})

    def _left(self) -> list[Training]:
        """Those that have not come to an end."""
        return [t for t in self.trainings if t.seed not in self.runs and t.seed not in self.failed]

    def _going(self) -> list[Training]:
        """Those that are least far, and can go on side by side."""
        left = [t for t in self._left() if not t.session.over(t.session.epoch)]
        least = min(map(_position, left), default=None)
        return [training for training in left if _position(training) == least]

    def _epoch(self, going: Sequence[Training]) -> None:
        """One epoch, or its rest; returns within it when interrupted, or without those whose loss is not finite."""
        first, loggers, requests = going[0].session, self.loggers, self.interrupt
        with warnings.catch_warnings():  # what there is to say of a network has been said of each
            warnings.simplefilter("ignore", UsageWarning)
            stack = Stack([training.session for training in going])
        started, number = time.perf_counter(), first.number
        while stack.number < len(first.batches):
            sick = stack.step()
            if sick:
                stack.hand_back()
                for each in sick:
                    self._fail(going[each], RunError(going[each].session.diagnosis()))
                return
            loggers.tell("on_batch", {
                "epoch": first.epoch + 1, "batch": stack.number, "batches": len(first.batches), "read": stack.read,
            })  # fmt: skip
            every = first.definition.training.checkpoint_every
            if requests.asked or requests.checkpoint_asked or (every and stack.number % every == 0):
                stack.hand_back()
                for training in self._those_left(going):
                    self._try(training, training.checkpoint)
            if requests.asked:
                return
        if first.device.type == "cuda":
            torch.cuda.synchronize(first.device)
        stack.hand_back()
        share = (time.perf_counter() - started) / len(going)
        for training in self._those_left(going):
            self._try(training, lambda training=training: training.end_epoch(share, number))
        self._tell_epoch(self._those_left(going))

    def _those_left(self, going: Sequence[Training]) -> list[Training]:
        return [training for training in going if training.seed not in self.failed]

    def _try(self, training: Training, work: Callable[[], None]) -> None:
        """Do something for one seed; if that fails, it fails alone."""
        try:
            work()
        except Exception as problem:
            self._fail(training, problem)

    def _fail(self, training: Training, problem: Exception) -> None:
        told = training.fail(problem)
        if told is problem:  # a mistake of ours
            raise problem
        self.failed[training.seed] = str(told)

    def _tell_epoch(self, ended: Sequence[Training]) -> None:
        """Means over the seeds of what their lines of metrics.jsonl say; of seconds, which they shared, the sum."""
        lines = [training.metrics[-1] for training in ended]
        if not lines:
            return
        numbers = [key for key, value in lines[0].items() if isinstance(value, int | float)]
        mean = {key: math.fsum(line[key] for line in lines) / len(lines) for key in numbers}
        complaints = {
            name: f"seed {training.seed}: {text}"
            for training, line in zip(reversed(ended), reversed(lines), strict=True)
            for name, text in line.get("warnings", {}).items()
        }
        said = {"epoch": lines[0]["epoch"], "seconds": math.fsum(line["seconds"] for line in lines)}
        self.loggers.tell("on_epoch", mean | said | ({"warnings": complaints} if complaints else {}))

    def result(self) -> JsonTable:
        """How it stands with all of them."""
        whole = sum(run.result["status"] == "finished" for run in self.runs.values())
        status = "finished" if whole == len(self.trainings) else "failed" if self.failed else "interrupted"
        seconds = math.fsum(line["seconds"] for training in self.trainings for line in training.metrics)
        reason = next(iter(self.failed.values()), None)
        return {"status": status, "reason": reason, "seconds": seconds, "path": self.folder, "warnings": []}


def _position(training: Training) -> tuple[int, int]:
    """Epochs, and batches of the next one, that are done."""
    return training.session.epoch, training.session.number
