"""What the trained network of a run says about the test split of its data set."""

from dataclasses import dataclass

import torch
from torch import Tensor

from neurosbd.datasets.load import Dataset, load_data
from neurosbd.errors import UsageError
from neurosbd.experiment.lessons import DatasetLessons
from neurosbd.experiment.run import CHECKPOINT, Run
from neurosbd.learners import Account
from neurosbd.losses import Predictive
from neurosbd.seeds import generator
from neurosbd.simulation import simulate


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


@torch.no_grad()
def predicted(run: Run) -> Prediction:
    """The last checkpoint of a run on its test split, on the CPU.

    Raises:
        UsageError: if the run has no data set or no checkpoint, or the data are no longer there.
    """
    definition = run.definition
    if definition.task or definition.protocol:
        raise UsageError(f"{run.path}: was not trained on a data set, so there is nothing to predict")
    if not (run.path / CHECKPOINT).exists():
        raise UsageError(f"{run.path}: has no checkpoint yet; go on with --resume")
    wanted = definition.data
    data = load_data(wanted.name, wanted.root, wanted.subset, wanted.subset_seed, wanted.test_subset)
    lessons = DatasetLessons(definition, data, torch.device("cpu"))
    network, loss = run.network(), definition.loss.made()
    outputs, targets = [], []
    for number, trial in enumerate(lessons.tests()):
        account = Account(trial, loss, network.readout)
        simulate(network, trial.inputs, (account,), generator=generator(definition.seed, "noise", "test", number))
        outputs.append(account.outcome().output)
        targets.append(trial.target)
    offset, scale = (torch.tensor(v, dtype=torch.float64) for v in (lessons.offset, lessons.scale))
    return Prediction(loss, data, torch.cat(outputs), torch.cat(targets), offset, scale)
