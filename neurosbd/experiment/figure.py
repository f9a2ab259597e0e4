"""The figure of an experiment; matplotlib is loaded only here."""

from collections.abc import Sequence
from pathlib import Path

from neurosbd.files import write_atomic
from neurosbd.tasks import Panel


def draw(panels: Sequence[Panel], path: Path) -> str:
    """Draw panels side by side into a PNG; returns a line that says where it is, or what is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return (
            f"no figure: matplotlib is not installed (pip install 'neurosbd[report]'); the curves are in {path.parent}"
        )
    figure = Figure(figsize=(5.5 * len(panels), 3.8), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for label, (x, y) in panel.lines.items():
            axes.plot(x, y, "o" if label in panel.points else "-", label=label, markersize=4)
        axes.set(title=panel.title, xlabel=panel.xlabel, ylabel=panel.ylabel)
        axes.axhline(0, color="0.8", zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
        if len(panel.lines) > 1:
            axes.legend(frameon=False)
    canvas = FigureCanvasAgg(figure)
    write_atomic(path, lambda stream: canvas.print_png(stream))
    return f"figure: {path}"
