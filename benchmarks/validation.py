"""How benchmarks that choose something judge it: by images of the training set that nothing was trained on."""

from dataclasses import replace

import numpy as np

from neurosbd.datasets.load import Dataset, load_data
from neurosbd.errors import UsageError
from neurosbd.experiment.session import Session


def held_out(name: str, train: int, validation: int) -> Dataset:
    """The training set in two parts, the first and the last so many of each class; the second stands for the test.

    Raises:
        UsageError: if a class has fewer.
    """
    data = load_data(name)
    classes = [np.flatnonzero(data.train.labels == label) for label in range(len(data.classes))]
    parts = [[index[:train] for index in classes], [index[-validation:] for index in classes]]
    first, last = (np.sort(np.concatenate(part)) for part in parts)
    if set(first) & set(last):
        raise UsageError(f"{name} has no class with {train} + {validation} training examples; choose fewer")
    return replace(data, train=data.train.take(first), test=data.train.take(last))


def validated(session: Session) -> float:
    """Train to the end; validation accuracy after the last epoch, %."""
    while session.epoch < session.definition.training.epochs:
        for _ in range(len(session.lessons)):
            session.step()
        session.next_epoch()
    return 100 * session.evaluate()["accuracy"]
