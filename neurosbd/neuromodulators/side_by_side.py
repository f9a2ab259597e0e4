"""The neuromodulators of several networks side by side, each with a state of its own."""

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from neurosbd.connections.stacked import in_rows, side_by_side
from neurosbd.losses import Loss
from neurosbd.neuromodulators.decorrelation import Decorrelation
from neurosbd.neuromodulators.fixed_random import FixedRandom
from neurosbd.neuromodulators.layouts import Full, Grid, Layout, Patchwise, Shared
from neurosbd.neuromodulators.neuromodulator import Broadcast, HasHead, Neuromodulator, Reading, Receiver
from neurosbd.neuromodulators.prediction import Prediction

FOR_ANY_AXES = (Decorrelation, FixedRandom, Prediction)  # whose mathematics takes [S, B, ..] for [B, ..]
WITHOUT_BASIS = (Full, Shared, Grid, Patchwise)  # layouts that look at every example by itself


@dataclass(frozen=True)
class LaidInRows:
    """A layout over the populations of S networks: values are [S, B, *size].

    Args:
        layout: of every network, without a basis.
    """

    layout: Layout

    def init(self, value: Tensor, generator: torch.Generator) -> Tensor:
        """No basis."""
        return value.new_empty(0)

    def summary(self, value: Tensor, basis: Tensor) -> Tensor:
        """Activity in the coordinates of each projection, [S, B, M]."""
        return side_by_side(self.layout.summary(in_rows(value), basis), len(value))

    def spread(self, third_factor: Tensor, like: Tensor, basis: Tensor) -> Tensor:
        """[S, B, M] over the populations."""
        return side_by_side(self.layout.spread(in_rows(third_factor), in_rows(like), basis), len(like))

    def adjoint(self, third_factor: Tensor, like: Tensor, basis: Tensor) -> Tensor:
        """The transpose of `summary`."""
        return side_by_side(self.layout.adjoint(in_rows(third_factor), in_rows(like), basis), len(like))


@dataclass(frozen=True)
class _InRows:
    """A loss that takes outputs [S, B, C] for targets in rows."""

    loss: Loss

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        return side_by_side(self.loss.score(in_rows(output), target), len(output))


@dataclass(frozen=True)
class SideBySide:
    """A neuromodulator in S networks: values come in rows, examples and within them networks; states are [S, ..].

    Args:
        modulator: of every network, one of FOR_ANY_AXES with a layout of WITHOUT_BASIS.
        networks: S.
    """

    modulator: Neuromodulator
    networks: int

    @classmethod
    def of(cls, modulator: Neuromodulator, networks: int) -> "SideBySide":
        """With heads, if the neuromodulator has some."""
        made = replace(modulator, layout=LaidInRows(modulator.layout))  # type: ignore[type-var]
        kind = WithHeads if isinstance(made, HasHead) else cls
        return kind(cast(Neuromodulator, made), networks)

    @property
    def rewarded(self) -> bool:
        """Whether it wants a reward."""
        return self.modulator.rewarded

    @property
    def reads_activity(self) -> bool:
        """Whether what it sends depends on the activity."""
        return self.modulator.reads_activity

    @property
    def steady(self) -> bool:
        """Whether it measures nothing."""
        return self.modulator.steady

    def init(self, receiver: Receiver, broadcast: Broadcast, generator: torch.Generator) -> tuple[()]:
        """Nothing: the states are those that the networks had by themselves."""
        return ()

    def statistics(self, state: object, receiver: Receiver, broadcast: Broadcast) -> tuple[Tensor, ...]:
        """Sums over the examples of each network."""
        return self.modulator.statistics(state, self._receiver(receiver), self._broadcast(broadcast))

    def update(self, state: object, sums: tuple[Tensor, ...], broadcast: Broadcast) -> object:
        """Every state with its own sums in it."""
        return self.modulator.update(state, sums, broadcast)

    def third_factor(self, state: object, receiver: Receiver, broadcast: Broadcast) -> Tensor:
        """Of each network by its own state, [B S, n]."""
        return in_rows(self.modulator.third_factor(state, self._receiver(receiver), self._broadcast(broadcast)))

    def projection(self, state: object) -> Tensor | None:
        """Those of all networks."""
        return self.modulator.projection(state)

    def _receiver(self, receiver: Receiver) -> Receiver:
        return receiver._replace(value=side_by_side(receiver.value, self.networks))

    def _broadcast(self, broadcast: Broadcast) -> Broadcast:
        loss = None if broadcast.loss is None else _InRows(broadcast.loss)
        return broadcast._replace(
            score=side_by_side(broadcast.score, self.networks), loss=loss, batch_size=broadcast.examples
        )


@dataclass(frozen=True)
class WithHeads(SideBySide):
    """The same of one that gives every population a head."""

    @property
    def relative_rate(self) -> float:
        """Learning rate of the heads by that of the readout."""
        return cast(HasHead, self.modulator).relative_rate

    def head(self, state: object) -> nn.Parameter:
        """The weights of all networks, [S, C, M]."""
        return cast(HasHead, self.modulator).head(state)

    def read(self, state: object, receiver: Receiver, broadcast: Broadcast) -> Reading:
        """What each head makes of the activity of its own network, [S, B, ..]."""
        return cast(HasHead, self.modulator).read(state, self._receiver(receiver), self._broadcast(broadcast))
