"""The training loop over epochs, and what it writes: shared by data sets and tasks."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path

import torch

from neurosbd.errors import UsageError, warn
from neurosbd.files import checkpoints
from neurosbd.files.parsing import JsonTable
from neurosbd.runs import directory, resuming
from neurosbd.runs.attempt import Attempt
from neurosbd.runs.interrupt import Interrupt
from neurosbd.runs.job import Job
from neurosbd.runs.loggers import LEARNING, Event, Loggers, MetricsFile
from neurosbd.runs.machine import deterministic_algorithms, peak_memory
from neurosbd.runs.own_parts import naming_own_parts
from neurosbd.runs.resuming import keep_best
from neurosbd.runs.run import (
    CHECKPOINT,
    METRICS,
    RESULT,
    Run,
    open_run,
    write_record,
)
from neurosbd.training.health import Guess, Health, HealthCheck, remedy, unexplained
from neurosbd.training.session import Session
from neurosbd.training.sharing import Requests
from neurosbd.training.starting_weights import Start


@contextmanager
def entered(session: Session, job: Job, begun: Start | None = None) -> Iterator[Event]:
    """The run directory of a session, with nobody else in it: a new one, or taken up where the run in it stopped.

    Args:
        session: that has not begun.
        job: where it is to work, and whether it may go on with a run that is there; if none is, this one starts.
            Without a directory: runs/MODEL-RULE-seedN, numbered if taken; with `resume` the latest.
        begun: the run whose weights the session starts with, if any.

    Yields:
        What loggers are told when it starts; its `path` is the directory.
    Raises:
        UsageError: if it cannot be written, another process works there, or the run there is another one.
    """
    with resuming.entered(session, job.out, job.resume, lambda: _config(session, begun, job.seeds)) as there:
        source = None if begun is None or there.start == "resumed" else begun.run
        told = {**there._asdict(), "from": source, **_introduction(session)}
        yield told | ({"seeds": job.seeds} if job.seeds else {})


def _config(session: Session, begun: Start | None, seeds: JsonTable | None) -> JsonTable:
    """What config.json says of a new run."""
    config = directory.config_of(session.definition, session.device, session.batches.units)
    config["examples"] = {"train": session.batches.examples, "test": session.batches.tested}
    config |= {"unjudged": session.unjudged} if session.unjudged else {}
    config |= {} if begun is None else {"start": asdict(begun)}
    config |= {} if session.ranks.size == 1 else {"ranks": session.ranks.size}
    config |= {"seeds": seeds} if seeds else {}
    return config | ({"graph": session.replayed} if session.definition.training.graph else {})


def _introduction(session: Session) -> Event:
    """What is about to happen."""
    definition, batches, learner = session.definition, session.batches, session.learner
    return {
        "model": definition.name,
        "rule": definition.rule.kind,
        "loss": definition.loss_name,
        "unjudged": session.unjudged,
        "weights": sum(p.numel() for p in session.network.parameters()),
        "expanded": learner.rule.n_expanded(learner.state),
        "data": batches.name,
        "train": batches.examples,
        "validation": batches.validated,
        "test": batches.tested,
        "device": str(session.device),
        "ranks": session.ranks.size,
        "batch_size": definition.training.batch_size,
        "seed": definition.seed,
        "epochs": definition.training.epochs,
        "batches": len(batches),
        "epoch": session.epoch,
        "batch": session.number,
        "finished": session.over(session.epoch),
    }


class Training:
    """The loop over epochs and what it writes.

    Args:
        session: that is about to learn.
        start: what loggers are told first.
        loggers: told how it goes on.
        interrupt: what may stop it.
    Raises:
        UsageError: if a line of metrics.jsonl has no merit to compare epochs by.
    """

    def __init__(self, session: Session, start: Event, loggers: Loggers, interrupt: Interrupt) -> None:
        path: Path = start["path"]
        self.session = session
        self.path = path
        self.start = start
        self.loggers = loggers
        self.interrupt = interrupt
        self.attempt = Attempt(path, session, loggers, interrupt, self._close)
        self.metrics = [_judged(m, session) for m in open_run(path).metrics if m["epoch"] <= session.epoch]
        lacking = next((m["epoch"] for m in self.metrics if self.merit is not None and self.merit not in m), None)
        if lacking is not None:
            raise UsageError(
                f"{path / METRICS}: the line of epoch {lacking} has no '{self.merit}', by which epochs are compared; "
                f"mend it, or remove the file: the weights are in the checkpoint"
            )
        self.metrics_file = MetricsFile(path, self.metrics, interrupt)
        lacking = session.epoch - len(self.metrics)
        if lacking > 0:
            warn(f"{path / METRICS}: lacks {lacking} of {session.epoch} trained epochs; results leave them out")

    @property
    def seed(self) -> int:
        """Of its definition."""
        return self.session.definition.seed

    @property
    def merit(self) -> str | None:
        """Name of what epochs are compared by: of the readout, else of the first head; None: nothing is judged."""
        measures, judged = self.session.batches.measures, self.session.metric_sums.judged
        return f"test_{judged[0]}{measures[0].name if measures else 'loss'}" if judged else None

    @property
    def warnings(self) -> dict[str, str]:
        """The first complaint about every population that has one."""
        first: dict[str, str] = {}
        for line in self.metrics:
            for name, text in line.get("warnings", {}).items():
                first.setdefault(name, f"epoch {line['epoch']}: {text}")
        return first

    def run(self) -> Run:
        """Train to the end, or to an interrupt or a failure; result.json says at every moment how it stands.

        Raises:
            RunError: if the training fails; says what is kept.
            KeyboardInterrupt: after a second Ctrl-C; says what is kept.
        """
        return self.attempt.run(self._start(), self._train, self._over)

    def _train(self) -> None:
        session = self.session
        exactly = deterministic_algorithms() if session.definition.training.deterministic else nullcontext()
        with naming_own_parts(session.experiment), exactly:
            if not self._requests.stop:
                session.observe_untrained()
            while not self._over() and not self._requests.stop:
                self._epoch()

    def _start(self) -> Event:
        return {**self.start, "metrics": tuple(self.metrics)}

    def _over(self) -> bool:
        return self.session.over(self.session.epoch)

    def begin(self) -> None:
        """Say that it runs, in result.json and to the loggers."""
        self.attempt.begin(self._start())

    def end(self) -> Run:
        """Say in result.json that it has come to its end, or was interrupted before."""
        return self.attempt.end(self._over())

    def fail(self, problem: KeyboardInterrupt | Exception) -> KeyboardInterrupt | Exception:
        """Say in result.json why it ends before its end; what is to be raised, see `Attempt.fail`."""
        return self.attempt.fail(problem)

    @property
    def _requests(self) -> Requests:
        """What signals have asked for; of several ranks, what all know."""
        interrupt, session = self.interrupt, self.session
        return Requests(interrupt.asked, interrupt.checkpoint_asked) if session.ranks.size == 1 else session.requests

    def _epoch(self) -> None:
        """One epoch, or its rest after a resume; returns within it when interrupted."""
        session, interrupt = self.session, self.interrupt
        start, first = time.perf_counter(), session.number
        while session.number < len(session.batches):
            session.step(Requests(interrupt.asked, interrupt.checkpoint_asked))
            self.loggers.tell("on_batch", {
                "epoch": session.epoch + 1, "batch": session.number, "batches": len(session.batches),
                "read": session.metric_sums.read,
            })  # fmt: skip
            every = session.definition.training.checkpoint_every
            requests = self._requests
            if any(requests) or (every and session.number % every == 0):
                self.checkpoint()
            if requests.stop:
                return
        if session.device.type == "cuda":
            torch.cuda.synchronize(session.device)
        self.end_epoch(time.perf_counter() - start, first)

    def end_epoch(self, learned: float, first: int) -> None:
        """All batches of an epoch are through: judge it, and keep its line and its checkpoint.

        Args:
            learned: s that the batches took.
            first: number of the first batch that is counted in it.
        """
        self.session.check()
        self.session.prune()
        self._record(learned, first)
        self.session.next_epoch()
        self.checkpoint()

    def _record(self, learned: float, first: int) -> None:
        start = time.perf_counter()
        session, size = self.session, self.session.definition.training.batch_size
        first, last = (min(session.batches.examples, n * size) for n in (first, session.number))
        health = HealthCheck(session.network)
        judged = session.epoch_metrics((health,))
        seconds = learned + time.perf_counter() - start
        watched = Health(tuple(health.read()))
        complaints = {name: text for name, text in watched.complaints.items() if name not in session.unjudged}
        if session.network.readout not in complaints:
            complaints |= self._learned_nothing(judged, any(layer.spiking for layer in watched.layers))
        line = {
            "epoch": session.epoch + 1,
            **judged,
            **self._changes(watched),
            "seconds": seconds,
            "samples_per_second": (last - first) / learned if last > first else math.nan,
            "peak_memory_bytes": peak_memory(session.device),
            **({"warnings": complaints} if complaints else {}),
        }
        self.metrics_file.on_epoch(line)
        self.loggers.tell("on_epoch", line)

    def _changes(self, watched: Health) -> dict[str, float]:
        """Where nothing judges the readout: how active populations are, and by how much synapses have changed."""
        changes = self.session.changes
        return {} if changes is None else changes.read() | watched.activities(self.session.network.dt)

    def _learned_nothing(self, judged: dict[str, float], spiking: bool) -> dict[str, str]:
        """What is wrong with what has been learned of a data set so far; tasks say themselves what a success is."""
        session, last = self.session, self.session.over(self.session.epoch + 1)
        if session.batches.units is None or session.network.readout in session.unjudged:
            return {}
        if "test_accuracy" in judged:
            guess = Guess.of(session.loss, session.batches.values, session.batches.tested)
            complaint = guess.complaint(judged, last)
        else:
            complaint = unexplained(judged) if last else None
        return {LEARNING: f"{complaint}; {remedy(session.definition.rule.kind, spiking)}"} if complaint else {}

    def checkpoint(self) -> None:
        """Keep everything as it is now."""
        self.session.check()
        self.interrupt.checkpoint_asked = False
        path, session = self.path / CHECKPOINT, self.session
        with self.interrupt.writing():
            checkpoints.save(path, session.state_dict())
            keep_best(session, self.path)
        self.loggers.tell("on_checkpoint", {"path": path, "epoch": session.epoch, "batch": session.number})

    def _close(self, status: str, reason: str | None) -> Run:
        """Write result.json."""
        result = {
            "status": status,
            "reason": reason,
            "epochs": len(self.metrics),
            "final": self.metrics[-1] if self.metrics else None,
            "best": self._best(),
            "seconds": sum(m["seconds"] for m in self.metrics),
            "warnings": list(self.warnings.values()),
            **({} if self.session.stopping is None else {"stop": self._stop()}),
            **({"unjudged": self.session.unjudged} if self.session.unjudged else {}),
        }
        write_record(self.path / RESULT, result)
        return open_run(self.path)

    def _best(self) -> JsonTable | None:
        """The epoch with the best value by which epochs are compared; None: there is no such value."""
        key, sign = self.merit, 1 if self.session.batches.measures else -1  # a loss is the better the lower
        if key is None or not self.metrics:
            return None
        best = max(self.metrics, key=lambda line: _merit(line[key], sign))
        return {"epoch": best["epoch"], key: best[key]}

    def _stop(self) -> JsonTable:
        """What `training.stop` came to: whether and why it ended the training, and the best epoch by its metric."""
        stopping, epoch = self.session.stopping, self.session.epoch
        assert stopping is not None
        early = stopping.over(epoch) and epoch < self.session.definition.training.epochs
        line = next((m for m in self.metrics if m["epoch"] == stopping.epoch), {stopping.metric: stopping.best})
        judged = {key: value for key, value in line.items() if key.startswith(("validation_", "test_"))}
        best = {"epoch": stopping.epoch, **judged} if stopping.epoch else None
        return {"early": early, "reason": stopping.reason(epoch) if early else None, "best": best}


def _judged(line: JsonTable, session: Session) -> JsonTable:
    """A line of metrics.jsonl without what an earlier version said of outputs that nothing teaches."""
    sums = session.metric_sums
    unread = [name for before in sums.before if before not in sums.judged for name in sums.names(before)]
    without = {f"{on}_{name}" for on in ("train", "validation", "test") for name in unread}
    return {key: value for key, value in line.items() if key not in without}


def _merit(value: float | None, sign: int) -> float:
    """A value that can be compared, the more the better; what is not defined is worse than all others."""
    return -math.inf if value is None or math.isnan(value) else sign * value
