"""What the output broadcasts, who receives it, and what turns it into a third factor."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from neurosbd.losses import Loss
from neurosbd.neurons.neuron import Activity
from neurosbd.neurons.scan import apart

NOTHING = torch.empty(0)

S = TypeVar("S")  # its state
T = TypeVar("T")  # a state that stays
F = TypeVar("F", contravariant=True)  # a state that is only looked at


class Broadcast(NamedTuple):
    """What the output sends to every population at one step: one record, passed on by reference.

    That of a block of K steps is one as well, where the first axis of whatever is [B, ..] counts steps times examples.
    """

    # d mean-loss / d output, so each row carries its 1/B; then its expansion, if any, [B, C + D]; [B, 0]: no score
    score: Tensor
    output: Tensor = NOTHING  # where the score was taken, [B, C]
    target: Tensor = NOTHING  # labels [B] or targets [B, k]
    loss: Loss | None = None  # whose score it is, an entry of LOSSES; None where there is no target
    output_drive_score: Tensor | None = None  # d mean-loss / d drive of the readout: score times its gain, [B, C]
    reward: Tensor | None = None  # one per example, [B], where there is any at this step
    task: Tensor | None = None  # which task or state an example belongs to, [B], integers from 0
    # of every population at this step, the input's first, the readout's last; for expansions of the score alone
    activity: Mapping[str, Activity] = MappingProxyType({})
    weight: float = 1.0  # of this step in the loss
    step_share: float = 1.0  # of a batch that this step stands for: 1 / number of steps with a score
    progress: float | Tensor = 0.0  # how much of the training is done, 0..1, a number or []; drives schedules
    n_expanded: int = 0  # D, how many of the columns of the score are its expansion
    batch_size: int = 0  # B of the whole batch, if that is not the number of rows
    steps: int = 1  # K
    first: int = 0  # number in it of the first example at hand
    last: bool = True  # whether the trial ends with this step, or block

    @property
    def examples(self) -> int:
        """B, the examples of the whole batch, over which everything is a mean."""
        return self.batch_size or len(self.score)

    @property
    def outputs(self) -> int:
        """C, the columns of the score itself, which come before those of its expansion."""
        return self.score.shape[-1] - self.n_expanded

    @property
    def scored(self) -> bool:
        """Whether this step has a score."""
        return self.score.shape[1] > 0

    def each(self) -> Sequence["Broadcast"]:
        """That of every step of a block."""
        if self.steps == 1:
            return (self,)
        activity = {
            name: zip(apart(shown.value, self.steps), apart(shown.potential, self.steps), strict=True)
            for name, shown in self.activity.items()
        }
        found, rows = [], len(self.score) // self.steps
        for k in range(self.steps):
            row = slice(k * rows, (k + 1) * rows)
            optional = {"output_drive_score": self.output_drive_score, "reward": self.reward, "task": self.task}
            found.append(
                self._replace(
                    score=self.score[row], output=self.output[row], target=self.target[row], steps=1,
                    activity={name: Activity(*next(shown)) for name, shown in activity.items()},
                    **{key: None if value is None else value[row] for key, value in optional.items()},
                )
            )  # fmt: skip
        return found

    def score_of(self, output: Tensor) -> Tensor:
        """The score that another output [B, C] would have, each row with its 1/B; 0 where there is no target."""
        if self.loss is None:
            return torch.zeros_like(output)
        return self.loss.score(output, self.target) / self.examples


class Reading(NamedTuple):
    """What the head of a population makes of its activity at one step."""

    activity: Tensor  # of the population, in the coordinates of the head, [B, M]
    score: Tensor  # of the head's own loss by its prediction, so each row carries its 1/B, [B, C]


class Receiver(NamedTuple):
    """The population that a broadcast reaches, as its neuromodulator sees it."""

    value: Tensor  # its activity, filtered where the rule filters it, [B, *size]
    readout_weight: Tensor | None = None  # of a dense connection to the readout, [C, units], if there is one
    reading: Reading | None = None  # of its head, where the neuromodulator has one

    def weight_to_readout(self, what: str) -> Tensor:
        """`readout_weight`, for what cannot do without it.

        Raises:
            ValueError: if there is no such connection; it begins with `what` needs one.
        """
        if self.readout_weight is None:
            raise ValueError(
                f"{what} needs a dense connection without pooling from every learning population to the readout; use "
                f"neuromodulator 'fixed_random' for deeper populations"
            )
        return self.readout_weight


class Neuromodulator(Protocol[S]):
    """Turns the broadcast score into one third factor per unit of a population, in three verbs at every step:

        sums = modulator.statistics(state, receiver, broadcast)          measure
        state = modulator.update(state, sums, broadcast)                 learn
        third_factor = modulator.third_factor(state, receiver, broadcast)    send

    Between the first and the second, the sums of all who share a batch can be added up; what was learned from them is
    then the same everywhere. Nothing is written in place.
    Its state lives as long as the experiment and is checkpointed with it. Declared are:
        rewarded: it wants a reward, not a score.
        reads_activity: what it sends depends on the activity of the receiver.
        steady: it measures nothing and its state stays as it is (`no_statistics`, `unchanged`), so that several steps
            can be sent at once.
    """

    rewarded: ClassVar[bool]
    reads_activity: ClassVar[bool]
    steady: ClassVar[bool]

    def init(self, receiver: Receiver, broadcast: Broadcast, generator: torch.Generator) -> S:
        """State before any learning; random parts are drawn from `generator`."""
        ...

    def statistics(self, state: S, receiver: Receiver, broadcast: Broadcast) -> tuple[Tensor, ...]:
        """What is learned from, as sums over the examples of this step, of any shapes; (): nothing is.

        The sums of two parts of a batch add up to those of the whole. Their scores carry the 1/B of the whole, which
        is `broadcast.examples`. Those of all steps of a block are taken before the first `update`, so of the state
        only what no update changes may be looked at.
        """
        ...

    def update(self, state: S, sums: tuple[Tensor, ...], broadcast: Broadcast) -> S:
        """The state with this step in it.

        Args:
            state: before.
            sums: of `statistics`, over all examples of the batch.
            broadcast: for its progress and the share of the step in the batch.
        """
        ...

    def third_factor(self, state: S, receiver: Receiver, broadcast: Broadcast) -> Tensor:
        """What is sent to the receiver by the state as it now is, [B, *size]."""
        ...

    def projection(self, state: S) -> Tensor | None:
        """What the score or reward is projected by at this moment, [C, units or channels]; None if by nothing of its
        own."""
        ...


def no_statistics(modulator: object, state: object, receiver: Receiver, broadcast: Broadcast) -> tuple[()]:
    """Nothing is measured: `statistics` of one that is steady."""
    return ()


def unchanged(modulator: object, state: T, sums: tuple[Tensor, ...], broadcast: Broadcast) -> T:
    """The state as it was: `update` of one that is steady."""
    return state


@runtime_checkable
class Correlating(Protocol[F]):
    """A neuromodulator that keeps the correlation R of score and activity, and so knows its cost 1/2 ||R||^2."""

    def correlated(self, state: F, receiver: Receiver) -> Tensor:
        """d cost / d score, times the batch: the activity of every example through R, [B, C + D]."""
        ...


@runtime_checkable
class HasHead(Protocol[F]):
    """A neuromodulator that gives every population a head: weights [C, M] that read it, judged by a loss of their own.

    The head is a Parameter of the state. The gradient of its loss, score^T activity of its reading, is left in its
    `.grad`; the optimizer of the run moves it, with its schedule and clipping.
    """

    @property
    def relative_rate(self) -> float:
        """Learning rate of the heads by that of the readout, > 0."""
        ...

    def head(self, state: F) -> nn.Parameter:
        """The weights, [C, M]."""
        ...

    def read(self, state: F, receiver: Receiver, broadcast: Broadcast) -> Reading:
        """What the head makes of the activity; `third_factor` finds it in the receiver."""
        ...
