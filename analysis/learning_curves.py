"""Loss, accuracy (or what else a loss is judged by) and speed over the epochs: how the training went.

Everything comes from metrics.jsonl, so that runs without a trace have it too. Training values are means over the
batches of an epoch, each before its own update; test values are taken after the last one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosbd import Run, UsageError
from neurosbd.measures import MEASURES, title, unmeasured
from neurosbd.report import panels, quantity_field

OVERFITTED = 0.10  # gap between training and test, in accuracy or share explained
RISEN = 1.10  # loss over its own minimum
TAIL = 0.2  # part of the training that counts as its end


@dataclass(frozen=True)
class Result:
    """Values per epoch, counted from 1; NaN where something was not finite or not measured."""

    measure: tuple[str, ...]  # accuracy, or what values are judged by; the first is the one that counts
    epoch: np.ndarray = quantity_field("1", "epoch")
    train_loss: np.ndarray = quantity_field("1", "epoch")
    test_loss: np.ndarray = quantity_field("1", "epoch")
    train_measure: np.ndarray = quantity_field("1", "measure", "epoch")  # shares are 0..1
    test_measure: np.ndarray = quantity_field("1", "measure", "epoch")
    validation_loss: np.ndarray | None = quantity_field("1", "epoch")  # None: no such split
    validation_measure: np.ndarray | None = quantity_field("1", "measure", "epoch")
    samples_per_second: np.ndarray = quantity_field("1/s", "epoch")  # of learning, without the test
    seconds: np.ndarray = quantity_field("s", "epoch")  # with it
    peak_memory: float = quantity_field("MB")
    chance: float = quantity_field("1")  # the first measure of guessing, or of a constant; NaN where it is not known
    nominal: float = quantity_field("1")  # what the coverage should be; NaN where there are no intervals

    @property
    def train(self) -> np.ndarray:
        """The first measure, [epoch]."""
        return self.train_measure[0]

    @property
    def test(self) -> np.ndarray:
        """The first measure, [epoch]."""
        return self.test_measure[0]

    def said(self, value: float) -> str:
        """A value of the first measure in words."""
        return f"{value:.1%}" if MEASURES[self.measure[0]].percent else f"{value:.3f}"


def analyse(run: Run) -> Result:
    """The metrics of a run as arrays.

    Raises:
        UsageError: if no epoch was finished.
    """
    if not run.metrics:
        raise UsageError(f"{run.path}: no epoch was finished, so there are no curves yet; go on with --resume")
    if not any("train_loss" in line for line in run.metrics):
        if run.unjudged:
            raise UsageError(f"{'; '.join(unmeasured(run.unjudged))}; weight_changes shows what has changed")
        kind, what = (
            ("a protocol", "measures") if run.definition.protocol else ("a free run", "rates and weights over time")
        )
        raise UsageError(f"{kind} has no loss; its {what} are the figure of the run itself")
    memory = _column(run, "peak_memory_bytes")
    names = tuple(name for name in MEASURES if any(f"test_{name}" in line for line in run.metrics)) or ("accuracy",)
    held = any("validation_loss" in line for line in run.metrics)
    return Result(
        epoch=_column(run, "epoch"),
        train_loss=_column(run, "train_loss"),
        test_loss=_column(run, "test_loss"),
        measure=names,
        train_measure=np.array([_column(run, f"train_{name}") for name in names]),
        test_measure=np.array([_column(run, f"test_{name}") for name in names]),
        validation_loss=_column(run, "validation_loss") if held else None,
        validation_measure=np.array([_column(run, f"validation_{name}") for name in names]) if held else None,
        samples_per_second=_column(run, "samples_per_second"),
        seconds=_column(run, "seconds"),
        peak_memory=float(np.max(memory, initial=-np.inf, where=np.isfinite(memory))) / 1e6
        if np.isfinite(memory).any()
        else float("nan"),
        chance=_chance(run, names[0]),
        nominal=_nominal(run) if "coverage" in names else np.nan,
    )


def _column(run: Run, name: str) -> np.ndarray:
    values = [line.get(name) for line in run.metrics]
    return np.array([np.nan if value is None else value for value in values], float)


def _nominal(run: Run) -> float:
    """The probability of the interval whose coverage is measured; NaN if a plugin that the run needs is not here."""
    try:
        return float(getattr(run.definition.loss.build(), "interval_level", np.nan))
    except UsageError:
        return float("nan")


def _chance(run: Run, measure: str) -> float:
    """1 / classes, where every output stands for one; 0 for a share explained; NaN if that is not known."""
    if measure != "accuracy":
        return 0.0
    try:
        definition = run.definition
    except UsageError:  # a plugin that the run needs is not here; the curves need none
        return float("nan")
    outputs = int(np.prod(definition.output_size()))
    classes = outputs > 1 and (definition.task is None or definition.loss.kind == "cross_entropy")
    return 1 / outputs if classes else float("nan")


def figure(result: Result) -> Any:
    """Loss, accuracy and throughput against the epoch."""
    there = [i for i in range(len(result.measure)) if _any(result.train_measure[i]) or _any(result.test_measure[i])]
    drawn, axes = panels(2 + len(there))
    loss, *middle, speed = axes
    _curves(loss, result.epoch, result.train_loss, result.validation_loss, result.test_loss)
    values = np.concatenate([result.train_loss, result.test_loss])
    positive = values[np.isfinite(values) & (values > 0)]
    if len(positive) and positive.max() > 10 * positive.min():
        loss.set_yscale("log")
        loss.tick_params(which="minor", labelsize=7)
    loss.set(title="Loss", ylabel="mean loss")
    loss.legend(frameon=False, fontsize=8)
    for ax, i in zip(middle, there, strict=True):
        _measure(ax, result, i)
    speed.plot(result.epoch, result.samples_per_second, ".-", markersize=4, color="0.3", linewidth=1.2)
    speed.set(title="Throughput of learning", ylabel="examples / s", ylim=(0, None))
    for ax in axes:
        ax.set_xlabel("epoch")
        ax.locator_params(axis="x", integer=True)
    return drawn


def _measure(ax: Any, result: Result, i: int) -> None:
    """One measure, with what it would be without learning, or what it should be."""
    name = result.measure[i]
    percent = MEASURES[name].percent
    factor, word = (100, f"{title(name)} (%)") if percent else (1, title(name))
    held = None if result.validation_measure is None else factor * result.validation_measure[i]
    _curves(ax, result.epoch, factor * result.train_measure[i], held, factor * result.test_measure[i])
    level, label = (result.nominal, "nominal") if name == "coverage" else (result.chance, "guessing")
    if np.isfinite(level):
        label = "a constant" if i == 0 and name != "accuracy" else label
        ax.axhline(factor * level, color="0.5", linestyle="--", linewidth=1, label=label)
    ax.set(title=title(name)[0].upper() + title(name)[1:], ylabel=word)
    ax.legend(frameon=False, fontsize=8, loc="best")


def _curves(ax: Any, epoch: np.ndarray, train: np.ndarray, held: np.ndarray | None, test: np.ndarray) -> None:
    """Test over training, and validation if there is any, with marks so that a single epoch can be seen."""
    ax.plot(epoch, train, ".--", markersize=4, linewidth=1.2, label="training")
    if held is not None:
        ax.plot(epoch, held, ".-.", markersize=4, linewidth=1.2, label="validation")
    ax.plot(epoch, test, ".-", markersize=4, linewidth=1.6, label="test")


def caption(result: Result) -> str:
    """Where it ended, how good it was at best, how long it took."""
    last, total = int(result.epoch[-1]), float(np.nansum(result.seconds))
    speed = f"{np.nanmedian(result.samples_per_second):,.0f} examples/s" if _any(result.samples_per_second) else ""
    memory = f", {result.peak_memory:,.0f} MB at most" if np.isfinite(result.peak_memory) else ""
    cost = f"It took {total:,.1f} s ({speed}{memory})." if speed else f"It took {total:,.1f} s."
    if not _any(result.test):
        test, train = result.test_loss[-1], result.train_loss[-1]
        return f"After epoch {last} the test loss is {test:.3g} (training {train:.3g}). {cost}"
    best, said = int(np.nanargmax(result.test)), result.said
    guessing = f", guessing {said(result.chance)}" if result.chance > 0 else ""
    covered = ""
    if "coverage" in result.measure:
        share = result.test_measure[result.measure.index("coverage"), -1]
        covered = f" Intervals of {result.nominal:.0%} hold {share:.1%} of the test targets."
    return (
        f"After epoch {last} the test {title(result.measure[0])} is {said(result.test[-1])} (training "
        f"{said(result.train[-1])}{guessing}); the best was {said(result.test[best])} after epoch "
        f"{int(result.epoch[best])}.{covered} {cost}"
    )


def _any(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).any())


def advice(result: Result) -> list[str]:
    """What is unhealthy: no finite loss, a loss that rises, guessing, over-fitting, an end that came too early."""
    found = [_not_finite(result), _guessing(result), _rising(result), _overfitted(result), _unfinished(result)]
    return [text for text in found if text]


def _not_finite(result: Result) -> str | None:
    broken = result.epoch[~(np.isfinite(result.train_loss) & np.isfinite(result.test_loss))]
    if not len(broken):
        return None
    return (
        f"the loss is NaN or infinite in {len(broken)} of {len(result.epoch)} epochs, first in epoch {int(broken[0])}; "
        f"try a third of the learning rate (training.optimizer.lr), or training.clip_norm = 1.0"
    )


def _guessing(result: Result) -> str | None:
    """Judged by the best epoch, so that a collapse at the end is told as a rise of the loss."""
    both = np.concatenate([result.train, result.test])
    if len(result.epoch) < 2 or not (_any(both) and np.isfinite(result.chance)):
        return None
    best, limit = np.nanmax(both), min(2 * result.chance, result.chance + 0.1 * (1 - result.chance))
    if best >= limit:
        return None
    guess = "guessing" if result.measure[0] == "accuracy" else "a constant"
    return (
        f"the {title(result.measure[0])} never left chance: {result.said(best)} at best, {guess} gives "
        f"{result.said(result.chance)}; try a learning rate "
        f"3 to 10 times larger or smaller, a faster output layer (training.rates), and rule = 'bp' to see whether the "
        f"network and the data can be learned at all"
    )


def _rising(result: Result) -> str | None:
    loss = result.train_loss
    if len(loss) < 3 or not np.isfinite(loss[-1]):
        return None
    low = int(np.nanargmin(loss))
    if loss[-1] <= RISEN * abs(loss[low]) or low >= len(loss) - 2:
        return None
    return (
        f"the training loss rises again, from {loss[low]:.3g} in epoch {int(result.epoch[low])} to {loss[-1]:.3g}: "
        f"the updates no longer descend; try a lower learning rate or a schedule that ends near zero "
        f"(training.schedule = 'one_cycle' or 'cosine')"
    )


def _overfitted(result: Result) -> str | None:
    gap = result.train[-1] - result.test[-1]
    augmented = " or augmented data (data.flip, data.crop)" if result.measure[0] == "accuracy" else ""
    if gap > OVERFITTED:
        return (
            f"over-fitting: training {title(result.measure[0])} {result.said(result.train[-1])}, test "
            f"{result.said(result.test[-1])}, a gap of {100 * gap:.1f} points; try weight decay, more data{augmented}, "
            f"or a smaller network"
        )
    loss = result.test_loss
    low = int(np.nanargmin(loss)) if _any(loss) else 0
    if low < len(loss) - 2 and loss[-1] > RISEN * loss[low] and result.train_loss[-1] < result.train_loss[low]:
        return (
            f"over-fitting: the test loss rose from {loss[low]:.3g} in epoch {int(result.epoch[low])} to "
            f"{loss[-1]:.3g} while the training loss fell; try fewer epochs, weight decay, or augmentation"
        )
    return None


def _unfinished(result: Result) -> str | None:
    """Still gaining at least half a point per epoch over the last fifth."""
    length = int(TAIL * len(result.epoch))
    if length < 2 or not np.isfinite(result.test[[-1, -1 - length]]).all():
        return None
    gain = 100 * (result.test[-1] - result.test[-1 - length]) / length
    if gain < 0.5:
        return None
    return (
        f"the test {title(result.measure[0])} was still rising by {gain:.1f} points per epoch at the end; more epochs "
        f"should help"
    )
