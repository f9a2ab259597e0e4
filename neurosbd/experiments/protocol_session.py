"""A protocol in progress: its trials, their record, and a report after every so many of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from neurosbd.config.compatibility import check_protocol, protocol_loss
from neurosbd.config.definition import Experiment
from neurosbd.errors import RunError, UsageError
from neurosbd.files.checkpoints import StateDict
from neurosbd.files.parsing import JsonTable
from neurosbd.learning.batch import Batch
from neurosbd.network.network import Network
from neurosbd.recording import NullRecorder, Recorded, Recorder, RunExtent, TrialRecorder, plan
from neurosbd.runs.interrupt import Interrupt
from neurosbd.runs.job import Job
from neurosbd.runs.loggers import Event
from neurosbd.runs.machine import check_device
from neurosbd.runs.own_parts import naming_own_parts
from neurosbd.runs.reported import run_reported
from neurosbd.runs.run import Run
from neurosbd.runs.stopping import Stopping
from neurosbd.seeds import generator
from neurosbd.tasks import Findings, Protocol, TrialSequence
from neurosbd.tracefiles import Split
from neurosbd.training.capacity import check_extent
from neurosbd.training.parameter_groups import parameter_groups

_REPORTS = 50  # about; a stage ends with one


def run_protocol(experiment: Experiment, protocol: Protocol, job: Job, interrupt: Interrupt) -> Run:
    """Carry out a protocol in its directory, or go on with the run that is there.

    Raises:
        UsageError: if it cannot be carried out as asked; nothing has been written then.
        RunError: if it fails; says what is kept.
        KeyboardInterrupt: after a second Ctrl-C.
    """
    with naming_own_parts(experiment, UsageError):
        device = torch.device("cpu") if str(job.device) == "auto" else check_device(job.device)
        session = ProtocolSession(experiment, protocol, device)
    return run_reported(session, job, interrupt)


class ProtocolSession:
    """The sequence of a protocol, watched and reported.

    Args:
        experiment: whose network learns by its rule.
        protocol: what is shown and read off.
        device: where everything lives.
    Raises:
        UsageError: if protocol, rule and network do not fit, or it cannot be recorded as asked.
    """

    def __init__(self, experiment: Experiment, protocol: Protocol, device: torch.device) -> None:
        definition, network = experiment.definition, experiment.network
        self.experiment, self.definition, self.protocol, self.device = experiment, definition, protocol, device
        check_protocol(experiment, protocol)
        check_extent(definition, network, protocol.extent(network.dt))
        network.to(device)
        moving = definition.training.schedule.kind != "constant"
        self.sequence = TrialSequence(
            protocol, network, experiment.rule, protocol_loss(experiment, protocol), self._optimizer,
            generator(definition.seed, "protocol"), experiment.schedule if moving else None,
        )  # fmt: skip
        self.ends = self._ends()
        self.stopping: Stopping | None = None
        self.recorder = self._recorder()

    def _optimizer(self, network: Network) -> torch.optim.Optimizer:
        return self.experiment.optimizer.build(parameter_groups(network, self.experiment))

    def _ends(self) -> list[int]:
        """After which trials there is a report."""
        every, done, ends = max(1, self.sequence.trials // _REPORTS), 0, []
        for stage in self.sequence.stages:
            ends += [*range(done + every, done + stage.trials, every), done + stage.trials]
            done += stage.trials
        return ends

    def _recorder(self) -> Recorder | None:
        """A protocol is recorded as one epoch without a test; what needs a loss, if its trials are judged."""
        sequence, definition = self.sequence, self.definition
        trials, steps, examples, _, _, target = self.protocol.extent(sequence.network.dt)
        widths: dict[Split, int] = {"train": examples, "test": examples}
        extent = RunExtent(steps, 1, {"train": trials, "test": 0}, widths, sequence.network.dt, definition.seed, target)
        rule = self.experiment.rule
        recorded = Recorded(
            sequence.network, rule.signals(sequence.network),
            lambda: rule.projections(sequence.learner.state) if sequence.loss is not None else {}, sequence.loss,
        )  # fmt: skip
        found = plan(definition.record.signals, definition.record.limit, recorded, extent)
        return None if found is None else Recorder(found, extent, recorded, self.device)

    @property
    def position(self) -> tuple[int, int]:
        """How many reports are through, and trials since."""
        done = self.sequence.number
        reports = int(np.searchsorted(self.ends, done, side="right"))
        return reports, done - ([0, *self.ends][reports])

    def over(self, epochs: int = 0) -> bool:
        """Whether all trials are through."""
        return self.sequence.over

    @property
    def reports_now(self) -> bool:
        """Whether the trial before ended a report."""
        return self.position[1] == 0

    @property
    def batches(self) -> int:
        """Trials that are through."""
        return self.sequence.number

    def advance(self) -> None:
        """One trial."""
        self.sequence.advance(self._recording)

    def _recording(self, number: int, batch: Batch) -> TrialRecorder:
        judged = batch if self.sequence.loss is not None else None
        rows = np.arange(self.sequence.examples)
        return NullRecorder() if self.recorder is None else self.recorder.trial("train", 0, number, judged, rows)

    def read(self) -> dict[str, float]:
        """How many trials are through, and the means of what those since the last report came to.

        Raises:
            RunError: if one of them is not finite.
        """
        reports, _ = self.position
        since = np.array(self.sequence.found[[0, *self.ends][reports - 1] :])
        means = dict(zip(self.protocol.measured, map(float, since.mean(0)), strict=True))
        wrong = [name for name, value in means.items() if not np.isfinite(value)]
        if wrong:
            raise RunError(
                f"{wrong[0]} is not finite after trial {self.sequence.number}; take a smaller training.optimizer.lr, "
                f"weaker weights, or bounds for them"
            )
        return {"trials": self.sequence.number, **means}

    def findings(self, metrics: Sequence[JsonTable]) -> Findings:
        """What the protocol makes of all its trials."""
        return self.sequence.findings()

    def introduction(self) -> Event:
        """What is about to happen."""
        assert self.definition.protocol is not None
        return {
            "rule": self.definition.rule.kind, "device": self.device, "protocol": self.definition.protocol.kind,
            "trials": self.sequence.number, "of": self.sequence.trials, "reports": len(self.ends),
        }  # fmt: skip

    def state_dict(self) -> StateDict:
        """Everything needed to go on bit for bit, as tensors and plain values."""
        recorder = None if self.recorder is None else self.recorder.state_dict()
        return {
            **self.sequence.state_dict(), "epoch": self.position[0], "recorder": recorder, **self.definition.plugins(),
        }  # fmt: skip

    def load_state_dict(self, state: StateDict, source: Path) -> None:
        """Go on from what `state_dict` gave; the session must not have begun.

        Raises:
            UsageError: if it is not of this protocol; names what is not, and nothing has changed.
        """
        if "recorder" not in state:
            raise UsageError(f"{source}: the checkpoint has no 'recorder'; another program wrote it")
        self.sequence.load_state_dict(state, source)
        if self.recorder is not None:
            self.recorder.load_state_dict(state["recorder"])
