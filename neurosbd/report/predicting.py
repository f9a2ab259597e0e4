"""What a trained network says of examples: outputs, classes, probabilities, and how right it is where that is known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neurosbd.datasets.examples import Examples, Expected, of_dataset, read_examples
from neurosbd.errors import OUT, UsageError
from neurosbd.files.writing import legal_path, write_atomic, write_text
from neurosbd.losses import HasProbabilities, PredictsInterval, PredictsMean
from neurosbd.measures import shown, title, unmeasured
from neurosbd.report.confusion_figure import confusion_figure
from neurosbd.report.drawing import draw
from neurosbd.runs.batches import data_of
from neurosbd.runs.forward import Units
from neurosbd.runs.prediction import Judged, judged
from neurosbd.runs.run import Run, open_run, write_record
from neurosbd.text import csv_table, one_line

TABLE, CONFUSION, FIGURE, METRICS = "predictions.csv", "confusion.csv", "confusion.png", "metrics.json"
OWN_TEST = "test"  # what the test split of the run's own data is asked for by


@dataclass(frozen=True)
class Predictions:
    """What `predict` found, and where it wrote it.

    run, data: what predicted what.
    called: what each example is called, N texts: its number, its line, its file.
    outputs: [N, C]; of values to predict in the units of the data.
    names: of the classes, or of the values to predict.
    classes: the class with the largest output, int64 [N]; None if values are predicted, or nothing teaches the readout.
    probabilities: [N, classes], if the loss has them.
    target: classes [N], or values [N, k], where they are known.
    metrics: loss and every measure, where targets are known and something teaches the outputs.
    confusion: how many examples of a class (row) are taken for which (column), int64; of classes that are known.
    path: the folder with predictions.csv and, where targets are known, metrics.json, confusion.csv and confusion.png.
    remark: what could not be written, and why; '' if nothing.
    """

    run: Run
    data: str
    called: tuple[str, ...]
    outputs: Tensor
    names: tuple[str, ...]
    classes: Tensor | None
    probabilities: Tensor | None
    target: Tensor | None
    metrics: dict[str, float]
    confusion: np.ndarray | None
    path: Path
    remark: str = ""

    def __len__(self) -> int:
        return len(self.outputs)

    @property
    def line(self) -> str:
        """How many examples, and how right the predictions are."""
        measures = [f"{title(name)} {shown(name, v)}" for name, v in self.metrics.items() if name != "loss"]
        unknown = unmeasured(self.run.unjudged) or ["targets are not known"]
        loss = [f"loss {self.metrics['loss']:.4f}"] if "loss" in self.metrics else unknown
        return one_line(f"{self.data}: {len(self):,} examples; {', '.join([*measures, *loss])}")

    def __repr__(self) -> str:
        return f"Predictions({self.line})"

    def __str__(self) -> str:
        return "\n".join(filter(None, (self.line, self.remark, f"predictions: {self.path}")))


def predict(run: Run | str | Path, data: str | Path = OWN_TEST, out: str | Path | None = None) -> Predictions:
    """What the network of a run says of examples: written as a table, with a confusion matrix where classes are known.

    The examples are shown as those of the run's own test, see `Run.predict`, which takes arrays and writes nothing.
    Nothing is learned from them.

    Args:
        run: a run with a checkpoint, or its directory.
        data: 'test', the test split of the run's own data; a data set by name or .toml, of which the test split is
            taken; a .csv, whose columns are found by the names of those the run was trained on (the lines whose `split`
            is test, or all); an .npz (`test_values`, or `values`); a folder of pictures, in folders of classes or not.
        out: folder; none: RUN/predictions/DATA. What `predict` has written there before is replaced.

    Returns:
        The predictions.
    Raises:
        UsageError: if the run has no data set or no checkpoint, the examples are of another size, lack a column or have
            a class that the run has not learned, or `out` cannot be written. Nothing has been written then.

    >>> import neurosbd, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> run = neurosbd.fit("digits-mlp", settings={"training.epochs": 1}, out=f"{folder}/run")
    >>> found = neurosbd.predict(run)
    >>> found.metrics["accuracy"] == run.metrics[-1]["test_accuracy"], found.confusion.shape, len(found)
    (True, (10, 10), 355)
    """
    run = run if isinstance(run, Run) else open_run(run)
    units = _named(run, run.units())
    examples, own = _examples(run, units, data)
    judgement = judged(run, units, examples.values, examples.target, own)
    folder = run.path / "predictions" / examples.name if out is None else legal_path(out)
    predictions = _predictions(run, units, examples, judgement, folder)
    _check_source(folder, data)
    return replace(predictions, remark=_write(predictions))


def _named(run: Run, units: Units) -> Units:
    """The units with the names of what is predicted, which earlier versions did not keep."""
    if units.classes or units.variables:
        return units
    data = data_of(run.definition)
    names = {"classes": data.classes, "variables": data.variables, "columns": data.columns}
    return units.model_copy(update=names)


def _examples(run: Run, units: Units, data: str | Path) -> tuple[Examples, np.ndarray | None]:
    """Examples, and of the run's own test the targets that it was trained on."""
    if not isinstance(data, str | Path):
        raise UsageError(
            f"data must be 'test', the name of a data set or a path, got {type(data).__name__}; run.predict(x) takes "
            f"arrays"
        )
    expected = Expected(units.size, units.columns, units.classes, units.variables)
    name = run.definition.data.name
    its_own = str(data) in (OWN_TEST, name) or (Path(data).exists() and Path(name).exists() and _same(data, name))
    if not its_own:
        return read_examples(data, expected), None
    own = data_of(run.definition)
    return of_dataset(own, expected), own.train.targets


