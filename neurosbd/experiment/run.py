"""The run directory: what a fit leaves behind, and how to open it again."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from neurosbd import checkpoints
from neurosbd.errors import UsageError
from neurosbd.experiment.definition import Definition
from neurosbd.experiment.machine import provenance
from neurosbd.files import read_json, write_text
from neurosbd.network import Network
from neurosbd.schema import validate
from neurosbd.tasks import Panel
from neurosbd.text import csv_table
from neurosbd.traces import NotRecorded, Trace, open_trace
from neurosbd.traces.writer import PARTIAL

CONFIG, METRICS, RESULT, CHECKPOINT = "config.json", "metrics.jsonl", "result.json", "checkpoint.pt"
CURVES, TRACE = "curves.csv", "trace.h5"


@dataclass(frozen=True)
class Run:
    """A run on disk.

    path: its directory.
    config: everything resolved: model, data, rule, optimizer, seed, versions, commit, device.
    metrics: one dictionary per finished epoch: loss and measures of training and test (shares are fractions 0..1).
    result: final and best values and the status ('finished', 'interrupted', 'failed', 'running').
    """

    path: Path
    config: dict[str, Any]
    metrics: list[dict[str, Any]]
    result: dict[str, Any]

    @property
    def definition(self) -> Definition:
        """The resolved definition this run carried out."""
        return validate(Definition, self.config["definition"], str(self.path / CONFIG))

    @cached_property
    def trace(self) -> Trace:
        """What was recorded, opened when first asked for; of a run that is not finished, up to its last block.

        Raises:
            UsageError: if nothing was recorded, or the file is not readable.
        """
        whole, partial = self.path / TRACE, self.path / f"{TRACE}{PARTIAL}"
        if not (whole.exists() or partial.exists()):
            raise NotRecorded(
                f"{self.path}: nothing was recorded; run again with --record, for example --record '*.rate'", "*.rate"
            )
        return open_trace(whole if whole.exists() else partial)

    def network(self) -> Network:
        """The network with the weights of the last checkpoint, on the CPU, not learning."""
        network = self.definition.network()
        network.load_state_dict(self.checkpoint()["network"])
        return network.eval()

    def checkpoint(self) -> dict[str, Any]:
        """Everything in the last checkpoint (weights, projections, optimizer, position)."""
        return checkpoints.load(self.path / CHECKPOINT)


def open_run(path: str | Path) -> Run:
    """Open the directory of a run, finished or not, or a trace file by itself.

    Raises:
        UsageError: if it holds no run.
    """
    path = Path(path)
    if path.is_file():
        return _lone_trace(path)
    if not (path / CONFIG).is_file():
        raise UsageError(f"{path}: holds no run (no {CONFIG}); give the directory that `neurosbd fit` printed")
    metrics = []
    if (path / METRICS).exists():
        lines = (path / METRICS).read_text(encoding="utf-8").splitlines()
        try:
            metrics = [json.loads(line) for line in lines if line]
        except ValueError as problem:
            raise UsageError(f"{path / METRICS}: not a line of JSON per epoch ({problem})") from None
    result = read_json(path / RESULT) if (path / RESULT).exists() else {"status": "running"}
    return Run(path, read_json(path / CONFIG), metrics, result)


def _lone_trace(path: Path) -> Run:
    """The run of a trace file; without its directory it has no metrics and no checkpoint."""
    if path.name in (TRACE, f"{TRACE}{PARTIAL}") and (path.parent / CONFIG).is_file():
        return open_run(path.parent)
    trace = open_trace(path)
    run = Run(path.parent, trace.config, [], {"status": "unknown"})
    vars(run)["trace"] = trace
    return run


def holds_run(path: Path) -> bool:
    """Whether a run is in this directory."""
    return (path / CONFIG).exists()


def begin(definition: Definition, out: str | Path | None, device: torch.device) -> Path:
    """Make a run directory that holds what is to be done, and where: config.json, and no metrics yet.

    Args:
        definition: resolved.
        out: the directory; none: runs/MODEL-RULE-seedN, numbered if taken.
        device: that the run is on.

    Raises:
        UsageError: if it holds a run already, or cannot be written.
    """
    path = Path(out) if out is not None else free_name(stem(definition))
    if holds_run(path):
        raise UsageError(f"{path}: holds a run already; continue it with --resume or choose another --out")
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_text(path / METRICS, "")
    except OSError as problem:
        raise UsageError(f"{path}: cannot be written ({problem.strerror}); choose another --out") from None
    write_record(path / CONFIG, {"format": 1, "definition": definition.model_dump(mode="json"), **provenance(device)})
    return path


def sweep(path: Path) -> None:
    """Remove temporary files that a killed run could not."""
    for name in (CONFIG, METRICS, RESULT, CHECKPOINT):
        for leftover in path.glob(f".{name}-*"):
            leftover.unlink(missing_ok=True)


def stem(definition: Definition) -> str:
    """Name of a run directory, if nobody says."""
    return f"{definition.name}-{definition.rule.kind}-seed{definition.seed}"


def free_name(stem: str) -> Path:
    """runs/STEM, or the next of runs/STEM-2, -3, ... that holds no run."""
    path, number = Path("runs") / stem, 2
    while holds_run(path):
        path, number = Path("runs") / f"{stem}-{number}", number + 1
    return path


def latest_name(stem: str) -> Path:
    """The last of runs/STEM, runs/STEM-2, ... that holds a run, or runs/STEM."""
    path, number = Path("runs") / stem, 2
    while holds_run(Path("runs") / f"{stem}-{number}"):
        path, number = Path("runs") / f"{stem}-{number}", number + 1
    return path


def write_metrics(path: Path, metrics: list[dict[str, Any]]) -> None:
    """Replace the metrics file; a line per epoch."""
    write_text(path / METRICS, "".join(json.dumps(_plain(line)) + "\n" for line in metrics))


def write_record(path: Path, content: dict[str, Any]) -> None:
    """Replace config.json or result.json."""
    write_text(path, json.dumps(_plain(content), indent=1) + "\n")


def write_curves(path: Path, panels: Sequence[Panel]) -> None:
    """Write the curves of a figure, a row per point: panel, line, x, y."""
    rows = [
        (panel.title, label, f"{float(a):.9g}", f"{float(b):.9g}")
        for panel in panels
        for label, (x, y) in panel.lines.items()
        for a, b in zip(x, y, strict=True)
    ]
    write_text(path / CURVES, csv_table(("panel", "line", "x", "y"), rows))


def _plain(value: Any) -> Any:
    """JSON knows no NaN or infinity: they become null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
