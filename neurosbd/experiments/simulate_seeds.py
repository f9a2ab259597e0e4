"""Many seeds of one plasticity experiment: an ordinary run for each, one after another, in one folder."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from neurosbd.config.resolve import as_specs, plain
from neurosbd.errors import UsageError, collected_warnings
from neurosbd.experiments.simulate import experiment_of, say_complaints, simulated
from neurosbd.runs import directory
from neurosbd.runs.interrupt import Interrupt
from neurosbd.runs.job import Job
from neurosbd.runs.loggers import Logger, Loggers
from neurosbd.runs.many_seeds import Seeds, checked_seeds
from neurosbd.runs.run import Run

_REASON = "each is an experiment of its own"


def simulate_seeds(
    experiment: str | Path,
    seeds: Iterable[int],
    *,
    rule: str | None = None,
    settings: Mapping[str, object] | None = None,
    out: str | Path | None = None,
    device: str | torch.device = "auto",
    record: str | Sequence[str] = (),
    resume: bool = False,
    loggers: Sequence[Logger] = (),
) -> list[Run]:
    """Carry out a plasticity experiment once for every seed, and leave a folder with a run for each: seed0, ...

    Every one of them is, bit for bit, what `simulate` with that seed leaves, and can be resumed, compared and analysed
    by itself. They are carried out one after another.

    Args:
        experiment: a shipped model with a task, a protocol or a simulation, or a .toml file, whose seed is not used.
        seeds: different whole numbers >= 0, such as range(8).
        rule, settings, device, record: as for `simulate`.
        out: the folder; none: runs/EXPERIMENT-RULE-seeds, numbered if taken.
        resume: go on with the runs in the folder, each from its checkpoint; seeds that have none start.
        loggers: told how the runs go on, one after another.

    Returns:
        The runs, in the order of the seeds; after Ctrl-C those that had begun.

    Raises:
        UsageError: if something asked for is not legal; nothing has been written then.
        RunError: if a run fails; the others are carried out all the same, and it says which did.
        KeyboardInterrupt: after Ctrl-C before the first run has begun, or a second one; the last checkpoints are kept.
    """
    chosen, settings = checked_seeds(seeds), plain(settings or {})
    if "seed" in settings:
        raise UsageError(f"settings: seed = {settings['seed']} and seeds are both given; leave one of them out")
    with Interrupt() as interrupt:
        job = Job(experiment, rule, None, settings, as_specs(record), out, device, resume, Loggers(loggers))
        with collected_warnings() as said:
            definition = experiment_of(job)
        with directory.seeds_folder(definition, out, chosen, resume) as folder:
            row = Seeds(chosen, folder)

            def run_of(seed: int) -> Run:
                with collected_warnings() as texts:
                    texts += said  # of the model file, which is read once
                    own = replace(
                        job, out=directory.of_seed(folder, seed), loggers=Loggers(job.loggers.each),
                        seeds=row.in_turn(_REASON),
                    )  # fmt: skip
                    return simulated(definition.model_copy(update={"seed": seed}), own, interrupt)

            found = row.runs(run_of, interrupt)
    for run in found:
        say_complaints(job, run)
    row.raise_failures()
    return found
