"""Where the trials of a training come from: a data set shown over time, or a task that makes its own."""

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch

from neurosbd.config.compatibility import check_fit, check_task
from neurosbd.config.definition import Definition, Experiment
from neurosbd.datasets.definition import load_file
from neurosbd.datasets.in_memory import PREFIX, content_hash, read_in_memory
from neurosbd.datasets.load import READERS, Dataset, chosen_of, load_data
from neurosbd.datasets.samples import check
from neurosbd.datasets.stream import Stream, as_intensities, resident, standardised
from neurosbd.errors import UsageError
from neurosbd.learning.batch import Batch
from neurosbd.losses.targets import REALS
from neurosbd.measures import Accuracy, Measure, measures_of
from neurosbd.runs.forward import Units, stimulus_of, tested, width_of_test
from neurosbd.seeds import generator
from neurosbd.tracefiles import Split


class BatchSource(Protocol):
    """The trials of every epoch, and those of the test; any of them can be made at once, from the seed alone."""

    name: str
    examples: int  # per epoch
    validated: int  # examples of the validation split; 0: there is none
    tested: int  # examples of the test
    steps: int  # per trial
    widths: dict[Split, int]  # examples per batch
    batches: dict[Split, int]  # per epoch, per test
    values: int  # to predict, per example
    measures: tuple[Measure, ...]  # what it is judged by; the first says which epoch was the best

    @property
    def units(self) -> Units | None:
        """In which the network sees its data; of a task, which makes its own, None."""
        ...

    def __len__(self) -> int:
        """Batches per epoch."""
        ...

    def batch(self, epoch: int, number: int) -> Batch:
        """Batch `number` of an epoch."""
        ...

    def validations(self) -> Iterator[Batch]:
        """The whole validation split."""
        ...

    def tests(self) -> Iterator[Batch]:
        """The whole test."""
        ...

    def samples(self, on: Split, epoch: int, number: int) -> np.ndarray:
        """Which examples of their split a batch shows, int64 [B]."""
        ...


def data_of(definition: Definition) -> Dataset:
    """The data set that a definition is trained on, loaded."""
    wanted = definition.data
    if wanted.name.startswith(PREFIX):
        raise UsageError(
            f"{definition.name}: was trained on an object that lived in Python, and is not here ('{wanted.name}'); "
            f"run.predict(x) takes examples, fit(data=...) the object"
        )
    return load_data(
        wanted.name, wanted.root, wanted.subset, wanted.subset_seed, wanted.test_subset, wanted.columns,
        wanted.validation, subset_seed(definition),
    )  # fmt: skip


def data_in_memory(definition: Definition, data: object) -> tuple[Definition, Callable[[Definition], Dataset]]:
    """Data in memory, read once: the definition that names them by their content, and what makes a data set of them as
    `data_of` does, for a definition that differs in its seed at most.

    Raises:
        UsageError: if it is nothing that can be learned from.
    """
    own = load_file("arrays", READERS).model_copy(update={"name": "data"})
    splits = check(read_in_memory(data, definition.input_size(), definition.time.dt, own), "data")
    name = f"{PREFIX}{content_hash(splits)[:16]}"
    wanted = definition.data.model_copy(update={"name": name, "root": None, "columns": ()})

    def dataset(asked: Definition) -> Dataset:
        chosen = chosen_of(
            own, splits, wanted.subset, wanted.subset_seed, wanted.test_subset, wanted.validation, subset_seed(asked)
        )  # fmt: skip
        return replace(chosen, name=name)

    return definition.model_copy(update={"data": wanted}), dataset


def subset_seed(definition: Definition) -> int:
    """By which validation examples are drawn."""
    return definition.seed if definition.data.subset_seed is None else definition.data.subset_seed


