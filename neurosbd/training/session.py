"""A training in progress: everything that changes from batch to batch, and one step of it."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from neurosbd.config.compatibility import check_optimizer
from neurosbd.config.definition import Experiment
from neurosbd.config.hearing import unjudged
from neurosbd.errors import RunError, UsageError, warn
from neurosbd.files.checkpoints import StateDict
from neurosbd.learning.batch import Batch, BatchResult, share_of
from neurosbd.learning.capture import Captured, why_eager
from neurosbd.learning.learner import Learner
from neurosbd.learning.optimizer_step import Update, learned_parameters, why_on_host
from neurosbd.learning.ranks import ALONE, Ranks, check_same
from neurosbd.learning.schedules import plain_state
from neurosbd.learning.simulation import Observer, unroll
from neurosbd.network.inputs import Frames
from neurosbd.noise import part_of
from neurosbd.recording import NullRecorder, Recorded, Recorder, RunExtent, TrialRecorder, plan
from neurosbd.runs.batches import BatchSource
from neurosbd.runs.metric_sums import MetricSums
from neurosbd.runs.own_parts import broken_contract
from neurosbd.runs.stopping import Stopping
from neurosbd.seeds import generator
from neurosbd.tracefiles import Split
from neurosbd.training.capacity import check_capacity
from neurosbd.training.parameter_groups import parameter_groups
from neurosbd.training.pruning import Pruning
from neurosbd.training.restoring import verify
from neurosbd.training.sharing import NO_REQUESTS, Requests, add_up, as_first, check_recording, check_sharing
from neurosbd.training.sparing import sparing_of
from neurosbd.training.weight_changes import WeightChanges
from neurosbd.transfers import to_device

BatchAndNoise = tuple[Batch, torch.Generator]  # of one trial


class Session:
    """Network, learner, optimizer, schedule and position of a training.

    Args:
        experiment: what to carry out; its network learns.
        batches: where its trials come from.
        device: where everything lives.
        ranks: processes that share every batch.
        taught: outputs that the run has learned whose weights this one starts from.
    Raises:
        UsageError: if rule and network do not fit, nothing is there to learn, it cannot be recorded, stopped or shared
            as asked, or it cannot fit into the memory.
    """

    def __init__(
        self,
        experiment: Experiment,
        batches: BatchSource,
        device: torch.device,
        ranks: Ranks = ALONE,
        taught: Collection[str] = (),
    ) -> None:
        definition, training = experiment.definition, experiment.definition.training
        self.experiment = experiment
        self.definition = definition
        self.device = device
        self.ranks = ranks
        self.requests = NO_REQUESTS  # by signals to any of the ranks, until the last step
        self.network = experiment.network
        self.batches = batches
        self.unjudged = unjudged(experiment, taught)  # outputs that nothing teaches, and why
        self.stopping = Stopping.of(experiment, batches, self.unjudged)
        check_capacity(self)
        self.network.to(device)
        self.pruning = Pruning.of(experiment)
        self.loss = experiment.loss
        self.learner = _learner(experiment, ranks)
        check_sharing(experiment, self.learner, ranks)
        check_optimizer(experiment)
        self.learner.say_outside()
        self.optimizer = experiment.optimizer.build(parameter_groups(self.network, experiment, self.learner))
        self.learner.optimizer = self.optimizer
        self.update = Update(self.optimizer, training.clip_norm)
        self.sparing = sparing_of(experiment, learned_parameters(self.optimizer), ranks)
        self.schedule = experiment.schedule.build(self.optimizer, training.epochs, len(batches))
        self.epoch = 0
        self.number = 0  # of the next batch
        self.metric_sums = self._metric_sums()
        self.changes = WeightChanges(self.network) if self.network.readout in self.unjudged else None
        self.recorder = self._recorder()
        self.eager = self._why_eager()  # why batches are not replayed as a graph, where that was asked for
        self.stepped = self._why_stepped()  # why the optimizer's step is no part of the graph, where there is one
        self.captured = self._captured()
        self._looks_ahead = device.type == "cuda"
        self._ahead: tuple[tuple[int, int], BatchAndNoise] | None = None  # the trial of a position, on its way
        self._check_every = 1 if device.type == "cpu" else 50  # looking at a loss on a GPU stalls it

    def _metric_sums(self) -> MetricSums:
        return MetricSums(self.batches.measures, self.batches.values, self.device, self.network, self.unjudged)

    def _why_eager(self) -> str | None:
        if not self.definition.training.graph:
            return None
        reason = why_eager(self.learner)
        if self.device.type != "cuda":
            reason = f"the device is {self.device}, and graphs are of a GPU"
        elif self.recorder is not None:
            reason = "a recording sees every step"
        if reason is not None:
            warn(f"training.graph: every batch is launched kernel by kernel: {reason}")
        return reason

    def _why_stepped(self) -> str | None:
        if self.pruning is not None and self.pruning.looks:
            return "training.pruning looks at the gradients before it"
        return why_on_host(self.optimizer)

    def _captured(self) -> Captured | None:
        if not self.definition.training.graph or self.eager is not None:
            return None
        return Captured(self.learner, update=self.update if self.stepped is None else None)

    @property
    def replayed(self) -> str:
        """How much of a batch is replayed as a graph, and why not more."""
        step = "" if self.stepped is None else f", without the optimizer's step: {self.stepped}"
        return self.eager or f"replayed{step}"

    def _recorder(self) -> Recorder | None:
        asked, batches, training = self.definition.record, self.batches, self.definition.training
        if not asked.signals or self.ranks.rank:
            return None
        taught = batches.batch(0, 0).target
        there: dict[Split, int] = {"train": batches.examples, "test": batches.tested}
        widths: dict[Split, int] = {on: max(1, min(width, there[on])) for on, width in batches.widths.items()}
        widths["train"] = max(1, self.ranks.rows(widths["train"]).stop)  # rank 0 keeps its own
        extent = RunExtent(
            batches.steps, training.epochs, batches.batches, widths, self.network.dt, self.definition.seed,
            tuple(taught.shape[1:] if taught.ndim < 3 else taught.shape[2:]), taught.ndim == 3,
        )  # fmt: skip
        recorded = Recorded.of(self.network, self.learner, self.loss)
        found = plan(asked.signals, asked.limit, recorded, extent)
        check_recording(self.definition.name, self.network, [] if found is None else found.contents.series, self.ranks)
        return None if found is None else Recorder(found, extent, recorded, self.device)

    def _trial_recorder(self, on: Split, number: int, batch: Batch) -> TrialRecorder:
        if self.recorder is None:
            return NullRecorder()
        samples = self.batches.samples(on, self.epoch, number)
        own = samples[self.ranks.rows(len(samples))] if on == "train" else samples
        return self.recorder.trial(on, self.epoch, number, batch, own)

    def step(self, requests: Requests = NO_REQUESTS) -> BatchResult:
        """Learn from the next batch and move on.

        Args:
            requests: what a signal has asked this process for, which its ranks shall know.
        Raises:
            RunError: if the loss is seen not to be finite; says where it first went wrong. It is looked at in every
                step on a CPU, where the weights are still those before the step, and in every 50th on a GPU, where a
                graph has taken the step already.
        """
        done = self.epoch * len(self.batches) + self.number
        self.learner.progress = done / (self.definition.training.epochs * len(self.batches))
        batch, noise = self._next()
        trial_recorder = self._trial_recorder("train", self.number, batch)
        if self.captured is not None:
            result = self.captured.learn(batch, noise)
        else:
            self.optimizer.zero_grad()
            if self.sparing is None:
                result = self.learner.learn(batch, trial_recorder.observers, noise, trial_recorder.learning_observer)
            else:
                result = self.sparing.learn(self.learner, batch, noise)
        learned = learned_parameters(self.optimizer)
        sums, self.requests = add_up(self.ranks, learned, self.metric_sums.of(batch, result), requests)
        if self.looks_at(done) and not torch.isfinite(sums[0]):
            raise RunError(self.diagnosis())
        trial_recorder.on_gradients(lambda: self.again(self.number))
        if self.captured is None or self.captured.update is None:
            self.update.clip()
            if self.pruning is not None:
                self.pruning.look(self.network)
            self.update.step()
        self.learner.after_step()
        trial_recorder.on_update()
        self.schedule.step()
        self.metric_sums.sums += sums
        self.number += 1
        return result

    def looks_at(self, done: int) -> bool:
        """Whether the loss of the batch after so many is looked at: of every one on a CPU, of every 50th on a GPU."""
        return done % self._check_every == 0

    @torch.no_grad()
    def check(self) -> None:
        """Look at all losses of the epoch so far and at the weights; waits for the device.

        Raises:
            RunError: if one of them is not finite.
        """
        sums = (self.metric_sums.sums[0], *self.network.parameters(), *self.learner.parameters.values())
        if not torch.stack([torch.isfinite(part).all() for part in sums]).all():
            raise RunError(self.diagnosis())

    @property
    def position(self) -> tuple[int, int]:
        """How many epochs are through, and how many batches of the next one."""
        return self.epoch, self.number

    def over(self, epochs: int) -> bool:
        """Whether the training ends after so many epochs."""
        stops = self.stopping is not None and self.stopping.over(epochs)
        return epochs >= self.definition.training.epochs or stops

    def next_epoch(self) -> None:
        """Start the next epoch.

        Raises:
            RunError: if the ranks have not the same weights.
        """
        check_same(self.ranks, {**dict(self.network.named_parameters()), **self.learner.parameters})
        self.learner.after_epoch(self.epoch + 1)
        self.epoch, self.number, self.metric_sums = self.epoch + 1, 0, self._metric_sums()
        if self.changes is not None:
            self.changes.begin()

    def prune(self) -> None:
        """At the end of an epoch, before it is judged: take out the synapses that are to go by now, if any."""
        if self.pruning is not None:
            self.pruning.prune(self.network, self.epoch + 1)

    def epoch_metrics(self, observers: tuple[Observer, ...] = ()) -> dict[str, float]:
        """The epoch so far on every split, 'SPLIT_NAME'; what `training.stop` looks at.

        Args:
            observers: see every step of the test.
        """
        by_split = {"train": self.metric_sums.read(), "validation": self.validate(), "test": self.evaluate(observers)}
        if self.sparing is not None:
            by_split["train"]["learned"] = self.sparing.share()  # of the examples
        judged = {f"{on}_{name}": value for on, metrics in by_split.items() for name, value in metrics.items()}
        if self.stopping is not None:
            self.stopping.look(self.epoch + 1, judged)
        return judged

    @torch.no_grad()
    def evaluate(self, observers: tuple[Observer, ...] = ()) -> dict[str, float]:
        """Mean loss and every measure on the test split, by name."""
        return self._judge("test", observers)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The same on the validation split; nothing if there is none."""
        return self._judge("validation", ()) if self.batches.validated else {}

    def _judge(self, on: Literal["validation", "test"], observers: tuple[Observer, ...]) -> dict[str, float]:
        metric_sums = self._judged(on, observers)
        metric_sums.sums = as_first(self.ranks, metric_sums.sums)
        return metric_sums.read()

    def _judged(self, on: Literal["validation", "test"], observers: tuple[Observer, ...]) -> MetricSums:
        """The sums of a split, of which every rank takes the whole."""
        metric_sums = self._metric_sums()
        self.network.eval()
        batches = self.batches.tests() if on == "test" else self.batches.validations()
        for number, batch in enumerate(map(self._on_device, batches)):
            noise = generator(self.definition.seed, "noise", on, number)
            trial_recorder = self._trial_recorder(on, number, batch) if on == "test" else NullRecorder()
            metric_sums.add(batch, self.learner.answer(batch, (*observers, *trial_recorder.observers), noise))
        self.network.train()
        return metric_sums

    def again(self, number: int) -> BatchAndNoise:
        """A trial of this epoch and its noise, the same however often it is asked for."""
        batch = share_of(self._on_device(self.batches.batch(self.epoch, number)), self.ranks)
        noise = generator(self.definition.seed, "noise", self.epoch, number)
        return batch, noise if self.ranks.size == 1 else part_of(noise, batch.first)

    def _next(self) -> BatchAndNoise:
        """The next trial. On a GPU the one after it is begun as well, before this one is learned from: what it makes on
        the host, and what the host has to know of it, is there when its turn comes."""
        trial = self._ahead[1] if self._ahead and self._ahead[0] == self.position else self.again(self.number)
        self._ahead, after = None, self.number + 1
        if self._looks_ahead and after < len(self.batches):
            self._ahead = (self.epoch, after), self.again(after)
        return trial

    def observe_untrained(self) -> None:
        """Have the recorder see the test before the first step, if it records tests at all."""
        if self.recorder is not None and self.recorder.tests and (self.epoch, self.number) == (0, 0):
            self.epoch = -1
            try:
                self._judged("test", ())  # of rank 0 alone, which records
            finally:
                self.epoch = 0

    def trials(self) -> Iterator[Batch]:
        """Those of the test, where the network is."""
        return (self._on_device(batch) for batch in self.batches.tests())

    def _on_device(self, batch: Batch) -> Batch:
        """The trial where the network is; inputs that come step by step follow step by step."""
        if self.device.type == "cpu":
            return batch
        task = None if batch.task is None else to_device(batch.task, self.device)
        if isinstance(batch.inputs, Tensor):
            inputs = to_device(batch.inputs, self.device)
        else:
            inputs = Frames(len(batch.weights), (to_device(x, self.device) for x in batch.inputs))
        target = to_device(batch.target, self.device) if batch.taught else batch.target
        return replace(batch, inputs=inputs, target=target, task=task)

    def state_dict(self) -> StateDict:
        """Everything needed to go on bit for bit, as tensors and plain values."""
        recorder = None if self.recorder is None else self.recorder.state_dict()
        position = {"epoch": self.epoch, "number": self.number, "recorder": recorder}
        position |= {} if self.stopping is None else {"stop": self.stopping.state_dict()}
        position |= {} if self.pruning is None else {"pruning": self.pruning.state_dict()}
        position |= {} if self.sparing is None else {"sparing": self.sparing.state_dict()}
        position |= {} if self.changes is None or not self.number else {"epoch_began": self.changes.state_dict()}
        return {**self.state_of_parts(), **position, **self.definition.plugins()}

    def state_of_parts(self) -> StateDict:
        """The same without the position and the record."""
        return {
            "network": self.network.state_dict(),
            "learner": self.learner.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": plain_state(self.schedule),
            "tally": self.metric_sums.sums,
        }

    def load_state_dict(self, state: StateDict, source: Path) -> None:
        """Go on from what `state_dict` gave.

        Args:
            state: as it was read.
            source: the file, for messages.
        Raises:
            UsageError: if it is not of this model, rule and recipe; nothing has been taken from it then.
        """
        verify(self, state, source)
        self.network.load_state_dict(state["network"])
        self.learner.load_state_dict(state["learner"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.metric_sums.sums.copy_(state["tally"])
        self.epoch, self.number = state["epoch"], state["number"]
        if self.recorder is not None:
            self.recorder.load_state_dict(state["recorder"])
        if self.stopping is not None:
            self.stopping.load_state_dict(state["stop"])
        if self.pruning is not None:
            self.pruning.load_state_dict(state["pruning"])
        if self.sparing is not None:
            self.sparing.load_state_dict(state["sparing"])
        if self.changes is not None:
            self.changes.begin()
            self.changes.load_state_dict(state.get("epoch_began", {}))

    @torch.no_grad()
    def diagnosis(self) -> str:
        """Where a loss that is not finite came from."""
        number = min(self.number, len(self.batches) - 1)
        batch, noise = self.again(number)
        frame = unroll(self.network, batch.inputs, generator=noise)
        sick = [f"weights of '{n}'" for n, w in self.network.weights.items() if not torch.isfinite(w).all()]
        sick += [f"weights of '{n}'" for n, w in self.learner.parameters.items() if not torch.isfinite(w).all()]
        sick += [f"activity of '{n}'" for n, a in frame.activity.items() if not torch.isfinite(a.value).all()]
        loudest = max(frame.activity, key=lambda n: frame.activity[n].value.abs().mean().nan_to_num(0).item())
        sick += [f"loss itself, with the largest activity in '{loudest}'"]
        rates = sorted({group["lr"] for group in self.optimizer.param_groups})
        return (
            f"the loss is not finite at step {self.epoch * len(self.batches) + number + 1} (epoch {self.epoch + 1}); "
            f"first seen in the "
            f"{sick[0]}. Learning rates are {', '.join(f'{r:.3g}' for r in rates)}: "
            f"try a tenth of training.optimizer.lr, training.clip_norm = 1.0, or a smaller rule.neuromodulator.scale"
        )


def _learner(experiment: Experiment, ranks: Ranks) -> Learner:
    definition = experiment.definition
    try:
        projection = generator(definition.seed, "projection")
        return Learner(experiment.network, experiment.rule, experiment.loss, projection, ranks)
    except ValueError as problem:
        told = broken_contract(experiment) or f"rule '{definition.rule.kind}': {problem}"
        raise UsageError(f"{definition.name}: {told}") from None
