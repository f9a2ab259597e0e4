"""Predicted distributions against what happened: where targets fall in them, coverage, and the truth if it is known.

    pit_n = P(Y < y_n | x_n) + U P(Y = y_n | x_n),   U uniform on [0, 1]     (probability integral transform)

If the predicted distributions are right, the pit of the test targets is uniform, and a central interval of probability
L holds a share L of them: |pit - 1/2| <= L / 2. Both are estimated with draws from the model, so that they are defined
for every loss that describes a distribution, counts included. For generated data the predicted mean and spread are set
against the true ones.

Source: Dawid 1984, J. R. Stat. Soc. A 147:278 (pit); for counts Czado, Gneiting, Held 2009, Biometrics 65:1254;
Gneiting, Balabdaoui, Raftery 2007, J. R. Stat. Soc. B 69:243.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neurosbd import Run, UsageError
from neurosbd.measures import unmeasured
from neurosbd.report import COLOURS, panels, quantity_field
from neurosbd.runs.prediction import Prediction, predicted

DRAWS = 1000  # per target
BINS = 20
SHOWN = 250  # examples that are kept
LEVELS = np.round(np.arange(0.1, 0.95, 0.1), 1)
FAR = 0.03  # of a coverage from its level, besides three standard errors


@dataclass(frozen=True)
class Result:
    """What the test split says; values and spreads are in the units of the data."""

    variable: tuple[str, ...]
    bin: np.ndarray = quantity_field("1", "bin")  # middle
    pit: np.ndarray = quantity_field("1", "bin")  # density; 1 everywhere if the distributions are right
    level: np.ndarray = quantity_field("1", "level")
    covered: np.ndarray = quantity_field("1", "level")  # share of the targets in the central interval
    targets: int = quantity_field("1")  # in the test split, all variables
    target: np.ndarray = quantity_field("unit of the data", "example", "variable")
    mean: np.ndarray = quantity_field("unit of the data", "example", "variable")  # predicted
    std: np.ndarray = quantity_field("unit of the data", "example", "variable")
    true_mean: np.ndarray = quantity_field("unit of the data", "example", "variable")  # NaN where it is not known
    true_std: np.ndarray = quantity_field("unit of the data", "example", "variable")
    x: np.ndarray = quantity_field("unit of the data", "example")  # a single input; NaN if there are several
    mean_error: float = quantity_field("1")  # rms of (mean - true mean) / true std
    spread_ratio: float = quantity_field("1")  # geometric mean of std / true std
    spread_correlation: float = quantity_field("1")  # of the logarithms of both


def analyse(run: Run) -> Result:
    """Draw from the predicted distribution of every test target.

    Raises:
        UsageError: if the run predicts no distribution of values.
    """
    if run.unjudged:
        raise UsageError("; ".join(unmeasured(run.unjudged)))
    if any("test_accuracy" in line for line in run.metrics):
        raise UsageError(f"{run.path}: has classes or a task; calibration is for values to predict")
    if run.definition.simulation is not None:
        raise UsageError("a free run predicts nothing; calibration is for values to predict")
    if run.definition.loss.kind == "squared_error":
        raise UsageError("squared_error predicts means alone; gaussian, crps and pinball predict the spread as well")
    found = predicted(run)
    draws, target = _draws(found)
    pit = _pit(draws, target)
    truth = found.data.test.truth
    nothing = np.full(target.shape, np.nan)
    true_mean, true_std = (truth.mean, truth.std) if truth is not None else (nothing, nothing)
    mean, std = draws.mean(0), draws.std(0)
    keep = slice(0, SHOWN)
    alone = found.data.size == (1,)
    height, edges = np.histogram(pit, BINS, (0, 1), density=True)
    ratio = np.log(std) - np.log(true_std)
    return Result(
        variable=found.data.variables,
        bin=(edges[1:] + edges[:-1]) / 2,
        pit=height,
        level=LEVELS,
        covered=np.array([np.mean(np.abs(pit - 0.5) <= level / 2) for level in LEVELS]),
        targets=target.size,
        target=target[keep],
        mean=mean[keep],
        std=std[keep],
        true_mean=true_mean[keep],
        true_std=true_std[keep],
        x=found.data.test.values[keep, 0].astype(float) if alone else np.full(len(target[keep]), np.nan),
        mean_error=float(np.sqrt(np.mean(((mean - true_mean) / true_std) ** 2))),
        spread_ratio=float(np.exp(ratio.mean())),
        spread_correlation=float(np.corrcoef(np.log(std).ravel(), np.log(true_std).ravel())[0, 1])
        if truth is not None
        else float("nan"),
    )


def _draws(found: Prediction) -> tuple[np.ndarray, np.ndarray]:
    """Draws [DRAWS, N, k] and targets [N, k], in the units of the data."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([found.loss.sample(found.output, generator) for _ in range(DRAWS)])
    return tuple((found.offset + found.scale * values).double().numpy() for values in (drawn, found.target))  # type: ignore[return-value]