class DatasetBatches:
    """Batches of a data set, each example shown for the steps of the definition.

    Values to predict are standardised for losses that take all reals, and left as they are for all others.

    Args:
        experiment: what is trained.
        data: the data set; its sizes must fit the network.
        device: where everything lives.
    Raises:
        UsageError: if data and network do not fit.
    """

    def __init__(self, experiment: Experiment, data: Dataset, device: torch.device) -> None:
        check_fit(experiment, data)
        definition, loss = experiment.definition, experiment.loss
        if experiment.encoder.intensity:
            data = as_intensities(data)
        self.offset, self.scale = (0.0,), (1.0,)  # of the values to predict, per variable
        moved = data.kind != "classes" and loss.targets is REALS
        if moved:
            self.offset, self.scale = data.target_mean, data.target_std
            data = standardised(data)
        self.units = Units.of(data, *((self.offset, self.scale) if moved else ()))
        self.name = data.name
        self.experiment = experiment
        self.seed = definition.seed
        self.batch_size = definition.training.batch_size
        self.stimulus = stimulus_of(experiment)
        train = resident(data.train, data, device)
        self.stream = Stream(train, self.batch_size, definition.seed, definition.data.flip, definition.data.crop)
        self.test = resident(data.test, data, device)
        self.validation = None if data.validation is None else resident(data.validation, data, device)
        self.validated = 0 if self.validation is None else len(self.validation)
        self.examples, self.tested = len(train), len(self.test)
        self.values = data.outputs
        self.measures = measures_of(loss, train.targets)
        self.steps = definition.time.steps
        self.widths: dict[Split, int] = {"train": self.batch_size, "test": width_of_test(definition)}
        self.batches: dict[Split, int] = {"train": len(self.stream), "test": -(-self.tested // self.widths["test"])}

    def for_seed(self, experiment: Experiment) -> "DatasetBatches":
        """The same data, where they are, in the order and with the augmentation and encoding of another seed."""
        other = copy(self)
        other.experiment, other.seed = experiment, experiment.definition.seed
        other.stream = Stream(self.stream.split, self.batch_size, other.seed, self.stream.flip, self.stream.crop)
        return other

    def __len__(self) -> int:
        return len(self.stream)

    def batch(self, epoch: int, number: int) -> Batch:
        """A batch of the training split."""
        x, target = self.stream.batch(epoch, number)
        frames = self.stimulus.frames(x, generator(self.seed, "encoder", epoch, number))
        return Batch(frames, target, self.stimulus.weights)

    def validations(self) -> Iterator[Batch]:
        """The validation split in order."""
        if self.validation is not None:
            for frames, target in tested(self.experiment, self.validation, "validation"):
                yield Batch(frames, target, self.stimulus.weights)

    def tests(self) -> Iterator[Batch]:
        """The test split in order."""
        for frames, target in tested(self.experiment, self.test):
            yield Batch(frames, target, self.stimulus.weights)

    def samples(self, on: Split, epoch: int, number: int) -> np.ndarray:
        """Numbers in the split."""
        if on == "train":
            return self.stream.index(epoch, number)
        width = self.widths["test"]
        return np.arange(number * width, min((number + 1) * width, self.tested))


class TaskBatches:
    """Trials that a task draws, new ones in every batch.

    Args:
        experiment: what is trained; it has a task.
    Raises:
        UsageError: if task and network do not fit.
    """

    def __init__(self, experiment: Experiment) -> None:
        definition, task = experiment.definition, experiment.task
        assert definition.task is not None and task is not None
        check_task(experiment, task)
        self.name = definition.task.kind
        self.task = task
        self.seed = definition.seed
        self.batch_size, self.dt = definition.training.batch_size, definition.time.dt
        self.batches: dict[Split, int] = {
            "train": definition.training.batches, "test": definition.training.test_batches
        }  # fmt: skip
        self.steps = task.steps(self.dt)
        self.units = None
        self.validated = 0
        self.values = task.sizes()[1]
        self.measures: tuple[Measure, ...] = (Accuracy(task.success),)
        self.widths: dict[Split, int] = dict.fromkeys(self.batches, self.batch_size)
        self.examples, self.tested = (self.batches[on] * self.batch_size for on in ("train", "test"))

    def __len__(self) -> int:
        return self.batches["train"]

    def batch(self, epoch: int, number: int) -> Batch:
        """New examples."""
        return self.task.batch(self.batch_size, self.dt, generator(self.seed, "task", epoch, number))

    def validations(self) -> Iterator[Batch]:
        """None: what a task trains on is never shown again."""
        return iter(())

    def tests(self) -> Iterator[Batch]:
        """The same examples every time."""
        for number in range(self.batches["test"]):
            yield self.task.batch(self.batch_size, self.dt, generator(self.seed, "task", "test", number))

    def samples(self, on: Split, epoch: int, number: int) -> np.ndarray:
        """Trials counted through: no two of a training are the same, those of the test are in every epoch."""
        first = number + (epoch * self.batches["train"] if on == "train" else 0)
        return np.arange(first * self.batch_size, (first + 1) * self.batch_size)
