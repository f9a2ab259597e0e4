"""Examples that a training need not learn from: their score is small, or their class has said so before."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import nn

from neurosbd.config.definition import Experiment
from neurosbd.errors import UsageError
from neurosbd.files.checkpoints import StateDict
from neurosbd.learning.batch import Batch, BatchResult, examples_of
from neurosbd.learning.learner import Learner
from neurosbd.learning.ranks import Ranks
from neurosbd.losses.loss import Described
from neurosbd.network.inputs import gone_once_shown


class Sparing(Protocol):
    """Learns from some of the examples that it is given, and leaves the gradients of a batch in `.grad`."""

    def learn(self, learner: Learner, batch: Batch, noise: torch.Generator) -> BatchResult:
        """Loss and output of all examples, before any is learned from."""
        ...

    def share(self) -> float:
        """Of the examples since this was last asked for, how many were learned from, 0..1."""
        ...

    def state_dict(self) -> StateDict:
        """Plain containers of tensors."""
        ...

    def load_state_dict(self, saved: StateDict) -> None:
        """Put back what `state_dict` gave."""
        ...


def _asked(learner: Learner, batch: Batch, noise: torch.Generator) -> tuple[Batch, BatchResult]:
    """A batch that can be shown once more, with the same noise, and what the network says of it."""
    batch = replace(batch, inputs=list(batch.inputs)) if gone_once_shown(batch.inputs) else batch
    key = noise.get_state()
    result = learner.answer(batch, noise=noise)
    noise.set_state(key)
    return batch, result


class Counts:
    """Of the examples of an epoch: how many there were, and how many were learned from.

    Args:
        device: where the batches are.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)

    def add(self, learned: int, seen: int) -> None:
        """A batch."""
        self.sums += self.sums.new_tensor((learned, seen))

    def read(self) -> float:
        """The share that was learned from; the count starts again."""
        learned, seen = self.sums.tolist()
        self.sums.zero_()
        return learned / seen if seen else float("nan")


class LargeScores:
    """Examples whose score is smaller than `least` at every output are not learned from; the mean of a batch stays one
    over all of it.

    A batch is shown once to all and a second time to those that are left, which saves time where these are few.

    Args:
        least: of the largest |dl / d output| of an example, > 0.
        device: where the batches are.
    """

    def __init__(self, least: float, device: torch.device) -> None:
        self.least = least
        self.counts = Counts(device)

    def learn(self, learner: Learner, batch: Batch, noise: torch.Generator) -> BatchResult:
        """See `Sparing.learn`."""
        batch, result = _asked(learner, batch, noise)
        assert learner.loss is not None
        largest = learner.loss.score(result.output, batch.target).abs().amax(1)
        rows = (largest >= self.least).nonzero()[:, 0]
        self.counts.add(len(rows), len(largest))
        if len(rows):
            learner.learn(examples_of(batch, rows, batch.examples(len(largest))), noise=noise)
        else:
            learner.learned({})
        return result

    def share(self) -> float:
        """See `Sparing.share`."""
        return self.counts.read()

    def state_dict(self) -> StateDict:
        """What has been counted."""
        return {"counts": self.counts.sums}

    def load_state_dict(self, saved: StateDict) -> None:
        """Put back what `state_dict` gave."""
        self.counts.sums.copy_(saved["counts"])


