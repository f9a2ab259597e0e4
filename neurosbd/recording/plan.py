"""From requests to a table of contents: who is recorded, when, and how large that becomes."""

import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from neurosbd.errors import UsageError, nearest, warn
from neurosbd.network.network import Network
from neurosbd.recording.request import Request
from neurosbd.recording.signals import (
    SCORED,
    Recorded,
    SignalKind,
    counted,
    is_listed,
    kind_of,
    listed_ends,
    places,
    size_of,
    synapses,
    unknown,
)
from neurosbd.recording.units import unit_of
from neurosbd.seeds import generator
from neurosbd.tracefiles.ends import Ends
from neurosbd.tracefiles.series import Clock, Contents, Series, Split
from neurosbd.tracefiles.sizes import SPIKE_BITS, most_bytes, series_bytes

GB = 1e9
_FILTERS = "neurons=, synapses= or examples= (a slice, a list or 'random 100'), or every="


class RunExtent(NamedTuple):
    """How a training goes on: what a plan needs to know of it."""

    steps: int  # per trial
    epochs: int
    batches: Mapping[Split, int]  # per epoch
    widths: Mapping[Split, int]  # examples per batch
    dt: float  # s
    seed: int
    target: tuple[int, ...] = ()  # what the network is taught, per example: () a class, (k,) values
    moving: bool = False  # whether that changes within a trial
    epoch: str = "epoch"  # what an epoch is called

    def start(self, on: Split, epoch: int, tests: bool) -> float:
        """When an epoch or its test begins, s of simulated time: tests lie between epochs where they are recorded.

        Args:
            on: training or test.
            epoch: from 0; the test before the first is that of epoch -1.
            tests: whether tests are recorded.
        """
        train, test = (self.batches[split] * self.steps * self.dt for split in ("train", "test"))
        pause = test * tests
        return (epoch + 1) * (train + pause) if on == "test" else pause + epoch * (train + pause)


@dataclass(frozen=True)
class Plan:
    """What a recording will be.

    contents: the table of contents of its file.
    limit: largest size of the file, GB.
    bytes: of the file at most, without the spike times of its table of units.
    ends: of the synapses of every series that lists them, by its name.
    lines: the arithmetic of each series and of what is around them.
    """

    contents: Contents
    limit: float
    bytes: int
    lines: tuple[str, ...]
    ends: Mapping[str, Ends]

    def estimate(self, extent: RunExtent) -> str:
        """Size and rate in a line."""
        kinds = len(self.contents.series)
        spiking = any(series.what == "spikes" for series in self.contents.series)
        times = "; 8 B per spike come on top at the end, for the table of units, if they fit into record.limit"
        return (
            f"recording {kinds} signal{'s' * (kinds != 1)}: at most {_readable(self.bytes)} "
            f"({_readable(self.bytes / extent.epochs)} per {extent.epoch}){times if spiking else ''}"
        )


_ACQUIRED = ("v", "rate", "gain", "drive", "conductance", "current")  # as an experimenter would
_Timed = tuple[Request, SignalKind, Clock, list[str]]  # what is asked for, when, and of whom


class _Asked(NamedTuple):
    """A request, understood."""

    request: Request
    kind: SignalKind
    clock: Clock
    number: int  # of the clock


def plan(specs: Sequence[str], limit: float, recorded: Recorded, extent: RunExtent) -> Plan | None:
    """Resolve what was asked for; None if nothing was.

    Args:
        specs: WHERE.WHAT[filters] each.
        limit: largest size, GB.
        recorded: who is there to be recorded.
        extent: of the training.
    Raises:
        UsageError: if something is not there to be recorded, or all of it is larger than the limit.
    """
    clocks: dict[Clock, int] = {}
    series: list[Series] = []
    requests = [Request.parse(spec) for spec in specs]
    known = [(request, _kind(request, recorded.network, extent)) for request in requests]
    placed = [(request, kind, _where(request, kind, recorded)) for request, kind in known]
    timed = [(request, kind, _clock(request, kind, extent), wheres) for request, kind, wheres in placed]
    for request, kind, clock, wheres in [*timed, *_targets(timed, recorded, extent)]:
        asked = _Asked(request, kind, clock, clocks.setdefault(clock, len(clocks)))
        for where in wheres:
            size = size_of(request.what, kind, where, recorded, extent.target)
            there = None if request.items.random is None else synapses(kind, where, recorded)
            found = _series(asked, where, size, there, extent.seed)
            found = found.model_copy(update=_described(request.what, kind, where, recorded))
            if any(found.name == other.name for other in series):
                raise UsageError(f"recording {request.spec}: '{found.name}' is asked for twice; ask once")
            series.append(found)
    if not series:
        return None
    epochs = extent.batches["train"] if recorded.loss is not None else None
    contents = Contents(
        clocks=tuple(clocks), series=tuple(series), dt=extent.dt, batch_size=extent.widths["train"],
        steps=extent.steps, expected=tuple(math.prod(_counts(clock, extent).values()) for clock in clocks),
        batches=epochs,
    )  # fmt: skip
    lengths = tuple(contents.block_rows(number) for number in range(len(clocks)))
    contents = contents.model_copy(update={"lengths": lengths})
    lines = [_arithmetic(s, contents, extent) for s in series]
    values = sum(series_bytes(contents, s) for s in series)
    ends = {s.name: listed_ends(s.where, s.items, recorded.network) for s in series if s.listed}
    total = (
        most_bytes(contents, ends) if values <= limit * GB else values
    )  # without asking memory for the tables of absurd ones
    rest = total - values
    lines.append(f"when, whose and where of all that, and tables = {_readable(rest)}")
    if total > limit * GB:
        told = "\n".join(f"  {line}" for line in lines)
        raise UsageError(
            f"the recording would be up to {_readable(total)}, more than the limit record.limit = {limit:g} "
            f"GB:\n{told}\nTake less of it by {_FILTERS}, or raise record.limit to "
            f"{math.ceil(total / GB * 1.1)}"
        )
    return Plan(contents, limit, total, tuple(lines), ends)


