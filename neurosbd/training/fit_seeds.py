"""Many seeds of one training in one process: an ordinary run for each, side by side in one folder."""

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from neurosbd.config.definition import Definition, Experiment
from neurosbd.config.resolve import as_specs
from neurosbd.datasets.load import Dataset
from neurosbd.errors import RunError, UsageError
from neurosbd.learning.ranks import place_of
from neurosbd.losses import Loss
from neurosbd.losses.generic import PerExample
from neurosbd.measures import shown, title
from neurosbd.runs import directory
from neurosbd.runs.batches import DatasetBatches
from neurosbd.runs.interrupt import Interrupt
from neurosbd.runs.job import Job
from neurosbd.runs.loggers import Logger, Loggers
from neurosbd.runs.machine import check_device
from neurosbd.runs.own_parts import naming_own_parts
from neurosbd.runs.run import Run
from neurosbd.training.capacity import too_large_at_once
from neurosbd.training.fit import chosen_values, definition_on, loader, starting_point
from neurosbd.training.loop import Training, entered
from neurosbd.training.session import Session
from neurosbd.training.stack import why_apart
from neurosbd.training.starting_weights import Start
from neurosbd.training.together import Together

MOST = 4096  # seeds; far beyond what anybody waits for, so that 0:1000000 is a slip
_LAST = 2**63 - 1
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
    with and analysed by itself. The data are read once. Dense networks learn side by side, as far as their rule lets
    them; others take turns (docs/running.md says which, and so does `seeds` in config.json).

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
            runs = _Runs(job, definition, load, where, folder, chosen, interrupt)
            found = runs.carry_on(start)
    for run in found:
        job.loggers.say_rest(run.result.get("warnings", ()))
    if runs.failed:
        raise RunError(_failures(runs.failed, len(chosen), folder))
    return found


class _Runs:
    """The runs of one call.

    Args:
        job: that they have in common.
        definition: of all of them, but for the seed.
        load: the data set of a definition.
        device: where everything lives.
        folder: of the run directories.
        seeds: one for each.
        interrupt: what may stop all of them.
    """

    def __init__(
        self,
        job: Job,
        definition: Definition,
        load: Callable[[Definition], Dataset],
        device: torch.device,
        folder: Path,
        seeds: tuple[int, ...],
        interrupt: Interrupt,
    ) -> None:
        self.job = job
        self.definition = definition
        self.load = load
        self.device = device
        self.folder = folder
        self.seeds = seeds
        self.interrupt = interrupt
        self.failed: dict[int, str] = {}  # seed -> reason
        self._shared: DatasetBatches | None = None

    def carry_on(self, start: Run | str | Path | None) -> list[Run]:
        """All of them, side by side if their networks can be."""
        first = self.session(self.seeds[0], start)
        reason = why_apart(first[0].experiment) or too_large_at_once(first[0], len(self.seeds))
        reason = "there is only one" if len(self.seeds) == 1 else reason
        if reason is not None:
            return self._in_turn(first, start, reason)
        others = [self.session(seed, start) for seed in self.seeds[1:]]
        if any(len(session.batches) != len(first[0].batches) for session, _ in others):
            return self._in_turn(first, start, "they hold out different numbers of examples")
        self.interrupt.hold()
        return self._at_once([first, *others])

    def _in_turn(self, first: Beginning, start: Run | str | Path | None, reason: str) -> list[Run]:
        """One after another, until all are done or Ctrl-C."""
        found, told = [], {"all": list(self.seeds), "at_once": False, "because": reason}
        for seed in self.seeds:
            if self.interrupt.asked:
                break
            with self._alone(seed):
                session, begun = first if seed == self.seeds[0] else self.session(seed, start)
                self.interrupt.hold()
                loggers = Loggers(self.job.loggers.each)
                with entered(session, self.of(seed), begun, told) as event, loggers.ending(event["path"]):
                    found.append(Training(session, event, loggers, self.interrupt).run())
        return found

    def _at_once(self, beginnings: Sequence[Beginning]) -> list[Run]:
        """Side by side."""
        told, trainings = {"all": list(self.seeds), "at_once": True, "because": None}, []
        with ExitStack() as directories:
            for seed, (session, begun) in zip(self.seeds, beginnings, strict=True):
                with self._alone(seed):
                    event = directories.enter_context(entered(session, self.of(seed), begun, told))
                    trainings.append(Training(session, event, Loggers(()), self.interrupt))
            loggers = Loggers(self.job.loggers.each)
            together = Together(trainings, self.folder, loggers, self.interrupt)
            with loggers.ending(self.folder, together.result):
                together.run()
        self.failed |= together.failed
        return [together.runs[seed] for seed in self.seeds if seed in together.runs]

    @contextmanager
    def _alone(self, seed: int) -> Iterator[None]:
        """Context in which a seed fails without the others; where it is the first that cannot begin, what is asked for
        is at fault."""
        try:
            yield
        except RunError as problem:
            self.failed[seed] = str(problem)
        except UsageError as problem:
            if seed == self.seeds[0]:
                raise
            self.failed[seed] = str(problem)

    def session(self, seed: int, start: Run | str | Path | None) -> Beginning:
        """What trains a seed, and the run whose weights it starts with."""
        experiment = self.definition.model_copy(update={"seed": seed}).build()
        begun = starting_point(self.of(seed), experiment, start)
        batches = self._batches(experiment)
        with naming_own_parts(experiment, UsageError):
            return Session(experiment, batches, self.device), begun

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
        return replace(self.job, out=directory.of_seed(self.folder, seed))