def _pit(draws: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Randomised probability integral transform of every target, [N, k]."""
    u = np.random.default_rng(0).random(target.shape)
    return (draws < target).mean(0) + u * (draws == target).mean(0)


def figure(result: Result) -> Any:
    """Histogram of the pit, coverage against its level, and predictions against the truth or the targets."""
    known = bool(np.isfinite(result.true_std).any())
    alone = bool(np.isfinite(result.x).any())
    drawn, axes = panels(4 if known else 3, columns=4)
    _histogram(axes[0], result)
    axes[1].plot([0, 100], [0, 100], "--", color="0.5", linewidth=1)
    axes[1].plot(100 * result.level, 100 * result.covered, "o-", markersize=4)
    axes[1].set(title="Central intervals", xlabel="probability (%)", ylabel="targets inside (%)")
    if alone:
        _band(axes[2], result, known)
    elif known:
        _against(axes[2], result.true_mean, result.mean, "mean")
    else:
        _against(axes[2], result.target, result.mean, "mean", "observed")
    if known:
        _against(axes[3], result.true_std, result.std, "standard deviation")
    return drawn


def _histogram(ax: Any, result: Result) -> None:
    width = 1 / BINS
    ax.bar(result.bin, result.pit, 0.92 * width, color=COLOURS[0], alpha=0.6)
    error = 2 * np.sqrt((1 - width) / (width * result.targets))
    ax.axhspan(1 - error, 1 + error, color="0.5", alpha=0.25, linewidth=0, zorder=0, label="uniform, 2 s.e.")
    ax.axhline(1, color="0.4", linewidth=1)
    ax.set(
        title="Where targets fall in their forecast",
        xlabel="probability integral transform",
        ylabel="density",
        xlim=(0, 1),
    )
    ax.set_ylim(top=1.25 * max(1 + error, result.pit.max()))
    ax.legend(frameon=False, fontsize=8, loc="upper right")


def _band(ax: Any, result: Result, known: bool) -> None:
    """One input: targets, predicted mean and two deviations, and the truth."""
    order = np.argsort(result.x)
    x, mean, std = result.x[order], result.mean[order, 0], result.std[order, 0]
    ax.plot(result.x, result.target[:, 0], ".", color="0.6", markersize=3, label="targets")
    ax.fill_between(x, mean - 2 * std, mean + 2 * std, color=COLOURS[0], alpha=0.25, linewidth=0)
    ax.plot(x, mean, color=COLOURS[0], linewidth=1.5, label="predicted, 2 std")
    if known:
        truth, spread = result.true_mean[order, 0], result.true_std[order, 0]
        ax.plot(x, truth, "--", color=COLOURS[1], linewidth=1, label="truth, 2 std")
        for sign in (-2, 2):
            ax.plot(x, truth + sign * spread, "--", color=COLOURS[1], linewidth=1)
    ax.set(title="Mean and spread", xlabel="input", ylabel=result.variable[0])
    ax.legend(frameon=False, fontsize=7)


def _against(ax: Any, known: np.ndarray, found: np.ndarray, what: str, word: str = "true") -> None:
    ends = [float(min(known.min(), found.min())), float(max(known.max(), found.max()))]
    ax.plot(ends, ends, "--", color="0.5", linewidth=1)
    ax.plot(known.ravel(), found.ravel(), ".", markersize=3, alpha=0.6)
    ax.set(title=what[0].upper() + what[1:], xlabel=word, ylabel="predicted")


def caption(result: Result) -> str:
    """Coverage at 90 %, and how near the truth is."""
    last = result.covered[-1]
    text = (
        f"Central intervals of {result.level[-1]:.0%} hold {last:.1%} of {result.targets:,} test targets, those of "
        f"{result.level[4]:.0%} hold {result.covered[4]:.1%}."
    )
    if not np.isfinite(result.spread_ratio):
        return text
    return (
        f"{text} The predicted mean is {result.mean_error:.2f} true standard deviations from the true one (rms); the "
        f"predicted standard deviation is {result.spread_ratio:.2f} times the true one (geometric mean, correlation of "
        f"the logarithms {result.spread_correlation:.2f})."
    )


def advice(result: Result) -> list[str]:
    """Intervals that are too narrow or too wide."""
    level, share = result.level[-1], result.covered[-1]
    error = np.sqrt(level * (1 - level) / result.targets)
    if abs(share - level) <= max(FAR, 3 * error):
        return []
    if share < level:
        return [
            f"the forecast is too sure: intervals of {level:.0%} hold {share:.1%} of the targets; try fewer epochs, "
            f"weight decay, more data, or for counts a negative_binomial with a smaller r"
        ]
    return [
        f"the forecast is too vague: intervals of {level:.0%} hold {share:.1%} of the targets; try more epochs, a "
        f"higher learning rate, or for counts poisson or a larger r"
    ]
