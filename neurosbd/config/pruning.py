"""What of a network is to be pruned, and when: [training.pruning]."""

from dataclasses import replace
from typing import Literal

from pydantic import model_validator

from neurosbd.constraints import Mask
from neurosbd.network.populations import Connection
from neurosbd.schema.constants import Count, Share
from neurosbd.schema.schema import Record


class PruningSpec(Record):
    """[training.pruning]: synapses are taken out of every plastic connection, see `neurosbd.training.pruning`."""

    share: Share = 0.5  # of the synapses of a connection, in the end
    by: Literal["magnitude", "saliency"] = "magnitude"
    first: Count | None = None  # epoch after which some go; none: the last one
    last: Count | None = None  # epoch after which the share is reached; none: the last of the training
    group: tuple[Count, Count] | None = None  # n of every m in a row onto a unit stay, in place of the share

    @model_validator(mode="after")
    def _leaves_something(self) -> "PruningSpec":
        if self.group is not None and self.group[0] >= self.group[1]:
            raise ValueError(f"group = [n, m] keeps n of every m synapses, so n < m, got {list(self.group)}")
        if self.first is not None and self.last is not None and self.first > self.last:
            raise ValueError(f"first = {self.first} comes after last = {self.last}")
        return self


def maskable(connection: Connection) -> Connection:
    """A connection with a mask, which pruning moves, if it is plastic."""
    if not connection.plastic or any(isinstance(held, Mask) for held in connection.constraints):
        return connection
    return replace(connection, constraints=(Mask(), *connection.constraints))
