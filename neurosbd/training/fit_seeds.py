"""Many seeds of one training in one process: an ordinary run for each, side by side in one folder."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch

from neurosbd.config.definition import Definition, Experiment
from neurosbd.config.resolve import as_specs
from neurosbd.datasets.load import Dataset
from neurosbd.errors import UsageError
from neurosbd.learning.ranks import place_of
from neurosbd.losses import Loss
from neurosbd.losses.generic import PerExample
from neurosbd.runs import directory
from neurosbd.runs.batches import DatasetBatches
from neurosbd.runs.interrupt import Interrupt
from neurosbd.runs.job import Job
from neurosbd.runs.loggers import Logger, Loggers
from neurosbd.runs.machine import check_device
from neurosbd.runs.many_seeds import Seeds, checked_seeds
from neurosbd.runs.own_parts import naming_own_parts
from neurosbd.runs.run import Run
from neurosbd.training.capacity import too_large_at_once
from neurosbd.training.fit import chosen_values, definition_on, loader, starting_point
from neurosbd.training.loop import Training, entered
from neurosbd.training.session import Session
from neurosbd.training.stack import why_apart
from neurosbd.training.starting_weights import Start
from neurosbd.training.together import Together

Beginning = tuple[Session, Start | None]  # what trains a seed, and the run whose weights it starts with


def fit_seeds(
    model: str | Path,
    seeds: Iterable[int],
    *,
    data: object = None,
    rule: str | None = None,
    loss: str | Path | Loss | PerExample | None = None,
    recipe: str | None = None,
    settings: Mapping[str, object] | None = None,
    out: str | Path | None = None,
    device: str | torch.device = "auto",
    record: str | Sequence[str] = (),
    start: Run | str | Path | None = None,
    resume: bool = False,
    loggers: Sequence[Logger] = (),
) -> list[Run]:
    """Train a model once for every seed, in one process, and leave a folder with a run directory for each: seed0, ...

    Every one of them is what `fit` with that seed leaves, but for rounding, and can be resumed, compared, predicted
    with and analysed by itself. The data are read once. Networks that are not too large learn side by side, as far as
    their rule lets them; others take turns (docs/running.md says which, and so does `seeds` in config.json).

    Args:
        model: a shipped model or a .toml file; its own seed does not count.
        seeds: different whole numbers >= 0, such as range(32).
        data, rule, loss, recipe, settings, device, record, start: as for `fit`.
        out: the folder; none: runs/MODEL-RULE-seeds, numbered if taken.
        resume: go on with the runs in the folder, each from its checkpoint; seeds that have none start.
        loggers: told how the runs go on: of all as of one where they learn side by side, else of one after another.

    Returns:
        The runs, in the order of the seeds; after Ctrl-C those that had begun.

    Raises:
        UsageError: if something asked for is not legal; nothing has been written then.
        RunError: if a run fails; the others are carried out all the same, and it says which did.
        KeyboardInterrupt: after Ctrl-C before the runs have begun, or a second one; the last checkpoints are kept.
    """
    chosen = checked_seeds(seeds)
    with Interrupt() as interrupt:
        values = chosen_values(settings, loss)
        if "seed" in values:
            raise UsageError(f"settings: seed = {values['seed']} and seeds are both given; leave one of them out")
        job = Job(model, rule, recipe, values, as_specs(record), out, device, resume, Loggers(loggers))
        definition = definition_on(job, data)
        _check_one_process()
        where = check_device(device)
        definition, load = loader(definition, data)
        with directory.seeds_folder(definition, out, chosen, resume) as folder:
            runs = _Runs(job, definition, load, where, Seeds(chosen, folder), interrupt)
            found = runs.carry_on(start)
    for run in found:
        job.loggers.say_rest(run.result.get("warnings", ()))
    runs.seeds.raise_failures()
    return found


class _Runs:
    """The runs of one call.

    Args:
        job: that they have in common.
        definition: of all of them, but for the seed.
        load: the data set of a definition.
        device: where everything lives.
        seeds: a run for each, and their folder.
        interrupt: what may stop all of them.
    """

    def __init__(
        self,
        job: Job,
        definition: Definition,
        load: Callable[[Definition], Dataset],
        device: torch.device,
        seeds: Seeds,
        interrupt: Interrupt,
    ) -> None:
        self.job = job
        self.definition = definition
        self.load = load
        self.device = device
        self.seeds = seeds
        self.interrupt = interrupt
        self._shared: DatasetBatches | None = None

    def carry_on(self, start: Run | str | Path | None) -> list[Run]:
        """All of them, side by side if their networks can be."""
        first = self.session(self.seeds.all[0], start)
        reason = why_apart(first[0].experiment) or too_large_at_once(first[0], len(self.seeds.all))
        reason = "there is only one" if len(self.seeds.all) == 1 else reason
        if reason is not None:
            return self._in_turn(first, start, reason)
        others = [self.session(seed, start) for seed in self.seeds.all[1:]]
        if any(len(session.batches) != len(first[0].batches) for session, _ in others):
            return self._in_turn(first, start, "they hold out different numbers of examples")
        self.interrupt.hold()
        return self._at_once([first, *others])

    def _in_turn(self, first: Beginning, start: Run | str | Path | None, reason: str) -> list[Run]:
        """One after another, until all are done or Ctrl-C."""

        def run_of(seed: int) -> Run:
            session, begun = first if seed == self.seeds.all[0] else self.session(seed, start)
            self.interrupt.hold()
            loggers, job = Loggers(self.job.loggers.each), replace(self.of(seed), seeds=self.seeds.in_turn(reason))
            with entered(session, job, begun) as event, loggers.ending(event["path"]):
                return Training(session, event, loggers, self.interrupt).run()

        return self.seeds.runs(run_of, self.interrupt)

    def _at_once(self, beginnings: Sequence[Beginning]) -> list[Run]:
        """Side by side."""
        told, trainings = {"all": list(self.seeds.all), "at_once": True, "because": None}, []
        with ExitStack() as directories:
            for seed, (session, begun) in zip(self.seeds.all, beginnings, strict=True):
                with self.seeds.alone(seed):
                    event = directories.enter_context(entered(session, replace(self.of(seed), seeds=told), begun))
                    trainings.append(Training(session, event, Loggers(()), self.interrupt))
            loggers = Loggers(self.job.loggers.each)
            together = Together(trainings, self.seeds.folder, loggers, self.interrupt)
            with loggers.ending(self.seeds.folder, together.result):
                together.run()
        self.seeds.failed |= together.failed
        return [together.runs[seed] for seed in self.seeds.all if seed in together.runs]

    def session(self, seed: int, start: Run | str | Path | None) -> Beginning:
        """What trains a seed, and the run whose weights it starts with."""
        experiment = self.definition.model_copy(update={"seed": seed}).build()
        begun = starting_point(self.of(seed), experiment, start)
        batches = self._batches(experiment)
        with naming_own_parts(experiment, UsageError):
            taught = () if begun is None else begun.taught
            return Session(experiment, batches, self.device, taught=taught), begun

    def _batches(self, experiment: Experiment) -> DatasetBatches:
        """The data, which are loaded once, unless every seed holds out examples of its own."""
        definition = experiment.definition
        if definition.data.validation is not None and definition.data.subset_seed is None:
            return DatasetBatches(experiment, self.load(definition), self.device)
        if self._shared is None:
            self._shared = DatasetBatches(experiment, self.load(definition), self.device)
        return self._shared.for_seed(experiment)

    def of(self, seed: int) -> Job:
        """The job of one seed."""
        return replace(self.job, out=directory.of_seed(self.seeds.folder, seed))


def _check_one_process() -> None:
    place = place_of(os.environ)
    if place is not None:
        raise UsageError(
            f"{place.starter} has started {place.size} processes, which share the batches of one run; start many seeds "
            f"without it, or one seed at a time with it"
        )
