"""What the trained network of a run says about the test split of its data set."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from neurosbd.datasets.load import Dataset
from neurosbd.errors import UsageError
from neurosbd.losses import Predictive
from neurosbd.training.batches import DatasetBatches, data_of
from neurosbd.training.forward import outputs
from neurosbd.training.run import CHECKPOINT, Run


@dataclass(frozen=True)
class Prediction:
    """Outputs for every example of a test split.

    loss: which gives the outputs their meaning.
    data: the set.
    output: weighted mean over the scored steps, [N, C].
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
    """
    experiment = run.definition.build()
    definition = experiment.definition
    if definition.task or definition.protocol:
        raise UsageError(f"{run.path}: was not trained on a data set, so there is nothing to predict")
    if not (run.path / CHECKPOINT).exists():
        raise UsageError(f"{run.path}: has no checkpoint yet; go on with --resume")
    data = data_of(definition)
    batches = DatasetBatches(experiment, data, torch.device("cpu"))
    output = outputs(run.network(), experiment, (batch.inputs for batch in batches.tests()))
    offset, scale = (torch.tensor(v, dtype=torch.float64) for v in (batches.offset, batches.scale))
    return Prediction(cast(Predictive, experiment.loss), data, output, batches.test.targets, offset, scale)
