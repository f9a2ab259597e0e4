"""A picture of every pseudo-derivative: python benchmarks/surrogates.py [FILE.png]"""

import sys
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from neurosbd.surrogates import SURROGATES


def main() -> None:
    """Draw psi(x) of every surrogate with its default constants."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/surrogates.png")
    distance = torch.linspace(-2, 2, 801)
    shown = {name: make() for name, make in SURROGATES.items() if name != "none"}
    figure = Figure(figsize=(2.3 * len(shown), 2.4), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for axes, (name, surrogate) in zip(figure.subplots(1, len(shown), sharey=True), shown.items(), strict=True):
        axes.fill_between(distance, surrogate.derivative(distance.clone()), alpha=0.25)
        axes.plot(distance, surrogate.derivative(distance.clone()))
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("(v - threshold) / threshold", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    canvas.print_png(path)


if __name__ == "__main__":
    main()
