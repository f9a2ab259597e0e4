"""What the trained network of a run says about the test split of its data set."""

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from neurosbd.config.definition import Experiment
from neurosbd.datasets.load import Dataset
from neurosbd.datasets.normalisation import standardise
from neurosbd.datasets.samples import EventSamples
from neurosbd.datasets.stream import resident
from neurosbd.errors import RESUME, UsageError
from neurosbd.learning.batch import Batch
from neurosbd.losses import Loss, Predictive
from neurosbd.measures import ExplainedPinball, Measure, measures_of
from neurosbd.runs.batches import DatasetBatches, data_of
from neurosbd.runs.forward import Units, in_units, outputs, samples_of, stimulus_of, tested
from neurosbd.runs.metric_sums import MetricSums
from neurosbd.runs.own_parts import naming_own_parts
from neurosbd.runs.run import CHECKPOINT, Run
from neurosbd.seeds import generator


@dataclass(frozen=True)
class Prediction:
    """Outputs for every example of a test split.

    loss: which gives the outputs their meaning.
    data: the set.
    output: answers read off the scored steps as the model says, [N, C].
    target: as the loss sees it: classes [N], or values [N, k] in units of `scale` from `offset`.
    offset, scale: value = offset + scale * target, float64 [k] each; 0 and 1 for classes.
    """

    loss: Predictive
    data: Dataset
    output: Tensor
    target: Tensor
    offset: Tensor
    scale: Tensor


def predicted(run: Run) -> Prediction:
    """The last checkpoint of a run on its test split, on the CPU.

    Raises:
        UsageError: if the run has no data set or no checkpoint, or the data are no longer there.
        RunError: if a part of a user's own fails; names it.
    """
    experiment = run.definition.build()
    definition = experiment.definition
    if definition.task or definition.protocol:
        raise UsageError(f"{run.path}: was not trained on a data set, so there is nothing to predict")
    if not (run.path / CHECKPOINT).exists():
        raise UsageError(f"{run.path}: has no checkpoint yet; go on with {RESUME}")
    data = data_of(definition)
    batches = DatasetBatches(experiment, data, torch.device("cpu"))
    with naming_own_parts(experiment):
        output = outputs(run.learner(), experiment, (batch.inputs for batch in batches.tests()))
    offset, scale = (torch.tensor(v, dtype=torch.float64) for v in (batches.offset, batches.scale))
    return Prediction(cast(Predictive, experiment.loss), data, output, batches.test.targets, offset, scale)


@dataclass(frozen=True)
class Judged:
    """What a network says of examples whose targets may be known.

    output: answers read off the scored steps as the model says, [N, C], of values in the units of the data.
    metrics: loss and measures by name; nothing where targets are not known, or of outputs that nothing teaches.
    """

    output: Tensor
    metrics: dict[str, float]


@torch.no_grad()
def judged(
    run: Run, units: Units, values: np.ndarray | EventSamples, target: np.ndarray | None, learned: np.ndarray | None
) -> Judged:
    """The last checkpoint of a run on examples, shown and judged as in its own test, on the CPU.

    Args:
        run: with a checkpoint.
        units: of the run.
        values: as a reader delivers them.
        target: classes [N], or values [N, k] in the units of the data; None: not known.
        learned: targets of the run's own training split; without them an explained quantile loss has nothing to be
            compared with and is left out.

    Raises:
        UsageError: if the examples are of another kind or size than those of the training.
        RunError: if a part of a user's own fails; names it.
    """
    experiment = run.definition.build()
    with naming_own_parts(experiment):
        return _judged(experiment, run, units, values, target, learned)


def _judged(
    experiment: Experiment,
    run: Run,
    units: Units,
    values: np.ndarray | EventSamples,
    target: np.ndarray | None,
    learned: np.ndarray | None,
) -> Judged:
    samples, learner = samples_of(values, units), run.learner()
    if target is not None:
        samples = replace(samples, targets=_as_learned(target, units))
    split = resident(samples, units, torch.device("cpu"))
    if target is None:
        shown = (frames for frames, _ in tested(experiment, split))
        return Judged(in_units(outputs(learner, experiment, shown), experiment, units), {})
    measures = _measures(experiment.loss, split.targets, learned, units)
    predicted, device = len(units.classes or units.variables), split.targets.device
    sums = MetricSums(measures, predicted, device, learner.network, run.unjudged)
    readouts, seed = [], experiment.definition.seed
    for number, (frames, known) in enumerate(tested(experiment, split)):
        batch = Batch(frames, known, stimulus_of(experiment).weights)
        result = learner.answer(batch, noise=generator(seed, "noise", "test", number))
        sums.add(batch, result)
        readouts.append(result.output)
    return Judged(in_units(torch.cat(readouts), experiment, units), sums.read())


def _as_learned(target: np.ndarray, units: Units) -> np.ndarray:
    """Targets as the loss sees them."""
    return standardise(target, units.offset, units.scale) if units.scale else target


def _measures(loss: Loss, targets: Tensor, learned: np.ndarray | None, units: Units) -> tuple[Measure, ...]:
    if learned is not None:
        return measures_of(loss, torch.from_numpy(_as_learned(learned, units)).to(targets.dtype))
    return tuple(measure for measure in measures_of(loss, targets) if not isinstance(measure, ExplainedPinball))