def _same(one: str | Path, other: str | Path) -> bool:
    return Path(one).samefile(other)


def _predictions(run: Run, units: Units, examples: Examples, judgement: Judged, folder: Path) -> Predictions:
    definition = run.definition
    loss, means_classes = definition.build().loss, bool(units.classes) and definition.readout not in run.unjudged
    classes = judgement.output.argmax(1) if means_classes else None
    confusion = None
    if classes is not None and examples.target is not None:
        width = len(units.classes)
        pairs = np.asarray(examples.target, np.int64) * width + classes.numpy()
        confusion = np.bincount(pairs, minlength=width**2).reshape(width, width)
    return Predictions(
        run, examples.name, examples.called, judgement.output, units.classes or units.variables, classes,
        loss.probabilities(judgement.output) if means_classes and isinstance(loss, HasProbabilities) else None,
        None if examples.target is None else torch.as_tensor(examples.target), judgement.metrics, confusion, folder,
    )  # fmt: skip


def _check_source(folder: Path, data: str | Path) -> None:
    for name in (TABLE, CONFUSION, FIGURE, METRICS):
        if (folder / name).exists() and Path(data).exists() and _same(folder / name, data):
            raise UsageError(f"{data}: would be replaced by the predictions about it; choose another {OUT}")


def _write(predictions: Predictions) -> str:
    """The files; returns what could not be written, and why."""
    folder, remark = predictions.path, ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / TABLE, _table(predictions))
        for name in (CONFUSION, FIGURE, METRICS):
            (folder / name).unlink(missing_ok=True)
        if predictions.metrics:
            write_record(folder / METRICS, predictions.metrics)
        if predictions.confusion is not None:
            names = predictions.names
            rows = ((f"true {name}", *row) for name, row in zip(names, predictions.confusion.tolist(), strict=True))
            write_text(folder / CONFUSION, csv_table(("", *(f"predicted {name}" for name in names)), rows))
            remark = _draw(predictions.confusion, predictions.names, folder / FIGURE)
    except OSError as problem:
        raise UsageError(f"{folder}: cannot be written ({problem.strerror}); choose another {OUT}") from None
    return remark


def _draw(confusion: np.ndarray, names: Sequence[str], path: Path) -> str:
    try:
        drawing = draw(confusion_figure(confusion, names))
    except ImportError:
        return "no figure: matplotlib is not installed (pip install 'neurosbd[report]')"
    write_atomic(path, lambda stream: stream.write(drawing.png))
    return ""


def _table(predictions: Predictions) -> str:
    """A line per example: what it is called, what is predicted, what is known, and every output."""
    columns: dict[str, Sequence[object]] = {"example": predictions.called}
    if predictions.run.definition.readout in predictions.run.unjudged:
        return _as_csv(columns | _as_they_are(predictions))
    if predictions.classes is not None:
        columns["predicted"] = [predictions.names[c] for c in predictions.classes.tolist()]
        if predictions.target is not None:
            columns["target"] = [predictions.names[c] for c in predictions.target.tolist()]
        if predictions.probabilities is not None:
            columns |= _each("probability", predictions.names, predictions.probabilities)
        return _as_csv(columns | _each("output", predictions.names, predictions.outputs))
    loss = predictions.run.definition.build().loss
    if isinstance(loss, PredictsMean):
        columns |= _each("predicted", predictions.names, loss.mean(predictions.outputs))
    if isinstance(loss, PredictsInterval) and loss.interval_level > 0:
        low, high = loss.interval(predictions.outputs)
        columns |= _each(f"{loss.interval_level:.0%} from", predictions.names, low)
        columns |= _each(f"{loss.interval_level:.0%} to", predictions.names, high)
    if predictions.target is not None:
        columns |= _each("target", predictions.names, predictions.target)
    places = [f" {place + 1}" for place in range(loss.parameters)] if loss.parameters > 1 else [""]
    blocks = [f"{name}{place}" for place in places for name in predictions.names]
    return _as_csv(columns | _each("output", blocks, predictions.outputs))


def _as_they_are(predictions: Predictions) -> dict[str, Sequence[object]]:
    """The outputs of a readout that nothing teaches, which stand for nothing, beside what is known."""
    target, outputs = predictions.target, predictions.outputs
    known: dict[str, Sequence[object]] = {}
    if target is not None and predictions.run.units().classes:
        known = {"target": [predictions.names[c] for c in target.tolist()]}
    elif target is not None:
        known = _each("target", predictions.names, target)
    return known | _each("output", [str(number) for number in range(outputs.shape[1])], outputs)


def _each(what: str, names: Sequence[str], values: Tensor) -> dict[str, Sequence[object]]:
    columns = values.T.tolist()
    return {f"{what} {name}": [f"{v:.7g}" for v in column] for name, column in zip(names, columns, strict=True)}


def _as_csv(columns: dict[str, Sequence[object]]) -> str:
    return csv_table(tuple(columns), zip(*columns.values(), strict=True))
