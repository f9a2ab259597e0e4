"""Plasticity experiments: a task that makes its own trials, or a protocol that takes its own measurements."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from neurosbd.config.compatibility import say_no_examples
from neurosbd.config.definition import Definition, Experiment
from neurosbd.config.resolve import as_specs, plain
from neurosbd.errors import UsageError, collected_warnings
from neurosbd.experiments.free_run import run_freely
from neurosbd.experiments.protocol_session import run_protocol
from neurosbd.learning.simulation import unroll
from neurosbd.network.network import Frame
from neurosbd.runs.batches import TaskBatches
from neurosbd.runs.interrupt import Interrupt
from neurosbd.runs.job import Job
from neurosbd.runs.keeping import keep
from neurosbd.runs.loggers import Logger, Loggers
from neurosbd.runs.machine import check_alone, check_device
from neurosbd.runs.own_parts import naming_own_parts
from neurosbd.runs.run import Run
from neurosbd.seeds import generator
from neurosbd.tasks import Findings, Panel, Task
from neurosbd.training.loop import Training, entered
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
        device: 'auto', 'cpu' or 'cuda'; 'auto' is the CPU for a protocol, whose network is small.
        record: signals to keep in the trace, WHERE.WHAT[filters] each; see docs/traces.md.
        resume: go on from the checkpoint in the run directory, bit for bit; else it starts.
        loggers: told how it goes on: `Console()`, `TensorBoard()`, or your own (docs/loggers.md); none: silence.

    Returns:
        The run; `run.result["measures"]` holds the figures of merit.

    Raises:
        UsageError: if something asked for is not legal; nothing has been written then.
        RunError: if it fails; says what is kept.
        KeyboardInterrupt: after Ctrl-C before it has begun, or a second one.
    """
    settings, record = plain(settings or {}) | ({} if seed is None else {"seed": seed}), as_specs(record)
    with Interrupt() as interrupt, collected_warnings():
        job = Job(experiment, rule, None, settings, record, out, device, resume, Loggers(loggers))
        run = simulated(experiment_of(job), job, interrupt)
    say_complaints(job, run)
    return run


def experiment_of(job: Job) -> Definition:
    """What a job resolves to.

    Raises:
        UsageError: if it is not valid, has a data set, or is shared among processes.
    """
    definition = job.definition()
    check_alone(os.environ)
    check_device(job.device)
    if not (definition.task or definition.protocol or definition.simulation):
        raise UsageError(
            f"{definition.name} has no task, protocol or simulation; train it with: neurosbd fit {job.model}"
        )
    say_no_examples(definition)
    return definition


def simulated(definition: Definition, job: Job, interrupt: Interrupt) -> Run:
    """The run of an experiment in its directory, see `simulate`."""
    built = definition.build()
    if built.task is not None:
        return _train(built, built.task, check_device(job.device), job, interrupt)
    if built.protocol is not None:
        return run_protocol(built, built.protocol, job, interrupt)
    return run_freely(built, job, interrupt)


def say_complaints(job: Job, run: Run) -> None:
    """What a task warns of that no console has said: its layers have complaints; of all others everything is said."""
    if run.definition.task is not None:
        job.loggers.say_rest(run.result.get("warnings", ()))


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
    unroll(session.network.eval(), batch.inputs, (keep,), generator=noise)
    return task.picture(batch, torch.stack(outputs), session.network.dt)
