"""Loggers: who is told how a run goes on. What they are told are dictionaries; what they make of them is theirs."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Protocol, TextIO

from neurosbd.errors import RunError, UsageError, nearest, warn
from neurosbd.files.parsing import Json, JsonTable
from neurosbd.measures import shown, title, unmeasured
from neurosbd.runs.interrupt import Interrupt
from neurosbd.runs.machine import first_line
from neurosbd.runs.progress import Reporter, duration, epoch_line, free_line, protocol_line
from neurosbd.runs.records import read_result
from neurosbd.runs.run import BEST, FIGURE, RESULT, write_metrics

Event = Mapping[str, Json]
EVENTS = ("on_start", "on_batch", "on_epoch", "on_checkpoint", "on_end")
LEARNING = "learning"  # what a complaint about the learning goes by, among those about populations
FOLDER = "tensorboard"  # in the run directory


class Logger(Protocol):
    """What `fit(loggers=[...])` takes: five methods, each told one dictionary (docs/loggers.md lists their keys)."""

    def on_start(self, event: Event) -> None:
        """The run begins or goes on: its directory, what it is, its length, and the metrics of the epochs before."""
        ...

    def on_batch(self, event: Event) -> None:
        """A batch is through: its epoch and number, and `read`, a function that waits for the device and returns the
        running means of the epoch."""
        ...

    def on_epoch(self, event: Event) -> None:
        """The line of metrics.jsonl of an epoch that is over, before its checkpoint is written."""
        ...

    def on_checkpoint(self, event: Event) -> None:
        """A checkpoint has been written: its path, and the epochs and batches that are in it."""
        ...

    def on_end(self, event: Event) -> None:
        """The run is over, however that came: result.json and the directory."""
        ...


class NullLogger:
    """Makes nothing of anything; derive from it to write only the methods that you want."""

    def on_start(self, event: Event) -> None:
        """Nothing."""

    def on_batch(self, event: Event) -> None:
        """Nothing."""

    def on_epoch(self, event: Event) -> None:
        """Nothing."""

    def on_checkpoint(self, event: Event) -> None:
        """Nothing."""

    def on_end(self, event: Event) -> None:
        """Nothing."""


class Loggers:
    """All loggers of a run, told in turn; one that fails ends the run and is told nothing more.

    Args:
        loggers: as a user gave them.
    Raises:
        UsageError: naming what is no logger.
    """

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self.each = _checked(loggers)
        self._started: list[Logger] = []

    def start(self, event: Event) -> None:
        """Tell all that the run begins."""
        for logger in self.each:
            self._call(logger, "on_start", event)
            self._started.append(logger)

    def tell(self, name: str, event: Event) -> None:
        """Call a method of all that have been started.

        Raises:
            RunError: naming the logger that failed, what it says, and caused by that.
        """
        for logger in tuple(self._started):
            self._call(logger, name, event)

    @contextmanager
    def ending(self, path: Path, read: Callable[[], JsonTable] | None = None) -> Iterator[None]:
        """Context of a run in `path`; at its end, however that is, all are told what result.json says.

        Args:
            path: of the run.
            read: in place of result.json.
        """
        read = read or partial(read_result, path / RESULT)
        try:
            yield
        except BaseException as end:
            result = {"status": "failed", "reason": str(end), "path": path}
            with suppress(UsageError):
                told = read()
                result |= told if told["status"] != "running" else {}  # as when the disk is full
            for logger in self._started:
                try:
                    logger.on_end(result)
                except Exception as problem:  # the run has a reason of its own already
                    warn(_failed(logger, "on_end", problem))
            raise
        result = {**read(), "path": path}
        try:
            self.tell("on_end", result)
        except RunError as problem:
            raise RunError(f"{problem}; the run itself is {result['status']} and kept in {path}") from problem.__cause__

    def say_rest(self, warnings: Sequence[str]) -> None:
        """What a run warns of and no console has said on the way is a Python warning now."""
        if not any(isinstance(logger, Console) for logger in self.each):
            for text in warnings:
                warn(text, stacklevel=4)

    def _call(self, logger: Logger, name: str, event: Event) -> None:
        try:
            getattr(logger, name)(event)
        except Exception as problem:  # whatever a user's logger may raise
            self._started = [other for other in self._started if other is not logger]
            raise RunError(_failed(logger, name, problem)) from problem


def _failed(logger: Logger, name: str, problem: Exception) -> str:
    return f"logger {type(logger).__name__} failed in {name}: {type(problem).__name__}: {first_line(problem)}"


def _checked(loggers: object) -> tuple[Logger, ...]:
    if isinstance(loggers, str) or not isinstance(loggers, Sequence):
        raise UsageError(f"loggers must be a list of loggers, such as [Console()], got {type(loggers).__name__}")
    for number, logger in enumerate(loggers):
        if isinstance(logger, type):
            raise UsageError(f"loggers[{number}] is the class {logger.__name__} itself; give {logger.__name__}(...)")
        lacking = [name for name in EVENTS if not callable(getattr(logger, name, None))]
        if lacking:
            raise UsageError(
                f"loggers[{number}] is a {type(logger).__name__} without {', '.join(lacking)}; a logger has "
                f"{', '.join(EVENTS)}, each of which takes one dictionary. Derive it from "
                f"neurosbd.runs.loggers.NullLogger to write only some of them"
            )
    return tuple(loggers)


class MetricsFile(NullLogger):
    """Keeps metrics.jsonl: a line per epoch.

    Args:
        path: of the run.
        metrics: the lines of epochs before; those that follow are appended.
        interrupt: of the run, so that no signal acts within the file.
    """

    def __init__(self, path: Path, metrics: list[JsonTable], interrupt: Interrupt) -> None:
        self._path, self._metrics, self._interrupt = path, metrics, interrupt

    def on_epoch(self, event: Event) -> None:
        """Write the file anew, whole."""
        self._metrics.append(dict(event))
        with self._interrupt.writing():
            write_metrics(self._path, self._metrics)


class Console(NullLogger):
    """Prints a line per epoch, what is wrong and how it ended; on a terminal also a bar within the epoch.

    Args:
        stream: to print to; none: the standard output.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._reporter = Reporter(stream)
        self._epochs = self._reports = 0
        self._seconds: list[float] = []
        self._complained: set[str] = set()

    def on_start(self, event: Event) -> None:
        """What is about to happen where."""
        say, path = self._reporter.say, event["path"]
        if event["start"] == "resumed":
            say(f"resuming {path}: {'nothing is left to do' if event['finished'] else _place(event)}")
        elif event["start"] == "nothing to resume":
            say(f"{path}: nothing to resume, the run starts")
        if event.get("from"):
            say(f"starting from the weights of {event['from']}")
        if event["recording"]:
            say(event["recording"])
        say(_protocol(event) if "protocol" in event else _free(event) if "duration" in event else _training(event))
        for sentence in unmeasured(event.get("unjudged", {})):
            say(sentence)
        self._epochs, self._reports = event.get("epochs", 0), event.get("reports", 0)
        self._seconds = [line["seconds"] for line in event.get("metrics", ())]
        self._complained = {name for line in event.get("metrics", ()) for name in line.get("warnings", ())}

    def on_batch(self, event: Event) -> None:
        """The bar; the loss is read now and then."""
        self._reporter.live(event["epoch"], event["batch"], event["batches"], event["read"])

    def on_epoch(self, event: Event) -> None:
        """Losses, measures, speed, time left; and what is newly wrong."""
        if "trials" in event:
            return self._reporter.live_line(event["epoch"], self._reports, protocol_line(dict(event)))
        if "time" in event:
            return self._reporter.say(free_line(dict(event)))
        self._seconds.append(event["seconds"])
        left = sum(self._seconds) / len(self._seconds) * (self._epochs - event["epoch"])
        self._reporter.say(epoch_line(dict(event), self._epochs, left))
        for name, complaint in event.get("warnings", {}).items():
            if name not in self._complained or (name == LEARNING and event["epoch"] == self._epochs):
                self._reporter.say(f"warning: {complaint}")
            self._complained.add(name)

    def on_end(self, event: Event) -> None:
        """How long it took and what came of it."""
        self._reporter.end_live()
        if event["status"] != "finished":
            return
        if event.get("stop") and event["stop"]["early"]:
            kept = f"; {BEST} has the weights after the best epoch" if event["stop"]["best"] else ""
            self._reporter.say(f"stopped after epoch {event['epochs']}: {event['stop']['reason']}{kept}")
        if event.get("best") or "unjudged" in event:
            self._reporter.say(_finished(event))
        for name, value in event.get("measures", {}).items():
            self._reporter.say(f"{name}: {math.nan if value is None else value:.4g}")
        if "measures" in event:
            self._reporter.say(_figure(event["path"]))


