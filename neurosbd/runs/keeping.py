"""What an experiment came to, beside its run: measures, curves and a figure."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from neurosbd.errors import RunError
from neurosbd.files.parsing import JsonTable
from neurosbd.files.writing import write_atomic
from neurosbd.runs.run import FIGURE, RESULT, Run, open_run, write_curves, write_record
from neurosbd.tasks import Findings, Panel


def keep(path: Path, result: JsonTable, findings: Findings) -> Run:
    """Write measures and figure.

    Raises:
        RunError: if they cannot be written; result.json says so then, if it can be.
    """
    try:
        write_curves(path, findings.panels)
        _draw(findings.panels, path / FIGURE)
        write_record(path / RESULT, {**result, "measures": dict(findings.measures)})
    except OSError as problem:
        reason = f"{path}: measures and figure cannot be written ({problem.strerror})"
        with suppress(OSError):
            write_record(path / RESULT, {**result, "status": "failed", "reason": reason})
        raise RunError(f"{reason}; what went before is kept there") from None
    return open_run(path)


def _draw(panels: Sequence[Panel], path: Path) -> None:
    """Draw panels side by side into a PNG, where matplotlib is installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(5.5 * len(panels), 3.8), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        drawn = []
        for label, (x, y) in panel.lines.items():
            alone = len(x) == 1  # a line through one point is nothing
            drawn += axes.plot(x, y, "o" if alone or label in panel.points else "-", markersize=4)
        axes.set(title=panel.title, xlabel=panel.xlabel, ylabel=panel.ylabel)
        axes.axhline(0, color="0.8", zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
        if len(panel.lines) > 1:
            axes.legend(drawn, list(panel.lines), frameon=False)  # left to itself it drops names such as '_cell'
    canvas = FigureCanvasAgg(figure)
    write_atomic(path, lambda stream: canvas.print_png(stream))
