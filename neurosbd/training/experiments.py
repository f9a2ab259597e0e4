"""Plasticity experiments: a task that makes its own trials, or a protocol that takes its own measurements."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch

from neurosbd.config.compatibility import check_protocol, protocol_loss
from neurosbd.config.definition import Experiment
from neurosbd.config.resolve import as_specs, plain
from neurosbd.errors import OUT, RunError, UsageError
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.meters import LossMeter
from neurosbd.learning.simulation import unroll
from neurosbd.network import Frame, Network
from neurosbd.recording import NullRecorder, Recorded, Recorder, RunExtent, TrialRecorder, plan
from neurosbd.seeds import generator
from neurosbd.tasks import Findings, Panel, Protocol, Task
from neurosbd.tracefiles import Split
from neurosbd.training import directory
from neurosbd.training.batches import TaskBatches
from neurosbd.training.capacity import check_extent
from neurosbd.training.free_run import run_freely
from neurosbd.training.interrupt import Interrupt
from neurosbd.training.job import Job
from neurosbd.training.keeping import keep
from neurosbd.training.loggers import Event, Logger, Loggers
from neurosbd.training.loop import Training, entered
from neurosbd.training.machine import check_alone, check_device, failure
from neurosbd.training.own_parts import naming_own_parts
from neurosbd.training.parameter_groups import parameter_groups
from neurosbd.training.resuming import start_recording
from neurosbd.training.run import RESULT, Run, open_run, write_record
from neurosbd.training.session import Session


def simulate(
    experiment: str | Path,
    *,
    rule: str | None = None,
    seed: int | None = None,
    settings: Mapping[str, object] | None = None,
    out: str | Path | None = None,
    device: str | torch.device = "auto",
    record: str | Sequence[str] = (),
    resume: bool = False,
    loggers: Sequence[Logger] = (),
) -> Run:
    """Carry out a plasticity experiment and leave a run directory with its measures and a figure.

    Args:
        experiment: a shipped model with a task, a protocol or a simulation (`neurosbd list models`), or a .toml file.
        rule: learning rule in place of the experiment's own.
        seed: of weights, trials and noise; none: the experiment's own.
        settings: further values by dotted key, {"training.epochs": 3}.
        out: run directory; none: runs/EXPERIMENT-RULE-seedN, numbered if taken.
        device: 'auto', 'cpu' or 'cuda'; protocols run on the CPU.
        record: signals to keep in the trace, WHERE.WHAT[filters] each; see docs/traces.md.
        resume: go on from the checkpoint in the run directory, bit for bit; else it starts. Not protocols.
        loggers: told how it goes on: `Console()`, `TensorBoard()`, or your own (docs/loggers.md); none: silence.

    Returns:
        The run; `run.result["measures"]` holds the figures of merit.

    Raises:
        UsageError: if something asked for is not legal; nothing has been written then.
        RunError: if it fails; says what is kept.
        KeyboardInterrupt: after Ctrl-C before it has begun, or a second one.
    """
    settings, record = plain(settings or {}) | ({} if seed is None else {"seed": seed}), as_specs(record)
    with Interrupt() as interrupt:
        job = Job(experiment, rule, None, settings, record, out, device, resume, Loggers(loggers))
        definition = job.definition()
        check_alone(os.environ)
        place = check_device(device)
        if not (definition.task or definition.protocol or definition.simulation):
            raise UsageError(
                f"{definition.name} has no task, protocol or simulation; train it with: neurosbd fit {experiment}"
            )
        if resume and definition.protocol is not None:
            raise UsageError(f"{definition.name}: a protocol is not resumed; run it again into another {OUT}")
        built = definition.build()
        if definition.simulation is not None:
            run = run_freely(built, job, interrupt)
        else:
            run = _train(built, built.task, place, job, interrupt) if built.task else _measure(built, job, interrupt)
    job.loggers.say_rest(run.result.get("warnings", ()))
    return run


def _train(experiment: Experiment, task: Task, device: torch.device, job: Job, interrupt: Interrupt) -> Run:
    with naming_own_parts(experiment, UsageError):
        session = Session(experiment, TaskBatches(experiment), device)
    interrupt.hold()
    with entered(session, job) as start, job.loggers.ending(start["path"]):
        run = Training(session, start, job.loggers, interrupt).run()
        if run.result["status"] != "finished":
            return run
        with interrupt.writing():
            measures = task.measures(run.metrics[-1]["test_accuracy"])
            panels = (_curve(run), _example(session, task))
            return keep(run.path, run.result, Findings(measures, panels))


def _curve(run: Run) -> Panel:
    """Success over epochs."""
    epochs = np.array([line["epoch"] for line in run.metrics])
    lines = {key: (epochs, np.array([line[f"{key}_accuracy"] for line in run.metrics])) for key in ("train", "test")}
    return Panel("success", "epoch", "success, 0..1", lines)


@torch.no_grad()
def _example(session: Session, task: Task) -> Panel:
    """What the trained network does in one test trial."""
    batch = next(session.trials())
    outputs: list[torch.Tensor] = []

    def keep(t: int, frame: Frame) -> None:
        outputs.append(frame.activity[session.network.readout].value.cpu())

    noise = generator(session.definition.seed, "noise", "test", 0)
    meter = LossMeter(batch, session.loss, session.network)
    unroll(session.network.eval(), batch.inputs, (meter, keep), generator=noise)
    return task.picture(batch, torch.stack(outputs), session.network.dt)


class _Stopped(Exception):
    """A protocol was asked to stop between two of its trials."""


def _measure(experiment: Experiment, job: Job, interrupt: Interrupt) -> Run:
    definition, protocol = experiment.definition, experiment.protocol
    assert definition.protocol is not None and protocol is not None
    with naming_own_parts(experiment, UsageError):
        check_protocol(experiment, protocol)
    check_extent(definition, experiment.network, protocol.extent(experiment.network.dt))
    learners: list[Learner] = []
    recorder, cpu = _recorder(experiment, protocol, learners), torch.device("cpu")
    interrupt.hold()
    with directory.claimed(definition, job.out, resume=False) as path:
        config = directory.config_of(definition, cpu)
        with directory.beginning(path, config, recorder):
            start = {
                "path": path, "start": "new", "model": definition.name, "protocol": definition.protocol.kind,
                "rule": definition.rule.kind, "seed": definition.seed, "device": "cpu",
                "recording": start_recording(recorder, path, config),
            }  # fmt: skip
        run = partial(_carried_out, experiment, protocol, learners, recorder, job.loggers, interrupt)
        with job.loggers.ending(path):
            return _watched(run, start, recorder, job.loggers, interrupt)


def _carried_out(
    experiment: Experiment,
    protocol: Protocol,
    learners: list[Learner],
    recorder: Recorder | None,
    loggers: Loggers,
    interrupt: Interrupt,
) -> Findings:
    """What a protocol measures; the learner at work becomes the one in `learners`.

    Raises:
        _Stopped: between two trials, if asked.
    """
    network = experiment.network

    def optimizer(network: Network) -> torch.optim.Optimizer:
        return experiment.optimizer.build(parameter_groups(network, experiment))

    def trial_recorder(number: int, batch: Batch | None = None) -> TrialRecorder:
        if interrupt.asked:
            raise _Stopped
        examples = np.arange(protocol.extent(network.dt).examples)
        return NullRecorder() if recorder is None else recorder.trial("train", 0, number, batch, examples)

    def progress(done: int, of: int, text: str) -> None:
        loggers.tell("on_batch", {"batch": done, "batches": of, "text": text})

    noise = generator(experiment.definition.seed, "protocol")

    def learner() -> Learner:
        learners[:] = [Learner(network, experiment.rule, protocol_loss(experiment, protocol), noise)]
        return learners[0]

    with naming_own_parts(experiment):
        return protocol.run(learner, optimizer, noise, trial_recorder, progress)


def _watched(
    run: Callable[[], Findings], start: Event, recorder: Recorder | None, loggers: Loggers, interrupt: Interrupt
) -> Run:
    """Carry out a protocol in its directory, which says how it ended, however that is."""
    path = start["path"]

    def end(status: str, reason: str | None) -> None:
        with interrupt.writing(), suppress(RunError, OSError):
            write_record(path / RESULT, {"status": status, "reason": reason})
            _end_recording(recorder, complete=False)

    try:
        loggers.start(start)
        findings = run()
        with interrupt.writing():
            _end_recording(recorder, complete=True)
            return keep(path, {"status": "finished", "reason": None}, findings)
    except _Stopped:
        end("interrupted", None)
        return open_run(path)
    except KeyboardInterrupt:
        end("interrupted", None)
        raise KeyboardInterrupt(f"what was recorded is kept in {path}") from None
    except Exception as problem:
        reason = str(problem) if isinstance(problem, ValueError) else failure(problem, path)
        end("failed", reason or f"{type(problem).__name__}: {problem}")
        if reason is None:
            raise
        raise RunError(f"{reason}. What was recorded is kept in {path}") from problem.__cause__


def _recorder(experiment: Experiment, protocol: Protocol, learners: list[Learner]) -> Recorder | None:
    """A protocol is recorded as one epoch without a test; what needs a loss, if its trials are judged."""
    definition, network = experiment.definition, experiment.network
    trials, steps, examples, _, _, target = protocol.extent(network.dt)
    widths: dict[Split, int] = {"train": examples, "test": examples}
    extent = RunExtent(steps, 1, {"train": trials, "test": 0}, widths, network.dt, definition.seed, target)
    rule, loss = experiment.rule, protocol_loss(experiment, protocol)
    if loss is not None:
        learners[:] = [Learner(network, rule, loss, generator(definition.seed, "protocol"))]
    recorded = Recorded(
        network, rule.signals(network), lambda: rule.projections(learners[0].state) if learners else {}, loss
    )
    found = plan(definition.record.signals, definition.record.limit, recorded, extent)
    return None if found is None else Recorder(found, extent, recorded, torch.device("cpu"))


def _end_recording(recorder: Recorder | None, complete: bool) -> None:
    """Nothing if it has ended."""
    if recorder is not None:
        recorder.close(complete)