def _place(event: Event) -> str:
    """Where a run goes on."""
    if "protocol" in event:
        return f"at trial {event['trials'] + 1} of {event['of']:,}"
    if "duration" in event:
        return f"at {event['time']:g} s"
    return f"at epoch {event['epoch'] + 1}, batch {event['batch'] + 1}"


def _training(event: Event) -> str:
    expanded = f"score expanded by {event['expanded']} columns; " if event["expanded"] else ""
    held = f"{event['validation']:,} validation, " if event["validation"] else ""
    ranks = event["ranks"]
    shared = f", {ranks} ranks x {event['batch_size'] / ranks:g} examples" if ranks > 1 else ""
    return (
        f"{event['model']}: rule {event['rule']}, loss {event['loss']}, {event['weights']:,} weights; {expanded}"
        f"{event['data']}: {event['train']:,} train, {held}{event['test']:,} test; "
        f"{event['device']}{shared}, {_seed(event)}"
    )


def _seed(event: Event) -> str:
    """Of one run; of several how many there are, and why not at once."""
    seeds = event.get("seeds")
    if seeds is None:
        return f"seed {event['seed']}"
    if seeds["at_once"]:
        return f"{len(seeds['all'])} seeds at once, of which the lines are means"
    place = seeds["all"].index(event["seed"]) + 1
    return f"seed {event['seed']} ({place} of {len(seeds['all'])}, one after another: {seeds['because']})"


