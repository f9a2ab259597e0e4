"""A training in progress: everything that changes from batch to batch, and one step of it."""

from typing import Any

import torch
from torch import Tensor

from neurosbd.datasets.load import Dataset
from neurosbd.datasets.stream import Stream, as_intensities, resident
from neurosbd.errors import RunError, UsageError
from neurosbd.experiment.definition import Definition
from neurosbd.experiment.presentation import Presentation, score_weights
from neurosbd.learners import Account, Learner, Outcome, Trial, learner_of
from neurosbd.network import Network
from neurosbd.seeds import generator
from neurosbd.simulation import Observer, simulate


class Tally:
    """Running sums of an epoch, on the device: no synchronisation until they are read."""

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(3, dtype=torch.float64, device=device)  # loss, hits, examples

    def add(self, loss: Tensor, output: Tensor, target: Tensor) -> None:
        """Count a batch: mean loss [], outputs [B, C], labels [B]."""
        hits = (output.argmax(1) == target).sum()
        count = len(target)
        self.sums += torch.stack((loss.double() * count, hits.double(), torch.full_like(loss, count).double()))

    def read(self) -> tuple[float, float]:
        """Mean loss and accuracy so far."""
        loss, hits, count = self.sums.tolist()
        return (loss / count, hits / count) if count else (float("nan"), float("nan"))


