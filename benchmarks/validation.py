"""How benchmarks that choose something judge it: by examples of the training set that nothing was trained on."""

from dataclasses import replace

import numpy as np

from neurosbd.datasets.load import Dataset, load_data, measure
from neurosbd.errors import UsageError
from neurosbd.measures import Measure
from neurosbd.training.session import Session


def held_out(name: str, train: int, validation: int) -> Dataset:
    """The training set in two parts, its first and its last examples; the second stands for the test.

    Values to predict are standardised by the mean and deviation of the first part.

    Args:
        name: of the data set.
        train: examples of the first part, per class, or in all if there are no classes.
        validation: of the second, likewise.

    Raises:
        UsageError: if there are fewer.
    """
    data = load_data(name)
    groups = _groups(data)
    least = min(len(group) for group in groups)
    if min(train, validation) < 1 or least < train + validation:
        which = "" if data.kind != "classes" else " of its smallest class"
        raise UsageError(
            f"{name} has {least} training examples{which}; {train} to train on and {validation} others to validate on "
            f"were asked for: choose fewer, and at least 1 of each"
        )
    first = np.sort(np.concatenate([group[:train] for group in groups]))
    last = np.sort(np.concatenate([group[-validation:] for group in groups]))
    data = replace(data, train=data.train.take(first), test=data.train.take(last))
    if data.kind == "classes":
        return data
    mean, std = measure(data.train.targets, 1.0)
    return replace(data, target_mean=mean, target_std=std)


def _groups(data: Dataset) -> list[np.ndarray]:
    """Numbers of the training examples, class by class; all of them if there are values to predict."""
    if data.kind != "classes":
        return [np.arange(len(data.train))]
    return [np.flatnonzero(data.train.labels == label) for label in range(len(data.classes))]


def judged_by(session: Session) -> Measure:
    """What says which epoch was the best: accuracy, R², explained deviance or explained quantile loss; 1 is perfect."""
    return session.batches.measures[0]


def validated(session: Session) -> float:
    """Train to the end; what it is judged by, on the validation examples after the last epoch, %."""
    while session.epoch < session.definition.training.epochs:
        for _ in range(len(session.batches)):
            session.step()
        session.next_epoch()
    return 100 * session.evaluate()[judged_by(session).name]