def _free(event: Event) -> str:
    units = ", ".join(f"{name} {' x '.join(map(str, size))}" for name, size in event["units"].items())
    rule = f"rule {event['rule']}" if event["rule"] else "nothing learns"
    return f"{event['model']}: {event['duration']:g} s; {units}; {rule}; {event['device']}, {_seed(event)}"


def _protocol(event: Event) -> str:
    return f"{event['model']}: protocol {event['protocol']}, rule {event['rule']}; {event['device']}, {_seed(event)}"


def _finished(result: Event) -> str:
    took, kept = f"finished in {duration(result['seconds'])}", f"run kept in {result['path']}"
    if not result["best"]:
        return f"{took}; {kept}"
    key = next(name for name in result["best"] if name != "epoch")
    name, value = key.removeprefix("test_"), result["final"][key]
    value = math.nan if value is None else value
    merit = f"loss {value:.4f}" if name == "loss" else f"{title(name)} {shown(name, value)}"
    return f"{took}: test {merit}; {kept}"


def _figure(path: Path) -> str:
    if (path / FIGURE).exists():
        return f"figure: {path / FIGURE}"
    return f"no figure: matplotlib is not installed (pip install 'neurosbd[report]'); the curves are in {path}"


class TensorBoard(NullLogger):
    """Writes every metric of every epoch as a scalar for TensorBoard: loss/train, loss/test, accuracy/test, ...

    Args:
        folder: of the event files; none: `tensorboard` in the run directory.
    Raises:
        UsageError: if TensorBoard is not installed.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as problem:
            raise UsageError(
                f"TensorBoard cannot be written to ({problem}); install it: pip install 'neurosbd[tensorboard]'"
            ) from None
        self._make, self._folder, self._writer = SummaryWriter, folder, None

    def on_start(self, event: Event) -> None:
        """Open the event file; what a run that was stopped had written of later epochs no longer counts."""
        folder = self._folder if self._folder is not None else event["path"] / FOLDER
        self._writer = self._make(str(folder), purge_step=event.get("epoch", 0) + 1)
        asked = {key: event[key] for key in ("model", "rule", "loss", "data", "device", "seed") if key in event}
        self._writer.add_text("run", ", ".join(f"{key} {value}" for key, value in asked.items()), 0)

    def on_epoch(self, event: Event) -> None:
        """A scalar for every number, and what is wrong as text."""
        assert self._writer is not None
        for key, value in event.items():
            if isinstance(value, int | float) and key != "epoch":
                self._writer.add_scalar(_tag(key), value, event["epoch"])
        for name, text in event.get("warnings", {}).items():
            self._writer.add_text(f"warnings/{name}", text, event["epoch"])
        self._writer.flush()

    def on_end(self, event: Event) -> None:
        """Close the event file; the figures of merit of an experiment come last."""
        assert self._writer is not None
        for name, value in event.get("measures", {}).items():
            if isinstance(value, int | float):
                self._writer.add_scalar(f"measures/{name}", value, event.get("epochs", 0))
        self._writer.close()


def _tag(key: str) -> str:
    """loss/train for train_loss, so that the splits share a picture."""
    split, _, name = key.partition("_")
    return f"{name}/{split}" if split in ("train", "validation", "test") else f"run/{key}"


BY_NAME = {"tensorboard": TensorBoard}  # what `--log` takes


def named(name: str) -> Logger:
    """The logger that `--log` asks for.

    Raises:
        UsageError: if there is none of that name, or it is not installed.
    """
    if name not in BY_NAME:
        raise UsageError(f"--log {name}: there is no such logger{nearest(name, BY_NAME)}")
    return BY_NAME[name]()