class Session:
    """Network, learner, optimizer, schedule and position of a training.

    Args:
        definition: what to carry out.
        data: the data set; its sizes must fit the network.
        device: where everything lives.
    Raises:
        UsageError: if data and network do not fit.
    """

    def __init__(self, definition: Definition, data: Dataset, device: torch.device) -> None:
        _check_fit(definition, data)
        if definition.data.encoder.made().intensity:
            data = as_intensities(data)
        training = definition.training
        self.definition = definition
        self.device = device
        self.network = definition.network().to(device)
        self.loss = definition.loss.made()
        time = definition.time
        self.presentation = Presentation(
            definition.data.encoder.made(),
            time.steps,
            time.dt,
            score_weights(time.steps, time.warmup, time.scored == "last"),
        )
        self.learner = _learner(definition, self.network)
        self.optimizer = training.optimizer.made().build(_groups(self.network, definition))
        self.train = Stream(
            resident(data.train, data, device),
            training.batch_size,
            definition.seed,
            definition.data.flip,
            definition.data.crop,
        )
        self.test = resident(data.test, data, device)
        self.schedule = training.schedule.made().build(self.optimizer, training.epochs, len(self.train))
        self.epoch = 0
        self.number = 0  # of the next batch
        self.tally = Tally(device)
        self._check_every = 1 if device.type == "cpu" else 50  # looking at a loss on a GPU stalls it

    def step(self) -> Outcome:
        """Learn from the next batch and move on.

        Raises:
            RunError: if the loss is not finite; says where it first went wrong. The weights are those
                before the step.
        """
        x, target = self.train.batch(self.epoch, self.number)
        done = self.epoch * len(self.train) + self.number
        self.learner.progress = done / (self.definition.training.epochs * len(self.train))
        self.optimizer.zero_grad()
        noise = generator(self.definition.seed, "noise", self.epoch, self.number)
        trial = Trial(self.presentation.frames(x, noise), target, self.presentation.weights)
        outcome = self.learner.learn(trial, noise=noise)
        if done % self._check_every == 0 and not torch.isfinite(outcome.loss):
            raise RunError(self._diagnose(x, done))
        if self.definition.training.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.definition.training.clip_norm)
        self.optimizer.step()
        self.learner.settle()
        self.schedule.step()
        self.tally.add(outcome.loss, outcome.output, target)
        self.number += 1
        return outcome

    def next_epoch(self) -> None:
        """Start the next epoch."""
        self.epoch, self.number, self.tally = self.epoch + 1, 0, Tally(self.device)

    @torch.no_grad()
    def evaluate(self, observers: tuple[Observer, ...] = ()) -> tuple[float, float]:
        """Mean loss and accuracy on the test split."""
        tally = Tally(self.device)
        readout = self.network.readout
        for number, (x, target) in enumerate(self.test.batches(max(100, self.definition.training.batch_size))):
            noise = generator(self.definition.seed, "noise", "test", number)
            account = Account(Trial((), target, self.presentation.weights), self.loss, readout)
            simulate(self.network, self.presentation.frames(x, noise), (*observers, account), generator=noise)
            loss, output = account.outcome()
            tally.add(loss, output, target)
        return tally.read()

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on bit for bit, as tensors and plain values."""
        return {
            "network": self.network.state_dict(),
            "learner": self.learner.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": {k: v for k, v in self.schedule.state_dict().items() if _is_plain(v)},
            "epoch": self.epoch,
            "number": self.number,
            "tally": self.tally.sums,
        }

    def load_state_dict(self, state: dict[str, Any], source: str) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            UsageError: if it belongs to another model.
        """
        try:
            self.network.load_state_dict(state["network"])
            self.learner.load_state_dict(state["learner"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
        except (RuntimeError, KeyError, ValueError) as problem:
            first = str(problem).splitlines()[0]
            raise UsageError(f"{source}: the checkpoint does not belong to this model and rule ({first})") from None
        self.epoch, self.number = state["epoch"], state["number"]
        self.tally.sums = state["tally"].to(self.device)

    @torch.no_grad()
    def _diagnose(self, x: Any, step: int) -> str:
        """Where a loss that is not finite came from."""
        noise = generator(self.definition.seed, "noise", self.epoch, self.number)
        frame = simulate(self.network, self.presentation.frames(x, noise), generator=noise)
        sick = [f"weights of '{n}'" for n, w in self.network.weights.items() if not torch.isfinite(w).all()]
        sick += [f"activity of '{n}'" for n, a in frame.activity.items() if not torch.isfinite(a.value).all()]
        loudest = max(frame.activity, key=lambda n: frame.activity[n].value.abs().mean().nan_to_num(0).item())
        sick += [f"loss itself, with the largest activity in '{loudest}'"]
        rates = sorted({group["lr"] for group in self.optimizer.param_groups})
        return (
            f"the loss is not finite at step {step + 1} (epoch {self.epoch + 1}); first seen in the "
            f"{sick[0]}. Learning rates are {', '.join(f'{r:.3g}' for r in rates)}: "
            f"try a tenth of training.optimizer.lr, training.clip_norm = 1.0, or a smaller rule.scale"
        )


def _learner(definition: Definition, network: Network) -> Learner:
    try:
        return learner_of(
            definition.rule.made(), network, definition.loss.made(), generator(definition.seed, "projection")
        )
    except ValueError as problem:
        raise UsageError(f"{definition.name}: rule '{definition.rule.kind}': {problem}") from None


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | float | bool | str | type(None)) or (
        isinstance(value, list | tuple | dict)
        and all(_is_plain(v) for v in (value.values() if isinstance(value, dict) else value))
    )


def _groups(network: Network, definition: Definition) -> list[dict[str, Any]]:
    """One parameter group per population, with its own learning rate. Projections are in none of them."""
    training = definition.training
    lr = training.optimizer.made().lr
    groups = []
    for name, connections in network.incoming.items():
        synapses = [network.synapses(c) for c in connections if c.plastic]
        parameters = [p for pair in synapses for p in pair if p is not None]
        if parameters:
            groups.append({"params": parameters, "lr": lr * training.rates.get(name, 1.0)})
    if not groups:
        raise UsageError(f"{definition.name}: no connection is plastic, so there is nothing to learn")
    return groups


def _check_fit(definition: Definition, data: Dataset) -> None:
    size, output = definition.input_size(), definition.output_size()
    if size != data.size:
        raise UsageError(
            f"{definition.name}: the input population has size {list(size)}, but the examples of '{data.name}' are "
            f"{list(data.size)}; choose a model for them or set population.input.size = {list(data.size)}"
        )
    classes = len(data.classes)
    if output != (classes,):
        raise UsageError(
            f"{definition.name}: the readout has size {list(output)}, but '{data.name}' has "
            f"{classes} classes; set population.{list(definition.population)[-1]}.size = [{classes}]"
        )
    if (definition.data.flip or definition.data.crop) and len(data.size) != 3:
        raise UsageError(
            f"{definition.name}: data.flip and data.crop need images, but '{data.name}' has features {list(data.size)}"
        )
    if data.duration and definition.data.encoder.kind != "constant":
        raise UsageError(
            f"{definition.name}: data.encoder is '{definition.data.encoder.kind}', but '{data.name}' consists of "
            f"events, which are binned as they are; remove data.encoder"
        )
    if data.duration and (definition.data.flip or definition.data.crop):
        raise UsageError(f"{definition.name}: data.flip and data.crop are for images; '{data.name}' consists of events")
    if definition.data.crop and definition.data.crop >= min(data.size[1:]):
        raise UsageError(
            f"{definition.name}: data.crop is {definition.data.crop}, but images are {data.size[1]}x{data.size[2]}"
        )
