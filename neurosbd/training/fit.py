"""The main job: train a model on data by a rule, watched, checkpointed, resumable."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from neurosbd.config.definition import Definition, Experiment
from neurosbd.config.resolve import as_specs, plain
from neurosbd.datasets.load import Dataset, resolve_data
from neurosbd.errors import UsageError
from neurosbd.files.parsing import Json
from neurosbd.learning.ranks import joined, place_of
from neurosbd.losses import Loss
from neurosbd.losses.custom import entry
from neurosbd.losses.generic import PerExample
from neurosbd.runs import directory
from neurosbd.runs.batches import DatasetBatches, data_in_memory, data_of
from neurosbd.runs.interrupt import Interrupt
from neurosbd.runs.job import Job
from neurosbd.runs.loggers import Logger, Loggers
from neurosbd.runs.machine import check_device
from neurosbd.runs.own_parts import naming_own_parts
from neurosbd.runs.records import read_config
from neurosbd.runs.run import CONFIG, Run
from neurosbd.training.following import follow, leading
from neurosbd.training.loop import Training, entered
from neurosbd.training.session import Session
from neurosbd.training.sharing import in_turn
from neurosbd.training.starting_weights import Start, check_same_start, recorded_start, start_from


def fit(
    model: str | Path,
    *,
    data: object = None,
    rule: str | None = None,
    loss: str | Path | Loss | PerExample | None = None,
    recipe: str | None = None,
    seed: int | None = None,
    settings: Mapping[str, object] | None = None,
    out: str | Path | None = None,
    device: str | torch.device = "auto",
    record: str | Sequence[str] = (),
    start: Run | str | Path | None = None,
    resume: bool = False,
    loggers: Sequence[Logger] = (),
) -> Run:
    """Train a model and leave a run directory.

    Args:
        model: a shipped model (`neurosbd list models`) or a .toml file.
        data: in place of the model's own: a name, a .toml, .npz or .csv file, or a folder; or what you have in memory:
            (x, y) as tensors or arrays, a `Dataset` of torch (len and [i] -> (x, y)), an iterable of batches (x, y), or
            a pair of such, (train, test); without a test every fifth example is one. x are examples as the network
            sees them, which the run standardises, or frames over time [T, *size], of any T; y are labels or values.
            All is read into memory once. The run keeps a hash of the content: resume needs the same data again.
        rule: learning rule in place of the model's own, see `neurosbd list rules`.
        loss: in place of the model's own: a name of LOSSES; or one of yours, which is a function (output [B, C],
            target) -> loss of each example [B], a loss (docs/losses.md), or a .py file that has such a `loss`. A run
            keeps the name of yours only: give it again to resume.
        recipe: how to train, in place of the model's own: 'standard'; see `neurosbd list recipes`.
        seed: of weights, projections, order and augmentation; none: the model's own.
        settings: further values by dotted key, {"training.epochs": 3}.
        out: run directory; none: runs/MODEL-RULE-seedN, numbered if taken.
        device: 'auto', 'cpu' or 'cuda'.
        record: signals to keep in the trace besides the model's own, WHERE.WHAT[filters] each; see docs/traces.md.
        start: a run, or its directory, whose weights and moments this one starts from, with a fresh optimizer and rule:
            of another rule or data set, or for more epochs. Not needed any more to resume.
        resume: go on from the checkpoint in the run directory, bit for bit; if no run is there, it starts.
        loggers: told how the run goes on: `Console()`, `TensorBoard()`, or objects of your own (docs/loggers.md); none:
            silence, and what the run warns of is a Python warning at its end.

    Returns:
        The run; `run.result["status"]` is 'finished', or 'interrupted' after Ctrl-C.

    Raises:
        UsageError: if something asked for is not legal; nothing has been written then.
        RunError: if the loss becomes infinite or NaN, the disk is full, or a logger fails; the last checkpoint is kept.
        KeyboardInterrupt: after Ctrl-C before the run has begun, or a second one; the last checkpoint is kept.
    """
    with Interrupt() as interrupt:
        settings = chosen_values(settings, loss) | ({} if seed is None else {"seed": seed})
        job = Job(model, rule, recipe, settings, as_specs(record), out, device, resume, Loggers(loggers))
        definition = definition_on(job, data)
        place = place_of(os.environ)
        where = check_device(device, place.local if place else 0)
        definition, load = loader(definition, data)
        experiment = definition.build()
        begun = starting_point(job, experiment, start)
        with joined(place, where) as ranks:
            with in_turn(ranks, where):
                batches = DatasetBatches(experiment, load(definition), where)
            with naming_own_parts(experiment, UsageError):
                session = Session(experiment, batches, where, ranks, () if begun is None else begun.taught)
            interrupt.hold()
            if ranks.rank:
                return follow(session, interrupt)
            with entered(session, job, begun) as event, leading(session, event), job.loggers.ending(event["path"]):
                run = Training(session, event, job.loggers, interrupt).run()
    job.loggers.say_rest(run.result.get("warnings", ()))
    return run


def chosen_values(
    settings: Mapping[str, object] | None, loss: str | Path | Loss | PerExample | None
) -> dict[str, Json]:
    """Values by dotted key, the loss among them if there is one."""
    return {**plain(settings or {}), **({} if loss is None else {"loss": entry(loss)})}


def definition_on(job: Job, data: object) -> Definition:
    """What a job resolves to, of another data set where one is named.

    Raises:
        UsageError: if it is not valid, or an experiment without data.
    """
    definition = job.definition()
    if isinstance(data, str | Path):
        definition = _on_data(definition, str(data))
    if definition.task or definition.protocol or definition.simulation:
        raise UsageError(
            f"{definition.name} is an experiment without a data set; run it with: neurosbd simulate {job.model}"
        )
    return definition


def loader(definition: Definition, data: object) -> tuple[Definition, Callable[[Definition], Dataset]]:
    """The definition with its data named, and what loads the data set of it, or of one with another seed.

    Args:
        definition: resolved.
        data: as `fit` takes it; what is in memory is read here, once.
    """
    if data is None or isinstance(data, str | Path):
        return definition, data_of
    return data_in_memory(definition, data)


def starting_point(job: Job, experiment: Experiment, start: Run | str | Path | None) -> Start | None:
    """Put the weights of another run into the network of an experiment, unless its own run goes on.

    Returns:
        The run that it starts from, or that the run which goes on has started from; None: no other.
    Raises:
        UsageError: if they do not fit, or the run that goes on has started from another one.
    """
    there = directory.to_resume(experiment.definition, job.out) if job.resume else None
    if there is None:
        return None if start is None else start_from(start, experiment.network)
    config = read_config(there / CONFIG)
    if start is not None:
        check_same_start(config, start, there)
    return recorded_start(config)


def _on_data(definition: Definition, data: str) -> Definition:
    """The definition, of another data set."""
    name, root = resolve_data(definition.data.name, data)
    chosen = {"name": name} | ({} if root is None else {"root": root})
    return definition.model_copy(update={"data": definition.data.model_copy(update=chosen)})
