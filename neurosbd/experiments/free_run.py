"""Free runs: a network by itself under stimuli, from Python and of a model file."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from neurosbd.config.definition import Experiment
from neurosbd.config.resolve import as_specs, resolve_table
from neurosbd.config.spelling import spelled
from neurosbd.errors import UsageError, collected_warnings
from neurosbd.experiments.clamping import release
from neurosbd.experiments.free_session import FreeSession
from neurosbd.files.parsing import Json
from neurosbd.learning.rule import Rule
from neurosbd.network.network import Network
from neurosbd.rewards import Reinforcement
from neurosbd.runs.interrupt import Interrupt
from neurosbd.runs.job import Job
from neurosbd.runs.loggers import Logger, Loggers
from neurosbd.runs.machine import check_alone, check_device
from neurosbd.runs.own_parts import naming_own_parts
from neurosbd.runs.reported import run_reported
from neurosbd.runs.run import Run
from neurosbd.stimuli import Stimulation


def run(
    network: Network,
    duration: float | str,
    stimuli: Sequence[Stimulation] = (),
    rules: str | Mapping[str, Json] | Rule | None = None,
    *,
    rewards: Sequence[Reinforcement] = (),
    record: str | Sequence[str] = (),
    out: str | Path | None = None,
    name: str = "network",
    seed: int = 0,
    update: float | str | None = None,
    report: float | str | None = None,
    normalise: float | str | None = None,
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
        rewards: that rules such as 'rstdp' hear: `neurosbd.Reinforcement(neurosbd.rewards['coincidence'](...))`.
        record: signals to keep in the trace, WHERE.WHAT[filters] each; see docs/traces.md.
        out: run directory; none: runs/NAME-RULE-seedN, numbered if taken.
        name: of the model, for the directory and reports.
        seed: of stimuli and noise.
        update, report, normalise, examples: see docs/free-runs.md.
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
    check_alone(os.environ)
    with Interrupt() as interrupt, collected_warnings():
        times = {"duration": duration, "update": update, "report": report, "normalise": normalise, "examples": examples}
        raw = spelled(network, stimuli, rewards, rules) | {"seed": seed}
        raw["simulation"] = {key: value for key, value in times.items() if value is not None}
        definition = resolve_table(raw, "run", name, settings=settings, record=as_specs(record)).definition
        job = Job(name, None, None, {}, (), out, device, resume, Loggers(loggers))
        return run_freely(definition.build().on(network), job, interrupt)


def run_freely(experiment: Experiment, job: Job, interrupt: Interrupt) -> Run:
    """Carry out a free run in its directory, or go on with the one that is there.

    Raises:
        UsageError: if it cannot be carried out as asked; nothing has been written then.
        RunError: if it fails; says what is kept.
        KeyboardInterrupt: after a second Ctrl-C.
    """
    try:
        with naming_own_parts(experiment, UsageError):
            session = FreeSession(experiment, check_device(job.device))
        return run_reported(session, job, interrupt)
    finally:
        release(experiment.network)
