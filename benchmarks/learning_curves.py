"""Draw test accuracy against epochs for the runs that `accuracy.py --out DIR` kept.

    python benchmarks/accuracy.py cifar10-small --set data.subset=1000 --out runs/small
    python benchmarks/learning_curves.py runs/small docs/learning_curves.png "CIFAR-10, 10,000 images, small CNN"

Needs matplotlib.

Thin lines are seeds, thick lines their mean.
"""

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import neurosbd

# Okabe-Ito: distinguishable with any colour vision; line styles for print.
STYLES = {"bp": ("#000000", "--"), "sbd": ("#D55E00", "-"), "ebd": ("#0072B2", "-."), "dfa": ("#009E73", ":")}
NAMES = {"bp": "backprop", "sbd": "SBD", "ebd": "EBD", "dfa": "DFA"}


def main() -> None:
    """Read the runs, draw, save."""
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    curves: dict[str, list[list[float]]] = defaultdict(list)
    for path in sorted(Path(sys.argv[1]).iterdir()):
        run = neurosbd.open_run(path)
        curves[run.definition.rule.kind].append([line["test_accuracy"] for line in run.metrics])
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    ends = {}
    for rule in [r for r in STYLES if r in curves]:
        colour, style = STYLES[rule]
        epochs = np.arange(1, len(curves[rule][0]) + 1)
        for curve in curves[rule]:
            axes.plot(epochs, curve, color=colour, alpha=0.3, linewidth=0.8)
        mean = np.mean(curves[rule], axis=0)
        axes.plot(epochs, mean, style, color=colour, linewidth=2)
        ends[rule] = (epochs[-1], mean[-1], colour)
    lowest = 1.0
    for rule, (x, y, colour) in sorted(ends.items(), key=lambda item: -item[1][1]):
        lowest = min(y, lowest - 0.02)  # labels a line apart, from the top down
        axes.annotate(
            f"{NAMES[rule]} {y:.1%}", (x, lowest), (6, 0), textcoords="offset points", color=colour, va="center"
        )
    axes.set(xlabel="epoch", ylabel="test accuracy", xlim=(1, None), title=sys.argv[3])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.spines[["top", "right"]].set_visible(False)
    FigureCanvasAgg(figure)
    figure.savefig(sys.argv[2], dpi=150)


if __name__ == "__main__":
    main()
