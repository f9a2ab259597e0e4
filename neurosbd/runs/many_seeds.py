"""Many seeds of one job: which there may be, what each comes to without the others, and what all of them come to."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from neurosbd.errors import RunError, UsageError
from neurosbd.files.parsing import JsonTable
from neurosbd.measures import shown, title, unmeasured
from neurosbd.runs.interrupt import Interrupt
from neurosbd.runs.progress import judged_outputs
from neurosbd.runs.run import Run

MOST = 4096  # seeds; far beyond what anybody waits for, so that 0:1000000 is a slip
_LAST = 2**63 - 1


class Seeds:
    """The seeds of a job, and which of their runs have failed.

    Args:
        all_: of them, in order.
        folder: of the run directories.
    """

    def __init__(self, all_: tuple[int, ...], folder: Path) -> None:
        self.all, self.folder = all_, folder
        self.failed: dict[int, str] = {}  # seed -> reason

    @contextmanager
    def alone(self, seed: int) -> Iterator[None]:
        """Context in which a seed fails without the others; where it is the first that cannot begin, what is asked for
        is at fault."""
        try:
            yield
        except RunError as problem:
            self.failed[seed] = str(problem)
        except UsageError as problem:
            if seed == self.all[0]:
                raise
            self.failed[seed] = str(problem)

    def in_turn(self, because: str) -> JsonTable:
        """What config.json and loggers are told of seeds that are carried out one after another."""
        return {"all": list(self.all), "at_once": False, "because": because}

    def runs(self, run_of: Callable[[int], Run], interrupt: Interrupt) -> list[Run]:
        """The runs of all seeds, one after another, until Ctrl-C; each fails without the others.

        Args:
            run_of: a seed.
            interrupt: that stops it; one that comes while a later seed is prepared only ends the row.
        """
        found: list[Run] = []
        for seed in self.all:
            if interrupt.asked:
                break
            try:
                with self.alone(seed):
                    found.append(run_of(seed))
            except KeyboardInterrupt as stop:
                if str(stop) or not found:
                    raise
                break
        return found

    def raise_failures(self) -> None:
        """Raise RunError if one of them has failed; says which did."""
        if not self.failed:
            return
        first, reason = next(iter(self.failed.items()))
        which = ", ".join(map(str, self.failed))
        raise RunError(
            f"{len(self.failed)} of {len(self.all)} seeds failed ({which}); seed {first}: {reason}. "
            f"All that was done is in {self.folder}"
        )


def checked_seeds(seeds: Iterable[int]) -> tuple[int, ...]:
    """Seeds of which each can have a run.

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
    """What the finished runs came to, in one line: mean and standard deviation over seeds, of the measures of an
    experiment, else of the last epoch."""
    finished = [run.result for run in runs if run.result.get("status") == "finished"]
    measured = [result["measures"] for result in finished if result.get("measures")]
    if measured:
        each = ", ".join(f"{name} {_spread([one.get(name) for one in measured])}" for name in measured[0])
        return f"mean over {_count(len(measured))}: {each}"
    finals = [result["final"] for result in finished if result["final"]]
    if finals and not judged_outputs(finals[0]):
        why = "; ".join(unmeasured(runs[0].unjudged))
        return f"{len(finals)} of {len(runs)} runs have finished{f'; {why}' if why else ''}"
    named = (k for k in (finals[0] if finals else {}) if k.startswith("test_") and not k.endswith("loss"))
    key = next(named, "test_loss")
    values = [final[key] for final in finals if isinstance(final.get(key), int | float)]
    if not values:
        return f"none of {len(runs)} runs has finished"
    name, (mean, spread) = key.removeprefix("test_"), mean_and_spread(values)
    told = "loss {}" if name == "loss" else f"{title(name)} {{}}"
    around = "" if spread is None else f" +- {shown(name, spread)}"
    return f"test {told.format(shown(name, mean))}{around} over {_count(len(values))}"


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation; of one value there is none.

    >>> mean_and_spread([1.0, 3.0]), mean_and_spread([2.0])
    ((2.0, 1.4142135623730951), (2.0, None))
    """
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _spread(values: Sequence[float | None]) -> str:
    """A measure over seeds; one that is not defined for some is said with how many have it."""
    there = [value for value in values if value is not None]
    if not there:
        return "undefined"
    mean, spread = mean_and_spread(there)
    around = "" if spread is None else f" +- {spread:.2g}"
    return f"{mean:.4g}{around}" + ("" if len(there) == len(values) else f" (of {len(there)})")


def _count(seeds: int) -> str:
    return f"{seeds} seed{'s' if seeds > 1 else ''}"
