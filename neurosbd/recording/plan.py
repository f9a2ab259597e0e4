"""From requests to a table of contents: who is recorded, when, and how large that becomes. Layer 3."""

import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from neurosbd.errors import UsageError, nearest
from neurosbd.network import Network
from neurosbd.recording.request import Request
from neurosbd.recording.signals import KINDS, SCORED, Kind, Subject, fields, kind_of, places, size_of
from neurosbd.seeds import generator
from neurosbd.traces.series import Clock, Contents, Series, Split

GB = 1e9
_FILTERS = "neurons=, synapses= or examples= (a slice, a list or 'random 100'), or every="


class Course(NamedTuple):
    """How a training goes on: what a plan needs to know of it."""

    steps: int  # per trial
    epochs: int
    batches: Mapping[Split, int]  # per epoch
    widths: Mapping[Split, int]  # examples per batch
    dt: float  # s
    seed: int


@dataclass(frozen=True)
class Plan:
    """What a recording will be.

    contents: the table of contents of its file.
    sizes: a line of arithmetic and the bytes of each series.
    """

    contents: Contents
    sizes: tuple[tuple[str, int], ...]

    @property
    def bytes(self) -> int:
        """Of all series, before compression."""
        return sum(size for _, size in self.sizes)

    def estimate(self, epochs: int) -> str:
        """Size and rate in a line."""
        kinds = len(self.contents.series)
        return (
            f"recording {kinds} signal{'s' * (kinds != 1)}: about {_readable(self.bytes)} "
            f"({_readable(self.bytes / epochs)} per epoch) before compression"
        )


class _Asked(NamedTuple):
    """A request, understood."""

    request: Request
    kind: Kind
    clock: Clock
    number: int  # of the clock


def plan(specs: Sequence[str], limit: float, subject: Subject, course: Course) -> Plan | None:
    """Resolve what was asked for; None if nothing was.

    Args:
        specs: WHERE.WHAT[filters] each.
        limit: largest size, GB.
        subject: who is there to be recorded.
        course: of the training.
    Raises:
        UsageError: if something is not there to be recorded, or all of it is larger than the limit.
    """
    clocks: dict[Clock, int] = {}
    series: list[Series] = []
    sizes: list[tuple[str, int]] = []
    for request in map(Request.parse, specs):
        kind = _kind(request, subject.network, course)
        clock = _clock(request, kind, course)
        asked = _Asked(request, kind, clock, clocks.setdefault(clock, len(clocks)))
        for where in _where(request, kind, subject):
            found = _series(asked, where, size_of(request.what, kind, where, subject), course.seed)
            if request.what == "v" and type(subject.network.populations[where].neuron).__name__ == "Izhikevich":
                found = found.model_copy(update={"unit": "mV"})
            if any(found.name == other.name for other in series):
                raise UsageError(f"--record {request.spec}: '{found.name}' is asked for twice; ask once")
            series.append(found)
            sizes.append(_size(found, clock, course))
    if not series:
        return None
    contents = Contents(
        clocks=tuple(clocks), series=tuple(series), dt=course.dt, batch_size=course.widths["train"],
        steps=course.steps, expected=tuple(math.prod(_counts(clock, course).values()) for clock in clocks),
    )  # fmt: skip
    result = Plan(contents, tuple(sizes))
    if result.bytes > limit * GB:
        lines = "\n".join(f"  {text} = {_readable(size)}" for text, size in sizes)
        raise UsageError(
            f"the recording would be about {_readable(result.bytes)}, more than the limit record.limit = {limit:g} "
            f"GB:\n{lines}\nTake less of it by {_FILTERS}, or raise the limit: --set record.limit="
            f"{math.ceil(result.bytes / GB * 1.1)}"
        )
    return result


def _kind(request: Request, network: Network, course: Course) -> Kind:
    kind = kind_of(request.what, network)
    if kind is None:
        states = {field for name in network.incoming for field in fields(network, name)} - {"spike"}
        legal = [*KINDS, *sorted(states - set(KINDS))]
        raise UsageError(f"--record {request.spec}: there is no signal '{request.what}'{nearest(request.what, legal)}")
    if kind.per == "batch" and (request.on == "test" or request.examples.random or request.examples.chosen):
        raise UsageError(
            f"--record {request.spec}: {request.what} is counted per training batch; it has no examples and no on=test"
        )
    if request.on == "test" and not course.batches["test"]:
        raise UsageError(f"--record {request.spec}: a protocol has no test; leave out on=test")
    if request.on == "test" and kind.read is None:
        raise UsageError(f"--record {request.spec}: nothing is learned in the test, so it has no {request.what}")
    return kind