def checked_seeds(seeds: Iterable[int]) -> tuple[int, ...]:
    """Seeds that can be trained side by side.

    Raises:
        UsageError: if there is none, there are too many, one is there twice, or is no whole number from 0 on.
    """
    if isinstance(seeds, str | int) or not isinstance(seeds, Iterable):
        raise UsageError(f"seeds must be whole numbers such as range(32) or [1, 5, 9], got {seeds!r:.60}")
    if isinstance(seeds, range) and len(seeds) > MOST:
        raise UsageError(f"seeds: {len(seeds):,} are too many at once; legal are up to {MOST:,}")
    found = tuple(seeds)
    wrong = next((s for s in found if type(s) is not int or not 0 <= s <= _LAST), None)
    if wrong is not None:
        raise UsageError(f"seeds: legal are whole numbers in 0..2^63 - 1, got {wrong!r:.60}")
    if not 0 < len(found) <= MOST:
        raise UsageError(f"seeds: there are {len(found):,}; legal are 1 to {MOST:,} of them, such as range(32)")
    if len(set(found)) < len(found):
        twice = next(s for s in found if found.count(s) > 1)
        raise UsageError(f"seeds: {twice} is there twice, and would be the same run; give every seed once")
    return found


def parse_seeds(text: str) -> tuple[int, ...]:
    """What `--seeds` says: 'FIRST:END', which leaves out END, or numbers with commas between.

    Raises:
        UsageError: if it is neither, or the seeds are not legal.

    >>> parse_seeds("0:4"), parse_seeds("1,5,9")
    ((0, 1, 2, 3), (1, 5, 9))
    """
    if span := re.fullmatch(r"(\d{1,19}):(\d{1,19})", text, re.ASCII):
        first, end = int(span[1]), int(span[2])
        if end <= first:
            raise UsageError(f"--seeds {text}: goes from {first} up to, but without, {end}: no seed at all")
        return checked_seeds(range(first, end))
    if re.fullmatch(r"\d{1,19}(,\d{1,19})*", text, re.ASCII):
        return checked_seeds([int(number) for number in text.split(",")])
    raise UsageError(f"--seeds {text[:60]}: is neither FIRST:END, such as 0:32, nor numbers such as 1,5,9")


def summary(runs: Sequence[Run]) -> str:
    """What the finished runs came to, in one line: mean and standard deviation over seeds, of the last epoch."""
    finals = [run.result["final"] for run in runs if run.result.get("status") == "finished" and run.result["final"]]
    key = next((k for k in (finals[0] if finals else {}) if k.startswith("test_") and k != "test_loss"), "test_loss")
    values = [final[key] for final in finals if isinstance(final.get(key), int | float)]
    if not values:
        return f"none of {len(runs)} runs has finished"
    name, mean = key.removeprefix("test_"), math.fsum(values) / len(values)
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else None
    told = "loss {}" if name == "loss" else f"{title(name)} {{}}"
    around = "" if spread is None else f" +- {shown(name, spread)}"
    return f"test {told.format(shown(name, mean))}{around} over {len(values)} seeds"


def _check_one_process() -> None:
    place = place_of(os.environ)
    if place is not None:
        raise UsageError(
            f"{place.starter} has started {place.size} processes, which share the batches of one run; start many seeds "
            f"without it, or one seed at a time with it"
        )


def _failures(failed: Mapping[int, str], count: int, folder: Path) -> str:
    first, reason = next(iter(failed.items()))
    which = ", ".join(map(str, failed))
    return f"{len(failed)} of {count} seeds failed ({which}); seed {first}: {reason}. All that was done is in {folder}"