class Speculation:
    """While the score of an example is nearer than `near` to the one that its class was last learned from, the gradient
    of that time is used again, so that it could be applied before anything comes back from the output.

        gradient = kept[y]                       where max_c |s[c] - last[y][c]| < near
        gradient = kept[y] <- that of the rule;  last[y] <- s       elsewhere, and where the class has none

    Under cross-entropy scores of one class differ as the probabilities that the output gives to the classes.

    Args:
        near: of the largest difference of a score, > 0.
        parameters: that learn, in the order of the optimizer.
        outputs: of the network; as many classes.
    Source: Park, Suh 2020, IEEE Access 8.
    Differs: any rule's gradient is kept, not that of backprop alone.
    """

    def __init__(self, near: float, parameters: Sequence[nn.Parameter], outputs: int) -> None:
        self.near = near
        self.parameters = parameters
        self.kept = [p.detach().new_zeros((outputs, *p.shape)) for p in parameters]
        self.last = parameters[0].detach().new_full((outputs, outputs), torch.nan)  # nothing is near to it
        self.counts = Counts(self.last.device)

    @torch.no_grad()
    def learn(self, learner: Learner, batch: Batch, noise: torch.Generator) -> BatchResult:
        """See `Sparing.learn`."""
        batch, result = _asked(learner, batch, noise)
        assert learner.loss is not None
        score, label = learner.loss.score(result.output, batch.target)[0], int(batch.target[0])
        again = bool((score - self.last[label]).abs().amax() < self.near)
        self.counts.add(1 - again, 1)
        if again:
            for parameter, kept in zip(self.parameters, self.kept, strict=True):
                parameter.grad = kept[label].clone()
            learner.network.mask_gradients()
            learner.learned({})
            return result
        learner.learn(batch, noise=noise)
        self.last[label] = score
        for parameter, kept in zip(self.parameters, self.kept, strict=True):
            kept[label] = 0 if parameter.grad is None else parameter.grad
        return result

    def share(self) -> float:
        """See `Sparing.share`."""
        return self.counts.read()

    def state_dict(self) -> StateDict:
        """What every class was last learned from, and what has been counted."""
        kept = {str(number): kept for number, kept in enumerate(self.kept)}
        return {"kept": kept, "last": self.last, "counts": self.counts.sums}

    def load_state_dict(self, saved: StateDict) -> None:
        """Put back what `state_dict` gave."""
        for number, kept in enumerate(self.kept):
            kept.copy_(saved["kept"][str(number)])
        self.last.copy_(saved["last"])
        self.counts.sums.copy_(saved["counts"])


def sparing_of(experiment: Experiment, parameters: Sequence[nn.Parameter], ranks: Ranks) -> Sparing | None:
    """What `training.least_score` or `training.speculation` asks for, if one does.

    Args:
        experiment: whose network learns, on its device.
        parameters: that learn.
        ranks: processes that share every batch.
    Raises:
        UsageError: if the training cannot leave out examples.
    """
    definition, training = experiment.definition, experiment.definition.training
    if training.least_score is None and training.speculation is None:
        return None
    key = "least_score" if training.speculation is None else "speculation"
    reason = _why_all(experiment, ranks)
    if reason is None and training.speculation is not None:
        reason = _why_not_again(experiment)
    if reason is not None:
        raise UsageError(f"{definition.name}: training.{key}: {reason}; leave it out, or change that")
    if training.speculation is not None:
        return Speculation(training.speculation, parameters, definition.output_size()[0])
    assert training.least_score is not None
    return LargeScores(training.least_score, parameters[0].device)


def _why_all(experiment: Experiment, ranks: Ranks) -> str | None:
    """Why all examples of a batch have to be learned from; None: they need not."""
    definition, network = experiment.definition, experiment.network
    if not experiment.rule.scored:
        return f"rule '{definition.rule.kind}' hears no score"
    if definition.task is not None:
        return "trials of a task are judged at every step, here an answer is judged once"
    if network.adaptive:
        return f"population '{next(iter(network.adaptive))}' remembers what it measures of whole batches"
    if definition.record.signals:
        return "a recording sees whole batches, of which some examples would be missing"
    if definition.training.graph:
        return "training.graph replays whole batches"
    if ranks.size > 1:
        return "several processes share every batch"
    return None


def _why_not_again(experiment: Experiment) -> str | None:
    """Why the gradient of a class cannot be used again; None: it can."""
    definition = experiment.definition
    if definition.training.least_score is not None:
        return "training.least_score is set as well, and one of both says what is learned from"
    if definition.training.batch_size != 1:
        return f"a gradient of one example is used again, and training.batch_size is {definition.training.batch_size}"
    if not isinstance(experiment.loss, Described) or experiment.loss.targets.name != "classes":
        return f"loss '{definition.loss_name}' is none of classes, for which gradients are kept"
    return None
