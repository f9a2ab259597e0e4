"""A free run in progress: everything that changes from update to update, and one update of it."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from neurosbd.config.compatibility import check_free
from neurosbd.config.definition import Experiment
from neurosbd.constraints import obey
from neurosbd.errors import RunError, UsageError
from neurosbd.experiments.clamping import clamp, others
from neurosbd.experiments.free_findings import findings, labels_shown
from neurosbd.experiments.free_restoring import verify
from neurosbd.experiments.free_setup import postponed_constraints, silence
from neurosbd.experiments.labelling import check_labelling, label_and_test
from neurosbd.experiments.run_state import as_plain, as_state
from neurosbd.experiments.run_times import RunTimes
from neurosbd.experiments.spike_sources import graded, warn_of_coinciding_spikes
from neurosbd.files.checkpoints import StateDict
from neurosbd.files.parsing import JsonTable
from neurosbd.learning.batch import Batch
from neurosbd.learning.events import DirectUpdate
from neurosbd.learning.learner import Learner
from neurosbd.learning.local_traces import LocalTraces
from neurosbd.learning.meters import Adaptation
from neurosbd.learning.optimizer_step import apply
from neurosbd.learning.passes import Continuation
from neurosbd.learning.rule import RuleSignals
from neurosbd.learning.schedules import plain_state
from neurosbd.learning.simulation import Observer, counted_from, unroll
from neurosbd.network.network import INPUT, Frame
from neurosbd.neurons.neuron import NeuronState
from neurosbd.recording import NullRecorder, Recorded, Recorder, RunExtent, TrialRecorder, plan
from neurosbd.rewards import Delivery
from neurosbd.runs.loggers import Event
from neurosbd.runs.stopping import Stopping
from neurosbd.seeds import generator
from neurosbd.stimuli import Stimulator
from neurosbd.stimuli.stimulator import AHEAD
from neurosbd.tasks import Findings
from neurosbd.training.capacity import check_free_run
from neurosbd.training.parameter_groups import parameter_groups

_REWARDED = "(reward)"  # among sums, where all other names are those of populations


class FreeSession:
    """Network, stimuli, rule and optimizer of a free run, and how far it is.

    Args:
        experiment: what to carry out; its network runs, and learns where its connections are plastic.
        device: where everything lives.
    Raises:
        UsageError: if rule, stimuli and network do not fit, or it cannot be recorded as asked.
    """

    def __init__(self, experiment: Experiment, device: torch.device) -> None:
        definition, network = experiment.definition, experiment.network
        assert definition.simulation is not None
        self.experiment, self.definition, self.network, self.device = experiment, definition, network, device
        plastic = any(entry.plastic for entry in definition.connection)
        check_free(experiment, plastic)
        check_labelling(experiment)
        self.times = RunTimes(experiment, plastic or bool(network.adaptive))
        self.examples = definition.simulation.examples
        check_free_run(definition, network, AHEAD)
        network.to(device)
        network.postponed = postponed_constraints(experiment, plastic)
        clamp(experiment, self.times.steps)
        self.learner = self._learner() if plastic else None
        groups = parameter_groups(network, experiment, self.learner) if plastic else []
        self.optimizer = experiment.optimizer.build(groups) if plastic else None
        if self.learner is not None:
            self.learner.optimizer = self.optimizer
            self.learner.say_outside()
        sizes = {name: population.size for name, population in network.populations.items()}
        given = [*others(experiment.stimulations), *silence(experiment)]
        try:
            self.stimulator = Stimulator(given, sizes, network.like, self.examples, network.dt, definition.seed)
        except UsageError as problem:
            raise UsageError(f"{definition.name}: {problem}") from None
        self.stimulator.warn_of_late(self.times.steps)
        self.delivery = self._delivery(sizes) if experiment.reinforcements else None
        self.rewarded = network.like.new_zeros((), dtype=torch.float64)  # sum of the rewards since the last report
        self.continuation = Continuation(network.init(self._nothing(1)[0], generator(definition.seed, "noise")))
        self.schedule = self._schedule()
        self._graded = graded(experiment)
        self._plastic = sum(connection.plastic for connection in network.connections.values())
        self._direct_updates: Mapping[str, DirectUpdate] = {}  # at the spikes, where an update is one step
        if self.learner is not None and self.optimizer is not None and self.times.update == self.examples == 1:
            self._direct_updates = self.learner.direct_updates(self.optimizer)
        self.step = 0
        self.sums = {name: network.like.new_zeros((), dtype=torch.float64) for name in network.populations}
        self.stopping: Stopping | None = None
        self.recorder = self._recorder()
        self._trial: TrialRecorder | None = None
        self._at_report: dict[str, Tensor] = {}  # plastic weights at the last report, where their change is recorded

    def _learner(self) -> Learner:
        definition = self.definition
        try:
            return Learner(self.network, self.experiment.rule, None, generator(definition.seed, "projection"))
        except ValueError as problem:
            raise UsageError(f"{definition.name}: rule '{definition.rule.kind}': {problem}") from None

    def _schedule(self) -> LRScheduler | None:
        """How the rates move, a report being an epoch; None: they stay."""
        if self.optimizer is None or self.definition.training.schedule.kind == "constant":
            return None
        times = self.times
        return self.experiment.schedule.build(self.optimizer, times.steps // times.report, times.report // times.update)

    def _delivery(self, sizes: Mapping[str, tuple[int, ...]]) -> Delivery:
        given, definition, network = self.experiment.reinforcements, self.definition, self.network
        try:
            delivery = Delivery(given, sizes, network.like, self.examples, network.dt, definition.seed)
        except UsageError as problem:
            raise UsageError(f"{definition.name}: {problem}") from None
        delivery.warn_of_late(self.times.steps)
        return delivery

    @torch.no_grad()
    def _reward(self, t: int, frame: Frame) -> Tensor:
        """The reward of the step that has just been made, [B]."""
        assert self.delivery is not None
        reward = self.delivery.after({name: activity.value for name, activity in frame.activity.items()})
        self.rewarded += reward.sum(dtype=torch.float64)
        if self._trial is not None:
            self._trial.on_reward(reward)
        return reward

    def _nothing(self, steps: int) -> Tensor:
        """What the input shows where nothing is given to it, [steps, B, *input size]."""
        return self.network.like.new_zeros((steps, self.examples, *self.network.input_size))

    def _recorder(self) -> Recorder | None:
        asked, times = self.definition.record, self.times
        reports = -(-times.steps // times.report)
        extent = RunExtent(
            times.report, reports, {"train": 1, "test": 0}, {"train": self.examples, "test": self.examples},
            self.network.dt, self.definition.seed, epoch="report",
        )  # fmt: skip
        signals = RuleSignals() if self.learner is None else self.experiment.rule.signals(self.network)
        recorded = Recorded(self.network, signals, dict, None, self.delivery is not None)
        found = plan(asked.signals, asked.limit, recorded, extent)
        if found is not None:
            warn_of_coinciding_spikes(self.experiment, [each.name for each in found.contents.series])
        return None if found is None else Recorder(found, extent, recorded, self.device)

    @property
    def epoch(self) -> int:
        """Reports that are through."""
        return -(-self.step // self.times.report) if self.step == self.times.steps else self.step // self.times.report

    @property
    def position(self) -> tuple[int, int]:
        """How many reports are through, and steps since."""
        return self.epoch, 0 if self.over() else self.step % self.times.report

    def over(self, epochs: int = 0) -> bool:
        """Whether the run has come to its end."""
        return self.step >= self.times.steps

    @property
    def reports_now(self) -> bool:
        """Whether the step before this one ended a report."""
        return self.step % self.times.report == 0 or self.over()

    @property
    def batches(self) -> int:
        """Updates that are through."""
        return self.step // self.times.update

    def advance(self) -> None:
        """The steps to the next update, and the update."""
        first, times = self.step, self.times
        to_report = times.report - first % times.report
        steps = min(self._at_once, to_report, times.steps - first)
        trial = self._watched()
        offset = first % times.report
        observers = (self._count, *(counted_from(observe, offset) for observe in trial.observers))
        drives = self.stimulator.drives(first, steps)
        shown = drives.pop(INPUT, self._nothing(steps))
        if self.learner is None:
            adaptation = Adaptation(self.network, steps)
            watching = (*observers, adaptation)
            frame = unroll(self.network, shown, watching, self.continuation.frame, drives=drives)
            self.continuation.frame = Frame(frame.state, {}, {})
            self.network.set_moments(adaptation.moments)
        else:
            reward = None if self.delivery is None else self._reward
            self._learn(Batch(shown, weights=(1 / steps,) * steps, reward=reward, drives=drives), observers, trial)
        self.step += steps
        if self.times.normalise and self.step % self.times.normalise == 0:
            self._normalise()
        if self.reports_now:
            trial.on_gradients()
            trial.on_update()
            self._trial = None

    @property
    def _at_once(self) -> int:
        """Steps that are taken together: to the next update, or many, if they are all made at the spikes."""
        apart = self.network.adaptive or self.schedule is not None or len(self._direct_updates) < self._plastic
        if not self.step or not self._direct_updates or apart:
            return self.times.update
        together = self.times.normalise or AHEAD
        return min(AHEAD, together - self.step % together)

    def _learn(self, batch: Batch, observers: tuple[Observer, ...], trial: TrialRecorder) -> None:
        assert self.learner is not None and self.optimizer is not None
        self.learner.progress = self.step / self.times.steps
        # The first update looks at all weights, which may begin outside of their bounds.
        self.continuation.direct_updates = self._direct_updates if self.step else {}
        gradients = len(self.continuation.direct_updates) < self._plastic
        if gradients:
            self.optimizer.zero_grad()
        self.learner.learn(batch, observers, None, trial.learning_observer, self.continuation)
        if gradients:
            apply(self.optimizer)
        self.learner.after_step()
        if self.schedule is not None:
            self._move_rates(self.learner, self.optimizer, self.schedule)

    def _move_rates(self, learner: Learner, optimizer: Optimizer, schedule: LRScheduler) -> None:
        """The rates of the next update, also where it is made at the spikes."""
        schedule.step()
        if self._direct_updates:
            self._direct_updates = learner.direct_updates(optimizer)

    @torch.no_grad()
    def _normalise(self) -> None:
        """Bring weights that learn back to their norms."""
        for name, connection in self.network.connections.items():
            if connection.plastic:
                obey(self.network.weights[name], self.network.held(name), self.network.present(connection))

    def _watched(self) -> TrialRecorder:
        """How the steps up to the next report are watched."""
        if self._trial is None:
            plastic = {name: weight for name, weight in self.network.weights.items() if weight.requires_grad}
            changes = self.recorder is not None and any(s.what == "dweight" for s in self.recorder.plan.contents.series)
            self._at_report = {name: weight.detach().clone() for name, weight in plastic.items()} if changes else {}
            number, rows = self.step // self.times.report, np.arange(self.examples)
            there = self.recorder
            self._trial = NullRecorder() if there is None else there.trial("train", number, 0, None, rows)
        return self._trial

    @torch.no_grad()
    def _count(self, t: int, frame: Frame) -> None:
        """Add up the activity of a step."""
        for name, activity in frame.activity.items():
            self.sums[name] += activity.value.sum(dtype=torch.float64)

    @torch.no_grad()
    def read(self) -> dict[str, float]:
        """What happened since the last report: rates (Hz, of what spikes) or mean activities, and mean weights now.

        Raises:
            RunError: if one of them is not finite.
        """
        steps = self.step - (self.epoch - 1) * self.times.report
        found: dict[str, float] = {"time": self.step * self.network.dt}
        spiking = {name for name, state in self._states().items() if hasattr(state, "spike")} - self._graded
        for name, total in self.sums.items():
            units = math.prod(self.network.populations[name].size)
            each = total.item() / (steps * self.examples * units)
            found[f"{name}.rate" if name in spiking else f"{name}.activity"] = (
                each / self.network.dt if name in spiking else each
            )
            total.zero_()
        if self.delivery is not None:
            found["reward"] = self.rewarded.item() / (steps * self.examples)
            self.rewarded.zero_()
        for name, weight in self.network.weights.items():
            if weight.requires_grad:
                present = self.network.present(self.network.connections[name])
                count = weight.numel() if present is None else present.sum().item()
                found[f"{name}.weight"] = weight.sum(dtype=torch.float64).item() / max(count, 1)
        wrong = [name for name, value in found.items() if not np.isfinite(value)]
        if wrong:
            raise RunError(
                f"{wrong[0]} is not finite at {found['time']:g} s; take a smaller training.optimizer.lr, weaker "
                f"weights or stimuli, bounds for the weights, or a smaller time.dt"
            )
        return found

    def _states(self) -> Mapping[str, NeuronState]:
        assert self.continuation.frame is not None
        return self.continuation.frame.state.neurons

    def findings(self, metrics: Sequence[JsonTable]) -> Findings:
        """Mean rates and activities over all reports, weights at the end; all of them over time."""
        found, labels = findings(metrics), labels_shown(self.stimulator, self.step)
        found = found if labels is None else Findings(found.measures, (*found.panels, labels))
        if self.definition.labelling is None:
            return found
        tested = label_and_test(self.experiment, self._states()).findings()
        return Findings({**found.measures, **tested.measures}, (*found.panels, *tested.panels))

    def introduction(self) -> Event:
        """What is about to happen."""
        assert self.definition.simulation is not None
        return {
            "rule": self.definition.rule.kind if self.learner is not None else None, "device": self.device,
            "duration": self.definition.simulation.duration, "time": self.step * self.network.dt,
            "units": {name: population.size for name, population in self.network.populations.items()},
        }  # fmt: skip

    def state_dict(self) -> StateDict:
        """Everything needed to go on bit for bit, as tensors and plain values."""
        recorder = None if self.recorder is None else self.recorder.state_dict()
        return {**self.state_of_parts(), "recorder": recorder, **self.definition.plugins()}

    def state_of_parts(self) -> StateDict:
        """The same without the record."""
        frame, traces = self.continuation.frame, cast(LocalTraces | None, self.continuation.traces)
        assert frame is not None
        block, stimuli = self.stimulator.state()
        return {
            "network": self.network.state_dict(),
            "learner": None if self.learner is None else self.learner.state_dict(),
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
            **({} if self.schedule is None else {"schedule": plain_state(self.schedule)}),
            "epoch": self.epoch, "number": self.step, "frame": as_plain(tuple(frame.state)),
            "traces": None if traces is None else as_plain(vars(traces)),
            "stimuli": {"block": block, "states": as_plain(stimuli), "content": self.stimulator.content()},
            "rewards": None if self.delivery is None else as_plain(self.delivery.states),
            "sums": {**self.sums, _REWARDED: self.rewarded}, "at_report": dict(self._at_report),
        }  # fmt: skip

    def load_state_dict(self, state: StateDict, source: Path) -> None:
        """Go on from what `state_dict` gave; the session must not have begun.

        Raises:
            UsageError: if it is not of this model and its stimuli; names what is not, and nothing has changed.
        """
        verify(self, state, source)
        frame, traces = self._forms()
        place = as_state(state["frame"], frame.state, source, "frame")
        kept = None if traces is None else as_state(state["traces"], vars(traces), source, "traces")
        stimuli = as_state(state["stimuli"]["states"], self.stimulator.state()[1], source, "stimuli")
        rewards = None if self.delivery is None else as_state(state["rewards"], self.delivery.states, source, "rewards")
        self.step = state["number"]
        self._begin_report(state["at_report"])
        self.network.load_state_dict(state["network"])
        if self.learner is not None and self.optimizer is not None:
            self.learner.load_state_dict(state["learner"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.schedule is not None:
                self.schedule.load_state_dict(state["schedule"])
                self._direct_updates = self.learner.direct_updates(self.optimizer) if self._direct_updates else {}
            self.continuation.traces = None if kept is None else LocalTraces(**kept)
        self.continuation.frame = Frame(place, {}, {})
        self.stimulator.go_on(state["stimuli"]["block"], stimuli)
        if self.delivery is not None and rewards is not None:
            self.delivery.states = rewards
        for name, total in {**self.sums, _REWARDED: self.rewarded}.items():
            total.copy_(state["sums"][name])
        if self.recorder is not None:
            self.recorder.load_state_dict(state["recorder"])

    @torch.no_grad()
    def _begin_report(self, weights: Mapping[str, Tensor]) -> None:
        """Watch the rest of a report that a stop has cut in two; what it changes began with these weights."""
        if not self.step % self.times.report or self.over():
            return
        for name, weight in weights.items():
            self.network.weights[name].copy_(weight)
        self._watched()

    def _forms(self) -> tuple[Frame, LocalTraces | None]:
        """Frame and traces after an update, for their form: of a network at rest that nothing reaches."""
        network, steps = self.network, self.times.update
        given = {
            name: network.like.new_zeros((steps, self.examples, *network.populations[name].size))
            for name in self.stimulator.driven if name != INPUT
        }  # fmt: skip
        shown, start = self._nothing(steps), Continuation(network.init(self._nothing(1)[0], torch.Generator()))
        if self.learner is None:
            return unroll(network, shown, (), start.frame, drives=given), None
        reward = None if self.delivery is None else lambda t, frame: network.like.new_zeros(self.examples)
        batch = Batch(shown, weights=(1 / steps,) * steps, reward=reward, drives=given)
        self._learner().learn(batch, continuation=start)
        for parameter in network.parameters():
            parameter.grad = None
        assert start.frame is not None
        return start.frame, cast(LocalTraces, start.traces)