def _kind(request: Request, network: Network, extent: RunExtent) -> SignalKind:
    kind = kind_of(request.what, network)
    if kind is None:
        hint = unknown(request.what, network)
        raise UsageError(f"recording {request.spec}: there is no signal '{request.what}'{hint}")
    if kind.per == "batch" and (request.on == "test" or request.examples.random or request.examples.chosen):
        raise UsageError(
            f"recording {request.spec}: {request.what} is counted per training batch; it has no examples and no on=test"
        )
    if request.on == "test" and not extent.batches["test"]:
        raise UsageError(f"recording {request.spec}: there is no test (a protocol has no test); leave out on=test")
    if request.on == "test" and kind.read is None:
        raise UsageError(f"recording {request.spec}: nothing is learned in the test, so it has no {request.what}")
    return replace(kind, axes=("example", "value")) if request.what == "target" and extent.target else kind


def _targets(timed: Sequence[_Timed], recorded: Recorded, extent: RunExtent) -> list[_Timed]:
    """The target of every trial of which something is recorded: a row each; where it stays the same within trials."""
    found = []
    for on in ("train", "test"):
        clocks = [clock for _, kind, clock, _ in timed if kind.per == "step" and clock.on == on]
        asked = any(request.what == "target" and clock.on == on for request, _, clock, _ in timed)
        if not clocks or asked or extent.moving or recorded.loss is None:
            continue
        clock = Clock(
            on=on, steps=extent.steps, batches=math.gcd(*(c.batches for c in clocks)),
            epochs=math.gcd(*(c.epochs for c in clocks)),
            examples=tuple(sorted({place for c in clocks for place in c.examples})),
        )  # fmt: skip
        request = Request("target[on=test]" if on == "test" else "target", "target", on=on)
        found.append((request, _kind(request, recorded.network, extent), clock, [""]))
    return found


def _where(request: Request, kind: SignalKind, recorded: Recorded) -> list[str]:
    legal = places(request.what, kind, recorded)
    opened = request.what == "drive" and request.where in ("*", *recorded.network.conductances)
    if opened and (not legal or request.where != "*"):
        raise UsageError(f"recording {request.spec}: {_no_drive(request.where, recorded)}")
    if not legal:
        unscored = "; nobody scores a protocol" if recorded.loss is None and request.what in SCORED else ""
        unscored += "; rewards are those of [[reward]] in a free run" if request.what == "reward" else ""
        raise UsageError(
            f"recording {request.spec}: no {kind.of} has {request.what} under this model and rule{unscored}"
        )
    if kind.of == "network":
        if request.where in legal:
            return [request.where]
        of_head = (
            "" if len(legal) == 1 else f", or {' or '.join(f'{head}.{request.what}' for head in legal[1:])} of a head"
        )
        raise UsageError(
            f"recording {request.spec}: {request.what} belongs to the network; write {request.what}{of_head}"
        )
    if request.where == "*":
        return legal
    if request.where not in legal:
        known = [*recorded.network.populations, *recorded.network.connections]
        lacks = f"'{request.where}' has no {request.what}"
        what = lacks if request.where in known else f"there is no '{request.where}'"
        raise UsageError(f"recording {request.spec}: {what}{nearest(request.where, [*legal, '*'])}")
    return [request.where]


def _no_drive(where: str, recorded: Recorded) -> str:
    """Why populations that conductances reach have no drive, and what is recorded in place of it."""
    there = recorded.network.conductances
    population = next(iter(there)) if where == "*" else where
    reached = "every population is" if where == "*" else f"'{where}' is"
    currents = " and ".join(f"'{name}.current'" for name in there[population])
    return (
        f"{reached} reached by conductances, whose effect goes with the potential, so that there is no drive before "
        f"the membrane; record what each connection gives it: {currents}"
    )


