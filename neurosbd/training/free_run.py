"""The loop of a free run, and what it writes."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch

from neurosbd import checkpoints
from neurosbd.config.definition import Experiment
from neurosbd.config.resolve import as_specs, resolve_table
from neurosbd.config.spelling import spelled
from neurosbd.errors import RunError, UsageError, warn
from neurosbd.learning.rule import Rule
from neurosbd.network import Network
from neurosbd.parsing import Json, JsonTable
from neurosbd.stimuli import Stimulation
from neurosbd.tasks import Findings, Panel
from neurosbd.training import directory
from neurosbd.training.free_session import FreeSession
from neurosbd.training.interrupt import Interrupt
from neurosbd.training.job import Job
from neurosbd.training.keeping import keep
from neurosbd.training.loggers import Event, Logger, Loggers, MetricsFile
from neurosbd.training.loop import start_recording, take_up
from neurosbd.training.machine import check_device, failure
from neurosbd.training.own_parts import naming_own_parts
from neurosbd.training.records import read_config
from neurosbd.training.run import CHECKPOINT, CONFIG, METRICS, RESULT, Run, open_run, write_record

_UNITS = {"rate": "rate, Hz", "activity": "mean activity", "weight": "mean weight"}


def run(
    network: Network,
    duration: float | str,
    stimuli: Sequence[Stimulation] = (),
    rules: str | Mapping[str, Json] | Rule | None = None,
    *,
    record: str | Sequence[str] = (),
    out: str | Path | None = None,
    name: str = "network",
    seed: int = 0,
    update: float | str | None = None,
    report: float | str | None = None,
    examples: int = 1,
    settings: Mapping[str, object] | None = None,
    device: str | torch.device = "cpu",
    resume: bool = False,
    loggers: Sequence[Logger] = (),
) -> Run:
    """Let a network run by itself under stimuli, its weights moving meanwhile; what `simulate` does with [simulation].

    Args:
        network: that runs; its weights afterwards are those at the end.
        duration: s, or with its unit, '10 s'.
        stimuli: `neurosbd.Stimulation('population', neurosbd.stimuli['poisson'](rate=20.0))`, any number.
        rules: that moves the weights of plastic connections: a name, a table as in a model file, or a rule; None: no
            weight moves.
        record: signals to keep in the trace, WHERE.WHAT[filters] each; see docs/traces.md.
        out: run directory; none: runs/NAME-RULE-seedN, numbered if taken.
        name: of the model, for the directory and reports.
        seed: of stimuli and noise.
        update, report, examples: see docs/free-runs.md.
        settings: further values of a model file by dotted key, {"training.optimizer.lr": 0.5}.
        device: 'auto', 'cpu' or 'cuda'; the network moves there.
        resume: go on from the checkpoint in the run directory, bit for bit; if no run is there, it starts.
        loggers: told how it goes on: `Console()`, or your own (docs/loggers.md); none: silence.

    Returns:
        The run, as if a model file had said all this: `run.trace` has what was recorded.

    Raises:
        UsageError: if something asked for is not legal; nothing has been written then.
        RunError: if it fails; says what is kept.
        KeyboardInterrupt: after Ctrl-C before it has begun, or a second one.
    """
    if not isinstance(network, Network):
        raise UsageError(f"network must be a neurosbd.Network, got {type(network).__name__}; of a model file: simulate")
    with Interrupt() as interrupt:
        times = {"duration": duration, "update": update, "report": report, "examples": examples}
        raw = spelled(network, stimuli, rules) | {"seed": seed}
        raw["simulation"] = {key: value for key, value in times.items() if value is not None}
        definition = resolve_table(raw, "run", name, settings=settings, record=as_specs(record)).definition
        job = Job(name, None, None, {}, (), out, device, resume, Loggers(loggers))
        done = run_freely(definition.build().on(network), job, interrupt)
    job.loggers.say_rest(done.result.get("warnings", ()))
    return done


def run_freely(experiment: Experiment, job: Job, interrupt: Interrupt) -> Run:
    """Carry out a free run in its directory, or go on with the one that is there.

    Raises:
        UsageError: if it cannot be carried out as asked; nothing has been written then.
        RunError: if it fails; says what is kept.
        KeyboardInterrupt: after a second Ctrl-C.
    """
    with naming_own_parts(experiment, UsageError):
        session = FreeSession(experiment, check_device(job.device))
    interrupt.hold()
    with _entered(session, job) as start, job.loggers.ending(start["path"]):
        return FreeRun(session, start, job.loggers, interrupt).run()


@contextmanager
def _entered(session: FreeSession, job: Job) -> Iterator[Event]:
    """The run directory: a new one, or taken up where the run in it stopped; what loggers are told at the start."""
    definition = session.definition
    assert definition.simulation is not None
    with directory.claimed(definition, job.out, job.resume) as path:
        if directory.holds_run(path):
            take_up(session, path)
            recording = start_recording(session.recorder, path, read_config(path / CONFIG))
            start = "resumed"
        else:
            config = directory.config_of(definition, session.device)
            with directory.beginning(path, config, session.recorder):
                recording = start_recording(session.recorder, path, config)
            start = "nothing to resume" if job.resume else "new"
        yield {
            "path": path, "start": start, "model": definition.name, "seed": definition.seed,
            "rule": definition.rule.kind if session.learner is not None else None, "device": str(session.device),
            "duration": definition.simulation.duration, "time": session.step * session.network.dt,
            "units": {name: population.size for name, population in session.network.populations.items()},
            "recording": recording, "epoch": session.epoch, "finished": session.over(),
        }  # fmt: skip


class FreeRun:
    """The loop over updates and what it writes: a line of metrics and a checkpoint per report.

    Args:
        session: that is about to run.
        start: what loggers are told first.
        loggers: told how it goes on.
        interrupt: what may stop it.
    """

    def __init__(self, session: FreeSession, start: Event, loggers: Loggers, interrupt: Interrupt) -> None:
        self.session, self.start, self.loggers, self.interrupt = session, start, loggers, interrupt
        self.path: Path = start["path"]
        self.metrics = [line for line in open_run(self.path).metrics if line["epoch"] <= session.epoch]
        self.metrics_file = MetricsFile(self.path, self.metrics, interrupt)
        lacking = session.epoch - len(self.metrics)
        if lacking > 0:
            warn(f"{self.path / METRICS}: lacks {lacking} of {session.epoch} reports; the figure leaves them out")
        self.begun = time.perf_counter()

    def run(self) -> Run:
        """Go on to the end, or to an interrupt or a failure; result.json says at every moment how it stands.

        Raises:
            RunError: if the run fails; says what is kept.
            KeyboardInterrupt: after a second Ctrl-C; says what is kept.
        """
        session = self.session
        try:
            with self.interrupt.writing():
                write_record(self.path / RESULT, {"status": "running", "reason": None})
            self.loggers.start({**self.start, "metrics": tuple(self.metrics)})
            with naming_own_parts(session.experiment):
                while not session.over() and not self.interrupt.asked:
                    self._advance()
            with self.interrupt.writing():
                self._end_recording(session.over())
                return self._close("finished" if session.over() else "interrupted")
        except KeyboardInterrupt:
            self._give_up("interrupted", None)
            raise KeyboardInterrupt(self._kept()) from None
        except Exception as problem:
            reason = failure(problem, self.path)
            self._give_up("failed", reason or f"{type(problem).__name__}: {problem}")
            if reason is None:  # a mistake of ours
                raise
            raise RunError(f"{reason}. {self._kept()}") from problem.__cause__

    def _advance(self) -> None:
        """To the next update; what follows a report, or a signal."""
        session, interrupt = self.session, self.interrupt
        session.advance()
        if session.reports_now:
            line = {"epoch": session.epoch, **session.read(), "seconds": time.perf_counter() - self.begun}
            self.begun = time.perf_counter()
            self.metrics_file.on_epoch(line)
            self.loggers.tell("on_epoch", line)
        if session.reports_now or interrupt.asked or interrupt.checkpoint_asked:
            self._checkpoint()

    def _checkpoint(self) -> None:
        self.interrupt.checkpoint_asked = False
        path, session = self.path / CHECKPOINT, self.session
        with self.interrupt.writing():
            checkpoints.save(path, session.state_dict())
        self.loggers.tell("on_checkpoint", {"path": path, "epoch": session.epoch, "batch": session.step})

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
        return f"{'The last checkpoint is kept' if there else 'No report was reached'} in {self.path}"

    def _close(self, status: str, reason: str | None = None) -> Run:
        """Write result.json; of a finished run also measures and a figure."""
        result: JsonTable = {
            "status": status, "reason": reason, "epochs": len(self.metrics),
            "final": self.metrics[-1] if self.metrics else None, "best": None,
            "seconds": sum(line["seconds"] for line in self.metrics), "warnings": [],
        }  # fmt: skip
        if status == "finished" and self.metrics:
            return keep(self.path, result, Findings(self._measures(), self._panels()))
        write_record(self.path / RESULT, result)
        return open_run(self.path)

    def _keys(self, what: str) -> list[str]:
        return [key for key in self.metrics[-1] if key.endswith(f".{what}")]

    def _measures(self) -> dict[str, float]:
        """Mean rates and activities over all reports, weights at the end."""
        found = {}
        for key in (*self._keys("rate"), *self._keys("activity")):
            found[key] = float(np.mean([line[key] for line in self.metrics]))
        return found | {key: self.metrics[-1][key] for key in self._keys("weight")}

    def _panels(self) -> tuple[Panel, ...]:
        """What the reports say, over time."""
        time_ = np.array([line["time"] for line in self.metrics])
        panels = []
        for what, label in _UNITS.items():
            lines = {
                key.removesuffix(f".{what}"): (time_, np.array([line[key] for line in self.metrics], float))
                for key in self._keys(what)
            }
            if lines:
                panels.append(Panel(label.partition(",")[0], "time, s", label, lines))
        return tuple(panels)
