"""The trials of a protocol one after another, and everything that goes on from one to the next."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from neurosbd.errors import UsageError
from neurosbd.files import checkpoints
from neurosbd.files.checkpoints import StateDict
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.optimizer_step import apply
from neurosbd.learning.passes import Continuation
from neurosbd.learning.rule import Rule
from neurosbd.learning.schedules import Schedule, plain_state
from neurosbd.learning.simulation import Observer, counted_from
from neurosbd.losses import Loss
from neurosbd.network.network import Frame, Network
from neurosbd.recording import NullRecorder, TrialRecorder
from neurosbd.tasks.findings import Findings
from neurosbd.tasks.task import Protocol, ProtocolTrial, Stage

Recording = Callable[[int, Batch], TrialRecorder]  # how a trial is watched, by its number among those recorded


class TrialSequence:
    """Carries out the trials of a protocol, and knows which is next.

    Args:
        protocol: what is shown and read off.
        network: with its initial weights; it learns.
        rule: of the experiment.
        loss: that judges the trials; None: nobody does.
        optimizer: how gradients are applied where the rule of the experiment learns.
        generator: of all randomness.
        schedule: of the rates where the rule of the experiment learns, a trial being an epoch; None: they stay.
    Raises:
        ValueError: if the rule cannot be carried out on this network.
    """

    def __init__(
        self,
        protocol: Protocol,
        network: Network,
        rule: Rule,
        loss: Loss | None,
        optimizer: Callable[[Network], torch.optim.Optimizer],
        generator: torch.Generator,
        schedule: Schedule | None = None,
    ) -> None:
        self.protocol, self.network, self.rule, self.loss = protocol, network, rule, loss
        self.make_optimizer, self.generator, self.make_schedule = optimizer, generator, schedule
        self.stages = tuple(protocol.stages(network.dt))
        self.trials = sum(stage.trials for stage in self.stages)
        self.start = {name: value.clone() for name, value in network.state_dict().items()}
        self.learner = Learner(network, rule, loss, generator)
        self.teacher: Learner | None = None  # of a stage with a rule of its own
        self.optimizer: torch.optim.Optimizer | None = None  # of the present stage, once it has begun
        self.schedule: LRScheduler | None = None  # of its rates, if they move
        self.examples = protocol.extent(network.dt).examples
        self.found: list[tuple[float, ...]] = []  # what the trials came to

    @property
    def number(self) -> int:
        """Trials that are through."""
        return len(self.found)

    @property
    def over(self) -> bool:
        """Whether all trials are through."""
        return self.number >= self.trials

    def place(self, number: int) -> tuple[Stage, int]:
        """The stage of a trial, and the number of its first."""
        first = 0
        for stage in self.stages:
            if number < first + stage.trials:
                return stage, first
            first += stage.trials
        raise IndexError(f"there are {self.trials} trials, no trial {number}")

    def recorded(self, number: int) -> int | None:
        """The number of a trial among those that are recorded; None: it is not."""
        before = 0
        for stage in self.stages:
            if number < stage.trials:
                return before + stage.recorded.index(number) if number in stage.recorded else None
            number -= stage.trials
            before += len(stage.recorded)
        return None

    def advance(self, recording: Recording) -> None:
        """Carry out the next trial."""
        stage, first = self.place(self.number)
        if stage.anew:
            self.network.load_state_dict(self.start)
        start = {name: self.start[f"weights.{name}"] for name in self.network.weights}
        self.protocol.prepare(self.number, self.network, start, self.generator)
        if stage.anew:
            self.learner = Learner(self.network, self.rule, self.loss, self.generator)
        if stage.anew or self.number == first:
            self._begin(stage)
        trial = self.protocol.trial(self.number, self.network, self.generator)
        place = self.recorded(self.number)
        watch: TrialRecorder = NullRecorder() if place is None else recording(place, trial.batch)
        self._carry_out(stage, trial, watch)
        if self.schedule is not None:
            self.schedule.step()
        watch.on_gradients()
        watch.on_update()
        self.found.append(tuple(trial.read()))

    def _begin(self, stage: Stage) -> None:
        """Who learns in a stage, and by which optimizer."""
        self.teacher = self.optimizer = self.schedule = None
        if stage.teaching is not None:
            self.teacher = Learner(self.network, stage.teaching.rule, self.loss, self.generator)
            plastic = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
            self.optimizer = torch.optim.SGD(plastic, stage.teaching.rate)
        elif stage.learns:
            self.optimizer = self.make_optimizer(self.network)
            if self.make_schedule is not None:
                self.schedule = self.make_schedule.build(self.optimizer, stage.trials, 1)
        (self.teacher or self.learner).optimizer = self.optimizer

    def _carry_out(self, stage: Stage, trial: ProtocolTrial, watch: TrialRecorder) -> None:
        observers = (*watch.observers, *trial.observers)
        if self.optimizer is None:
            self.learner.answer(trial.batch, observers, self.generator)
            return
        learner = self.teacher or self.learner
        if not stage.update:
            self._learn(learner, trial, trial.batch, observers, watch, None)
            return
        silence = self.network.like.new_zeros((self.examples, *self.network.input_size))
        continuation = Continuation(self.network.init(silence, self.generator))
        for begun, batch in _pieces(trial.batch, stage.update):
            looking = tuple(counted_from(observe, begun) for observe in observers)
            self._learn(learner, trial, batch, looking, watch, continuation)

    def _learn(
        self,
        learner: Learner,
        trial: ProtocolTrial,
        batch: Batch,
        observers: tuple[Observer, ...],
        watch: TrialRecorder,
        continuation: Continuation | None,
    ) -> None:
        """One update."""
        assert self.optimizer is not None
        noise = self.generator if continuation is None else None
        self.optimizer.zero_grad()
        learner.learn(batch, observers, noise, watch.learning_observer, continuation)
        apply(self.optimizer)
        if trial.on_step is not None:
            trial.on_step()
        learner.after_step()
        if trial.on_update is not None:
            trial.on_update()

    def findings(self) -> Findings:
        """Measures and pictures, once all trials are through."""
        values = np.array(self.found)
        found: dict[str, np.ndarray] = {name: values[:, k] for k, name in enumerate(self.protocol.measured)}
        return self.protocol.findings(found, self.rule)

    def state_dict(self) -> StateDict:
        """Everything needed to go on bit for bit."""
        return {
            "network": self.network.state_dict(), "learner": self.learner.state_dict(),
            "teacher": None if self.teacher is None else self.teacher.state_dict(),
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
            "generator": self.generator.get_state(), "number": self.number,
            "found": torch.tensor(self.found, dtype=torch.float64).reshape(-1, len(self.protocol.measured)),
            **({} if self.schedule is None else {"schedule": plain_state(self.schedule)}),
        }  # fmt: skip

    def load_state_dict(self, state: StateDict, source: Path) -> None:
        """Go on from what `state_dict` gave; the sequence must not have begun.

        Raises:
            UsageError: if it is not of this protocol; names what is not, and nothing has changed.
        """
        number = state.get("number")
        if type(number) is not int or not 0 < number <= self.trials:
            raise UsageError(f"{source}: the checkpoint was changed: number is {str(number)[:60]}, which counts trials")
        stage, _ = self.place(number - 1)
        before = self.generator.get_state()
        self._begin(stage)
        like = self.state_dict() | {"number": number}
        lacking = [part for part in like if part not in state]
        if lacking:
            raise UsageError(f"{source}: the checkpoint has no '{lacking[0]}'; another program wrote it")
        for part in ("network", "learner", "teacher", "generator", "found"):
            checkpoints.check(state[part], like[part], source, part)
        if self.schedule is not None:
            checkpoints.check(state["schedule"], like["schedule"], source, "schedule")
        if len(state["found"]) != number:
            raise UsageError(f"{source}: the checkpoint was changed: it has {len(state['found'])} of {number} trials")
        try:
            self.generator.set_state(state["generator"])
        except RuntimeError:
            self.generator.set_state(before)
            raise UsageError(f"{source}: the checkpoint was changed: 'generator' is no state of a generator") from None
        self.network.load_state_dict(state["network"])
        self.learner.load_state_dict(state["learner"])
        if self.teacher is not None:
            self.teacher.load_state_dict(state["teacher"])
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        self.found = [tuple(row) for row in state["found"].tolist()]


def _pieces(batch: Batch, update: int) -> Iterator[tuple[int, Batch]]:
    """A batch cut into pieces of so many steps: the step at which each begins, and the piece."""
    steps, frames = len(batch.weights), iter(batch.frames())
    for begun in range(0, steps, update):
        count = min(update, steps - begun)
        inputs = torch.stack([next(frames) for _ in range(count)])
        yield begun, replace(batch, inputs=inputs, weights=(1 / count,) * count, reward=_later(batch, begun))


def _later(batch: Batch, begun: int) -> Callable[[int, Frame], Tensor | None] | None:
    """The reward of a batch from a step on."""
    reward = batch.reward
    return None if reward is None else lambda t, frame: reward(begun + t, frame)
