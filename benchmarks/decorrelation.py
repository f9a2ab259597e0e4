"""Two pictures of runs side by side: how score and activity decorrelate, and how large the activity becomes.

    for rule in bp sbd dfa; do
        neurosbd fit cifar10-small --rule $rule --set data.subset=1000 --set data.test_subset=200 \
            --set training.epochs=8 --record "*.rate[on=test, neurons=random 400]" --record "score[on=test]" \
            --out runs/recorded-$rule
    done
    python benchmarks/decorrelation.py runs/recorded-{bp,sbd,dfa} --out docs

Writes decorrelation.png (the analysis `decorrelation` of each run) and activity.png (`layer_health`), prints the
figures. Needs matplotlib.
"""

import argparse
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg

import neurosbd
from neurosbd.report import COLOURS, panels
from neurosbd.report.analyses import describe

NAMES = {"bp": "backprop", "sbd": "SBD", "ebd": "EBD", "dfa": "DFA"}


def analysed(name: str, run: neurosbd.Run) -> Any:
    """The result of a shipped analysis."""
    return describe(name).load().analyse(run)


def title(run: neurosbd.Run) -> str:
    """Rule and final test accuracy."""
    rule = run.definition.rule.kind
    return f"{NAMES.get(rule, rule)} ({run.metrics[-1]['test_accuracy']:.1%})"


def draw(runs: list[neurosbd.Run], results: list[Any], field: str, along: str, label: str, log: bool) -> Any:
    """A panel per run with one line per layer, on the same axes."""
    figure, axes = panels(len(runs), columns=len(runs), width=2.9)
    highest = max(getattr(result, field).max() for result in results)
    lowest = min(getattr(result, field).min() for result in results)
    for ax, run, result in zip(axes, runs, results, strict=True):
        for layer, values, colour in zip(result.layer, getattr(result, field), COLOURS, strict=False):
            ax.plot(getattr(result, along), values, "o-", color=colour, markersize=3, label=layer)
        if hasattr(result, "independent") and field == "correlation":
            ax.plot(result.epoch, result.independent, "--", color="0.5", linewidth=1, label="if independent")
        ax.set(title=title(run), xlabel="epoch", ylabel=label if ax is axes[0] else "")
        if log:
            ax.set_yscale("log")
            ax.set_ylim(lowest / 1.5, highest * 1.5)
        else:
            ax.set_ylim(0, highest * 1.1)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=8)
    return figure


def main() -> None:
    """Analyse, draw, save, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--out", default=".", help="folder of the pictures")
    options = parser.parse_args()
    runs = [neurosbd.open_run(path) for path in options.runs]
    pictures = {
        "decorrelation": ("decorrelation", "correlation", "epoch", "mean |correlation|", False),
        "activity": ("layer_health", "magnitude", "progress", "mean |activity|", True),
    }
    for file, (analysis, field, along, label, log) in pictures.items():
        results = [analysed(analysis, run) for run in runs]
        figure = draw(runs, results, field, along, label, log)
        FigureCanvasAgg(figure)
        figure.savefig(Path(options.out) / f"{file}.png", dpi=150)
        for run, result in zip(runs, results, strict=True):
            ends = [f"{n} {v[0]:.3g} -> {v[-1]:.3g}" for n, v in zip(result.layer, getattr(result, field), strict=True)]
            print(f"{label}, {run.definition.rule.kind}: {', '.join(ends)}")


if __name__ == "__main__":
    main()
