"""Draw what `rules.py --kept FILE` has measured: time and memory of a step beside accuracy, and accuracy with depth.

    python benchmarks/rules_figure.py benchmarks/rules.json docs/rules.png

Needs matplotlib. What has not been measured is left out. Bars are of a step relative to backprop, logarithmic.
Accuracy is that of the last epoch, one dot for each seed: filled at equal epochs, hollow at equal CPU time.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rules import ALL, DEPTHS, MODELS, TRAINED, Measured, as_long

BLUE, ORANGE = "#0072B2", "#D55E00"  # Okabe-Ito
MARKS = "os^"  # of the first ten rules, the next, ..


def draw_costs(axes: Axes, measured: Measured, rules: list[str]) -> None:
    """Two bars a rule and network: CPU time, and the peak of what is held within a step."""
    places = np.arange(len(rules))
    bars = [(model, what) for what in ("time", "memory") for model in MODELS]
    for number, (model, what) in enumerate(bars):
        rows = {row.rule: row for row in measured.costs if row.model == model}
        ratio = {r: row.ratio if what == "time" else row.peak_mb / rows["bp"].peak_mb for r, row in rows.items()}
        shade = {"color": BLUE if what == "time" else ORANGE, "alpha": 0.45 if model == MODELS[0] else 1.0}
        kept = [(place, ratio[rule]) for place, rule in zip(places, rules, strict=True) if rule in ratio]
        offset = (number - 1.5) * 0.2
        label = f"{'CPU time' if what == 'time' else 'peak memory'}, {model}"
        lengths = [value - 1 for _, value in kept]  # bars begin at backprop
        axes.barh([place + offset for place, _ in kept], lengths, 0.18, left=1, label=label, **shade)
    axes.axvline(1, color="0.4", linewidth=0.8)
    axes.set(xscale="log", xlabel="one step, relative to backprop", yticks=places, yticklabels=rules, xlim=(0.65, 5))
    axes.set_xticks(ticks := [0.7, 1, 1.5, 2, 3, 4], [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=7, loc="upper right")


def draw_accuracies(axes: Axes, measured: Measured, rules: list[str], epochs: int) -> None:
    """Dots of seeds, at equal epochs and at equal time, beside the mean of backprop."""
    reference = [100 * a.test for a in measured.of(TRAINED, "bp", epochs) if a.test is not None]
    if reference:
        axes.axvline(float(np.mean(reference)), color="0.4", linewidth=0.8)
        axes.annotate("bp", (float(np.mean(reference)), 1), xycoords=("data", "axes fraction"), fontsize=8, ha="center")
    ratio = {row.rule: row.ratio for row in measured.costs if row.model == TRAINED}
    for place, rule in enumerate(rules):
        for count, offset, face in ((epochs, -0.12, BLUE), (as_long(ratio.get(rule, 1.0), epochs), 0.12, "none")):
            tests = [100 * a.test for a in measured.of(TRAINED, rule, count) if a.test is not None]
            axes.plot(tests, [place + offset] * len(tests), "o", markersize=4, color=BLUE, markerfacecolor=face)
    axes.set(xlabel=f"test accuracy, %: {TRAINED}, {epochs} epochs\n(filled; hollow: as long as backprop)")


def draw_depth(axes: Axes, measured: Measured, rules: list[str], epochs: int) -> None:
    """Mean over seeds against hidden layers; ten colours, then other marks."""
    for number, rule in enumerate(["bp", *reversed(rules)]):
        means = {}
        for depth in DEPTHS:
            tests = [a.test for a in measured.of(f"{depth} layers", rule, epochs) if a.test is not None]
            if tests:
                means[depth] = 100 * float(np.mean(tests))
        if means:
            color, mark = "black" if rule == "bp" else f"C{number % 10}", MARKS[number // 10]
            axes.plot(list(means), list(means.values()), f"{mark}-", label=rule, color=color, markersize=5)
    axes.set(xlabel="hidden layers of 256 units", ylabel=f"test accuracy, %, {epochs} epochs")
    axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))


def main() -> None:
    """Read, draw what is there, save."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    measured = Measured(Path(sys.argv[1]))
    measured.read()
    rules = [rule for rule in reversed(ALL) if any(row.rule == rule for row in measured.costs) and rule != "bp"]
    trained = any(a.model == TRAINED for a in measured.accuracies)
    deep = any(a.model != TRAINED for a in measured.accuracies)
    figure = Figure(figsize=(6 + 4 * trained + 4 * deep, 6.4), layout="constrained")
    panels = list(figure.subplots(1, 1 + trained + deep, squeeze=False)[0])
    draw_costs(panels.pop(0), measured, rules)
    if trained:
        panels[0].set_yticks(range(len(rules)), rules)
        draw_accuracies(panels.pop(0), measured, rules, measured.epochs)
    if deep:
        draw_depth(panels.pop(0), measured, rules, measured.epochs)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    FigureCanvasAgg(figure)
    figure.savefig(sys.argv[2], dpi=130)


if __name__ == "__main__":
    main()
