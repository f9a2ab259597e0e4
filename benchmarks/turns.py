"""How scripts here measure: what is compared takes turns, so that whatever else the machine does meets all of it alike.

    turn 0: a b c    turn 1: c b a    turn 2: a b c    ...

A script runs as `python benchmarks/X.py`, so that its neighbours are imported by their names: `from turns import ...`.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

Name = TypeVar("Name")
Once = Callable[[], object]
Call = TypeVar("Call", bound=Once)


def turns(names: Iterable[Name], rounds: int) -> Iterator[tuple[int, Name]]:
    """(number of the round, name), every second round in the opposite order.

    >>> list(turns("ab", 2))
    [(0, 'a'), (0, 'b'), (1, 'b'), (1, 'a')]
    """
    order = list(names)
    for turn in range(rounds):
        for name in order[:: -1 if turn % 2 else 1]:
            yield turn, name


def wall_seconds(once: Once) -> float:
    """That pass during a call."""
    start = time.perf_counter()
    once()
    return time.perf_counter() - start


def cpu_seconds(once: Once) -> float:
    """That this process has of its cores during a call; on a busy machine it changes less."""
    start = time.process_time()
    once()
    return time.process_time() - start


def wall_and_cpu_seconds(once: Once) -> tuple[float, float]:
    """Both, of one call."""
    start, spent = time.perf_counter(), time.process_time()
    once()
    return time.perf_counter() - start, time.process_time() - spent


def wait(device: "torch.device") -> None:
    """Until the device has done all it was told."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def device_seconds(once: Once, device: "torch.device") -> float:
    """That pass until the device has done all of a call, which begins with nothing left to do."""
    wait(device)
    start = time.perf_counter()
    once()
    wait(device)
    return time.perf_counter() - start


def in_turns(
    calls: Mapping[Name, Call], rounds: int, warm_up: int, seconds: Callable[[Call], float] = wall_seconds
) -> dict[Name, list[float]]:
    """Seconds of every call in every round.

    Args:
        calls: by name.
        rounds: in which each is timed once.
        warm_up: calls of each before, which are not timed.
        seconds: of one call.
    """
    for once in calls.values():
        for _ in range(warm_up):
            once()
    found: dict[Name, list[float]] = {name: [] for name in calls}
    for _, name in turns(calls, rounds):
        found[name].append(seconds(calls[name]))
    return found


def quartiles(values: Iterable[float]) -> list[float]:
    """The lower and the upper one: those at a quarter and at three quarters of the values in order."""
    ordered = sorted(values)
    return [ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]]


def median_ms(seconds: Sequence[float]) -> dict[str, Any]:
    """The median in ms, and the quartiles."""
    return {"ms": 1e3 * statistics.median(seconds), "ms_quartiles": [1e3 * each for each in quartiles(seconds)]}


def ratios(times: Sequence[float], reference: Sequence[float]) -> dict[str, Any]:
    """Of the medians, and the quartiles of the ratios of the single rounds."""
    return {
        "ratio": statistics.median(times) / statistics.median(reference),
        "ratio_quartiles": quartiles(a / b for a, b in zip(times, reference, strict=True)),
    }


def megabytes() -> float:
    """Peak of the resident set of this process so far."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