def _clock(request: Request, kind: SignalKind, extent: RunExtent) -> Clock:
    every, width = request.every or dict(kind.every), extent.widths[request.on]
    if kind.per == "batch":
        if "step" in every:
            raise UsageError(f"recording {request.spec}: {request.what} is counted per batch; use batches or epochs")
        stride = every.get("batch", 1) if "epoch" not in every else every["epoch"] * extent.batches["train"]
        total = extent.batches["train"] * extent.epochs
        if not request.every:
            stride = min(stride, total)
        if stride > total and not kind.around:
            raise UsageError(
                f"recording {request.spec}: every {stride:,} batches is never in a run of {total:,}; take less"
            )
        return Clock(per="batch", batches=stride, around=kind.around)
    try:
        chosen = request.examples.indices(width, generator(extent.seed, "record", "examples", request.spec))
    except ValueError as problem:
        raise UsageError(f"recording {request.spec}: examples: {problem}") from None
    examples = tuple(range(width)) if chosen is None else chosen
    most = {"step": extent.steps, "batch": extent.batches[request.on], "epoch": extent.epochs}
    for unit, stride in request.every.items():
        if stride > most[unit] > 0:
            warn(
                f"recording {request.spec}: every {stride:,} {_plural(unit)} of {most[unit]:,}: only the first is "
                f"recorded; give a smaller every= if more was meant"
            )
    return Clock(
        on=request.on, steps=every.get("step", 1), batches=every.get("batch", 1), epochs=every.get("epoch", 1),
        examples=examples,
    )  # fmt: skip


def _series(asked: _Asked, where: str, size: tuple[int, ...], there: Sequence[int] | None, seed: int) -> Series:
    request, kind, clock, number = asked
    count = math.prod(size)
    chosen = request.items.at_most(count if there is None else len(there)) if request.where == "*" else request.items
    try:
        items = chosen.indices(count, generator(seed, "record", request.spec, where), there)
    except ValueError as problem:
        raise UsageError(f"recording {request.spec}: {where or request.what}: {kind.axes[-1]}s: {problem}") from None
    name = f"{where}.{request.what}".lstrip(".") + ("@test" if clock.on == "test" else "")
    last = () if not size else (math.prod(size) if items is None else len(items),)
    return Series(
        name=name,
        what=request.what,
        where=where,
        about=f"{name}: {kind.about}",
        unit=kind.unit,
        path=_path(name, request.what),
        clock=number,
        axes=("row", *kind.axes),
        columns=(*((len(clock.examples),) if kind.per == "step" else ()), *last),
        dtype="uint8" if request.what == "spikes" else "float32",
        items=items,
        size=size,
    )


def _described(what: str, kind: SignalKind, where: str, recorded: Recorded) -> dict[str, object]:
    """What its numbers count and their unit, and whether they are of listed synapses."""
    return {
        "counted": counted(what, kind, where, recorded),
        "unit": unit_of(what, kind, where, recorded.network).name,
        "listed": is_listed(kind, where, recorded.network),
    }


def _path(name: str, what: str) -> str:
    """Where a series lies in the file; names of NWB objects know neither '/' nor ':'."""
    legible = name.replace("->", "_to_")
    plain = re.sub(r"[^A-Za-z0-9_.@-]", "_", legible)
    if plain != legible:  # two names must not become one
        plain += f"_{zlib.crc32(name.encode()):08x}"
    if what == "spikes":
        return f"/neurosbd/spikes/{plain}/data"
    place = "acquisition" if what in _ACQUIRED else "processing/learning"
    return f"/{place}/{plain}/data"


def _counts(clock: Clock, extent: RunExtent) -> dict[str, int]:
    """How many rows a clock will take, as factors."""
    if clock.per == "batch":
        total = extent.batches["train"] * extent.epochs
        stride = -(-total // clock.batches) + 1 if clock.around else total // clock.batches
        return {"row": max(1, stride)}
    return {
        "epoch": -(-extent.epochs // clock.epochs) + (clock.on == "test"),  # and the one before the first
        "batch": -(-extent.batches[clock.on] // clock.batches),
        "step": -(-extent.steps // clock.steps),
    }


def _arithmetic(series: Series, contents: Contents, extent: RunExtent) -> str:
    """How the size of a series comes about."""
    counts = _counts(contents.clocks[series.clock], extent)
    factors = [*counts.items(), *zip(series.axes[1:], series.columns, strict=True)]
    item = f"{SPIKE_BITS} bits" if series.dtype == "uint8" else "4 B"
    told = " x ".join(f"{n:,} {name if n == 1 else _plural(name)}" for name, n in factors)
    return f"{series.name}: {told} x {item} = {_readable(series_bytes(contents, series))}"


def _plural(unit: str) -> str:
    return f"{unit}es" if unit == "batch" else f"{unit}s"


def _readable(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
