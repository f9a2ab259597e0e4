"""Plasticity experiments: a task that makes its own trials, or a protocol that takes its own measurements."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neurosbd.errors import RunError, UsageError
from neurosbd.experiment import run as directory
from neurosbd.experiment import training
from neurosbd.experiment.definition import Definition
from neurosbd.experiment.figure import draw
from neurosbd.experiment.lessons import TaskLessons
from neurosbd.experiment.machine import check_device
from neurosbd.experiment.progress import Reporter, Silent
from neurosbd.experiment.resolve import load_model, recorded
from neurosbd.experiment.run import RESULT, Run, open_run
from neurosbd.experiment.session import Session, parameter_groups
from neurosbd.experiment.training import Training, start_recording
from neurosbd.learners import Account
from neurosbd.network import Frame, Network
from neurosbd.recording import Course, Recorder, Subject, Unwatched, Watch, plan
from neurosbd.rules import LocalRule
from neurosbd.seeds import generator
from neurosbd.simulation import simulate
from neurosbd.tasks import Findings, Panel, Protocol
from neurosbd.traces import Split


def run_experiment(
    experiment: str | Path,
    *,
    rule: str | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    record: Sequence[str] = (),
    resume: bool = False,
    reporter: Reporter | None = None,
) -> Run:
    """Carry out a plasticity experiment and leave a run directory with its measures and a figure.

    Args:
        experiment: a shipped model with a task or a protocol (`neurosbd list models`), or a .toml file.
        rule: learning rule in place of the experiment's own.
        seed: of weights, trials and noise; none: the experiment's own.
        settings: further values by dotted key, {"training.epochs": 3}.
        out: run directory; none: runs/EXPERIMENT-RULE-seedN, numbered if taken.
        device: 'auto', 'cpu' or 'cuda'; protocols run on the CPU.
        record: signals to keep in the trace, WHERE.WHAT[filters] each; see docs/traces.md.
        resume: go on from the checkpoint in the run directory, bit for bit; tasks only.
        reporter: told of the progress; none: silence.

    Returns:
        The run; `run.result["measures"]` holds the figures of merit.

    Raises:
        UsageError: if something asked for is not legal; nothing has been written then.
        RunError: if a training fails; the last checkpoint is kept.
    """
    reporter = reporter or Silent()
    settings = dict(settings or {}) | ({} if seed is None else {"seed": seed})
    definition = load_model(experiment, rule, recorded(load_model(experiment, rule, settings), settings, record))
    if definition.task is not None:
        return _train(definition, out, device, resume, reporter)
    if definition.protocol is not None:
        if resume:
            raise UsageError(f"{definition.name}: a protocol is not resumed; run it again into another --out")
        return _measure(definition, out, reporter)
    raise UsageError(f"{definition.name} has neither a task nor a protocol; train it with: neurosbd fit {experiment}")


def _train(definition: Definition, out: str | Path | None, device: str, resume: bool, reporter: Reporter) -> Run:
    assert definition.task is not None
    task = definition.task.made()
    session = Session(definition, TaskLessons(definition, task), check_device(device))
    path = (training.resume if resume else training.begin)(session, out, reporter)
    run = Training(session, path, reporter).run()
    if run.result["status"] == "finished":
        measures = task.measures(run.metrics[-1]["test_accuracy"])
        panels = (_curve(run), _example(session))
        return _keep(run.path, run.result, Findings(measures, panels), reporter)
    return run


def _curve(run: Run) -> Panel:
    """Success over epochs."""
    epochs = np.array([line["epoch"] for line in run.metrics])
    lines = {key: (epochs, np.array([line[f"{key}_accuracy"] for line in run.metrics])) for key in ("train", "test")}
    return Panel("success", "epoch", "success, 0..1", lines)


@torch.no_grad()
def _example(session: Session) -> Panel:
    """What the trained network does in one test trial."""
    trial = next(session.trials())
    outputs: list[torch.Tensor] = []

    def keep(t: int, frame: Frame) -> None:
        outputs.append(frame.activity[session.network.readout].value.cpu())

    noise = generator(session.definition.seed, "noise", "test", 0)
    account = Account(trial, session.loss, session.network.readout)
    simulate(session.network.eval(), trial.inputs, (account, keep), generator=noise)
    return session.definition.task.made().picture(trial, torch.stack(outputs), session.network.dt)  # type: ignore[union-attr]


def _measure(definition: Definition, out: str | Path | None, reporter: Reporter) -> Run:
    assert definition.protocol is not None
    rule = definition.rule.made()
    if not isinstance(rule, LocalRule):
        raise UsageError(f"{definition.name}: a protocol needs a local rule, got '{definition.rule.kind}'")
    network, protocol = definition.network(), definition.protocol.made()
    recorder = _recorder(definition, network, rule, protocol)
    path = directory.begin(definition, out, torch.device("cpu"))
    reporter.say(f"{definition.name}: protocol {definition.protocol.kind}, rule {definition.rule.kind}")
    if recorder is not None:
        start_recording(recorder, path, reporter)

    def optimizer(network: Network) -> torch.optim.Optimizer:
        return definition.training.optimizer.made().build(parameter_groups(network, definition))

    def watch(number: int) -> Watch:
        examples = np.arange(protocol.extent(network.dt).examples)
        return Unwatched() if recorder is None else recorder.trial("train", 0, number, None, examples)

    try:
        findings = protocol.carry_out(
            network, rule, optimizer, generator(definition.seed, "protocol"), watch, reporter.live_line
        )
        _end_recording(recorder, complete=True)
    except (ValueError, RunError) as problem:
        directory.write_record(path / RESULT, {"status": "failed", "reason": str(problem)})
        raise RunError(f"{definition.name}: {problem}") from None
    except KeyboardInterrupt:
        directory.write_record(path / RESULT, {"status": "interrupted", "reason": None})
        raise
    finally:
        with contextlib.suppress(RunError):  # what went wrong has been said
            _end_recording(recorder, complete=False)
        reporter.end_live()
    return _keep(path, {"status": "finished", "reason": None}, findings, reporter)


def _recorder(definition: Definition, network: Network, rule: LocalRule, protocol: Protocol) -> Recorder | None:
    """A protocol is recorded as one epoch; nobody scores it, so it has no test and nothing that needs a loss."""
    trials, steps, examples = protocol.extent(network.dt)
    widths: dict[Split, int] = {"train": examples, "test": examples}
    course = Course(steps, 1, {"train": trials, "test": 0}, widths, network.dt, definition.seed)
    subject = Subject(network, rule, {}, None)
    found = plan(definition.record.signals, definition.record.limit, subject, course)
    return None if found is None else Recorder(found, course, subject, torch.device("cpu"))


def _end_recording(recorder: Recorder | None, complete: bool) -> None:
    """Nothing if it has ended."""
    if recorder is not None:
        recorder.close(complete)


def _keep(path: Path, result: dict[str, Any], findings: Findings, reporter: Reporter) -> Run:
    """Write measures and figure, and say both."""
    directory.write_record(path / RESULT, {**result, "measures": dict(findings.measures)})
    directory.write_curves(path, findings.panels)
    for name, value in findings.measures.items():
        reporter.say(f"{name}: {value:.4g}")
    reporter.say(draw(findings.panels, path / "figure.png"))
    return open_run(path)
