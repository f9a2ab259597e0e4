"""From examples as a user has them to the outputs of a trained network, as the test of its run sees them."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import BeforeValidator, Field
from torch import Tensor

from neurosbd.config.definition import Definition, Experiment
from neurosbd.datasets.events import EventBatch, EventResident
from neurosbd.datasets.load import Dataset
from neurosbd.datasets.samples import EventSamples, Samples
from neurosbd.datasets.stream import Resident, resident
from neurosbd.encoders import Encoder, encode
from neurosbd.errors import UsageError, warn
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.losses import Equivariant
from neurosbd.network.inputs import Frames
from neurosbd.network.network import Frame
from neurosbd.schema.constants import Count, Positive, Range
from neurosbd.schema.schema import Record
from neurosbd.seeds import generator

Raw = ArrayLike | Tensor | Samples | EventSamples

# JSON knows no infinity, the deviation of what never varied: there it is null.
_Deviation = Annotated[
    float, Field(allow_inf_nan=True), Range(above=0), BeforeValidator(lambda v: math.inf if v is None else v)
]


class Units(Record):
    """In which units a network sees its data: what a run keeps of its data set, so that it predicts without it.

    values: what an example is: a picture of whole numbers 0..maximum, features, or a recording of events.
    size: of one example as a network sees it.
    maximum, mean, std: as in `Dataset`, after what the encoder asks for.
    offset, scale: value to predict = offset + scale * what the loss sees; empty where it sees the value itself.
    columns, classes, variables: names of the features, of the classes and of the values to predict, as in `Dataset`.
    """

    values: Literal["pictures", "features", "events"]
    size: tuple[Count, ...]
    maximum: Positive = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[_Deviation, ...] = ()
    offset: tuple[float, ...] = ()
    scale: tuple[Positive, ...] = ()
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: Dataset, offset: tuple[float, ...] = (), scale: tuple[float, ...] = ()) -> "Units":
        """Those of a data set."""
        stored = data.train.values if isinstance(data.train, Samples) else None
        values = "events" if stored is None else "features" if stored.dtype.kind == "f" else "pictures"
        inputs = {"size": data.size, "maximum": data.maximum, "mean": data.mean, "std": data.std}
        names = {"columns": data.columns, "classes": data.classes, "variables": data.variables}
        return cls.model_validate({"values": values, **inputs, "offset": offset, "scale": scale, **names})


@dataclass(frozen=True)
class Stimulus:
    """How examples are shown: turns a batch of them into one frame per step, made when it is asked for.

    encoder: for pictures and features; events are binned.
    steps: per example.
    dt: s.
    weights: of the score of each step; they sum to 1.
    """

    encoder: Encoder
    steps: int
    dt: float
    weights: tuple[float, ...]

    def frames(self, batch: Tensor | EventBatch, noise: torch.Generator) -> Iterable[Tensor]:
        """`steps` tensors [B, *size]."""
        if isinstance(batch, EventBatch):
            return Frames(self.steps, batch.frames(self.steps, self.dt))
        return Frames(self.steps, encode(self.encoder, batch, self.steps, self.dt, noise))


def stimulus_of(experiment: Experiment) -> Stimulus:
    """How every example is shown."""
    time = experiment.definition.time
    return Stimulus(experiment.encoder, time.steps, time.dt, score_weights(time.steps, time.first_scored))


def score_weights(steps: int, first: int) -> tuple[float, ...]:
    """Equal weights of all steps from `first` on; they sum to 1."""
    return (*(0.0,) * first, *(1 / (steps - first),) * (steps - first))


def width_of_test(definition: Definition) -> int:
    """Examples per batch where nothing is learned."""
    return max(100, definition.training.batch_size)


def tested(
    experiment: Experiment, split: Resident | EventResident, on: Literal["validation", "test"] = "test"
) -> Iterator[tuple[Iterable[Tensor], Tensor]]:
    """Frames and targets of a whole split in order, batch by batch, as a test shows them."""
    definition, stimulus = experiment.definition, stimulus_of(experiment)
    for number, (x, target) in enumerate(split.batches(width_of_test(definition))):
        yield stimulus.frames(x, generator(definition.seed, "encoder", on, number)), target


@torch.no_grad()
def outputs(learner: Learner, experiment: Experiment, shown: Iterable[Iterable[Tensor]]) -> Tensor:
    """Answers of a network that does not learn, as its rule gives them, of all batches, [N, C]."""
    weights, seed, answers = stimulus_of(experiment).weights, experiment.definition.seed, []
    for number, frames in enumerate(shown):
        batch = Batch(frames, weights=weights, reward=_no_reward)
        answers.append(learner.answer(batch, noise=generator(seed, "noise", "test", number)).output)
    return torch.cat(answers)


def _no_reward(t: int, frame: Frame) -> None:
    """Of examples about which nothing is known."""


def predict(learner: Learner, experiment: Experiment, units: Units, x: Raw) -> Tensor:
    """Outputs [N, C] for raw examples; see `Run.predict`.

    Raises:
        UsageError: if the examples are not of the kind and size that the network was trained on.
    """
    definition = experiment.definition
    if units.size != definition.input_size():
        raise UsageError(
            f"{definition.name}: was trained on examples of size {list(definition.input_size())}, but its units are "
            f"those of {list(units.size)}; its config.json was changed"
        )
    samples = samples_of(x, units)
    split = resident(samples, units, torch.device("cpu"))
    output = outputs(learner, experiment, (frames for frames, _ in tested(experiment, split)))
    return in_units(output, experiment, units)


def in_units(output: Tensor, experiment: Experiment, units: Units) -> Tensor:
    """The outputs for targets in the units of the data, where the loss saw them in units of their deviation."""
    if not units.scale:
        return output
    loss = experiment.loss
    offset, scale = (torch.tensor(v, dtype=torch.float64) for v in (units.offset, units.scale))
    if isinstance(loss, Equivariant):
        return loss.in_units(output.double(), offset, scale)
    if loss.parameters == 1:
        return offset + scale * output.double()
    warn(
        f"loss '{experiment.definition.loss_name}' has {loss.parameters} outputs per value and no `in_units`, so "
        f"these outputs are for targets (y - offset) / scale with offset = {list(units.offset)} and "
        f"scale = {list(units.scale)}",
        stacklevel=4,
    )
    return output


def samples_of(x: Raw, units: Units) -> Samples | EventSamples:
    """Raw examples as a reader would deliver them; nobody knows their targets."""
    if isinstance(x, EventSamples) or units.values == "events":
        return _recordings(x, units)
    values = _array(x.values if isinstance(x, Samples) else x)
    values = _pictures(values, units) if units.values == "pictures" else _features(values, units)
    return Samples(values, np.zeros(len(values), np.int64))


def _recordings(x: Raw, units: Units) -> EventSamples:
    if not isinstance(x, EventSamples) or units.values != "events":
        wants = "recordings of events (EventSamples)" if units.values == "events" else f"{units.values} [N, ...]"
        raise UsageError(f"predict: the run was trained on {wants}, as load_data(...).test has, got {type(x).__name__}")
    if x.size != units.size:
        raise UsageError(f"predict: recordings have frames of size {list(x.size)}, the network {list(units.size)}")
    if len(x) == 0 or x.fault():
        raise UsageError(f"predict: {x.fault() or 'there is no recording in x'}")
    return x


def _array(x: object) -> np.ndarray:
    """Numbers, whatever holds them."""
    if isinstance(x, Tensor):
        x = x.detach().cpu()
        x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    try:
        values = np.asarray(x)
    except (ValueError, TypeError) as problem:  # such as rows of unequal length
        raise UsageError(f"predict: x is no array of numbers ({problem}); give [N, ...]") from None
    if values.dtype.kind not in "fiu":
        raise UsageError(f"predict: x is {values.dtype} {list(values.shape)}; give numbers [N, ...]")
    if len(values.shape) > 0 and values.shape[0] == 0:
        raise UsageError(f"predict: there is no example in x, which is {list(values.shape)}")
    return values


def _features(values: np.ndarray, units: Units) -> np.ndarray:
    """[N, *size] in units of the data, float64."""
    if values.shape[1:] != units.size:
        raise UsageError(f"predict: x is {list(values.shape)}; {_wanted(values, units)}")
    bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(1))
    if len(bad):
        raise UsageError(f"predict: {len(bad)} of {len(values)} examples hold NaN or infinity, the first is {bad[0]}")
    values = values.astype(np.float64)
    return values.transpose(0, 2, 3, 1) if values.ndim == 4 else values  # pictures that are no whole numbers


def _pictures(values: np.ndarray, units: Units) -> np.ndarray:
    """uint8 or uint16 [N, height, width, channels]."""
    (channels, height, width), white = units.size, units.maximum
    if values.shape[1:] == units.size:
        values = values.transpose(0, 2, 3, 1)
    elif channels == 1 and values.shape[1:] == (height, width):
        values = values[..., None]
    elif values.shape[1:] != (height, width, channels):
        raise UsageError(f"predict: x is {list(values.shape)}; {_wanted(values, units)}")
    if values.dtype.kind == "f" and not (values.max() > 1 and (values == np.floor(values)).all()):
        raise UsageError(
            f"predict: x is {values.dtype}, but the run was trained on pictures of whole numbers 0..{white:g} and "
            f"normalises them itself; give those, such as (x * {white:g}).round().astype('uint8') of values 0..1"
        )
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > white:
        raise UsageError(f"predict: x goes from {low} to {high}; legal are whole numbers 0..{white:g}")
    return np.ascontiguousarray(values.astype(np.uint8 if white <= 255 else np.uint16))


def _wanted(values: np.ndarray, units: Units) -> str:
    """Which shapes are legal, and what is the matter if it is one axis."""
    shapes = [units.size]
    if units.values == "pictures":
        channels, height, width = units.size
        shapes += [(height, width, channels), *([(height, width)] if channels == 1 else [])]
    legal = f"give {' or '.join(f'[N, {str(list(shape))[1:]}' for shape in shapes)}"
    return f"{legal}; of a single example x[None]" if values.shape in shapes else legal
