"""What a person sees while a network learns: a live bar on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, TextIO

from neurosbd.errors import warn
from neurosbd.files.parsing import JsonTable
from neurosbd.measures import MEASURES, shown, title
from neurosbd.text import say

if TYPE_CHECKING:
    from tqdm import tqdm

Say = Callable[[str], None]


# What is followed of a population or connection, whether or not anything judges it: key -> its words and its unit.
DYNAMICS = {
    "rate": ("rate", "Hz"), "activity": ("mean |activity|", ""), "weight": ("mean weight", ""),
    "weight_change": ("mean |change of weights|", ""),
}  # fmt: skip


def epoch_line(metrics: JsonTable, epochs: int, left: float) -> str:
    """One line per epoch: losses and measures, or where nothing is judged what has changed; speed, time left."""
    width = len(str(epochs))
    judged = "  ".join(_judged(metrics, output) for output in judged_outputs(metrics))
    changed = "" if "test_loss" in metrics else ", ".join(_dynamics(metrics))
    return "  ".join([
        f"epoch {metrics['epoch']:>{width}}/{epochs}", *filter(None, (judged, changed)),
        f"{metrics['samples_per_second']:,.0f} samples/s", f"{duration(left)} left",
    ])  # fmt: skip


def judged_outputs(metrics: JsonTable) -> list[str]:
    """What the keys of the outputs that a line of metrics judges begin with: '' for the readout, or, if that is none
    of them, 'HEAD.' for every head."""
    if "test_loss" in metrics:
        return [""]
    return [key[len("test_") : -len("loss")] for key in metrics if key.startswith("test_") and key.endswith(".loss")]


def free_line(metrics: JsonTable) -> str:
    """One line per report of a free run: rates, activities and weights."""
    return f"{metrics['time']:g} s  {', '.join(_dynamics(metrics))}"


def _dynamics(metrics: JsonTable) -> list[str]:
    """Rates, activities, weights and their changes."""
    told = []
    for key, value in metrics.items():
        name, _, what = key.rpartition(".")
        if name and what in DYNAMICS:
            unit = DYNAMICS[what][1]
            told.append(f"{name} {'|dw| ' if what == 'weight_change' else ''}{value:.3g}{unit and f' {unit}'}")
    return told


def protocol_line(metrics: JsonTable) -> str:
    """One line per report of a protocol: what its trials came to."""
    told = [(key.replace("_", " "), value) for key, value in metrics.items()]
    return ", ".join(f"{name} {value:.4g}" for name, value in told if name not in ("epoch", "trials", "seconds"))


def _judged(metrics: JsonTable, output: str) -> str:
    """Loss and measures of an output on every split; of a head after its name."""
    there = [on for on in ("train", "validation", "test") if f"{on}_{output}loss" in metrics]
    judged = (f"{on} {metrics[f'{on}_{output}loss']:.4f} {_measures(metrics, f'{on}_{output}')}" for on in there)
    return "  ".join([*((f"{output.removesuffix('.')}:",) if output else ()), *judged])


def _measures(metrics: JsonTable, before: str) -> str:
    """Those of an output on a split; accuracies go without saying."""
    there = [name for name in MEASURES if f"{before}{name}" in metrics]
    words = [
        ("" if name == "accuracy" else f"{title(name)} ", shown(name, metrics[f"{before}{name}"])) for name in there
    ]
    return " ".join(f"{word}{value:>6}" for word, value in words)


def duration(seconds: float) -> str:
    """0:00:42"""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


class Reporter:
    """Prints to a stream; `live` draws a bar within the epoch, on a terminal only.

    A stream that is closed or full (a pager that was left, `| head -1`, a full disk) ends no run: it is said once, as a
    warning, and the run goes on without printing.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream if stream is not None else sys.stdout  # None: closed before the program began
        self.terminal = self.stream is not None and self.stream.isatty()
        self._bar: tqdm[NoReturn] | None = None

    def say(self, text: str) -> None:
        """A line of its own."""
        self.end_live()
        self._print(text)

    def live(self, epoch: int, done: int, steps: int, read: Callable[[], JsonTable]) -> None:
        """Show that batch `done` of `steps` is through, and now and then the loss so far, if there is one."""
        if not self.terminal:
            return
        try:
            if self._bar is None:
                from tqdm import tqdm

                self._bar = tqdm(
                    total=steps, initial=done - 1, desc=f"epoch {epoch}", unit="batch", leave=False, file=self.stream
                )
            self._bar.update(done - self._bar.n)
            if done % 50 == 0 and "loss" in (so_far := read()):
                self._bar.set_postfix(loss=f"{so_far['loss']:.4f}")
        except (OSError, ValueError) as problem:
            self._fall_silent(problem)

    def live_line(self, done: int, of: int, text: str) -> None:
        """A line that replaces the one before on a terminal; elsewhere a line at every tenth."""
        if self.terminal:
            self._print(f"{done / of:4.0%}  {text}", "\r\x1b[K", "\n" if done == of else "")
        elif done == of or done * 10 // of > (done - 1) * 10 // of:
            self.say(f"{done / of:4.0%}  {text}")

    def end_live(self) -> None:
        """Take the bar away."""
        bar, self._bar = self._bar, None
        if bar is not None:
            try:
                bar.close()
            except (OSError, ValueError) as problem:
                self._fall_silent(problem)

    def _print(self, text: str, start: str = "", end: str = "\n") -> None:
        if self.stream is None:
            return
        try:
            print(start, file=self.stream, end="")
            say(text, self.stream, end)
        except (OSError, ValueError) as problem:  # a ValueError: somebody closed it
            self._fall_silent(problem)

    def _fall_silent(self, problem: Exception) -> None:
        self.stream, self.terminal, self._bar = None, False, None
        reason = getattr(problem, "strerror", None) or problem
        warn(f"nothing more can be printed ({reason}); the work goes on, and what it writes is complete")


class Silent(Reporter):
    """Says nothing: for use as a library."""

    def __init__(self) -> None:
        self.stream = None
        self.terminal = False
        self._bar = None

    def live_line(self, done: int, of: int, text: str) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""
