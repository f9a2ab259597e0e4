"""The run directory: what a fit leaves behind, and how to open it again."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from neurosbd.config.definition import Definition
from neurosbd.errors import RESUME, UsageError, nearest, recorded_by, warn
from neurosbd.files import checkpoints
from neurosbd.files.checkpoints import StateDict
from neurosbd.files.parsing import Json, JsonTable
from neurosbd.files.writing import legal_path, write_text
from neurosbd.learning.learner import Learner
from neurosbd.measures import unmeasured
from neurosbd.network.network import Network
from neurosbd.runs.batches import DatasetBatches, data_of
from neurosbd.runs.forward import Raw, Units, predict
from neurosbd.runs.lock import is_held
from neurosbd.runs.own_parts import naming_own_parts
from neurosbd.runs.records import check_config, read_config, read_metrics, read_result
from neurosbd.runs.run_card import card, line
from neurosbd.schema import plugins
from neurosbd.schema.validation import validate
from neurosbd.seeds import generator
from neurosbd.tasks import Panel
from neurosbd.text import csv_table
from neurosbd.tracefiles import NotRecorded, Trace, open_trace
from neurosbd.tracefiles.writer import PARTIAL

CONFIG, METRICS, RESULT, CHECKPOINT = "config.json", "metrics.jsonl", "result.json", "checkpoint.pt"
PREVIOUS = checkpoints.before(Path(CHECKPOINT)).name
BEST = "best.pt"  # the checkpoint after the best epoch, where `training.stop` looks for it
CURVES, FIGURE, TRACE = "curves.csv", "figure.png", "trace.h5"
KILLED = f"its process ended without a word (killed, a crash, a power cut, a full disk); go on with {RESUME}"

Which = Literal["last", "best"]


@dataclass(frozen=True)
class Run:
    """A run on disk.

    path: its directory.
    config: everything resolved: model, data, rule, optimizer, seed, versions, commit, device.
    metrics: one dictionary per finished epoch: loss and measures of training and test (shares are fractions 0..1).
    result: final and best values and the status: 'finished', 'interrupted' (it can go on), 'failed' (the reason is
        there), 'running', or 'killed' if nothing says how it ended and its process is gone.
    """

    path: Path
    config: JsonTable
    metrics: list[JsonTable]
    result: JsonTable

    def __repr__(self) -> str:
        return line(self.path, self.config, self.metrics, str(self.result.get("status")))

    def _repr_html_(self) -> str:
        return card(self.path, self.config, self.metrics, str(self.result.get("status")))

    @property
    def definition(self) -> Definition:
        """The resolved definition this run carried out.

        Raises:
            UsageError: if a plugin that the run needs is not here, with how to give it.
        """
        wanted, where = self.config.get("plugins"), str(self.path / CONFIG)
        plugins.check(wanted, where)
        plugins.compare(wanted, where)
        return validate(Definition, self.config["definition"], str(self.path / CONFIG))

    @property
    def unjudged(self) -> dict[str, str]:
        """Outputs of the network that have no loss and no accuracy, since nothing teaches them, each with the reason;
        nothing in runs of versions that judged them all the same."""
        there = self.config.get("unjudged")
        return {str(name): str(why) for name, why in there.items()} if isinstance(there, dict) else {}

    @cached_property
    def trace(self) -> Trace:
        """What was recorded, opened when first asked for; of a run that is not finished, up to its last block.

        Raises:
            UsageError: if nothing was recorded, or the file is not readable.
        """
        whole, partial = self.path / TRACE, self.path / f"{TRACE}{PARTIAL}"
        if not (whole.exists() or partial.exists()):
            raise NotRecorded(
                f"{self.path}: nothing was recorded; run again with {recorded_by('*.rate')}, for example", "*.rate"
            )
        return open_trace(whole if whole.exists() else partial)

    def network(self, which: Which = "last") -> Network:
        """The network with the weights of a checkpoint, on the CPU, not learning.

        It takes inputs as its run normalises and encodes them, step by step; `predict` takes them as you have them.

        Args:
            which: 'last', of the last checkpoint, whose metrics are the last ones; or 'best', after the epoch that was
                the best on the validation split, which a run with `training.stop` keeps.

        Raises:
            UsageError: if there is no such checkpoint.
        """
        network, path = self.definition.network(), self.path / _file(which)
        weights = self.checkpoint(which)["network"]
        network.take_lists(weights)
        checkpoints.check(weights, network.state_dict(), path, "network")
        network.load_state_dict(weights)
        return network.eval()

    def learner(self, which: Which = "last") -> Learner:
        """The network of a checkpoint with what its rule keeps beside it: `learner.answer(batch)` is what the run says,
        of rules too that do not read it off the readout.

        Args:
            which: see `network`.
        Raises:
            UsageError: if there is no such checkpoint, or it is of another rule.
        """
        experiment, path = self.definition.build(), self.path / _file(which)
        drawn, saved = generator(experiment.definition.seed, "projection"), self.checkpoint(which)["learner"]
        learner = Learner(self.network(which), experiment.rule, experiment.loss, drawn)
        checkpoints.check(saved, learner.state_dict(), path, "learner")
        learner.load_state_dict(saved)
        return learner

    def predict(self, x: Raw) -> Tensor:
        """What the trained network says of examples as you have them: as in the run's own test, on the CPU.

        The examples are normalised as those of the training were, encoded, and shown for all steps of the run; the
        outputs are averaged over the scored steps. Shown whole and in its order, the test split gives the outputs that
        the test of the run has judged, noise included; on a GPU, to rounding. The network must have a checkpoint; the
        data set need not be there.

        Args:
            x: N examples, numpy, torch or nested lists: pictures of whole numbers (0..255, or up to the maximum of the
                data set) [N, channels, height, width], [N, height, width, channels], or [N, height, width] of one
                channel; features [N, n] in the units of the data; recordings of events as `EventSamples`, such as
                `load_data(...).test`. One example alone is x[None].

        Returns:
            Outputs [N, C]. Of a run on classes the readout as it is: the largest is the class. Of a run on values the
            outputs of its loss for values in the units of the data: means, means and log-variances (`gaussian`),
            quantiles (`pinball`), log-rates (`poisson`); `run.definition.loss.build().mean(outputs)` are the means.

        Raises:
            UsageError: if the examples are of another kind or size than those of the training, the run has no data
                set (a task, a protocol), or it has no checkpoint yet.
        """
        experiment = self.definition.build()
        for sentence in unmeasured(self.unjudged):
            warn(f"{self.path}: {sentence}; so its values stand for nothing")
        with naming_own_parts(experiment):
            return predict(self.learner(), experiment, self.units(), x)

    def units(self) -> Units:
        """In which units the network sees its data, and what its classes, columns or values are called.

        Raises:
            UsageError: if the run has no data set, or is of a version that did not keep them and the data are gone.
        """
        definition = self.definition
        if definition.task or definition.protocol or definition.simulation:
            raise UsageError(
                f"{self.path}: was not trained on a data set, so there is nothing to predict; show the network what "
                f"you like with neurosbd.unroll(run.network(), inputs)"
            )
        if "units" in self.config:
            return validate(Units, self.config["units"], str(self.path / CONFIG))
        try:
            return DatasetBatches(definition.build(), data_of(definition), torch.device("cpu")).units
        except UsageError as problem:
            raise UsageError(
                f"{self.path}: is a run of a version that did not keep the units of its data, and the data are not "
                f"here ({problem}); put them back, or train again"
            ) from None

    def checkpoint(self, which: Which = "last") -> StateDict:
        """Everything in a checkpoint (weights, projections, optimizer, position): the 'last' one or the 'best'."""
        path = self.path / _file(which)
        if which == "best" and not path.exists():
            raise UsageError(
                f"{path}: there is none; a run keeps the best checkpoint with training.stop, which needs a validation "
                f"split: data.validation = 0.1 and training.stop = {{ metric = 'validation_loss', patience = 5 }}"
            )
        return checkpoints.load(path)


def _file(which: Which) -> str:
    files = {"last": CHECKPOINT, "best": BEST}
    if which not in files:
        raise UsageError(f"there is no checkpoint {which!r}{nearest(str(which), files)}")
    return files[which]


def open_run(path: str | Path) -> Run:
    """Open the directory of a run, finished or not, or a trace file by itself.

    Raises:
        UsageError: if it holds no run.
    """
    path = legal_path(path)
    if path.is_file():
        return _lone_trace(path)
    if not (path / CONFIG).is_file():
        inside = min(path.glob(f"*/{CONFIG}"), default=None)
        which = (
            f"one of the runs in it, such as {inside.parent}" if inside else "the directory that `neurosbd fit` printed"
        )
        raise UsageError(f"{path}: holds no run (no {CONFIG}); give {which}")
    metrics = read_metrics(path / METRICS) if (path / METRICS).exists() else []
    return Run(path, read_config(path / CONFIG), metrics, _result(path))


def _result(path: Path) -> JsonTable:
    """What result.json says; one whose process was killed cannot say so itself."""
    held = is_held(path)  # before the file is read: a run that ends meanwhile writes it first
    result = read_result(path / RESULT)
    return result | {"status": "killed", "reason": KILLED} if result["status"] == "running" and not held else result


def _lone_trace(path: Path) -> Run:
    """The run of a trace file; without its directory it has no metrics and no checkpoint."""
    if path.name in (TRACE, f"{TRACE}{PARTIAL}") and (path.parent / CONFIG).is_file():
        return open_run(path.parent)
    trace = open_trace(path)
    run = Run(path.parent, check_config(trace.config, str(path)), [], {"status": "unknown"})
    vars(run)["trace"] = trace
    return run


def write_metrics(path: Path, metrics: list[JsonTable]) -> None:
    """Replace the metrics file; a line per epoch."""
    write_text(path / METRICS, "".join(json.dumps(_plain(line)) + "\n" for line in metrics))


def write_record(path: Path, content: JsonTable) -> None:
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


def _plain(value: object) -> Json:
    """JSON knows no NaN or infinity: they become null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