def _where(request: Request, kind: Kind, subject: Subject) -> list[str]:
    legal = places(request.what, kind, subject)
    if not legal:
        unscored = "; nobody scores a protocol" if subject.loss is None and request.what in SCORED else ""
        raise UsageError(
            f"--record {request.spec}: no {kind.of} has {request.what} under this model and rule{unscored}"
        )
    if kind.of == "network":
        if request.where:
            raise UsageError(f"--record {request.spec}: {request.what} belongs to the network; write {request.what}")
        return legal
    if request.where == "*":
        return legal
    if request.where not in legal:
        known = [*subject.network.populations, *subject.network.connections]
        lacks = f"'{request.where}' has no {request.what}"
        what = lacks if request.where in known else f"there is no '{request.where}'"
        raise UsageError(f"--record {request.spec}: {what}{nearest(request.where, [*legal, '*'])}")
    return [request.where]


def _clock(request: Request, kind: Kind, course: Course) -> Clock:
    every, width = request.every or dict(kind.every), course.widths[request.on]
    if kind.per == "batch":
        if "step" in every:
            raise UsageError(f"--record {request.spec}: {request.what} is counted per batch; use batches or epochs")
        stride = every.get("batch", 1) if "epoch" not in every else every["epoch"] * course.batches["train"]
        return Clock(per="batch", batches=stride, around=kind.around)
    try:
        chosen = request.examples.indices(width, generator(course.seed, "record", "examples", request.spec))
    except ValueError as problem:
        raise UsageError(f"--record {request.spec}: examples: {problem}") from None
    examples = tuple(range(width)) if chosen is None else chosen
    return Clock(
        on=request.on, steps=every.get("step", 1), batches=every.get("batch", 1), epochs=every.get("epoch", 1),
        examples=examples,
    )  # fmt: skip


def _series(asked: _Asked, where: str, size: tuple[int, ...], seed: int) -> Series:
    request, kind, clock, number = asked
    chosen = request.items.at_most(math.prod(size)) if request.where == "*" else request.items
    try:
        items = chosen.indices(math.prod(size), generator(seed, "record", request.spec, where))
    except ValueError as problem:
        raise UsageError(f"--record {request.spec}: {where or request.what}: {kind.axes[-1]}s: {problem}") from None
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


def _path(name: str, what: str) -> str:
    """Where a series lies in the file; names of NWB objects know neither '/' nor ':'."""
    legible = name.replace("->", "_to_")
    plain = re.sub(r"[^A-Za-z0-9_.@-]", "_", legible)
    if plain != legible:  # two names must not become one
        plain += f"_{zlib.crc32(name.encode()):08x}"
    if what == "spikes":
        return f"/neurosbd/spikes/{plain}/data"
    return f"/{'acquisition' if what in ('v', 'rate', 'gain', 'drive') else 'processing/learning'}/{plain}/data"


def _counts(clock: Clock, course: Course) -> dict[str, int]:
    """How many rows a clock will take, as factors."""
    if clock.per == "batch":
        total = course.batches["train"] * course.epochs
        stride = -(-total // clock.batches) + 1 if clock.around else total // clock.batches
        return {"row": max(1, stride)}
    return {
        "epoch": -(-course.epochs // clock.epochs) + (clock.on == "test"),  # and the one before the first
        "batch": -(-course.batches[clock.on] // clock.batches),
        "step": -(-course.steps // clock.steps),
    }


def _size(series: Series, clock: Clock, course: Course) -> tuple[str, int]:
    """The arithmetic of a size, and the size in bytes."""
    counts = _counts(clock, course)
    factors = [*counts.items(), *zip(series.axes[1:], series.columns, strict=True)]
    item = 1 if series.dtype == "uint8" else 4
    told = " x ".join(f"{n:,} {name if n == 1 else _plural(name)}" for name, n in factors)
    return f"{series.name}: {told} x {item} B", math.prod(counts.values()) * series.row_bytes


def _plural(unit: str) -> str:
    return f"{unit}es" if unit == "batch" else f"{unit}s"


def _readable(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
