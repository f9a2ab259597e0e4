"""Records a training: an observer of its runs and of its learning, which changes neither."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from neurosbd.files.checkpoints import StateDict
from neurosbd.learning.batch import Batch
from neurosbd.learning.observers import LearningObserver
from neurosbd.learning.simulation import Observer
from neurosbd.network.network import Frame
from neurosbd.recording.gathering import Gathering
from neurosbd.recording.plan import GB, Plan, RunExtent
from neurosbd.recording.probes import Correspondence, alignment
from neurosbd.recording.signals import Recorded, StepView, kind_of, projection
from neurosbd.recording.units import reading
from neurosbd.tracefiles.recovery import resume, sweep
from neurosbd.tracefiles.series import Series, Split
from neurosbd.tracefiles.writer import TraceWriter

Repeat = Callable[[], tuple[Batch, torch.Generator]]


class TrialRecorder(Protocol):
    """How one trial is watched, by whoever drives it: give its observers along, then say what was done."""

    observers: tuple[Observer, ...]
    learning_observer: LearningObserver | None

    def on_reward(self, reward: Tensor) -> None:
        """The reward [B] of the step that has just been observed."""
        ...

    def on_gradients(self, repeat: Repeat | None = None) -> None:
        """The gradients are there, nothing has changed; `repeat` makes the same scored trial and noise once more."""
        ...

    def on_update(self) -> None:
        """The weights are up to date."""
        ...


class NullRecorder:
    """Nothing is recorded of this trial."""

    observers: tuple[Observer, ...] = ()
    learning_observer: LearningObserver | None = None

    def on_reward(self, reward: Tensor) -> None:
        """Nothing."""

    def on_gradients(self, repeat: Repeat | None = None) -> None:
        """Nothing."""

    def on_update(self) -> None:
        """Nothing."""


class Recorder:
    """Takes rows whenever their clock says so and hands whole blocks to a writer.

    Args:
        plan: what to record.
        extent: of the training.
        recorded: that is recorded.
        device: where the network is.
    """

    def __init__(self, plan: Plan, extent: RunExtent, recorded: Recorded, device: torch.device) -> None:
        self.plan = plan
        self.extent = extent
        self.recorded = recorded
        contents, network = plan.contents, recorded.network
        kinds = {what: kind_of(what, network) for what in dict.fromkeys(series.what for series in contents.series)}
        reads = {s.name: reading(s.what, kind, s.where, network) for s in contents.series if (kind := kinds[s.what])}
        self.readings = [  # of each clock: (name, how it is read, where)
            [(s.name, read, s.where) for s in contents.of(n) if (read := reads.get(s.name)) is not None]
            for n in range(len(contents.clocks))
        ]
        self.gatherings = [
            Gathering(clock, contents.of(n), contents.block_rows(n), device) for n, clock in enumerate(contents.clocks)
        ]
        self.writer: TraceWriter | None = None
        self._state: StateDict | None = None

    def start(self, path: Path, config: str, description: str) -> None:
        """Open the file: a new one, or the one of the checkpoint that was loaded."""
        contents = self.plan.contents
        if self._state is not None:
            self.writer = resume(path, contents, self._state["rows"])
            for gathering, state in zip(self.gatherings, self._state["pending"], strict=True):
                gathering.load_state_dict(state)
            return
        sweep(path)
        self.writer = TraceWriter.create(path, contents, config, description, ends=self.plan.ends)
        for number, gathering in enumerate(self.gatherings):
            if gathering.clock.around:
                self.open(number, self.extent.start("train", 0, self.tests), -1, -1, 0, np.zeros(0, np.int64))
                _Weights(self, number).take()

    @property
    def tests(self) -> bool:
        """Whether anything of test batches is recorded."""
        return any(g.clock.on == "test" for g in self.gatherings)

    def trial(self, on: Split, epoch: int, number: int, batch: Batch | None, sample: np.ndarray) -> TrialRecorder:
        """How to watch a trial.

        Args:
            on: training or test.
            epoch: from 0; -1 for the test before the first.
            number: of the batch within the epoch.
            batch: about to be run; None: one that nobody scores.
            sample: which examples of their split are in it, int64 [B].
        """
        per_step = [
            n for n, g in enumerate(self.gatherings)
            if g.clock.per == "step" and g.clock.on == on and not number % g.clock.batches
            and (epoch < 0 or epoch % g.clock.epochs == 0)
        ]  # fmt: skip
        done = epoch * self.extent.batches["train"] + number + 1
        last = done == self.extent.batches["train"] * self.extent.epochs
        per_batch = [
            n for n, g in enumerate(self.gatherings)
            if on == "train" and g.clock.per == "batch" and (done % g.clock.batches == 0 or (last and g.clock.around))
        ]  # fmt: skip
        if not (per_step or per_batch):
            return NullRecorder()
        return _RowRecorder(self, on, epoch, number, batch, sample, per_step, per_batch)

    def signal_names(self, clocks: list[int]) -> set[str]:
        """What is recorded when these clocks say so."""
        return {series.what for n in clocks for series in self.gatherings[n].series.values()}

    def open(self, clock: int, time: float, step: int, batch: int, epoch: int, sample: np.ndarray) -> None:
        """Begin a row of a clock; a block that is full goes to the writer first."""
        gathering = self.gatherings[clock]
        if gathering.full:
            assert self.writer is not None, "the recorder was not started"
            self.writer.append(clock, *gathering.take())
        gathering.open(time, step, batch, epoch, sample)

    def state_dict(self) -> StateDict:
        """What the file holds for certain, and the rows that are still to come into it."""
        assert self.writer is not None, "the recorder was not started"
        return {"rows": self.writer.drain(), "pending": [gathering.state_dict() for gathering in self.gatherings]}

    def load_state_dict(self, state: StateDict) -> None:
        """Go on from there, once started."""
        self._state = state

    def close(self, complete: bool) -> None:
        """Write what is left and end the file, once; a complete one gets its tables as far as the limit allows.

        Raises:
            RunError: if something could not be written; what was committed stays.
        """
        if self.writer is None:
            return
        writer, self.writer, whole = self.writer, None, False
        try:
            for number, gathering in enumerate(self.gatherings):
                if gathering.count:
                    writer.append(number, *gathering.take())
            whole = True
        finally:
            writer.close(complete and whole, self.plan.limit * GB)


class _RowRecorder:
    """One trial of which something is recorded. See `TrialRecorder`."""

    def __init__(
        self, recorder: Recorder, on: Split, epoch: int, number: int, batch: Batch | None, sample: np.ndarray,
        per_step: list[int], per_batch: list[int],
    ) -> None:  # fmt: skip
        self.recorder = recorder
        self.number, self.batch, self.sample = number, batch, sample
        self.epoch = epoch + 1  # the reader's count: 0 is before the training
        extent = recorder.extent
        self.start = extent.start(on, epoch, recorder.tests) + number * extent.steps * extent.dt
        self.per_step, self.per_batch = per_step, per_batch
        self.open: list[int] = []
        self.weights = [_Weights(recorder, n) for n in per_batch]
        wanted = recorder.signal_names(per_batch)
        self.correspondence = Correspondence(recorder.recorded.network) if "hebbian" in wanted else None
        self.probing = "alignment" in wanted
        learned = {(s.what, s.where) for n in per_step for s in recorder.plan.contents.of(n)}
        self.eligibilities = {where for what, where in learned if what == "eligibility"}
        self.learning_observer: LearningObserver | None = (
            self if {what for what, _ in learned} & {"third_factor", "eligibility"} else None
        )
        self.observers = (self.observe, *((self.correspondence,) if self.correspondence else ()))

    def observe(self, t: int, frame: Frame) -> None:
        """Take the rows of this step."""
        recorder = self.recorder
        view = StepView(recorder.recorded, self.batch, t, frame)
        self.open = [n for n in self.per_step if t % recorder.gatherings[n].clock.steps == 0]
        # Local rules learn without a graph: leaving one that is not there takes as long as a row of spikes.
        with torch.no_grad() if torch.is_grad_enabled() else contextlib.nullcontext():
            for n in self.open:
                recorder.open(n, self.start + t * recorder.extent.dt, t, self.number, self.epoch, self.sample)
                put = recorder.gatherings[n].put
                for name, read, where in recorder.readings[n]:
                    put(name, read(view, where))

    def on_third_factor(self, population: str, third_factor: Tensor | None) -> None:
        """See `LearningObserver`."""
        for gathering, series in self._open("third_factor", population):
            gathering.put(series.name, third_factor)

    def on_eligibility(self, connection: str, eligibility: Callable[[Tensor], Tensor]) -> None:
        """See `LearningObserver`."""
        for gathering, series in self._open("eligibility", connection):
            gathering.put(series.name, eligibility(gathering.examples()))

    def on_reward(self, reward: Tensor) -> None:
        """See `TrialRecorder`."""
        for gathering, series in self._open("reward", ""):
            gathering.put(series.name, reward)

    def looks_at(self, connection: str) -> bool:
        """See `LearningObserver`."""
        return connection in self.eligibilities

    def _open(self, what: str, where: str) -> list[tuple[Gathering, Series]]:
        gatherings = [self.recorder.gatherings[n] for n in self.open]
        return [(g, s) for g in gatherings for s in g.series.values() if (s.what, s.where) == (what, where)]

    @torch.no_grad()
    def on_gradients(self, repeat: Repeat | None = None) -> None:
        """Compare the gradients with others while they are there."""
        extent = self.recorder.extent
        for n in self.per_batch:
            time = self.start + extent.steps * extent.dt
            self.recorder.open(n, time, extent.steps - 1, self.number, self.epoch, np.zeros(0, np.int64))
        measured = {"alignment": {}, "hebbian": {}}
        if self.probing:
            network, _, _, loss, _ = self.recorder.recorded
            assert loss is not None and repeat is not None
            measured["alignment"] = alignment(network, loss, *repeat())
        if self.correspondence is not None:
            measured["hebbian"] = self.correspondence.read()
        for n in self.per_batch:
            for series in self.recorder.gatherings[n].series.values():
                if series.what in measured:
                    self.recorder.gatherings[n].put(series.name, measured[series.what][series.where])

    def on_update(self) -> None:
        """Take the rows of this batch."""
        for weights in self.weights:
            weights.take()


class _Weights:
    """Weights, their changes and projections around one update.

    Args:
        recorder: whose clock.
        clock: that has a row per batch.
    """

    def __init__(self, recorder: Recorder, clock: int) -> None:
        self.recorder = recorder
        self.gathering = recorder.gatherings[clock]
        weights = recorder.recorded.network.weights
        self.before = {s.where: weights[s.where].detach().clone() for s in self._of("dweight")}

    def _of(self, what: str) -> list[Series]:
        return [series for series in self.gathering.series.values() if series.what == what]

    @torch.no_grad()
    def take(self) -> None:
        """Put them into the open row."""
        network = self.recorder.recorded.network
        for series in self._of("weight"):
            self.gathering.put(series.name, network.weights[series.where])
        for series in self._of("dweight"):
            self.gathering.put(series.name, network.weights[series.where] - self.before[series.where])
        for series in self._of("projection"):
            self.gathering.put(series.name, projection(self.recorder.recorded, series.where))
